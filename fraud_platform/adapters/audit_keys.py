"""The audit log's keys as files: who signs its heads, and the key of its MACs that is used up.

`head.key` signs (its public half is `head.key.pub`). `mac.key` holds the key of the MACs of this
epoch only; `first.key` holds the first one, from which all follow. Whoever checks the log needs
that one, and whoever may take this machine must not find it here: it is to be taken away.
"""

import re
from base64 import b64decode, b64encode
from functools import cached_property
from os import urandom
from pathlib import Path

from fraud_platform.adapters.sealed_folder import read_regular, replace_file
from fraud_platform.adapters.signatures import Signer, signer_at
from fraud_platform.audit_log.rows import MacKey, Tail
from fraud_platform.errors import FraudPlatformError, PermanentError

_LINE = re.compile(r"([0-9]{1,9}) ([A-Za-z0-9+/]{43}=)\n?")


class AuditKeys:
    """The keys in one folder.

    Args:
        folder: made when missing, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mac_path = folder / "mac.key"
        self._read: tuple[tuple[int, int], MacKey] | None = None

    @property
    def first_path(self) -> Path:
        """Where the first key of the MACs stands until somebody takes it away."""
        return self._folder / "first.key"

    @property
    def public_path(self) -> Path:
        """The public half of what signs the heads."""
        return self._folder / "head.key.pub"

    @cached_property
    def signer(self) -> Signer:
        """What signs the heads; made at its first use.

        Raises:
            PermanentError: the key's file is no key, or open to others.
        """
        return signer_at(self._folder / "head.key")

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self.signer.public

    @property
    def publics(self) -> tuple[bytes, ...]:
        """The public keys of all that ever signed heads of this log, the newest last.

        Raises:
            PermanentError: `former.pub`, where those that were replaced stand, holds none.
        """
        former = self._folder / "former.pub"
        return (*(read_publics(former) if former.exists() else ()), self.public)

    def current(self, tail: Tail) -> MacKey:
        """The key of the MACs of the next row. The caller holds the log's lock.

        Args:
            tail: the log's end; only an empty log gets a first key.

        Raises:
            PermanentError: the key is gone, or no key, or of a later epoch: rows are missing.
        """
        path = self._mac_path
        if tail.size == 0 and not path.exists():
            key = MacKey(0, urandom(32))
            _write(self.first_path, key)
            _write(path, key)
        try:
            return self.use_up(tail.next_epoch)
        except (FraudPlatformError, FileNotFoundError, ValueError) as error:
            raise PermanentError(
                f"found no key for the audit log's MACs ({error}), expected {path}",
                hint="keep the log as evidence if its key is of a later epoch: rows are missing;"
                f" else copy the first key, which was taken away, to {path}",
            ) from error

    def _fresh(self, path: Path) -> MacKey:
        """The key as it is now; the file is read again only when another one is in its place."""
        facts = path.stat()
        mark = facts.st_ino, facts.st_mtime_ns
        if self._read is None or self._read[0] != mark:
            self._read = mark, read_key(path)
        return self._read[1]

    def use_up(self, epoch: int) -> MacKey:
        """The key of an epoch; those before it are destroyed.

        It may be done late, after a crash behind a head's commit, but never before that commit:
        a key that is gone cannot be found again.

        Raises:
            ValueError: the epoch is over.
        """
        key = self._fresh(self._mac_path)
        if key.epoch != epoch:
            key = key.at(epoch)
            _write(self._mac_path, key)
        return key


def read_key(path: Path) -> MacKey:
    """A key of the MACs from its file.

    Raises:
        PermanentError: there is none.
    """
    found = _LINE.fullmatch(read_regular(path, most_bytes=1024).decode("ascii", "replace"))
    if found is None:
        raise PermanentError(f"found no key in {path}, expected an epoch and 32 bytes in base64")
    return MacKey(int(found[1]), b64decode(found[2]))


def read_publics(path: Path) -> tuple[bytes, ...]:
    """Public keys from a file of lines, the newest last.

    Raises:
        PermanentError: it is missing, or a line holds none.
    """
    try:
        content = read_regular(path, most_bytes=1 << 16)
        found = tuple(b64decode(line, validate=True) for line in content.split())
    except ValueError:
        found = ()
    if not found or {len(key) for key in found} != {32}:
        raise PermanentError(
            f"found no public keys in {path}, expected lines of 32 bytes in base64"
        )
    return found


def _write(path: Path, key: MacKey) -> None:
    line = f"{key.epoch} {b64encode(key.secret).decode()}\n"
    replace_file(path, line.encode(), mode=0o600)
