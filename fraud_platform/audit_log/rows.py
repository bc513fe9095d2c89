"""Rows of the audit log: what is hashed, how each row stands on the one before, and its seal.

Three things make a row evident: its leaf (hash of its fields), the chain (each stands on all rows
before), and a MAC (HMAC-SHA256 of the chain) under a key that is destroyed with every signed head:
k' = SHA256(k). Who takes the machine today cannot forge the MACs of rows before.
"""

import hmac
import json
from hashlib import sha256
from typing import NamedTuple

import msgspec

from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.heads import Head
from fraud_platform.audit_log.merkle import Frontier, grown, leaf_hash

HASHED = 14
"""So many fields, the first ones, are hashed into the leaf."""
_encode = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder(order="sorted").encode


class Row(NamedTuple):
    """One row as it is stored.

    Attributes:
        seq: its place, from 1, without gaps.
        at_us: when it was written, microseconds UTC.
        actor: who, as in `Act`; also the next five and the three after `outcome`.
        role: under which role.
        action: what.
        object: to what.
        origin: from where.
        outcome: `done`, `begun`, `failed`, or what became of it.
        reason: why.
        before: digest before.
        after: digest after.
        facts: what else is to be known, JSON.
        begun: seq of the row that says that this act began; 0 when there is none.
        epoch: how often the key of the MACs had changed.
        chain: SHA256(chain of the row before || leaf); the first stands on the log's name.
        mac: HMAC-SHA256 of the chain under the key of the epoch.
    """

    seq: int
    at_us: int
    actor: str
    role: str
    action: str
    object: str
    origin: str
    outcome: str
    reason: str
    before: str
    after: str
    facts: str
    begun: int
    epoch: int
    chain: bytes
    mac: bytes

    @property
    def told(self) -> dict[str, str]:
        """The facts as a mapping."""
        return dict(json.loads(self.facts))


class Tail(NamedTuple):
    """The end of the log: all that is needed to go on.

    Attributes:
        name: what names the log.
        size: rows.
        chain: of the last row.
        frontier: of the tree.
        epoch: of the last row.
        head_size: rows under the newest head.
        head_us: when that was signed, microseconds UTC.
        head_digest: SHA-256 of its text, hex; the next head names it.
    """

    name: str
    size: int
    chain: bytes
    frontier: Frontier
    epoch: int = 0
    head_size: int = 0
    head_us: int = 0
    head_digest: str = ""

    @property
    def next_epoch(self) -> int:
        """The epoch of the next row: a head, and nothing else, ends one."""
        return self.epoch + (self.head_size == self.size > 0)

    def after(self, row: Row) -> "Tail":
        """The end once this row is there."""
        return self._replace(
            size=row.seq,
            chain=row.chain,
            frontier=grown(self.frontier, self.size, leaf(row)),
            epoch=row.epoch,
        )

    def under(self, head: Head) -> "Tail":
        """The end once this head of all rows is there."""
        return self._replace(head_size=head.size, head_us=head.at_us, head_digest=head.digest)


class MacKey(NamedTuple):
    """The key of the MACs in one epoch.

    Attributes:
        epoch: how often it has changed.
        secret: 32 bytes.
    """

    epoch: int
    secret: bytes

    def __repr__(self) -> str:
        return f"MacKey(epoch={self.epoch})"

    def at(self, epoch: int) -> "MacKey":
        """The key of a later epoch.

        Raises:
            ValueError: the epoch is over; its key cannot be found any more.
        """
        if epoch < self.epoch:
            raise ValueError(f"found the key of epoch {self.epoch}, expected that of {epoch}")
        secret = self.secret
        for _ in range(epoch - self.epoch):
            secret = sha256(secret).digest()
        return MacKey(epoch, secret)

    def at_least(self, epoch: int) -> "MacKey":
        """The key of an epoch, or itself if it is a later one's."""
        return self.at(max(self.epoch, epoch))

    def mac(self, chain: bytes) -> bytes:
        """The MAC of a row's chain."""
        return hmac.digest(self.secret, chain, "sha256")


def start_of(name: str) -> Tail:
    """The end of an empty log.

    Examples:
        >>> start_of("log").size
        0
    """
    return Tail(name, 0, sha256(name.encode()).digest(), ())


def leaf(row: Row) -> bytes:
    """The hash of a row's fields: RFC 6962's leaf over them as a MessagePack array."""
    return leaf_hash(_encode(row[:HASHED]))


def chained(previous: bytes, row_leaf: bytes) -> bytes:
    """What a row's chain has to be."""
    return sha256(previous + row_leaf).digest()


def next_row(tail: Tail, act: Act, *, outcome: str, begun: int, at_us: int, key: MacKey) -> Row:
    """The row of an act, behind the end of the log.

    Args:
        tail: the end.
        act: what is recorded.
        outcome: what became of it.
        begun: seq of the row that says it began, or 0.
        at_us: now, microseconds UTC.
        key: of the end's next epoch.
    """
    facts = _json(dict(act.facts)).decode()
    fields = (
        *(tail.size + 1, at_us, act.actor, act.role, act.action, act.object, act.origin, outcome),
        *(act.reason, act.before, act.after, facts, begun, key.epoch),
    )
    chain = chained(tail.chain, leaf_hash(_encode(fields)))
    return Row(*fields, chain, key.mac(chain))
