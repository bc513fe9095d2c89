"""What somebody did to a row of the audit log, told from the rows around it.

A row stands on the chain of the row before. So a row that does not fit its place still tells where
it would fit, and that tells an edit from a deletion, an insertion, a swap or a renumbering.
"""

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Literal, NamedTuple

from fraud_platform.audit_log.rows import MacKey, Row, chained, leaf

Kind = Literal[
    "edited", "deleted", "inserted", "swapped", "renumbered", "rewritten", "mac", "cut", "tail",
    "head dropped", "head forged", "replaced", "not anchored",
]  # fmt: skip

MEANINGS: dict[Kind, str] = {
    "edited": "a field of the row was changed",
    "deleted": "rows are missing here",
    "inserted": "a row was put in here",
    "swapped": "the row stands in another one's place",
    "renumbered": "rows were removed or moved, and the ones behind got other numbers",
    "rewritten": "from here on rows were written anew, with all that follows from them",
    "mac": "the row's MAC was changed",
    "cut": "the end of the log is missing from here on",
    "tail": "what the log keeps of its own end was changed",
    "head dropped": "a signed head is missing",
    "head forged": "a head was changed, or its key is not the one that is known",
    "replaced": "the anchor holds heads of a log of another name: this one was made in its place",
    "not anchored": "the log has signed heads, and its anchor has none of them",
}
"""What each kind of damage means."""

_FARTHEST = 1_000
"""How many removed rows are counted before a renumbering passes for an edit."""


class Finding(NamedTuple):
    """The first thing that is wrong.

    Attributes:
        kind: what was done.
        first: the damage begins here or later.
        seq: and here or earlier; the same where the place is known exactly.
    """

    kind: Kind
    first: int
    seq: int

    def to_text(self) -> str:
        """One sentence for people."""
        place = f"{self.first:,}..{self.seq:,}" if self.first < self.seq else f"{self.seq:,}"
        return f"row {place}: {self.kind}: {MEANINGS[self.kind]}"


class Place(NamedTuple):
    """A place in the log and what came before.

    Attributes:
        seq: which row is expected here.
        chain: of the row before.
    """

    seq: int
    chain: bytes

    def chain_of(self, row: Row) -> bytes:
        """The chain that a row would have here."""
        return chained(self.chain, leaf(row._replace(seq=self.seq)))


RowsFrom = Callable[[int], Iterator[Row]]
"""Rows behind a place, in order."""


def misplaced(place: Place, row: Row) -> Finding:
    """What it means that another number stands where a row is expected."""
    fits = place.chain_of(row) == row.chain
    return Finding("renumbered" if fits else "deleted", place.seq, place.seq)


def unchained(place: Place, row: Row, rows_from: RowsFrom, *, has_key: bool) -> Finding:
    """What it means that a row does not stand on the one before.

    Args:
        place: where.
        row: what stands there.
        rows_from: asked for what follows.
        has_key: whether MACs vouch for the rows before; else the chain of the one before may be
            what was changed.
    """
    kind = _moved(place, row, rows_from) or _shifted(row, next(rows_from(row.seq), None))
    first = place.seq if kind != "edited" or has_key else max(1, place.seq - 1)
    return Finding(kind, first, place.seq)


def unsealed(place: Place, row: Row, rows_from: RowsFrom, key: MacKey) -> Finding:
    """What it means that a row stands on the one before, but under another MAC."""
    following = next(rows_from(row.seq), None)
    kind: Kind = "rewritten"
    if following is not None and place.chain_of(following) == following.chain:
        kind = "inserted"
    elif following is not None and chained(row.chain, leaf(following)) != following.chain:
        kind = "edited"
    elif following is not None and is_sealed(following, key):
        kind = "mac"
    return Finding(kind, place.seq, place.seq)


def is_sealed(row: Row, key: MacKey) -> bool:
    """Whether a row's MAC is the right one, by a key of its epoch or an earlier one."""
    is_near = key.epoch <= row.epoch <= key.epoch + _FARTHEST
    return is_near and key.at(row.epoch).mac(row.chain) == row.mac


def _moved(place: Place, row: Row, rows_from: RowsFrom) -> Kind | None:
    """Whether the row that belongs here stands further down."""
    behind = rows_from(row.seq - 1)
    for before, other in pairwise(behind):
        belonged = place.chain_of(other)
        if belonged in (other.chain, row.chain):
            chain = belonged if before.seq == row.seq else before.chain
            there = Place(other.seq, chain).chain_of(row)
            return "swapped" if there in (row.chain, other.chain) else "inserted"
    return None


def _shifted(row: Row, following: Row | None) -> Kind:
    """Whether the rows behind had other numbers once, which they are hashed with."""
    if following is None or chained(row.chain, leaf(following)) == following.chain:
        return "edited"
    numbers = islice(range(following.seq + 1, following.seq + 1 + _FARTHEST), _FARTHEST)
    was_removed = any(Place(n, row.chain).chain_of(following) == following.chain for n in numbers)
    return "renumbered" if was_removed else "edited"
