"""The commands `fraud-platform decisions ...`: proofs about what a scorer decided.

Thin: a command puts a log, a state and the bundles together, runs `decision_replay` and prints.
"""

import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraud_platform.errors import FraudPlatformError, PermanentError, UnknownTransactionError
from fraud_platform.events import Decision
from fraud_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from fraud_platform.adapters.decision_source import Choice, DecisionSource
    from fraud_platform.decision_replay import Asked, Finding, Judge
    from fraud_platform.orders import Orders
    from fraud_platform.replay_report import Json, ReplayReport, Tally
    from serving.ruling import Resident

_MOST_MODELS = 8
"""Models in memory at once: a log names them one after the other."""


@click.group()
def decisions() -> None:
    """Prove that what a scorer decided is what it would decide again."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What `replay` was asked for; the options' help says what each is."""

    since: str | None
    until: str | None
    transaction_id: str | None
    limit: int | None
    from_log: bool
    complete: bool
    as_json: bool


@decisions.command()
@click.option("--since", help="Payments from then on: 2026-01-05, or 2026-01-05T09:30:00+00:00.")
@click.option("--until", help="Payments before then, the same forms.")
@click.option("--id", "transaction_id", help="This payment only, by its transaction_id.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the earliest first.")
@click.option("--from-log", is_flag=True, help="Start from no snapshot: fold the log alone.")
@click.option("--complete", is_flag=True, help="Fail, too, if something could not be replayed.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def replay(**options: object) -> None:
    """Decide again on recorded payments, and compare every value with its record.

    Reads nothing but files: the log, the bundles of the models and the policy in force. Each
    decision's features are read at the position of the log that it had seen, its score is computed
    by the model that it names, and its outcome and reasons by that model's thresholds. What is
    compared must be equal, floats bit for bit.

    A decision whose model is gone, or that another policy took, cannot be replayed: it is counted
    with the reason, and never as equal.

    Exit code 1 if any value differs, else 0.
    """
    asked = _Asked(**options)  # type: ignore[arg-type]  # click made each option what it says
    found, facts = _replayed(asked, get_settings())
    told = asdict(found) | facts
    click.echo(json.dumps(told, indent=1) if asked.as_json else _text(told))
    sys.exit(1 if found.different or (asked.complete and found.not_replayed) else 0)


def _replayed(asked: _Asked, settings: Settings) -> tuple["ReplayReport", "Json"]:
    """The report, and what is worth telling beside it."""
    from fraud_platform.adapters.decision_source import Choice, DecisionSource
    from fraud_platform.adapters.home import in_use
    from fraud_platform.replay_report import Tally

    choice = Choice(
        since=_moment(asked.since),
        until=_moment(asked.until),
        transaction_id=asked.transaction_id,
        limit=asked.limit,
    )
    with in_use(settings.home), closing(DecisionSource(settings.log_path, choice)) as source:
        _refuse_nothing(choice, source)
        tally, started = Tally(), time.process_time()
        facts = _run(source, tally, settings, from_log=asked.from_log)
        seconds = time.process_time() - started
    report = tally.report()
    return report, facts | {
        "cpu_seconds": round(seconds, 2),
        "decisions_per_cpu_second": round(report.decisions / max(seconds, 1e-9)),
    }


def _run(source: "DecisionSource", tally: "Tally", settings: Settings, *, from_log: bool) -> "Json":
    """Replay everything that was chosen; says where the state came from."""
    from fraud_platform.adapters.event_log import EventLog
    from fraud_platform.adapters.state_snapshots import StateSnapshots
    from fraud_platform.decision_replay import ORPHANED, replay

    models = _Models(settings)
    snapshots = None if from_log else StateSnapshots(settings.state_dir)
    with closing(EventLog(settings.log_path)) as log:
        state = source.state(log, snapshots)
    start, extent = state.last_seq, source.extent
    if extent.orphan is not None:
        tally.lack(ORPHANED, extent.orphan, extent.orphans)

    def found(one: "Asked", what: "Finding") -> None:
        tally.add(one, what)
        tally.canary(one.decision, models.arm_now(one))
        progress(one.read_at)

    with _bar(start, extent.last) as progress:
        replay(source.pages(start), state, models.judge_of, settings.decision, found)
    return {
        "started_from": f"the snapshot at position {start}" if start else "the log alone",
        "positions": [extent.first, extent.last] if extent.decisions else [],
    }


class _Models:
    """The models of a home by what decisions say of them; the last few are kept in memory."""

    def __init__(self, settings: Settings) -> None:
        from fraud_platform.adapters.deployment import Deployment, read_deployment
        from fraud_platform.adapters.exploration_key import known_explorer
        from fraud_platform.adapters.model_bundle import list_manifests
        from fraud_platform.worth import Worth

        self._dir, self._policy = settings.models_dir, settings.decision
        self._orders_path = settings.orders_path
        self._rules = (
            settings.decision,
            known_explorer(settings.exploration_key_path, settings.exploration),
            settings.governor,
            Worth.of(settings.worth, settings.money),
        )
        self._held: OrderedDict[tuple[str | None, str], Resident | str] = OrderedDict()
        try:
            self._deployment = read_deployment(settings.models_dir)
        except PermanentError:  # only `arm_now` asks for it, and then has no answer
            self._deployment = Deployment()
        manifests, self._damaged = list_manifests(settings.models_dir)
        self._pairs = {(one.version, one.model_digest) for one in manifests}
        self._by_digest = {one.model_digest: one.version for one in manifests}

    def judge_of(self, decision: Decision) -> "Judge | str":
        """The judge of the model that a decision names, under its orders, or why there is none."""
        held = self._resident(decision.model_version, decision.model_digest or "")
        if isinstance(held, str) or held.policy_digest == decision.policy_digest:
            return held
        return _under_its_orders(decision, held, self._orders)

    @cached_property
    def _orders(self) -> "tuple[Orders, ...]":
        """Every order that was ever given; read once a decision is of another rule."""
        from fraud_platform.adapters.orders_file import known_orders

        return known_orders(self._orders_path)

    def arm_now(self, asked: "Asked") -> str | None:
        """The arm of a canary decision's card under the share in force; None: another canary."""
        from serving.ruling import Ruling

        decision, challenger = asked.decision, self._deployment.challenger
        share = self._deployment.canary_share
        is_theirs = challenger is not None and challenger.version == decision.model_version
        if decision.arm != "canary" or not is_theirs or not share:
            return None
        held = self._resident(decision.model_version, decision.model_digest or "")
        if isinstance(held, str):
            return None
        ruling = Ruling(self._policy, held, held, None, share)
        return ruling.arm(asked.transaction.card_id)

    def _resident(self, version: str | None, digest: str) -> "Resident | str":
        named = (version, digest)
        if named not in self._held:
            self._held[named] = self._load(version, digest)
            if len(self._held) > _MOST_MODELS:
                self._held.popitem(last=False)
        self._held.move_to_end(named)
        return self._held[named]

    def _load(self, version: str | None, digest: str) -> "Resident | str":
        from fraud_platform.adapters.model_bundle import load_bundle
        from serving.ruling import resident_of

        path = self._path(version, digest)
        if path is None:
            return f"its model is gone: version {version}, model {digest[:12]}"
        try:
            return resident_of(load_bundle(path), *self._rules)
        except (FraudPlatformError, OSError) as error:
            return f"the bundle of version {path.name} is refused: {error}"

    def _path(self, version: str | None, digest: str) -> Path | None:
        """The folder of the model that the digest names; the version's own one first."""
        if (version, digest) in self._pairs or version in self._damaged:
            return self._dir / str(version)
        other = self._by_digest.get(digest)
        return None if other is None else self._dir / other


def _under_its_orders(
    decision: Decision, held: "Resident", orders: "Sequence[Orders]"
) -> "Resident":
    """The judge under the orders whose rule a decision names.

    If none has that name the policy was another one. Then the score tells what the model saw.
    """
    import numpy as np

    from serving.obeying import ordered

    judges = [held, *(ordered(held, one) for one in orders)]
    named = [one for one in judges if one.policy_digest == decision.policy_digest]
    if not named:
        row = np.array([decision.features], dtype=np.float64)
        named = [one for one in judges if one.model.score(one.seen(row))[0] == decision.score]
    return named[0] if named else held


def _refuse_nothing(choice: "Choice", source: "DecisionSource") -> None:
    """Who asks for one decision must not take its absence for a proof."""
    extent = source.extent
    if choice.transaction_id is not None and not extent.decisions and not extent.orphans:
        raise UnknownTransactionError(
            "found no decision under this transaction_id, expected one in the log",
            hint="check the id and --since, --until; payments that came by file have no decision",
        )


def _moment(told: str | None) -> datetime | None:
    """A day as its first instant, UTC; a time must say its zone."""
    if told is None:
        return None
    try:
        if "T" not in told and " " not in told:
            return datetime.combine(date.fromisoformat(told), datetime.min.time(), UTC)
        moment = datetime.fromisoformat(told)
    except ValueError as error:
        raise click.UsageError(f"found {told!r}, expected a day or a time in ISO 8601") from error
    if moment.tzinfo is None:
        raise click.UsageError(f"found {told!r}, expected a time with a zone, as in {told}+00:00")
    return moment


@contextmanager
def _bar(start: int, end: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over the log for people, on stderr; none where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=end - start + 1, label="replay", file=sys.stderr) as bar:
        yield lambda position: bar.update(max(0, position - start - bar.pos))


def _text(told: "Json") -> str:
    """Aligned lines for people: numbers first, then what differs, then what could not be told."""
    troubles = {"differences": "differs", "gaps": "not compared"}
    plain = {name: value for name, value in told.items() if name not in troubles}
    width = max(map(len, plain))
    lines = [f"{name.replace('_', ' '):<{width}}  {_shown(value)}" for name, value in plain.items()]
    for name, label in troubles.items():
        for what, found in told[name].items():  # type: ignore[attr-defined]  # a report's dicts
            first = ", ".join(f"{key} {value}" for key, value in found["first"].items())
            lines.append(f"  {label}: {what}: {found['decisions']:,}; first: {first}")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    if isinstance(value, list):
        return " to ".join(f"{one:,}" for one in value) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
