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
from typing import Any

import msgspec

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.hash_chain import Chain, Link
from fraud_platform.audit_log.acts import Act, one_line
from fraud_platform.errors import PermanentError

HISTORY = "history.jsonl"
COMPLETE, FOUND, RESTORE = "complete", "found", "restore"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Mandate:
    """On whose behalf a role moves.

    Attributes:
        by: a person or a run.
        why: a sentence; empty if nobody said.
        evidence: digest of the verdict behind it, or None.
        role: under which role they act; empty for a service.
        origin: from where: "cli", "dagster run <id>", "platform".
        trainer: who made the model that it is about, as far as anybody knows.
    """

    by: str
    why: str = ""
    evidence: str | None = None
    role: str = ""
    origin: str = "platform"
    trainer: str = ""

    def __post_init__(self) -> None:
        if not self.by.strip():
            raise PermanentError("Found a move by nobody; expected a name.", hint="say --by NAME.")

    def act(self, action: str, object: str, **told: Any) -> Act:
        """Something done under it, for the audit log.

        Args:
            action: a name in `audit_log.acts.ACTIONS`.
            object: what it is done to.
            told: `before`, `after` and `facts`, as `Act` has them.
        """
        return Act(
            actor=self.by,
            role=self.role,
            action=action,
            object=object,
            origin=self.origin,
            reason=one_line(self.why),
            **told,
        )


class Entry(Link, frozen=True, kw_only=True):
    """One act, and the roles that it leads to.

    Attributes:
        at_us: when it was begun, microseconds since 1970 UTC; never before the line above.
        act: "promote", "break_glass", "roll_back", "challenge", "dismiss", "canary", "publish";
            "found": the registry's aliases were moved past this file, "restore": they were put
            back, or "complete": the act of the line above was interrupted and done only now.
        version: the version it is about, or None.
        by: who.
        why: the reason given.
        evidence: digest of the verdict behind it, or None.
        proposal: digest of the proposal that was approved, or that is to confirm it; or None.
        role: under which role.
        origin: from where.
        audit: number of the audit row that announced it; 0: nobody keeps an audit log.
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
    role: str = ""
    origin: str = "platform"
    audit: int = 0
    aliases: dict[str, str]
    deployment: Deployment

    @property
    def at(self) -> datetime:
        """When it was begun, UTC."""
        return _EPOCH + timedelta(microseconds=self.at_us)

    def told(self, before: Deployment | None = None) -> Act:
        """What the audit log says of it.

        Args:
            before: what was deployed until then, if it is known.
        """
        champion, earlier = self.deployment.champion, before and before.champion
        facts = {"evidence": self.evidence, "proposal": self.proposal}
        facts |= {"canary_share": f"{self.deployment.canary_share:g}", **self.aliases}
        mandate = Mandate(by=self.by, why=self.why, role=self.role, origin=self.origin)
        return mandate.act(
            f"model.{self.act}",
            f"model:{self.version or 'roles'}",
            before=earlier.manifest_digest if earlier else "",
            after=champion.manifest_digest if champion else "",
            facts={name: value for name, value in facts.items() if value},
        )


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
