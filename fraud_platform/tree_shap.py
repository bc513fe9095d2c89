"""Exact contributions of features to a forest's sum, fast for few rows.

What belongs here: the Shapley values of the path-dependent game on trees. How a forest is read is
`forest`; when this is used instead of the library's own way is `explainer`.

The game: a set of known features follows the row where it knows a feature, and splits by cover
where it does not. A leaf then pays its value times, for each feature on its path, o if known and
else z: o says whether the row satisfies all of the path's conditions on the feature, z is the
product of their shares of cover. The Shapley weight k!(d-1-k)!/d! is the integral over [0, 1] of
x^k (1-x)^(d-1-k), so feature i gets value times the integral of (o_i - z_i) times the product over
the d - 1 others of x o_j + (1-x) z_j. That is a polynomial of degree d - 1, which ceil(d / 2)
Gauss-Legendre points integrate exactly. At one point x all is a product along the path, so one pass
down and one pass up serve all leaves and features. Where a feature comes again on a path, its
factor is the quotient of the combined factors, and its contribution the difference.

At a node with share z of cover going left, where o is 1 if the row goes left and else 0, the left
child's factor is f = z + x (o - z) and the right child's 1 - f. The node's feature gets
reach * (o - z) * (worth of the left child - worth of the right). Where the feature was asked before
on the path, with combined share z', and d = x + (1-x) z', it is f = (x o + (1-x) z' z) / d, and in
place of o - z stands ((o - z' z) - f (1 - z')) / d, while the row satisfies the conditions before;
if not, f = z and nothing is gained. Such nodes are few; their three cases are computed once.

Source: Lundberg, Erion and Lee, "Consistent individualized feature attribution for tree ensembles"
(2018), for the game; Yu et al., "Linear TreeShap" (2022), for edges in place of leaves.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_platform.forest import Floats, Forest, Places

MAX_BYTES = 40_000_000
"""Most memory of one forest's tables and buffers; a forest that needs more is refused."""

_RIGHT, _LEFT, _LOST = 0, 1, 2
"""Cases of a node: the row goes right, goes left, or missed a condition before on the feature."""
_BYTES_PER_NODE_AND_POINT = 8 * 12  # six buffers, and two tables of three cases at the worst


class TreeShap:
    """The contributions of one forest's features, for one thread at a time.

    Args:
        forest: the trees.
        kind: what to compute with; float32 takes a fifth less time and is exact to 1e-6 of the sum.

    Attributes:
        base: the forest's sum before any feature is known.
        points: how many points each integral takes.
        nbytes: the memory held at most.

    Raises:
        ValueError: these are no trees, or they need more than `MAX_BYTES`.
    """

    def __init__(self, forest: Forest, kind: type[np.floating[Any]] = np.float64) -> None:
        survey = _Survey(forest)
        stages = survey.stages
        self._forest = forest
        self.base = forest.intercept + survey.expected
        self.points = max(1, -(-survey.most_features // 2))
        size = sum(len(stage.nodes) for stage in stages)
        self.nbytes = size * self.points * _BYTES_PER_NODE_AND_POINT
        if self.nbytes > MAX_BYTES:
            raise ValueError(f"found tables of {self.nbytes} bytes, expected at most {MAX_BYTES}")
        nodes = _joined([stage.nodes for stage in stages])
        self._column, self._threshold = forest.column[nodes], forest.threshold[nodes]
        self._feature, self._chains = forest.feature[nodes], survey.chains()
        share = np.concatenate([np.empty(0), *(stage.share for stage in stages)])
        places, weights = np.polynomial.legendre.leggauss(self.points)
        x = (places[:, None] + 1) / 2
        self._share, self._x = share.astype(kind), x.astype(kind)
        self._values, self._is_left = np.empty(size), np.empty(size, dtype=np.bool_)
        self._cases, self._swing, self._gains = (np.empty(size, k) for k in (np.int8, kind, kind))
        self._factor, self._apart = (np.ones((self.points, size), dtype=kind) for _ in range(2))
        self._again = _Again(stages, x, kind)
        self._levels = [_Level(forest, stage, self._factor, self._apart) for stage in stages]
        self._scale = np.concatenate([np.empty(0, kind), *(lv.scale for lv in self._levels)])
        for level in self._levels[:1]:
            level.reach[...] = weights[:, None] / 2

    def contributions(self, rows: Floats) -> Floats:
        """How much each feature moves each row's sum away from `base`.

        Args:
            rows: shape (n, k), finite or NaN, rounded to float32.

        Returns:
            Shape (n, k); a row's contributions and `base` add up to the forest's sum.
        """
        found = np.zeros(rows.shape)
        if self._levels:
            for row, seen in enumerate(self._forest.seen(rows)):
                found[row] = self._one(seen)
        return found

    def _one(self, seen: Floats) -> Floats:
        levels, again = self._levels, self._again
        self._decide(seen)
        np.subtract(self._is_left, self._share, out=self._swing)
        np.multiply(self._x, self._swing, out=self._factor)
        np.add(self._factor, self._share, out=self._factor)
        again.put_factors(self._cases, self._factor)
        np.multiply(self._swing, self._scale, out=self._swing)
        self._swing[again.nodes] = self._scale.take(again.nodes)
        for upper, lower in pairwise(levels):
            upper.descend(lower)
        for lower, upper in pairwise(reversed(levels)):
            lower.ascend(upper)
        levels[0].compare()
        again.put_swings(self._apart)
        for level in levels:
            level.gain()
        np.add.reduce(self._factor, axis=0, out=self._gains)
        np.multiply(self._gains, self._swing, out=self._gains)
        found = np.bincount(self._feature, self._gains, self._forest.width)
        return np.asarray(found, dtype=np.float64)

    def _decide(self, seen: Floats) -> None:
        seen.take(self._column, out=self._values, mode="clip")
        np.less(self._values, self._threshold, out=self._is_left)
        cases = self._cases
        cases[...] = self._is_left
        for here, before, side in self._chains:
            cases[here[cases[before] != side]] = _LOST


@dataclass(frozen=True)
class _Stage:
    """The nodes with children on one level of all trees; those with only leaves below come last.

    Attributes:
        nodes: shape (m,), the nodes.
        inner: how many of them have a child with children.
        start: how many nodes the levels above have.
        order: shape (m,), their places among `arrived`.
        arrived: the children of the inner nodes above, lefts then rights; at the top the roots.
        before: shape (m,), the last edge above that asks the same feature, or -1; an edge is
            2 * node + 1 to the left and 2 * node to the right, nodes numbered through the levels.
        combined: shape (m,), product of shares of cover of all such edges; 1 without any.
        share: shape (m,), share of cover that goes left.
    """

    nodes: Places
    inner: int
    start: int
    order: Places
    arrived: Places
    before: Places
    combined: Floats
    share: Floats


@dataclass
class _Path:
    """What lies above some nodes: one row per node."""

    features: Places
    edges: Places
    distinct: Places
    reach: Floats

    def below(self, stage: _Stage, feature: Places) -> "_Path":
        """What lies above the children of a stage's inner nodes, lefts then rights."""
        some = stage.order[: stage.inner]
        number = 2 * (stage.start + np.arange(stage.inner))
        distinct = self.distinct[some] + (stage.before[: stage.inner] < 0)
        reach, share = self.reach[some], stage.share[: stage.inner]

        def longer(known: Places, left: Places, right: Places) -> Places:
            sides = [np.column_stack([known[some], new]) for new in (left, right)]
            return np.concatenate(sides)

        return _Path(
            longer(self.features, feature[: stage.inner], feature[: stage.inner]),
            longer(self.edges, number + _LEFT, number + _RIGHT),
            np.concatenate([distinct, distinct]),
            np.concatenate([reach * share, reach * (1 - share)]),
        )


@dataclass
class _Survey:
    """The forest level by level.

    Attributes:
        stages: the levels, top first.
        expected: sum of the leaves' values by their share of cover.
        most_features: most distinct features on a path.
    """

    forest: Forest
    stages: list[_Stage] = field(default_factory=list)
    expected: float = 0.0
    most_features: int = 0

    def __post_init__(self) -> None:
        forest = self.forest
        arrived, count = forest.roots, len(forest.roots)
        none = np.full((count, 1), -1, dtype=np.intp)
        path = _Path(none, none, np.zeros(count, dtype=np.intp), np.ones(count))
        self._combined = np.empty(2 * len(forest.left))
        seen = 0
        while len(arrived):
            seen += len(arrived)
            if seen > len(forest.left):  # a node under two parents, or under itself
                raise ValueError("found a node twice, expected trees")
            stage = self._stage(arrived, path)
            if not len(stage.nodes):
                break
            self.stages.append(stage)
            top = stage.nodes[: stage.inner]
            arrived = np.concatenate([forest.left[top], forest.right[top]])
            path = path.below(stage, forest.feature[stage.nodes])

    def _stage(self, arrived: Places, path: _Path) -> _Stage:
        left, right, cover = self.forest.left, self.forest.right, self.forest.cover
        is_leaf = left[arrived] < 0
        self.expected += float(path.reach[is_leaf] @ self.forest.value[arrived[is_leaf]])
        places = np.flatnonzero(~is_leaf)
        at = arrived[places]
        is_last = (left[left[at]] < 0) & (left[right[at]] < 0)
        order = np.concatenate([places[~is_last], places[is_last]])
        nodes, inner = arrived[order], int(np.sum(~is_last))
        before = _last_edges(path, order, self.forest.feature[nodes])
        combined = np.where(before < 0, 1.0, self._combined[before])
        share = cover[left[nodes]] / (cover[left[nodes]] + cover[right[nodes]])
        start = self.stages[-1].start + len(self.stages[-1].nodes) if self.stages else 0
        stage = _Stage(nodes, inner, start, order, arrived, before, combined, share)
        number = 2 * (start + np.arange(len(nodes)))
        self._combined[number + _LEFT] = combined * share
        self._combined[number + _RIGHT] = combined * (1 - share)
        distinct = path.distinct[order] + (before < 0)
        self.most_features = max(self.most_features, int(distinct.max(initial=0)))
        value = self.forest.value
        paid = share * value[left[nodes]] + (1 - share) * value[right[nodes]]
        self.expected += float(path.reach[order[inner:]] @ paid[inner:])
        return stage

    def chains(self) -> list[tuple[Places, Places, Places]]:
        """Nodes whose feature was asked before, the node that asked last, and the side taken there.

        In the order in which they can be decided: by how often the feature was asked before.
        """
        before = _joined([stage.before for stage in self.stages])
        times = np.zeros(len(before), dtype=np.intp)
        for stage in self.stages:
            again = np.where(stage.before < 0, 0, times[stage.before // 2] + 1)
            times[stage.start : stage.start + len(again)] = again
        found = []
        for asked in range(1, int(times.max(initial=0)) + 1):
            here = np.flatnonzero(times == asked)
            found.append((here, before[here] // 2, before[here] % 2))
        return found


class _Level:
    """One stage's buffers; rows are points of the integral, columns are nodes.

    Attributes:
        scale: shape (m,), what separates the two leaves of a node that has two, else one.
        reach: shape (points, m), the product of the factors above a node and the point's weight.
        below: shape (points, 2 * inner), the inner nodes' children: their reach, then their worth.
        order: shape (m,), the nodes' places among the level above's `below`.
    """

    def __init__(self, forest: Forest, stage: _Stage, factor: Floats, apart: Floats) -> None:
        count, inner, depth = len(stage.nodes), stage.inner, len(factor)
        middle, end, kind = stage.start + inner, stage.start + count, factor.dtype
        self._factor, self._all_factor = (
            factor[:, stage.start : middle],
            factor[:, stage.start : end],
        )
        self._last_factor = factor[:, middle:end]
        self._apart, self._all_apart = apart[:, stage.start : middle], apart[:, stage.start : end]
        self.reach = np.empty((depth, count), dtype=kind)
        self._reach = self.reach[:, :inner]
        self.below = np.empty((depth, 2 * inner), dtype=kind)
        self._left, self._right = self.below[:, :inner], self.below[:, inner:]
        nodes = stage.nodes[inner:]
        self._right_leaf = forest.value[forest.right[nodes]].astype(kind)
        self.scale = np.ones(count, dtype=kind)
        self.scale[inner:] = forest.value[forest.left[nodes]] - forest.value[forest.right[nodes]]
        self._difference = self.scale[inner:]
        is_leaf = forest.left[stage.arrived] < 0
        leaves = forest.value[stage.arrived[is_leaf]]
        self._pool = np.empty(
            (depth, count + len(leaves)), dtype=kind
        )  # worth, with the leaves beside them
        self._pool[:, count:] = leaves
        self._worth, self._last_worth = self._pool[:, :inner], self._pool[:, inner:count]
        self.order, self._back = stage.order, np.empty(len(is_leaf), dtype=np.intp)
        self._back[stage.order] = np.arange(count)
        self._back[is_leaf] = np.arange(count, count + len(leaves))

    def descend(self, lower: "_Level") -> None:
        """Multiply the factors on the way down."""
        np.multiply(self._reach, self._factor, out=self._left)
        np.subtract(self._reach, self._left, out=self._right)
        self.below.take(lower.order, axis=1, out=lower.reach, mode="clip")

    def compare(self) -> None:
        """See how much the inner nodes' children are apart."""
        np.subtract(self._left, self._right, out=self._apart)

    def ascend(self, upper: "_Level") -> None:
        """Find what the nodes are worth, and tell the level above."""
        self.compare()
        np.multiply(self._factor, self._apart, out=self._worth)
        np.add(self._worth, self._right, out=self._worth)
        np.multiply(self._last_factor, self._difference, out=self._last_worth)
        np.add(self._last_worth, self._right_leaf, out=self._last_worth)
        self._pool.take(self._back, axis=1, out=upper.below, mode="clip")

    def gain(self) -> None:
        """What each node's feature gains at each point; takes the place of the factors."""
        np.multiply(self.reach, self._all_apart, out=self._all_factor)


class _Again:
    """The nodes whose feature was asked before on the path.

    Attributes:
        nodes: shape (r,), among all levels' nodes; those with only leaves below come last.
    """

    def __init__(self, stages: list[_Stage], x: Floats, kind: type[np.floating[Any]]) -> None:
        inner, last = [], []
        for stage in stages:
            here = np.flatnonzero(stage.before >= 0)
            inner.append(stage.start + here[here < stage.inner])
            last.append(stage.start + here[here >= stage.inner])
        size = sum(len(stage.nodes) for stage in stages)
        self._inner, self._last, self._all = (
            (size * np.arange(len(x))[:, None] + _joined(some)).ravel()
            for some in (inner, last, inner + last)
        )
        self.nodes = _joined(inner + last)
        combined = np.concatenate([np.empty(0), *(s.combined for s in stages)])[self.nodes]
        share = np.concatenate([np.empty(0), *(s.share for s in stages)])[self.nodes]
        divisor = x + (1 - x) * combined
        factor = np.empty((len(x), len(self.nodes), 3))
        swing = np.zeros_like(factor)
        for case in (_RIGHT, _LEFT):
            factor[..., case] = (x * case + (1 - x) * combined * share) / divisor
            moved = (case - combined * share) - factor[..., case] * (1 - combined)
            swing[..., case] = moved / divisor
        factor[..., _LOST] = share
        middle = 3 * sum(map(len, inner))
        self._factors, swing = (t.reshape(len(x), -1).astype(kind) for t in (factor, swing))
        self._inner_swings, self._last_swings = swing[:, :middle].copy(), swing[:, middle:].copy()
        self._first = 3 * np.arange(len(self.nodes))
        self._places, self._middle = self._first.copy(), middle // 3

    def put_factors(self, cases: NDArray[np.int8], factor: NDArray[Any]) -> None:
        """Put these nodes' factors among all factors."""
        np.add(self._first, cases[self.nodes], out=self._places)
        factor.reshape(-1)[self._all] = self._factors.take(self._places, axis=1).ravel()

    def put_swings(self, apart: NDArray[Any]) -> None:
        """Multiply these nodes' swings into what their children are apart."""
        inner, last = self._places[: self._middle], self._places[self._middle :] - 3 * self._middle
        flat = apart.reshape(-1)
        flat[self._inner] = flat.take(self._inner) * self._inner_swings.take(inner, axis=1).ravel()
        flat[self._last] = self._last_swings.take(last, axis=1).ravel()


def _last_edges(path: _Path, order: Places, feature: Places) -> Places:
    """The last edge above each node that asks the node's feature, or -1."""
    is_same = path.features[order] == feature[:, None]
    is_same[:, 0] = True  # the first column stands for nothing
    last = is_same.shape[1] - 1 - np.argmax(is_same[:, ::-1], axis=1)
    found: Places = path.edges[order, last]
    return found


def _joined(parts: list[Places]) -> Places:
    return np.concatenate([np.empty(0, dtype=np.intp), *parts])
