"""What was made of what: a graph of contents, named by their digests, walked from either end.

What belongs here: what a node and a record are, and how a walk goes. Where records are kept is
`adapters.lineage_store`; what else is a neighbour (log, models, decisions) is said by who asks.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SOURCE_FILE, SEGMENT = "source_file", "journal_segment"
"""Where the log's events come from: files that were ingested, and what scorers wrote."""
OPEN_JOURNAL = "open_journal"
"""Positions that a scorer wrote into a segment of its journal that is not finished yet."""
MODEL, DECISION = "model", "decision"
_APART = 1_000
"""Open positions closer than this are one stretch: labels and other days stand between them."""


class Node(NamedTuple):
    """A content, and where it stands.

    Attributes:
        kind: the table or document, or one of the constants above.
        part: its day (ISO 8601), version, name, number or id.
        digest: SHA-256 (hex) of its bytes, or what names the content; "" where there is none.
    """

    kind: str
    part: str
    digest: str

    @property
    def name(self) -> str:
        """Kind and part, for people.

        Examples:
            >>> Node("raw_transactions", "2026-01-07", "").name
            'raw_transactions 2026-01-07'
        """
        return f"{self.kind} {self.part}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Record:
    """That a content was made: what it was made of, by which run and which code.

    Attributes:
        seq: its place among the records, from 1 on.
        node: what was made.
        path: its file, relative to the home; "" where it is no file.
        rows: of a table; None for anything else.
        rows_digest: `features.table_digest` of the rows, which another encoding keeps; or "".
        inputs: what was read for it.
        run_id: Dagster's run, or "".
        code_commit: of the code that made it, or "" if nobody said.
        lock_digest: SHA-256 of the lock of its dependencies, or "" where there is none.
        at_us: when, microseconds since 1970 UTC.
        facts: what else its maker said, names and texts.
    """

    seq: int = 0
    node: Node
    path: str = ""
    rows: int | None = None
    rows_digest: str = ""
    inputs: tuple[Node, ...] = ()
    run_id: str = ""
    code_commit: str = ""
    lock_digest: str = ""
    at_us: int
    facts: Mapping[str, str] = field(default_factory=dict)


class State(StrEnum):
    """What has become of a recorded content."""

    SAME = "same"  # the file holds these bytes
    REPLACED = "replaced"  # a later record tells of what the file holds now
    CHANGED = "changed"  # the file holds what no record tells of
    GONE = "gone"  # there is no such file
    OPEN = "open"  # it stands in the log, which its own proofs cover
    PURGED = "purged"  # retention deleted the file, as the audit log says
    OUTSIDE = "outside"  # it is kept by somebody else: compare the digest with their copy
    UNRECORDED = "file digest not as recorded in the audit log"


TROUBLE = (State.REPLACED, State.CHANGED, State.GONE, State.UNRECORDED)
"""What somebody should look into."""


def state_of(recorded: str, found: str | None, later: Iterable[str]) -> State:
    """What has become of a content.

    Args:
        recorded: its digest.
        found: digest of what stands in its place now; None: nothing does.
        later: digests that later records tell of in the same place.

    Examples:
        >>> [str(state_of("a", found, ["b"])) for found in ("a", "b", "c", None)]
        ['same', 'replaced', 'changed', 'gone']
    """
    if found is None:
        return State.GONE
    if found == recorded:
        return State.SAME
    return State.REPLACED if found in set(later) else State.CHANGED


@dataclass(frozen=True)
class Graph:
    """The nodes that a walk reached, in its order, and the steps it took.

    Attributes:
        nodes: the start first.
        edges: (place of a node, place of what it was made of) in `nodes`.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]

    def of(self, kind: str) -> tuple[Node, ...]:
        """Its nodes of one kind, by part."""
        return tuple(sorted(node for node in self.nodes if node.kind == kind))

    def spans(self) -> dict[str, tuple[int, str, str]]:
        """By kind: how many nodes, the first part and the last, in the order of the walk.

        Examples:
            >>> days = (Node("labels", "2026-01-02", ""), Node("labels", "2026-01-01", ""))
            >>> Graph(days, ()).spans()
            {'labels': (2, '2026-01-01', '2026-01-02')}
        """
        counts = Counter(node.kind for node in self.nodes)
        parts = {kind: [node.part for node in self.of(kind)] for kind in counts}
        return {kind: (count, parts[kind][0], parts[kind][-1]) for kind, count in counts.items()}


Neighbours = Callable[[Node], Iterable[Node]]
"""What a node was made of (a walk upstream), or what was made of it (a walk downstream)."""


Origins = Callable[[int, int], Iterable[tuple[Node, int, int]]]
"""What brought the positions from one to another, each with its first and last, where known."""


def origins_of(places: Sequence[int] | NDArray[np.int64], known: Origins) -> list[Node]:
    """What brought some positions of the log: its files, its segments, and stretches of no origin.

    A stretch never reaches over something else's positions: it would seem to be made of that, too.

    Args:
        places: the positions, in any order.
        known: says what is known of a range.

    Examples:
        >>> known = lambda first, last: [(Node("source_file", "other.csv", "f"), 4, 6)]
        >>> [node.name for node in origins_of([2, 3, 8, 5_000], known)]
        ['open_journal 2-3', 'open_journal 8-8', 'open_journal 5000-5000']
        >>> [node.name for node in origins_of([2, 5], known)]
        ['source_file other.csv', 'open_journal 2-2']
    """
    at = np.unique(np.asarray(places, np.int64))
    if not len(at):
        return []
    is_open, starts, found = np.ones(len(at), bool), list[int](), list[Node]()
    for node, first, last in known(int(at[0]), int(at[-1])):
        begin, end = np.searchsorted(at, [first, last + 1])
        is_open[begin:end] = False
        starts.append(first)
        found += [node] * bool(end > begin)
    left = at[is_open]
    cuts = np.union1d(np.flatnonzero(np.diff(left) > _APART) + 1, np.searchsorted(left, starts))
    stretches = [part for part in np.split(left, cuts.astype(np.int64)) if len(part)]
    return [*found, *(Node(OPEN_JOURNAL, f"{part[0]}-{part[-1]}", "") for part in stretches)]


def upstream(start: Node, inputs_of: Neighbours) -> Graph:
    """Everything that a content rests on; breadth first, each node once.

    Examples:
        >>> made = {"model": ["rows"], "rows": ["file"], "file": []}
        >>> inputs = lambda node: [Node(kind, "", "") for kind in made[node.kind]]
        >>> [node.kind for node in upstream(Node("model", "", ""), inputs).nodes]
        ['model', 'rows', 'file']
    """
    return _walk([start], inputs_of, is_forward=False)


def downstream(starts: Iterable[Node], outputs_of: Neighbours) -> Graph:
    """Everything that rests on some contents; edges point upstream, as in `upstream`."""
    return _walk(starts, outputs_of, is_forward=True)


def _walk(starts: Iterable[Node], neighbours: Neighbours, *, is_forward: bool) -> Graph:
    places = {node: place for place, node in enumerate(dict.fromkeys(starts))}
    waiting, edges = deque(places), dict[tuple[int, int], None]()
    while waiting:
        node = waiting.popleft()
        for other in neighbours(node):
            if other not in places:
                places[other] = len(places)
                waiting.append(other)
            pair = (places[other], places[node]) if is_forward else (places[node], places[other])
            edges[pair] = None
    return Graph(tuple(places), tuple(edges))
