"""Who moved which model's role, when, why and on what evidence: one line per act, never changed.

What belongs here: the form of `history.jsonl`, reading and appending. Its one writer is
`model_roles`, which writes the line before the act: so the line also tells how to finish an act
that was interrupted. Each line holds the digest of the line before, so that a changed, lost or
swapped line is seen; who rewrites the whole file is not.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.sealed_folder import read_regular, sha256
from fraud_platform.errors import BundleIntegrityError, PermanentError, UnavailableError

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


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
        before: SHA-256 of the line above; empty in the first.
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
    before: str

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
        BundleIntegrityError: a line was changed, lost or swapped.
        UnavailableError: the disk does not answer.
    """
    path = models_dir / HISTORY
    if not os.path.lexists(path):
        return ()
    entries: list[Entry] = []
    before = ""
    for number, line in enumerate(_whole_lines(read_regular(path)), start=1):
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BundleIntegrityError(f"{path}, line {number} is no entry: {error}.") from error
        if entry.before != before:
            raise BundleIntegrityError(
                f"{path}, line {number} follows {entry.before[:12] or 'nothing'}; found "
                f"{before[:12] or 'nothing'} above it.",
                hint="the file was edited: keep it as evidence, move it away and restore a backup.",
            )
        entries.append(entry)
        before = sha256(line)
    return tuple(entries)


def append_entry(models_dir: Path, entry: Entry) -> Entry:
    """Append an entry durably, with the digest of the line above and no earlier time than its.

    Callers hold the registry's lock.

    Returns:
        The entry as written.

    Raises:
        UnavailableError: the disk refuses; nothing was appended.
    """
    path = models_dir / HISTORY
    entries = read_history(models_dir)
    kept = _whole_lines(read_regular(path)) if os.path.lexists(path) else []
    written = msgspec.structs.replace(
        entry,
        before=sha256(kept[-1]) if kept else "",
        at_us=max(entry.at_us, entries[-1].at_us if entries else entry.at_us),
    )
    whole = sum(len(line) + 1 for line in kept)
    try:
        _append(path, whole, msgspec.json.encode(written) + b"\n")
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}.") from error
    return written


def _append(path: Path, end: int, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(end)
        file.seek(end)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _whole_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]
