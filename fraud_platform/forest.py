"""A boosted model's trees as arrays, read from what the libraries themselves write.

What belongs here: nodes, conditions, covers and values, the same for both libraries, and what a
row looks like to them. What is computed with them is `tree_shap`. A model that is no plain sum of
trees with numerical conditions is refused with a ValueError.

Source: XGBoost's "Introduction to Model IO" and UBJSON's draft 12 for the first library,
LightGBM's model text (`Booster.model_to_string`) and its `Tree::NumericalDecision` for the second.
"""

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_platform.model import Model

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

MISSING_RIGHT, MISSING_LEFT, MISSING_IS_ZERO, ZERO_RIGHT, ZERO_LEFT = range(5)
"""Lanes: where a node sends a row without the value, or (the last two) with zero or without."""

_LEAF = -1
_LIGHTGBM_TINY = float(np.float32(1e-35))
_COVERS_MISS = 1e-4


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees whose leaves' values are added up; a node sends left what is below its threshold.

    Attributes:
        roots: shape (trees,), each tree's first node.
        left: shape (nodes,), the left child, or -1 in a leaf.
        right: shape (nodes,), the right child, or -1 in a leaf.
        feature: shape (nodes,), the column a node looks at; anything in a leaf.
        threshold: shape (nodes,), values strictly below go left; never -inf.
        lane: shape (nodes,), one of the five lanes above.
        cover: shape (nodes,), how much of the training rows passed: hessians or counts.
        value: shape (nodes,), what a leaf adds to the margin.
        intercept: the margin before any tree.
        width: number of columns of a row.
        tiny: values at most so far from zero count as zero.

    Raises:
        ValueError: these are no trees, or their covers do not add up.
    """

    roots: Places
    left: Places
    right: Places
    feature: Places
    threshold: Floats
    lane: Places
    cover: Floats
    value: Floats
    intercept: float
    width: int
    tiny: float = 0.0

    def __post_init__(self) -> None:
        inner, leaf = self.inner, self.left < 0
        left, right, count = self.left[inner], self.right[inner], len(self.left)
        _require(len(self.roots) > 0, "no tree")
        _require(bool(np.all(leaf == (self.right < 0))), "a node with one child")
        _require(bool(np.all((left < count) & (right < count))), "a child that is not there")
        feature = self.feature[inner]
        _require(bool(np.all((feature >= 0) & (feature < self.width))), "an unknown feature")
        # LightGBM's infinity sends left whatever is not missing; from below there is no such thing.
        is_number = self.threshold[inner] > -np.inf
        _require(bool(np.all(is_number)), "a threshold that is not a number")
        _require(bool(np.all(np.isfinite(self.value[leaf]))), "a leaf that is not a number")
        _require(math.isfinite(self.intercept), "an intercept that is not a number")
        cover, parts = self.cover[inner], (self.cover[left], self.cover[right])
        _require(bool(np.all((parts[0] >= 0) & (parts[1] >= 0) & (cover > 0))), "an empty node")
        missed = np.abs(parts[0] + parts[1] - cover)
        _require(bool(np.all(missed <= _COVERS_MISS * cover)), "covers that do not add up")

    @cached_property
    def inner(self) -> Places:
        """The nodes that have children."""
        return np.flatnonzero(self.left >= 0)

    @cached_property
    def lanes(self) -> Places:
        """The lanes that occur, ascending."""
        return np.unique(self.lane[self.inner])

    @cached_property
    def column(self) -> Places:
        """Shape (nodes,): which column of `seen` a node compares; anything in a leaf."""
        return np.searchsorted(self.lanes, self.lane) * self.width + self.feature

    def seen(self, rows: Floats) -> Floats:
        """Rows as the nodes compare them: every lane's columns side by side, nothing missing.

        Args:
            rows: shape (n, width), finite or NaN, rounded to float32.

        Returns:
            Shape (n, lanes * width); -inf and inf stand for what always goes left or right.
        """
        if self.tiny:
            rows = np.where(np.abs(rows) <= self.tiny, 0.0, rows)
        is_absent = np.isnan(rows)
        lanes = [_lane(rows, is_absent, lane) for lane in self.lanes.tolist()]
        return np.concatenate([rows[:, :0], *lanes], axis=1)


def forest_of(model: Model) -> Forest:
    """The trees of a model.

    Raises:
        ValueError: it is no plain sum of trees with numerical conditions.
    """
    read = _xgboost if model.library == "xgboost" else _lightgbm
    return read(model.booster, len(model.feature_names))


def _lane(rows: Floats, is_absent: NDArray[np.bool_], lane: int) -> Floats:
    if lane == MISSING_IS_ZERO:
        return np.where(is_absent, 0.0, rows)
    if lane in (ZERO_LEFT, ZERO_RIGHT):
        is_absent = is_absent | (rows == 0)
    return np.where(is_absent, -np.inf if lane in (MISSING_LEFT, ZERO_LEFT) else np.inf, rows)


def _xgboost(booster: Any, width: int) -> Forest:
    learner, _ = _ubjson(memoryview(bytes(booster.save_raw("ubj"))), 0)
    learner = learner["learner"]
    told, gradient = learner["learner_model_param"], learner["gradient_booster"]
    _require(gradient["name"] == "gbtree", f"a booster {gradient['name']}")
    objective = learner["objective"]["name"]
    _require(objective == "binary:logistic", f"the objective {objective}")
    _require(told["num_class"] in "01" and told["num_target"] == "1", "several outputs")
    trees = gradient["model"]["trees"]
    _require(not any(np.any(tree["split_type"]) for tree in trees), "categories")
    sizes = [len(tree["left_children"]) for tree in trees]
    roots = np.cumsum([0, *sizes])[:-1]

    def joined(key: str, kind: Any) -> NDArray[Any]:
        return np.concatenate([np.asarray(tree[key], dtype=kind) for tree in trees])

    offset = np.repeat(roots, sizes)
    left, right = joined("left_children", np.intp), joined("right_children", np.intp)
    conditions = joined("split_conditions", np.float64)  # in a leaf, its value
    start = float(told["base_score"].strip("[]"))
    return Forest(
        roots=roots,
        left=np.where(left < 0, _LEAF, left + offset),
        right=np.where(right < 0, _LEAF, right + offset),
        feature=joined("split_indices", np.intp),
        threshold=conditions,
        lane=np.where(joined("default_left", np.bool_), MISSING_LEFT, MISSING_RIGHT),
        cover=joined("sum_hessian", np.float64),
        value=conditions,
        intercept=math.log(start / (1 - start)),
        width=width,
    )


_NUMBERS = {
    kind: struct.Struct(f">{letter}")
    for kind, letter in {
        "U": "B",
        "i": "b",
        "I": "h",
        "l": "i",
        "L": "q",
        "d": "f",
        "D": "d",
    }.items()
}
_PLAIN = {"T": True, "F": False, "Z": None}


def _ubjson(data: memoryview, at: int) -> tuple[Any, int]:
    """The value that begins at a place, and the place after it."""
    kind, at = chr(data[at]), at + 1
    if kind in _NUMBERS:
        number = _NUMBERS[kind]
        return number.unpack_from(data, at)[0], at + number.size
    if kind in _PLAIN:
        return _PLAIN[kind], at
    return {"S": _text, "[": _array, "{": _object}[kind](data, at)


def _object(data: memoryview, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while data[at] != ord("}"):
        key, at = _text(data, at)
        found[key], at = _ubjson(data, at)
    return found, at + 1


def _text(data: memoryview, at: int) -> tuple[str, int]:
    size, at = _ubjson(data, at)
    return str(data[at : at + size], "utf-8"), at + size


def _array(data: memoryview, at: int) -> tuple[Any, int]:
    if data[at] == ord("$"):
        kind = np.dtype(_NUMBERS[chr(data[at + 1])].format)
        size, at = _ubjson(data, at + 3)  # after "$", the kind and "#"
        return np.frombuffer(data, kind, size, at), at + size * kind.itemsize
    items = []
    if data[at] == ord("#"):
        size, at = _ubjson(data, at + 1)
        for _ in range(size):
            item, at = _ubjson(data, at)
            items.append(item)
        return items, at
    while data[at] != ord("]"):
        item, at = _ubjson(data, at)
        items.append(item)
    return items, at + 1


_LANES = np.array(
    [[MISSING_IS_ZERO, MISSING_IS_ZERO], [ZERO_RIGHT, ZERO_LEFT], [MISSING_RIGHT, MISSING_LEFT]]
)
"""LightGBM's kind of missing (none, zero, NaN) and default direction (right, left) -> lane."""
_CATEGORICAL, _DEFAULT_LEFT, _MISSING = 1, 2, 2  # bits of a decision; the last is a shift


def _lightgbm(booster: Any, width: int) -> Forest:
    # Several times as fast as `dump_model`, which would also keep the interpreter's lock meanwhile.
    text, _, _ = booster.model_to_string().partition("\nend of trees")
    head, *blocks = text.split("\nTree=")
    _require("\nnum_tree_per_iteration=1\n" in head, "several outputs")
    _require("\naverage_output" not in head, "an average of trees")
    tables, roots = [], [0]
    for block in blocks:
        told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        _require(told.get("is_linear", "0") == "0", "linear leaves")
        tables.append(_lightgbm_nodes(told, roots[-1]))
        roots.append(roots[-1] + len(tables[-1]))
    left, right, feature, decision, threshold, cover, value = np.concatenate(tables).T
    kind = decision.astype(np.intp)
    _require(not np.any(kind & _CATEGORICAL), "categories")
    return Forest(
        roots=np.array(roots[:-1], dtype=np.intp),
        left=left.astype(np.intp),
        right=right.astype(np.intp),
        feature=feature.astype(np.intp),
        threshold=np.nextafter(threshold, np.inf),  # this library also sends left what is equal
        lane=_LANES[kind >> _MISSING, (kind & _DEFAULT_LEFT) // _DEFAULT_LEFT],
        cover=cover.copy(),
        value=value.copy(),
        intercept=0.0,
        width=width,
        tiny=_LIGHTGBM_TINY,
    )


def _lightgbm_nodes(told: dict[str, str], start: int) -> Floats:
    """A tree's nodes: left, right, feature, decision, threshold, cover, value; leaves last."""
    leaves = int(told["num_leaves"])
    inner = leaves - 1
    table = np.zeros((inner + leaves, 7))
    table[inner:, :2] = _LEAF
    table[inner:, 6] = _numbers(told["leaf_value"])
    if inner:
        children = np.array([_numbers(told["left_child"]), _numbers(told["right_child"])])
        # The leaf with number n is written as -1 - n.
        table[:inner, :2] = start + np.where(children < 0, inner - 1 - children, children).T
        for column, name in ((2, "split_feature"), (3, "decision_type"), (4, "threshold")):
            table[:inner, column] = _numbers(told[name])
        table[:inner, 5] = _numbers(told["internal_count"])
        table[inner:, 5] = _numbers(told["leaf_count"])
    return table


def _numbers(text: str) -> Floats:
    return np.array(text.split(), dtype=np.float64)


def _require(is_so: bool, found: str) -> None:
    if not is_so:
        raise ValueError(f"found {found}, expected a plain sum of trees")
