"""Who moved which model's role, when, why and on what evidence: one line per act, never changed.

What belongs here: what the lines of `history.jsonl` mean; what joins them is `hash_chain`. Their
one writer is `model_roles`, which writes the line before the act: so the line also tells how to
finish an act that was interrupted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.hash_chain import Chain, Link
from fraud_platform.errors import PermanentError

HISTORY = "history.jsonl"
COMPLETE, FOUND = "complete", "found"
PROPOSE, APPROVE, REJECT = "propose", "approve", "reject"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Mandate:
    """On whose behalf a role moves.

    Attributes:
        by: a person or a run.
        why: a sentence; empty if nobody said.
        evidence: digest of the verdict or proposal behind it, or None.
    """

    by: str
    why: str = ""
    evidence: str | None = None

    def __post_init__(self) -> None:
        if not self.by.strip():
            raise PermanentError("Found a move by nobody; expected a name.", hint="say --by NAME.")


class Entry(Link, frozen=True, kw_only=True):
    """One act, and the roles that it leads to.

    Attributes:
        at_us: when it was begun, microseconds since 1970 UTC; never before the line above.
        act: "promote", "roll_back", "challenge", "dismiss", "canary", "publish", "propose",
            "approve", "reject", "found": the registry's aliases were moved past this file, or
            "complete": the act of the line above was interrupted and done only now.
        version: the version it is about, or None.
        by: who.
        why: the reason given.
        evidence: digest of the verdict behind it, or None.
        proposal: digest of what is proposed, approved or rejected, or None.
        aliases: the registry's aliases after it.
        deployment: what scorers read after it.
    """

    at_us: int
    act: str
    version: str | None = None
    by: str
    why: str
    evidence: str | None = None
    proposal: str | None = None
    aliases: dict[str, str]
    deployment: Deployment

    @property
    def at(self) -> datetime:
        """When it was begun, UTC."""
        return _EPOCH + timedelta(microseconds=self.at_us)


def effective(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The entries that came to pass when they say so: without those that were interrupted."""
    for entry, following in pairwise((*entries, None)):
        if entry is not None and (following is None or following.act != COMPLETE):
            yield entry


def live_at(entries: Sequence[Entry], moment: datetime) -> Entry | None:
    """The entry whose roles were in force at a moment; None before the first."""
    found = None
    for entry in effective(entries):
        if entry.at > moment:
            break
        found = entry
    return found


def pending(entries: Sequence[Entry]) -> dict[str, Entry]:
    """The proposals that nobody has answered, by version; a new champion ends them all."""
    waiting: dict[str, Entry] = {}
    for entry in entries:
        champion = entry.aliases.get("champion")
        waiting = {v: e for v, e in waiting.items() if e.aliases.get("champion") == champion}
        if entry.act == PROPOSE and entry.version is not None:
            waiting[entry.version] = entry
        elif entry.act in (APPROVE, REJECT) and entry.version is not None:
            waiting.pop(entry.version, None)
    return waiting


def read_history(models_dir: Path) -> tuple[Entry, ...]:
    """Every entry, oldest first; a line that was cut off while it was written never was.

    Raises:
        HistoryDamagedError: a line was changed, lost or swapped.
        UnavailableError: the disk does not answer.
    """
    return Chain(models_dir / HISTORY, Entry).since()[0]


def append_entry(models_dir: Path, entry: Entry) -> Entry:
    """Append an entry durably, with no earlier time than that of the line above.

    Callers hold the registry's lock.

    Returns:
        The entry as written.

    Raises:
        HistoryDamagedError: a line above was changed, lost or swapped.
        UnavailableError: the disk refuses; nothing was appended.
    """
    chain = Chain(models_dir / HISTORY, Entry)
    entries, place = chain.since()
    above_us = entries[-1].at_us if entries else entry.at_us
    later = msgspec.structs.replace(entry, at_us=max(entry.at_us, above_us))
    (written,) = chain.append([later], behind=place, alone=True)
    return written
