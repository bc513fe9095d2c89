"""Ed25519 signatures (RFC 8032): private keys in files of their owner's alone, public ones pinned.

What belongs here: making keys, signing bytes and checking signatures. What is signed, and what a
signature then means, is the caller's: the promotion of a model, a head of the audit log.
"""

import os
import stat
import uuid
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from fraud_platform.adapters.sealed_folder import read_regular, replace_file, sync_folder
from fraud_platform.errors import BundleIntegrityError, PermanentError

_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Signer:
    """A private key.

    Attributes:
        seed: its 32 bytes; they are never shown.
    """

    seed: bytes

    def __repr__(self) -> str:
        return f"Signer({self.key_id})"

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    @cached_property
    def key_id(self) -> str:
        """What names the key: the first 16 hex digits of the SHA-256 of its public half."""
        return key_id(self.public)

    def sign(self, content: bytes) -> bytes:
        """The signature of these bytes, 64 bytes; the same content always gets the same."""
        return self._key.sign(content)


def key_id(public: bytes) -> str:
    """What names a public key: the first 16 hex digits of its SHA-256."""
    return sha256(public).hexdigest()[:16]


def is_signed(content: bytes, signature: bytes, public: bytes) -> bool:
    """Whether the holder of this public key's private half signed these bytes.

    Examples:
        >>> signer = Signer(bytes(32))
        >>> is_signed(b"act", signer.sign(b"act"), signer.public)
        True
        >>> is_signed(b"another act", signer.sign(b"act"), signer.public)
        False
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def signer_at(path: Path) -> Signer:
    """The key in a file, with its public half in `<path>.pub`; made where there is neither.

    A private key whose public half is still pinned is not replaced by itself: who had it moved or
    lost must say so, since everything that it signed counts no more under another.

    Raises:
        PermanentError: the file holds no key, is open to others, cannot be used, or is gone while
            its public half is there.
    """
    public = path.with_name(f"{path.name}.pub")
    if not path.exists():
        if public.exists():
            raise PermanentError(
                f"found {public} and no private key beside it, expected both or neither",
                hint=f"restore {path}, or sign where it is; to begin anew move {public.name} away "
                "and give everybody who checks the new one",
            )
        _make(path)
    signer = _read(path)
    if not public.exists():  # whoever made the key may have been killed before this
        _pin(public, signer)
    return signer


def public_keys(folder: Path) -> Mapping[str, bytes]:
    """The pinned public keys of a folder, by key id: every `*.pub` in it, base64 of 32 bytes.

    Two of them count at a time while a key is rotated; taking a file away ends its key.

    Raises:
        PermanentError: a file holds no key.
    """
    found = {}
    for path in sorted(folder.glob("*.pub")):
        public = _decoded(path)
        found[key_id(public)] = public
    return found


def _make(path: Path) -> None:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(part, _encoded(os.urandom(_BYTES)), mode=0o600)
        try:
            os.link(part, path)  # whole or not at all, and never over another's
        except FileExistsError:
            return
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise PermanentError(f"found no way to make a key at {path}: {error.strerror}") from error


def _pin(path: Path, signer: Signer) -> None:
    try:
        replace_file(path, _encoded(signer.public), mode=0o644)
    except OSError as error:
        raise PermanentError(f"found no way to write {path}: {error.strerror}") from error


def _encoded(key: bytes) -> bytes:
    return b64encode(key) + b"\n"


def _read(path: Path) -> Signer:
    facts = path.stat()
    if facts.st_mode & _OTHERS or facts.st_uid not in (os.geteuid(), 0):
        raise PermanentError(
            f"found that others may use the key {path} (mode {stat.S_IMODE(facts.st_mode):o}), "
            "expected its owner alone",
            hint=f"if nobody read it: chmod 600 {path}; else make a new one and take this one back",
        )
    return Signer(_decoded(path))


def _decoded(path: Path) -> bytes:
    try:
        content = b64decode(read_regular(path, most_bytes=1024), validate=False)
    except (BundleIntegrityError, ValueError) as error:
        raise PermanentError(f"found no readable key at {path}") from error
    if len(content) != _BYTES:
        raise PermanentError(f"found {len(content)} bytes in {path}, expected a key of {_BYTES}")
    return content
