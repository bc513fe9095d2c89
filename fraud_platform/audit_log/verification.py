"""Whether the audit log is what was written: the first row that is not, and what was done to it.

Everything is computed anew from the rows' fields: leaves, chain, MACs, the tree and with it the
signed heads, those of the log and those that were kept elsewhere. Two things cannot be seen from
the log alone: that its end was cut off together with all that tells of it, and that somebody who
holds its keys wrote it anew. Both are seen by a head that was kept elsewhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fraud_platform.audit_log.diagnosis import (
    Finding,
    Kind,
    Place,
    RowsFrom,
    misplaced,
    unchained,
    unsealed,
)
from fraud_platform.audit_log.heads import MOST_ROWS, ORIGIN, Head, IsSigned, parse_head
from fraud_platform.audit_log.merkle import Frontier, grown, root_of
from fraud_platform.audit_log.rows import MacKey, Row, Tail, chained, leaf, start_of
from fraud_platform.errors import PermanentError


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the one who checks has from elsewhere.

    Attributes:
        public: the key that signs heads, 32 bytes.
        former: keys that signed them before, the oldest first.
        is_signed: how signatures are checked.
        first_key: of the MACs; None: they are not checked.
        anchors: heads that were kept elsewhere.
    """

    public: bytes
    is_signed: IsSigned
    first_key: MacKey | None = None
    anchors: Sequence[Head] = ()
    former: Sequence[bytes] = ()

    def signer(self, head: Head) -> int:
        """Which key signed a head, counted from the oldest; -1: none of these."""
        keys = enumerate((*self.former, self.public))
        return next((at for at, key in keys if head.is_by(key, self.is_signed)), -1)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A log that was found as it was written, up to a head: where the next check may begin.

    Attributes:
        note: that head.
        chain: of the row under it.
        frontier: of the tree; its root is the head's, which is signed.
        epoch: of the row under it.
    """

    note: str
    chain: bytes
    frontier: Frontier
    epoch: int


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What a check found.

    Attributes:
        name: the log's.
        size: rows that it says it has.
        rows: rows read.
        heads: heads checked, of the log and from elsewhere.
        has_macs: whether MACs were checked.
        unsettled: seq of the acts that began and never ended; no tampering.
        finding: the first thing that is wrong; None: nothing is.
        checked: where the next check may begin; None without a head, or with a finding.
    """

    name: str
    size: int
    rows: int
    heads: int
    has_macs: bool
    unsettled: tuple[int, ...]
    finding: Finding | None
    checked: Checked | None

    @property
    def is_intact(self) -> bool:
        """Whether nothing was found."""
        return self.finding is None


class _At(NamedTuple):
    """The log up to a row: the chain, the tree and the epoch there."""

    chain: bytes
    frontier: Frontier
    epoch: int


@dataclass
class _Scan:
    """How far rows were read, and what was found of them."""

    name: str
    place: Place
    frontier: Frontier
    key: MacKey | None
    sizes: frozenset[int]
    headed: frozenset[int]
    roots: dict[int, _At] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    finding: Finding | None = None
    turn: Finding | None = None
    rows: int = 0
    epoch: int = 0

    def read(self, rows_from: RowsFrom) -> None:
        """Read to the end, or to the first row that is not what was written."""
        self._mark()
        for row in rows_from(self.size):
            self.finding = self._refuse(row, rows_from)
            if self.finding is not None:
                return
            self._turn(row.epoch - self.epoch)
            self._take(row)

    @property
    def size(self) -> int:
        """Rows that are as they were written."""
        return self.place.seq - 1

    def _refuse(self, row: Row, rows_from: RowsFrom) -> Finding | None:
        if row.seq != self.place.seq:
            return misplaced(self.place, row)
        self._leaf = leaf(row)
        if chained(self.place.chain, self._leaf) != row.chain:
            return unchained(self.place, row, rows_from, has_key=self.key is not None)
        return self._forged(row, rows_from)

    def _forged(self, row: Row, rows_from: RowsFrom) -> Finding | None:
        """Whether somebody wrote the row who does not have the key of its epoch."""
        if row.epoch - self.epoch not in (0, 1):
            return Finding("rewritten", row.seq, row.seq)
        if self.key is None:
            return None
        self.key = self.key.at_least(row.epoch)
        is_sealed = self.key.epoch == row.epoch and self.key.mac(row.chain) == row.mac
        return None if is_sealed else unsealed(self.place, row, rows_from, self.key)

    def _turn(self, step: int) -> None:
        """A head, and nothing else, ends an epoch: else who has the key of now could leap to it."""
        if self.turn is None and step != (self.size in self.headed):
            self.turn = Finding("head dropped" if step else "head forged", self.size, self.size)

    def _take(self, row: Row) -> None:
        self.frontier = grown(self.frontier, self.size, self._leaf)
        self.place = Place(row.seq + 1, row.chain)
        self.rows += 1
        self.epoch = row.epoch
        if row.outcome == "begun":
            self.begun.add(row.seq)
        elif row.begun:
            self.begun.discard(row.begun)
        if row.seq in self.sizes:
            self._mark()

    def _mark(self) -> None:
        self.roots[self.size] = _At(self.place.chain, self.frontier, self.epoch)


def verified(
    rows_from: RowsFrom,
    notes: Sequence[str],
    tail: Tail,
    trust: Trust,
    *,
    since: Checked | None = None,
) -> AuditReport:
    """Check a log.

    Args:
        rows_from: its rows behind a place.
        notes: its heads as they are stored, the smallest first.
        tail: what it keeps of its own end.
        trust: what the caller has from elsewhere.
        since: the end of an earlier check; rows up to there are not read again.

    Raises:
        PermanentError: `since` is not of this log.
    """
    heads, finding = _parsed(notes)
    start = _start(tail, trust, since)
    known = {head.size for head in (*heads, *trust.anchors)}
    scan = _Scan(
        name=tail.name,
        place=Place(start.size + 1, start.chain),
        frontier=start.frontier,
        key=trust.first_key.at_least(start.epoch) if trust.first_key else None,
        sizes=frozenset(known),
        headed=frozenset(head.size for head in heads),
        epoch=start.epoch,
    )
    scan.read(rows_from)
    checks = (
        scan.finding or _end(scan, heads, tail),
        scan.turn,
        _heads(scan, heads, trust, start.size),
        finding or _last_head(heads, tail) or _turned_back(heads, trust, start.size),
        *_anchored(scan, heads, trust, start.size),
    )
    found = [one for one in checks if one is not None]
    first = min(found, key=lambda one: one.seq, default=None)
    return AuditReport(
        name=tail.name,
        size=tail.size,
        rows=scan.rows,
        heads=sum(head.size >= start.size for head in heads) + len(trust.anchors),
        has_macs=trust.first_key is not None,
        unsettled=tuple(sorted(scan.begun)),
        finding=first,
        checked=_checked(scan, heads) if first is None else None,
    )


def _parsed(notes: Sequence[str]) -> tuple[list[Head], Finding | None]:
    """The heads up to the first that is none."""
    heads: list[Head] = []
    for note in notes:
        try:
            head = parse_head(note)
        except PermanentError:
            size = heads[-1].size if heads else 0
            return heads, Finding("head forged", size + 1, size + MOST_ROWS)
        if heads and head.size <= heads[-1].size:
            return heads, Finding("head forged", heads[-1].size + 1, heads[-1].size + MOST_ROWS)
        heads.append(head)
    return heads, None


def _start(tail: Tail, trust: Trust, since: Checked | None) -> Tail:
    start = start_of(tail.name)
    if since is None:
        return start
    head = parse_head(since.note)
    is_ours = head.origin == ORIGIN + tail.name and head.root == root_of(since.frontier)
    if not is_ours or trust.signer(head) < 0:
        raise PermanentError(
            "found the end of an earlier check that is not signed by this log, expected its own",
            hint="check the whole log: fraud-platform audit verify --whole",
        )
    return start._replace(
        size=head.size, chain=since.chain, frontier=since.frontier, epoch=since.epoch
    )


def _end(scan: _Scan, heads: Sequence[Head], tail: Tail) -> Finding | None:
    """Whether the log ends where it says."""
    told = max(tail.size, heads[-1].size if heads else 0)
    if told > scan.size:
        return Finding("cut", scan.place.seq, scan.place.seq)
    if tail.size < scan.size:
        return Finding("inserted", tail.size + 1, tail.size + 1)
    is_same = tail.chain == scan.place.chain and tail.frontier == scan.frontier
    return None if is_same else Finding("tail", tail.size, tail.size)


def _heads(scan: _Scan, heads: Sequence[Head], trust: Trust, start: int) -> Finding | None:
    """Whether each head is signed, stands on the one before and on the rows."""
    size, previous = 0, ""
    for head in heads:
        is_next = head.previous == previous and head.size - size <= MOST_ROWS
        if head.size >= start and (kind := _fault(scan, head, trust)):
            first = head.size if kind == "head forged" else size + 1
            return Finding(kind, first, head.size)
        if head.size > start and not is_next:
            return Finding("head dropped", size + 1, head.size)
        size, previous = head.size, head.digest
    return None


def _turned_back(heads: Sequence[Head], trust: Trust, start: int) -> Finding | None:
    """Whether a key signed after another had taken its place; the newest head is by the newest."""
    if not trust.former:
        return None
    seen = 0
    for head in (head for head in heads if head.size >= start):
        signer = trust.signer(head)
        if signer < seen or (head is heads[-1] and signer < len(trust.former)):
            return Finding("head forged", head.size, head.size)
        seen = signer
    return None


def _fault(scan: _Scan, head: Head, trust: Trust) -> Kind | None:
    """What is wrong with one head, if anything."""
    is_ours = head.origin == ORIGIN + scan.name
    if not is_ours or trust.signer(head) < 0:
        return "head forged"
    at = scan.roots.get(head.size)
    return "rewritten" if at is not None and root_of(at.frontier) != head.root else None


def _last_head(heads: Sequence[Head], tail: Tail) -> Finding | None:
    """Whether the newest head is the one that the log remembers, and none is due behind it."""
    size, digest = (heads[-1].size, heads[-1].digest) if heads else (0, "")
    if (tail.head_size, tail.head_digest) == (size, digest) and tail.size - size < MOST_ROWS:
        return None
    return Finding("head dropped", size + 1, max(tail.head_size, size + 1))


def _anchored(scan: _Scan, heads: Sequence[Head], trust: Trust, start: int) -> Iterator[Finding]:
    """What heads that were kept elsewhere say: the log had them, and these rows."""
    kept = {head.note for head in heads}
    good = 0
    for head in sorted(trust.anchors, key=lambda one: one.size):
        if head.note not in kept and head.size >= start:
            if kind := _fault(scan, head, trust):
                yield Finding(kind, good + 1, head.size)
            elif head.size <= scan.size:
                yield Finding("head dropped", head.size, head.size)
        if head.size > scan.size and scan.finding is None:
            yield Finding("cut", scan.place.seq, scan.place.seq)
        good = head.size


def _checked(scan: _Scan, heads: Sequence[Head]) -> Checked | None:
    if not heads:
        return None
    at = scan.roots[heads[-1].size]
    return Checked(note=heads[-1].note, chain=at.chain, frontier=at.frontier, epoch=at.epoch)
