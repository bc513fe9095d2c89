"""A home under governance whose registry is a file: other processes can use it and be killed."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_roles import ModelRoles
from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.approval_rules import ApprovalPolicy
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.settings import Settings
from tests.small_bundles import trained, write_small_bundle

REQUIRED = PromotionPolicy(approval_required=True)


class AliasFile:
    """As much of a registry as roles need, in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_registered_model(self, name: str) -> SimpleNamespace:
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        return SimpleNamespace(aliases=known)

    def get_model_version(self, name: str, version: str) -> str:
        return version

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        known = self.get_registered_model(name).aliases
        replace_file(self.path, json.dumps(known | {alias: version}).encode())

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        known = self.get_registered_model(name).aliases
        del known[alias]
        replace_file(self.path, json.dumps(known).encode())


class FileRoles(ModelRoles):
    """Roles of a home whose aliases are in a file."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.models_dir, governance_of(settings))
        self._aliases = AliasFile(settings.home / "aliases.json")

    @property
    def _client(self) -> AliasFile:
        return self._aliases


def settings_of(home: Path, promotion: PromotionPolicy = REQUIRED, **policy: object) -> Settings:
    """Settings of a home that asks for approval, with these rules."""
    approvals = ApprovalPolicy(**policy)
    return Settings(home=home, promotion=promotion, approvals=approvals)


def with_champion(home: Path, versions: int = 3) -> None:
    """A home with versions "1", "2", ...; the first was promoted before approval was asked for."""
    settings = Settings(home=home)
    for number in range(1, versions + 1):
        write_small_bundle(settings.models_dir, str(number), trained(number))
    FileRoles(settings).promote("1", Mandate(by="setup"))


def outcomes(settings: Settings, action: str = "*") -> list[str]:
    """What became of the acts that the audit log has, oldest first."""
    return [row.outcome for row in audit_log_of(settings).rows(RowFilter(action=action))]


def refusals(settings: Settings) -> int:
    """How many acts were refused."""
    return outcomes(settings).count("refused")


def serving(settings: Settings) -> Mapping[str, str]:
    """Role -> version of what decides: the champion, and a challenger that has cards."""
    found = FileRoles(settings)._deployed()
    told = {"champion": found.champion}
    if found.canary_share:
        told["challenger"] = found.challenger
    return {role: pointer.version for role, pointer in told.items() if pointer is not None}
