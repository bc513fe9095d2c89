"""Signed heads of the log: a few lines that fix all rows so far, to be kept elsewhere.

The text is a C2SP tlog-checkpoint (origin, size, root, and one line of ours: when, and the digest
of the head before), the signature a C2SP signed note with Ed25519. So tools and witnesses that know
these formats can read, keep and countersign it.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NamedTuple, Protocol

from fraud_platform.errors import PermanentError

ORIGIN = "fraud-platform/audit/"
"""What an origin begins with; the log's name follows."""

MOST_ROWS = 1_000
"""Rows after which a head is due at once."""
MOST_US = 60_000_000
"""Age of the newest head at which one is due with the next row, microseconds."""

IsSigned = Callable[[bytes, bytes, bytes], bool]
"""Whether (content, signature, public key) belong together."""

_NOTE = re.compile(
    r"(?P<text>(?P<origin>[^\s+]+)\n(?P<size>0|[1-9][0-9]{0,17})\n(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"fraud-platform/1 (?P<at_us>[0-9]{1,18}) (?P<previous>[0-9a-f]{64}|-)\n)\n"
    r"\u2014 (?P=origin) (?P<signature>[A-Za-z0-9+/]{91}=)\n"
)


class KeyPair(Protocol):
    """What signs: `adapters.signatures.Signer`."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""


class Head(NamedTuple):
    """One signed head.

    Attributes:
        note: its text with the signature, as it is stored and copied.
        origin: `ORIGIN` and the log's name.
        size: rows it stands for.
        root: of the tree over them.
        at_us: when it was signed, microseconds UTC.
        previous: SHA-256 of the head before, hex; "" in the first.
        text: what is signed.
        key_hash: first 4 bytes of the SHA-256 of the key's name, a line end, 0x01 and the key.
        signature: 64 bytes.
    """

    note: str
    origin: str
    size: int
    root: bytes
    at_us: int
    previous: str
    text: bytes
    key_hash: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """What the next head names: SHA-256 of the note, hex."""
        return sha256(self.note.encode()).hexdigest()

    def is_by(self, public: bytes, is_signed: IsSigned) -> bool:
        """Whether the holder of this key signed it."""
        is_named = self.key_hash == key_hash(self.origin, public)
        return is_named and is_signed(self.text, self.signature, public)


def key_hash(name: str, public: bytes) -> bytes:
    """What a signed note calls a key by, beside its name (C2SP signed-note, Ed25519)."""
    return sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def signed_head(
    name: str, *, size: int, root: bytes, at_us: int, previous: str, signer: KeyPair
) -> Head:
    """The head of a log.

    Args:
        name: the log's.
        size: its rows.
        root: of the tree over them.
        at_us: now, microseconds UTC.
        previous: digest of the head before, or "".
        signer: who vouches.
    """
    origin = ORIGIN + name
    told = f"fraud-platform/1 {at_us} {previous or '-'}"
    text = f"{origin}\n{size}\n{b64encode(root).decode()}\n{told}\n"
    seal = key_hash(origin, signer.public) + signer.sign(text.encode())
    return parse_head(f"{text}\n\u2014 {origin} {b64encode(seal).decode()}\n")


def parse_head(note: str) -> Head:
    """Read one head.

    Raises:
        PermanentError: this is none of ours.
    """
    found = _NOTE.fullmatch(note)
    if found is None:
        raise PermanentError("found a text that is no head of an audit log, expected a signed head")
    return _head(found)


def parse_heads(notes: str) -> Iterator[Head]:
    """Read heads one after the other, as an anchor keeps them.

    Raises:
        PermanentError: something between them is no head.
    """
    end = 0
    while end < len(notes):
        found = _NOTE.match(notes, end)
        if found is None:
            line = notes.count("\n", 0, end) + 1
            raise PermanentError(f"found no head of an audit log at line {line}, expected one")
        yield _head(found)
        end = found.end()


def _head(found: re.Match[str]) -> Head:
    seal = b64decode(found["signature"])
    if b64encode(seal).decode() != found["signature"]:
        raise PermanentError("found a signature that is written in another way, expected base64")
    return Head(
        note=found[0],
        origin=found["origin"],
        size=int(found["size"]),
        root=b64decode(found["root"]),
        at_us=int(found["at_us"]),
        previous="" if found["previous"] == "-" else found["previous"],
        text=found["text"].encode(),
        key_hash=seal[:4],
        signature=seal[4:],
    )
