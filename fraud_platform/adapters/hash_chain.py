"""Files of JSON lines that only grow, each line with the digest of the line before.

What belongs here: reading and appending durably. A changed, lost or swapped line is seen; whoever
rewrites the whole file, or cuts its end, is seen only by a digest that was kept elsewhere. What the
lines mean is their owner's: `model_history`, `heal_ledger`.
"""

import fcntl
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EISDIR, ELOOP
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from fraud_platform.adapters.sealed_folder import sha256, sync_folder
from fraud_platform.errors import HistoryChangedError, HistoryDamagedError, UnavailableError

_MENDING = "the file was edited: keep it as evidence, move it away and restore a backup."


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line.

    Attributes:
        before: SHA-256 of the line above; empty in the first. Whoever appends it fills it in.
    """

    before: str = ""


L = TypeVar("L", bound=Link)


@dataclass(frozen=True)
class Place:
    """How far a chain was read.

    Attributes:
        links: lines above.
        end: bytes above.
        last: bytes of the last line, without its end.
        digest: SHA-256 of the last line: it stands for all above; empty at the start.
    """

    links: int = 0
    end: int = 0
    last: int = 0
    digest: str = ""

    def after(self, line: bytes) -> "Place":
        """The place one line further."""
        return Place(self.links + 1, self.end + len(line) + 1, len(line), sha256(line))


START = Place()


class Chain(Generic[L]):
    """One file.

    Args:
        path: where it is; made with its folder by the first append.
        kind: what its lines are.
    """

    def __init__(self, path: Path, kind: type[L]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(kind)

    def since(self, place: Place = START) -> tuple[tuple[L, ...], Place]:
        """The lines below a place, oldest first, and the place behind them.

        A line that was cut off while it was written never was. Lines above are not read again, but
        for the last of them: so a file that was put in its place is seen.

        Raises:
            HistoryDamagedError: a line was changed, lost or swapped; the message names the first.
            UnavailableError: the disk does not answer.
        """
        if place == START and not os.path.lexists(self._path):
            return (), START
        with self._open(os.O_RDONLY, fcntl.LOCK_SH) as descriptor:
            return self._read(descriptor, place)

    def append(
        self, links: Sequence[L], *, behind: Place = START, alone: bool = False
    ) -> tuple[L, ...]:
        """Append lines durably, all or none, with the digests that join them.

        Args:
            links: what to append; `before` is filled in.
            behind: a place that was read before; the nearer the end, the less is read again.
            alone: only if nobody has appended anything behind that place.

        Returns:
            The lines as written.

        Raises:
            HistoryChangedError: somebody else appended meanwhile; nothing was appended.
            HistoryDamagedError: a line above was changed, lost or swapped.
            UnavailableError: the disk refuses; nothing was appended.
        """
        self._make_folder()
        with self._open(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as descriptor:
            fresh, place = self._read(descriptor, behind)
            if alone and fresh:
                raise HistoryChangedError(
                    f"found {len(fresh)} new lines in {self._path}, expected none since line "
                    f"{behind.links}",
                    hint="read them and decide again.",
                )
            written: list[L] = []
            lines: list[bytes] = []
            end = place.end
            for link in links:
                written.append(msgspec.structs.replace(link, before=place.digest))
                lines.append(msgspec.json.encode(written[-1]))
                place = place.after(lines[-1])
            self._write(descriptor, end, b"".join(line + b"\n" for line in lines))
            return tuple(written)

    def _read(self, descriptor: int, place: Place) -> tuple[tuple[L, ...], Place]:
        start = place.end - place.last - 1 if place.links else 0
        size = os.fstat(descriptor).st_size
        lines = os.pread(descriptor, max(size - start, 0), start).split(b"\n")[:-1]
        if place.links and (not lines or sha256(lines.pop(0)) != place.digest):
            raise HistoryDamagedError(
                f"{self._path}, line {place.links} is not the one that was read before.",
                hint=_MENDING,
            )
        links = []
        for line in lines:
            links.append(self._decoded(line, place))
            place = place.after(line)
        return tuple(links), place

    def _decoded(self, line: bytes, place: Place) -> L:
        number = place.links + 1
        try:
            link = self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HistoryDamagedError(
                f"{self._path}, line {number} is no entry: {error}.", hint=_MENDING
            ) from error
        if link.before != place.digest:
            raise HistoryDamagedError(
                f"{self._path}, line {number} follows {link.before[:12] or 'nothing'}; found "
                f"{place.digest[:12] or 'nothing'} above it.",
                hint=_MENDING,
            )
        return link

    def _write(self, descriptor: int, end: int, content: bytes) -> None:
        if torn := os.fstat(descriptor).st_size - end:
            logging.getLogger(__name__).warning(
                "%s: dropping %d bytes of a line whose writer died", self._path, torn
            )
        try:
            os.ftruncate(descriptor, end)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.seek(end)
                file.write(content)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)  # a batch is appended whole or not at all
            raise
        if end == 0:
            sync_folder(self._path.parent)

    def _make_folder(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"{self._path} cannot be made: {error.strerror}.") from error

    @contextmanager
    def _open(self, access: int, lock: int) -> Iterator[int]:
        """The file, locked against other writers for as long as the block lasts."""
        flags = access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise self._no_file()
                fcntl.flock(descriptor, lock)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in (ELOOP, EISDIR):
                raise self._no_file() from error
            raise UnavailableError(f"{self._path} does not answer: {error.strerror}.") from error

    def _no_file(self) -> HistoryDamagedError:
        return HistoryDamagedError(f"{self._path} is no regular file.", hint=_MENDING)
