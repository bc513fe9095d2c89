"""The file of API keys: written by the command line, read by running scorers.

One JSON file, `access/keys.json` in the home, that only its owner may write. It appears whole, two
writers take turns, and a checksum tells damage from content: a file that cannot be believed
entirely is not believed at all. It holds no key, only SHA-256 digests of keys.

When a key was last used stands in a file of its own, coarse and not durable: it helps people to
find keys that nobody needs, and decides nothing.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fraud_platform.access import ApiKey, id_of, key_text
from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.approval_rules import plain
from fraud_platform.errors import KeyStoreError, PermanentError
from fraud_platform.roles import require_apart

_FORMAT = 1
_MOST_KEYS = 10_000
_LARGEST_FILE = 16 * 1024 * 1024
_HOUR_US = 3_600_000_000
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH

Signature = tuple[int, int, int, int]
"""Times of content and of mode, size and inode of a file: whatever happens to it, one changes."""


class _Document(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    format: int
    keys: tuple[ApiKey, ...]
    digest: str


_DOCUMENTS = msgspec.json.Decoder(_Document, strict=True)
_USES = msgspec.json.Decoder(dict[str, int], strict=True)


@dataclass(frozen=True)
class Keys:
    """The keys of one moment.

    Attributes:
        keys: by id.
        signature: of the file they were read from; None: there is no file.
    """

    keys: Mapping[str, ApiKey]
    signature: Signature | None


class KeyStore:
    """The API keys of one home.

    Args:
        folder: `access` in the home; made by the first key.
        person: the one name of whoever has this one: nobody gives out keys and approves.
    """

    def __init__(self, folder: Path, person: Callable[[str], str] = plain) -> None:
        self._person = person
        self.path = folder / "keys.json"
        self._uses = folder / "last_used.json"
        self._lock = folder / ".lock"

    def signature(self) -> Signature | None:
        """What changes whenever the file does; None: there is no file.

        Raises:
            KeyStoreError: the disk does not say.
        """
        try:
            return _signature(self.path.stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._damaged(f"cannot be looked at ({error.strerror})") from None

    def read(self) -> Keys:
        """All keys, revoked and expired ones too.

        Raises:
            KeyStoreError: the file is damaged, foreign, or open to others; none of it counts.
        """
        try:
            with self.path.open("rb") as file:
                facts = os.fstat(file.fileno())
                content = file.read(_LARGEST_FILE + 1)
        except FileNotFoundError:
            return Keys({}, None)
        except OSError as error:
            raise self._damaged(f"cannot be read ({error.strerror})") from None
        if facts.st_mode & _OTHERS_MAY_WRITE or facts.st_uid not in (os.geteuid(), 0):
            mode = stat.S_IMODE(facts.st_mode)
            raise self._damaged(f"can be written by others (mode {mode:o}, owner {facts.st_uid})")
        return Keys(self._parsed(content), _signature(facts))

    def create(self, make: Callable[[str], ApiKey], *, environment: str) -> tuple[str, ApiKey]:
        """Add one key.

        Args:
            make: the key's text -> what is stored of it.
            environment: where the key belongs.

        Returns:
            The key's text, which exists nowhere else, and what is stored of it.

        Raises:
            KeyStoreError: the file is damaged.
            AccessDeniedError: its subject would hold, with all keys that count, what nobody may.
            PermanentError: there are too many keys, or the folder cannot be written.
            ValueError: the key's own limits are out of bounds.
        """
        with self._writing() as keys:
            return self._add(keys, make, environment)

    def change(self, key_id: str, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        """Replace one key's record.

        Raises:
            KeyStoreError: the file is damaged.
            PermanentError: there is no such key.
        """
        with self._writing() as keys:
            keys[key_id] = changed = change(_existing(keys, key_id))
            return changed

    def rotate(
        self,
        key_id: str,
        retire: Callable[[ApiKey], ApiKey],
        renew: Callable[[ApiKey, str], ApiKey],
    ) -> tuple[str, ApiKey, ApiKey]:
        """Add a key in another's place and let the other end, in one step.

        Args:
            key_id: the key to replace.
            retire: the old key's record -> the same with its end.
            renew: the old key's record and the new key's text -> the new one's record.

        Returns:
            The new key's text, its record, and the old key's record.
        """
        with self._writing() as keys:
            old = _existing(keys, key_id)
            keys[key_id] = retired = retire(old)
            text, new = self._add(keys, lambda text: renew(old, text), old.environment)
            return text, new, retired

    def last_used(self) -> Mapping[str, int]:
        """Key id -> start of the hour of its last use, microseconds UTC; may lag by minutes."""
        try:
            return _USES.decode(self._uses.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return {}  # a convenience for people: without it the answer is "not known"

    def note_use(self, key_ids: set[str], now_us: int) -> None:
        """Remember that these keys were used in this hour.

        Raises:
            OSError: the folder cannot be written.
        """
        hour = now_us - now_us % _HOUR_US
        with self._locked():
            known = dict(self.last_used())
            uses = known | {key_id: max(hour, known.get(key_id, 0)) for key_id in key_ids}
            if uses != known:
                replace_file(self._uses, msgspec.json.encode(uses), mode=0o600)

    def _add(
        self, keys: dict[str, ApiKey], make: Callable[[str], ApiKey], environment: str
    ) -> tuple[str, ApiKey]:
        if len(keys) >= _MOST_KEYS:
            raise PermanentError(
                f"found {len(keys)} keys in {self.path}, expected fewer than {_MOST_KEYS}"
            )
        text = key_text(environment, os.urandom(40))
        while id_of(text) in keys:
            text = key_text(environment, os.urandom(40))
        made = make(text)
        made.require_limits()
        self._require_apart(made, keys)
        keys[made.id] = made
        return text, made

    @contextmanager
    def _writing(self) -> Iterator[dict[str, ApiKey]]:
        """The keys, to be changed in place by one writer at a time; written when the block ends."""
        try:
            with self._locked():
                keys = dict(self.read().keys)
                yield keys
                replace_file(self.path, _encoded(keys), mode=0o600)
        except OSError as error:
            raise PermanentError(
                f"found no way to write {self.path} ({error.strerror}), expected a folder of"
                " our own",
                hint="run this as the user that owns the home",
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _parsed(self, content: bytes) -> Mapping[str, ApiKey]:
        try:
            document = _DOCUMENTS.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._damaged("is not what this version writes") from None
        keys = {key.id: key for key in document.keys}
        if document.format != _FORMAT or len(keys) != len(document.keys):
            raise self._damaged(f"is of format {document.format}, or names a key twice")
        if document.digest != _checksum(document.keys):
            raise self._damaged("does not agree with its checksum")
        return keys

    def _require_apart(self, made: ApiKey, keys: Mapping[str, ApiKey]) -> None:
        """Two keys of one person are no two persons, however the name is written."""
        whose = self._person(made.subject)
        held = [
            key.scopes
            for key in (made, *keys.values())
            if self._person(key.subject) == whose and key.state(made.created_us) == "active"
        ]
        require_apart({scope for scopes in held for scope in scopes}, made.subject)

    def _damaged(self, what: str) -> KeyStoreError:
        return KeyStoreError(
            f"found that the key store {self.path} {what}; until it is mended no credential counts",
            hint="put back a copy (mode 0600); or move the file away and create the keys again"
            " (fraud-platform keys create)",
        )


def state_digest(key: ApiKey) -> str:
    """SHA-256 of all that is stored of a key, hex: for an audit that tells before from after."""
    return hashlib.sha256(msgspec.json.encode(key, order="deterministic")).hexdigest()


def _encoded(keys: Mapping[str, ApiKey]) -> bytes:
    ordered = tuple(keys.values())
    document = _Document(format=_FORMAT, keys=ordered, digest=_checksum(ordered))
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _checksum(keys: tuple[ApiKey, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(keys, order="deterministic")).hexdigest()


def _existing(keys: Mapping[str, ApiKey], key_id: str) -> ApiKey:
    if key_id not in keys:
        raise PermanentError(f"found no key {key_id}", hint="fraud-platform keys list")
    return keys[key_id]


def _signature(facts: os.stat_result) -> Signature:
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino
