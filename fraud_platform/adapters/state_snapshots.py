"""Snapshots of the online state on disk: what a scorer starts from instead of the whole log.

A snapshot is folded from the log and from earlier snapshots, never copied out of a scorer's memory,
so a fault there cannot reach the disk. Its name says how far it is, in which log, and what stands
there. It can be deleted at any time: the state is then folded from the log.
"""

import contextlib
import logging
import os
import uuid
from pathlib import Path

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_writer import Place
from fraud_platform.errors import PermanentError, StateUnavailableError
from fraud_platform.features.rings import FeatureRings

_ABANDONED_SECONDS = 3_600
_PIECE = 1 << 20

LOGGER = logging.getLogger("fraud_platform.scorer")


class StateSnapshots:
    """The snapshots in one folder.

    Args:
        folder: where they are; made when the first is written.
        kept: how many of a log's newest are kept.
    """

    def __init__(self, folder: Path, *, kept: int = 2) -> None:
        self._folder = folder
        self._kept = kept

    def write(self, rings: FeatureRings, log: EventLog) -> Path:
        """Write the state, folded from this log, whole or not at all.

        Older ones than are kept go, and those of no use to this log: had they a say in what is
        kept, a log that was restored from a backup would never have any of its own.

        Raises:
            LogUnavailableError: the log cannot be read.
            StateUnavailableError: the folder cannot be written.
        """
        path = self._folder / _name(rings.last_seq, log.place(rings.last_seq))
        part = self._folder / f".{uuid.uuid4().hex}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(part, rings.snapshot())
            self._drop_abandoned(part.stat().st_mtime)
            part.replace(path)
            _sync(self._folder)
            found = self._all()
            mine = [one for one in found if _foreign(one, log) is None]
            for old in {*found} - {*mine[: self._kept]}:
                old.unlink(missing_ok=True)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StateUnavailableError(
                f"found no way to write {path} ({error.strerror}), expected room for a snapshot",
                hint="check the disk; without snapshots the scorer starts more slowly",
            ) from error
        return path

    def of(self, log: EventLog, *, not_after: int | None = None) -> list[Path]:
        """The snapshots of this log, newest first; the others are said and left out.

        Args:
            log: the log; one that was restored from a backup may end before a snapshot.
            not_after: leave out those beyond this log position.
        """
        found = []
        for path in self._all():
            if not_after is not None and _position(path) > not_after:
                continue
            why = _foreign(path, log)
            if why is None:
                found.append(path)
            else:
                LOGGER.warning("skipped the snapshot %s: %s", path.name, why)
        return found

    def load(self, path: Path) -> FeatureRings | None:
        """The state in a snapshot; None, and a line in the log, if it is damaged or foreign."""
        try:
            return FeatureRings.restore(path.read_bytes())
        except (PermanentError, OSError) as error:
            LOGGER.warning("skipped the snapshot %s: %s", path.name, error)
            return None

    def newest(self, log: EventLog, *, not_after: int | None = None) -> FeatureRings | None:
        """The state in the newest usable snapshot, or None."""
        states = (self.load(path) for path in self.of(log, not_after=not_after))
        return next((state for state in states if state is not None), None)

    def clear(self) -> None:
        """Delete all of them."""
        for path in self._all():
            path.unlink(missing_ok=True)

    def _drop_abandoned(self, now: float) -> None:
        """Remove what processes that were killed while writing have left."""
        for part in self._folder.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):
                if now - part.stat().st_mtime > _ABANDONED_SECONDS:
                    part.unlink()

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("*-*.rings"), reverse=True)


def _name(position: int, place: Place) -> str:
    return f"{position:015d}-{place.log[:16]}-{(place.mark or '')[:16]}.rings"


def _position(path: Path) -> int:
    number = path.name.split("-")[0]
    return int(number) if number.isdecimal() else 0


def _foreign(path: Path, log: EventLog) -> str | None:
    """Why a snapshot is of no use to a log, or None."""
    position = _position(path)
    place = log.place(position)
    if path.name == _name(position, place):
        return None
    if not path.name.startswith(f"{position:015d}-{place.log[:16]}-"):
        return "it is of another log"
    if place.mark is None:
        return f"the log ends before it, at position {log.last_seq()}"
    return "the log has gone on differently before its position"


def _write(path: Path, content: bytes) -> None:
    """Write durably, piece by piece: one large sync would hold up the commits of decisions."""
    with path.open("wb") as file:
        for start in range(0, len(content), _PIECE):
            file.write(content[start : start + _PIECE])
            file.flush()
            os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
