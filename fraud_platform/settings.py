"""The one reader of the environment: paths, addresses, secrets and the sum of all policies.

Every field can be set by an environment variable with the prefix `FRAUD_`; a policy's field by its
path: `FRAUD_PROMOTION__MIN_AVERAGE_PRECISION=0.2`. What the environment leaves open may stand in
`settings.json` in the home, so that every process on one home agrees. The domain receives policies,
never `Settings`.
"""

import ast
import inspect
import itertools
import json
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from datetime import date
from functools import cache
from math import inf
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from fraud_platform.access import AccessPolicy
from fraud_platform.approval_rules import ApprovalPolicy
from fraud_platform.audit_log.policy import AuditPolicy
from fraud_platform.calibration import CalibrationPolicy
from fraud_platform.card_tokens import SHORTEST_KEY, CardNumbers, TokenKeys
from fraud_platform.controls import ControlPolicy
from fraud_platform.decision import DecisionPolicy
from fraud_platform.drift import DriftPolicy
from fraud_platform.evaluation import EvaluationPolicy
from fraud_platform.features.engines import Engine
from fraud_platform.governor import GovernorPolicy
from fraud_platform.heal.harm import HarmPolicy
from fraud_platform.health import HealthPolicy
from fraud_platform.labels import LabelPolicy
from fraud_platform.leaks import LeakPolicy
from fraud_platform.model import ModelPolicy
from fraud_platform.modes import ModePolicy
from fraud_platform.money import MoneyPolicy
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.retention import RetentionPolicy, shortcomings
from fraud_platform.retraining import RetrainingPolicy
from fraud_platform.rollout import RolloutPolicy
from fraud_platform.segments import SegmentPolicy
from fraud_platform.selective_labels import ExplorationPolicy
from fraud_platform.training_set import TrainingPolicy
from fraud_platform.validation import ValidationPolicy
from fraud_platform.worth import WorthPolicy


class Settings(BaseSettings):
    """Configuration of one installation; frozen, validated, complete."""

    model_config = SettingsConfigDict(
        env_prefix="FRAUD_",
        env_nested_delimiter="__",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # it may be a secret
    )

    home: Path = Path(".fraud")
    """Folder of everything the platform writes."""
    token_key: SecretStr | None = None
    """Key for turning card numbers into tokens: at ingest for mappings with `tokenize`, at the
    scorer with FRAUD_CARD_NUMBERS=tokenize."""
    previous_token_keys: tuple[SecretStr, ...] = ()
    """Former token keys, newest first, as a JSON list: at the scorer, cards that have a history
    under their tokens keep them."""
    card_numbers: CardNumbers = CardNumbers.REJECT
    """What the scorer does with a card number sent as a card id: `reject` it (422), or `tokenize`
    it with the token key before anything is recorded."""
    first_day: date = date(2026, 1, 1)
    """First day partition of the graph: at or before the oldest transaction, UTC."""
    dagster_postgres_url: SecretStr | None = None
    """PostgreSQL for Dagster's runs, events and schedules; unset: SQLite under the home."""
    postgres_url: SecretStr | None = None
    """PostgreSQL that `fraud-platform mirror` brings the event log into:
    `postgresql+psycopg2://[user:password@]host:port/database`; unset: none."""
    postgres_schema: str = Field(default="fraud", pattern="^[a-z_][a-z0-9_]{0,62}$")
    """Schema of the mirror's tables; another log needs another one."""
    mirror_poll_seconds: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How often the mirror looks for new rows once it has caught up, seconds."""
    mirror_away_seconds: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    """How long PostgreSQL may be away before the mirror counts as missing, seconds."""
    mlflow_uri: SecretStr | None = None
    """MLflow tracking and registry address; unset: SQLite under the home."""
    redis_url: SecretStr | None = None
    """Redis of Feast's online store, and of `features verify --backend redis`:
    `redis://[user:password@]host:port/database`, or `rediss://`; unset: SQLite under the home."""
    feature_engine: Engine = Engine.POLARS
    """What computes the tables of features: `polars`, or `kernel` (compiled loops of the extra
    `kernel`, several times faster). The values are the same, to the last bit."""
    scorer_host: str = "127.0.0.1"
    """Address the scorer listens on."""
    scorer_port: int = 8080
    """Port the scorer listens on."""
    scorer_fronts: int = Field(default=0, ge=0, le=64)
    """HTTP processes in front of the one that decides: worth it where a single process is busy
    most of the time. Limits on requests hold in each for itself. 0: the one answers by itself."""
    api_key: SecretStr | None = None
    """Key that `load` shows the scorer; unset: none."""
    operator_key: SecretStr | None = None
    """Key that tells commands who runs them; unset: the login name, as long as this home has no key
    that governs."""
    jwt_secret: SecretStr | None = None
    """Secret shared with the issuer of signed tokens, for HS256; unset: only signatures that are
    checked with public keys count."""
    notice_webhook_url: SecretStr | None = None
    """Where pages are posted to, `https://` (or this machine); unset: nowhere. Every page is in
    `alerts.jsonl`, too."""
    notice_smtp_host: str | None = None
    """Server that pages are mailed through, with STARTTLS; unset: none are mailed."""
    notice_smtp_port: int = Field(default=587, ge=1, le=65_535)
    """The mail server's port."""
    notice_smtp_user: str | None = None
    """Login at the mail server; unset: none."""
    notice_smtp_password: SecretStr | None = None
    """Password of that login."""
    notice_mail_from: str = ""
    """Address that pages are mailed from."""
    notice_mail_to: str = ""
    """Addresses that pages are mailed to, with commas between."""
    notice_secret: SecretStr | None = None
    """Secret that pages are signed with, shared with who receives them; needed for both ways."""
    notice_seconds: float = Field(default=10.0, gt=0, le=120)
    """How long a page may take on all ways together, tries again included, seconds."""
    log_format: Literal["text", "json"] = "text"
    """How the scorer writes its log: `text` for people, `json` with one object per line."""
    sandbox: bool = False
    """Whether the scorer answers card ids such as `sandbox_decline` with the outcome that they
    name, without recording anything; for test installations."""
    journal_mode: Literal["durable", "written", "async"] = "durable"
    """When a decision is answered: once its record is on the disk (durable: survives a power
    loss), is written (written: survives the death of the process) or is decided (async: the last
    answers may be forgotten)."""
    journal_keep_days: int = Field(default=30, ge=0)
    """How long finished segments of the scorer's journal are kept once their records are in the
    log's tables, days. 0: for ever."""
    queue_limit: int = Field(default=10_000, ge=1)
    """So many requests may wait in a scorer; more are told to come back."""
    connection_limit: int = Field(default=2_000, ge=1)
    """So many connections may be open to a scorer, or to each of its fronts; more are closed at
    once. Fewer where the process may not open as many files."""
    state_check_seconds: float = 600.0
    """How often another process compares all of a scorer's memory with the log, seconds; it leaves
    a snapshot for the next start, and folds the log without any every sixth time. 0: never."""
    champion_poll_seconds: float = 1.0
    """How often a scorer looks whether the champion alias moved, seconds."""
    dagster_url: str = Field(default="http://127.0.0.1:3000", pattern="^https?://[^\\s]+$")
    """Address of Dagster's UI that the pages of the audit lead to."""
    sensor_seconds: int = 30
    """How often each sensor looks, seconds."""
    promotion_keys: Path | None = None
    """Folder of the public keys, `*.pub`, whose signatures scorers take for a promotion's; unset:
    `keys/promotion` under the home."""
    code_commit: str | None = None
    """Version-control commit of the running code, recorded with every training; unset: asked of
    git by `up` and `demo`."""
    modes: ModePolicy = Field(default_factory=ModePolicy)
    validation: ValidationPolicy = Field(default_factory=ValidationPolicy)
    labels: LabelPolicy = Field(default_factory=LabelPolicy)
    training: TrainingPolicy = Field(default_factory=TrainingPolicy)
    leaks: LeakPolicy = Field(default_factory=LeakPolicy)
    exploration: ExplorationPolicy = Field(default_factory=ExplorationPolicy)
    model: ModelPolicy = Field(default_factory=ModelPolicy)
    decision: DecisionPolicy = Field(default_factory=DecisionPolicy)
    governor: GovernorPolicy = Field(default_factory=GovernorPolicy)
    calibration: CalibrationPolicy = Field(default_factory=CalibrationPolicy)
    money: MoneyPolicy = Field(default_factory=MoneyPolicy)
    worth: WorthPolicy = Field(default_factory=WorthPolicy)
    segments: SegmentPolicy = Field(default_factory=SegmentPolicy)
    promotion: PromotionPolicy = Field(default_factory=PromotionPolicy)
    approvals: ApprovalPolicy = Field(default_factory=ApprovalPolicy)
    rollout: RolloutPolicy = Field(default_factory=RolloutPolicy)
    drift: DriftPolicy = Field(default_factory=DriftPolicy)
    health: HealthPolicy = Field(default_factory=HealthPolicy)
    retraining: RetrainingPolicy = Field(default_factory=RetrainingPolicy)
    harm: HarmPolicy = Field(default_factory=HarmPolicy)
    access: AccessPolicy = Field(default_factory=AccessPolicy)
    audit: AuditPolicy = Field(default_factory=AuditPolicy)
    controls: ControlPolicy = Field(default_factory=ControlPolicy)
    retention: RetentionPolicy = Field(default_factory=RetentionPolicy)

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, told: object) -> object:
        """Homes written before the heal policy have under one name what are two now."""
        if not isinstance(told, dict) or not isinstance(former := told.get("healing"), dict):
            return told
        known = {"health": fields(HealthPolicy), "retraining": fields(RetrainingPolicy)}
        split = {
            name: {field.name: former[field.name] for field in told_of if field.name in former}
            for name, told_of in known.items()
        }
        return split | {name: value for name, value in told.items() if name != "healing"}

    @field_validator(
        "validation", "access", "segments", "model", "rollout", "approvals", mode="before"
    )
    @classmethod
    def _read_lists(cls, told: object) -> object:
        """Lists inside a policy come from the environment as JSON text."""
        if not isinstance(told, dict):
            return told
        texts = {k: v for k, v in told.items() if isinstance(v, str) and v.startswith("[")}
        return told | {k: json.loads(v) for k, v in texts.items()}

    @field_validator("approvals")
    @classmethod
    def _refuse_approvals_out_of_bounds(cls, policy: ApprovalPolicy) -> ApprovalPolicy:
        """Stricter rules hold at once: without bounds the environment could lock a home."""
        return policy.require_bounds()

    @field_validator("state_check_seconds")
    @classmethod
    def _refuse_checks_on_end(cls, seconds: float) -> float:
        """Less than nothing would be a loop without a pause."""
        if not 0 <= seconds < inf:
            raise ValueError(f"found {seconds}, expected 0 (never) or a number of seconds")
        return seconds

    @model_validator(mode="after")
    def _refuse_weak_token_keys(self) -> "Settings":
        """A scorer that tokenizes needs keys that nobody finds by trying, each another one."""
        if self.card_numbers is CardNumbers.TOKENIZE:
            keys = [key for key in (self.token_key, *self.previous_token_keys) if key]
            lengths = [len(key) for key in keys]
            texts = {key.get_secret_value() for key in keys}
            if not self.token_key or min(lengths) < SHORTEST_KEY or len(texts) < len(keys):
                raise ValueError(
                    f"found card_numbers=tokenize and token keys of {lengths} characters, expected"
                    f" token_key, and each key another one of at least {SHORTEST_KEY}"
                    " (openssl rand -hex 32)"
                )
        return self

    @model_validator(mode="after")
    def _refuse_to_purge_what_is_needed(self) -> "Settings":
        told = self.retention, self.labels, self.training
        if found := shortcomings(*told, self.journal_keep_days):
            raise ValueError("; ".join(found))
        return self

    @model_validator(mode="after")
    def _refuse_pages_that_nobody_can_trust(self) -> "Settings":
        """A page is signed, and nobody between reads it."""
        url = self.notice_webhook_url.get_secret_value() if self.notice_webhook_url else None
        if url is not None and not _is_private(url):
            raise ValueError("found notice_webhook_url without https, expected https://host/...")
        if self.notice_smtp_host and not (self.notice_mail_from and self.notice_mail_to):
            raise ValueError(
                "found notice_smtp_host alone, expected notice_mail_from and notice_mail_to"
            )
        length = len(self.notice_secret or "")
        if (url or self.notice_smtp_host) and length < SHORTEST_KEY:
            raise ValueError(
                f"found a notice_secret of {length} characters, expected at least {SHORTEST_KEY}"
                " (openssl rand -hex 32)"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the home's `settings.json`."""
        told = {**env_settings(), **init_settings()}
        home = Path(told.get("home", cls.model_fields["home"].default))
        stored = JsonConfigSettingsSource(settings_cls, json_file=home / "settings.json")
        return init_settings, env_settings, stored

    @property
    def evaluation(self) -> EvaluationPolicy:
        """How models are judged: at the working point the decision policy sets."""
        return EvaluationPolicy(
            review_fpr=self.decision.review_fpr,
            decline_fpr=self.decision.decline_fpr,
            money=self.money,
            segments=self.segments,
        )

    @property
    def edge_token_keys(self) -> TokenKeys | None:
        """The keys that the scorer tokenizes card numbers with; None: it refuses them."""
        if self.card_numbers is CardNumbers.REJECT or self.token_key is None:
            return None
        previous = tuple(key.get_secret_value().encode() for key in self.previous_token_keys)
        return TokenKeys(self.token_key.get_secret_value().encode(), previous)

    @property
    def log_path(self) -> Path:
        """The event log's file."""
        return self.home / "log" / "events.db"

    @property
    def state_dir(self) -> Path:
        """Snapshots of the scorer's state; may be deleted at any time."""
        return self.home / "state"

    @property
    def mode_path(self) -> Path:
        """The best mode that the scorers may answer in, as ordered."""
        return self.home / "mode.json"

    @property
    def orders_path(self) -> Path:
        """What healing has ordered the scorers; every order that ever was is sealed beside it."""
        return self.home / "orders.json"

    @property
    def heal_dir(self) -> Path:
        """What healing knows, did and is allowed: its ledger, its lease, its policy."""
        return self.home / "heal"

    @property
    def heal_ledger_path(self) -> Path:
        """Every record of healing, one JSON line each."""
        return self.heal_dir / "ledger.jsonl"

    @property
    def heal_lease_path(self) -> Path:
        """Locked by the one process that heals."""
        return self.heal_dir / "lease"

    @property
    def tables_dir(self) -> Path:
        """Root of the Parquet tables: one folder per asset, one file per day."""
        return self.home / "tables"

    @property
    def policies_dir(self) -> Path:
        """Every set of policies that a scorer ever ruled by, each under its digest."""
        return self.home / "policies"

    @property
    def lineage_path(self) -> Path:
        """What was made of what: every materialization, recorded as it happened."""
        return self.home / "lineage.db"

    @property
    def access_dir(self) -> Path:
        """API keys (their digests only), and when each was last used."""
        return self.home / "access"

    @property
    def audit_dir(self) -> Path:
        """The audit log with its keys, or only the keys where PostgreSQL keeps it."""
        return self.home / "audit"

    @property
    def models_dir(self) -> Path:
        """Model bundles by version, and the pointer to the champion's."""
        return self.home / "models"

    @property
    def studies_dir(self) -> Path:
        """Finished trials of the searches for parameters; may be deleted while nothing trains."""
        return self.home / "studies"

    @property
    def exploration_key_path(self) -> Path:
        """The secret that exploration draws with; lost, no earlier draw can be proven."""
        return self.home / "exploration.key"

    @property
    def reports_dir(self) -> Path:
        """Reports that people open."""
        return self.home / "reports"

    @property
    def controls_dir(self) -> Path:
        """Of each control that can fail in silence: its last run, and its fault while it lasts."""
        return self.home / "controls"

    @property
    def alerts_path(self) -> Path:
        """One JSON line per alert."""
        return self.home / "alerts.jsonl"

    @property
    def dagster_dir(self) -> Path:
        """Dagster's own home: instance configuration, runs and events."""
        return self.home / "dagster"

    @property
    def feast_dir(self) -> Path:
        """Feast's registry, online store and offline files."""
        return self.home / "feast"

    @property
    def mlflow_dir(self) -> Path:
        """MLflow's database and artifacts, when no server is configured."""
        return self.home / "mlflow"


@cache
def get_settings() -> Settings:
    """The settings of this process; called by composition roots and entry points only."""
    return Settings()


def _is_private(url: str) -> bool:
    """Whether nobody else can read what is sent to an address."""
    parts = urlsplit(url)
    is_here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    return is_here or (parts.scheme == "https" and bool(parts.hostname))


def settings_table() -> str:
    """Every setting as a Markdown table: variable, default, meaning."""
    rows = "\n".join(f"| `{name}` | `{default}` | {text} |" for name, default, text in _rows())
    return f"| variable | default | meaning |\n|---|---|---|\n{rows}"


def _rows() -> Iterator[tuple[str, object, str]]:
    for name, field in Settings.model_fields.items():
        variable = f"FRAUD_{name.upper()}"
        if field.default_factory is None:
            unset = "" if field.default is None else field.default
            yield variable, unset, " ".join((field.description or "").split())
            continue
        policy: type = field.annotation  # type: ignore[assignment]  # policies are dataclasses
        meanings = _meanings(policy)
        for part in fields(policy):
            yield f"{variable}__{part.name.upper()}", part.default, meanings[part.name]


def _meanings(policy: type) -> dict[str, str]:
    """The docstring under each field of a policy, its own or inherited, on one line."""
    found = {} if policy.__base__ in (None, object) else _meanings(policy.__base__)
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(policy))).body
    for field, text in itertools.pairwise(ast.iter_child_nodes(declared)):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return found
