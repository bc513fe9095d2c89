"""The commands `fraud-platform decisions ...`: proofs about what a scorer decided.

Thin: a command puts a log, a state and the bundles together, runs `decision_replay` and prints.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import click

from fraud_platform.errors import UnknownTransactionError
from fraud_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from fraud_platform.replay_report import Json, ReplayReport


@click.group()
def decisions() -> None:
    """Prove that what a scorer decided is what it would decide again."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What `replay` was asked for; the options' help says what each is."""

    since: str | None
    until: str | None
    transaction_id: str | None
    whole: bool
    every: int | None
    limit: int | None
    from_log: bool
    complete: bool
    as_json: bool


@decisions.command()
@click.argument("transaction_id", required=False)
@click.option("--since", help="Payments from then on: 2026-01-05, or 2026-01-05T09:30:00+00:00.")
@click.option("--until", help="Payments before then, the same forms.")
@click.option("--all", "whole", is_flag=True, help="Every decision; so it is without an id.")
@click.option("--every", type=click.IntRange(min=1), help="Each N-th position of the log only.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the earliest first.")
@click.option("--from-log", is_flag=True, help="Start from no snapshot: fold the log alone.")
@click.option("--complete", is_flag=True, help="Fail, too, if something could not be replayed.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def replay(**options: object) -> None:
    """Decide again on recorded payments, or on the one of TRANSACTION_ID, and compare every value.

    Reads nothing but files: the log, the bundles of the models and the policy in force. Each
    decision's features are read at the position of the log that it had seen, its score is computed
    by the model that it names, and its outcome and reasons by that model's thresholds. What is
    compared must be equal, floats bit for bit.

    A decision whose model is gone, or that another policy took, cannot be replayed: it is counted
    with the reason, and never as equal.

    Exit code 1 if any value differs, else 0.
    """
    asked = _Asked(**options)  # type: ignore[arg-type]  # click made each option what it says
    if asked.whole and asked.transaction_id is not None:
        raise click.UsageError("found an id and --all, expected one of them")
    found, facts = _replayed(asked, get_settings())
    told = asdict(found) | facts
    click.echo(json.dumps(told, indent=1) if asked.as_json else _text(told))
    sys.exit(1 if found.different or (asked.complete and found.not_replayed) else 0)


def _replayed(asked: _Asked, settings: Settings) -> tuple["ReplayReport", "Json"]:
    """The report, and what is worth telling beside it."""
    from fraud_platform.adapters.decision_source import Choice
    from fraud_platform.adapters.home import in_use
    from fraud_platform.adapters.purged_records import refuse_purged
    from serving.replaying import Replayer

    choice = Choice(
        since=_moment(asked.since),
        until=_moment(asked.until),
        transaction_id=asked.transaction_id,
        every=asked.every or 1,
        limit=asked.limit,
    )
    with in_use(settings.home):
        done = Replayer(settings).replay(choice, from_log=asked.from_log, watched=_bar)
    report, start = done.report, done.started_from
    if asked.transaction_id is not None and not report.decisions:
        refuse_purged(settings, asked.transaction_id)
        raise UnknownTransactionError(
            "found no decision under this transaction_id, expected one in the log",
            hint="check the id and --since, --until; payments that came by file have no decision",
        )
    return report, {
        "started_from": f"the snapshot at position {start}" if start else "the log alone",
        "positions": list(done.positions),
        "cpu_seconds": round(done.cpu_seconds, 2),
        "decisions_per_cpu_second": round(report.decisions / max(done.cpu_seconds, 1e-9)),
    }


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
