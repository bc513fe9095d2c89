"""The fast contributions against the libraries, and against the definition itself."""

import math
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform import explainer, tree_shap
from fraud_platform.decision import strongest_reasons
from fraud_platform.errors import DataContractError
from fraud_platform.explainer import FastExplainer
from fraud_platform.forest import Forest, forest_of
from fraud_platform.model import EXACT, LIBRARIES, Model
from fraud_platform.native_score import NativeScorer
from fraud_platform.tree_shap import TreeShap

WIDTH = 6
NAMES = tuple(f"f{column}" for column in range(WIDTH))
both = pytest.mark.parametrize("library", LIBRARIES)


def training_rows(random: np.random.Generator, count: int = 240) -> np.ndarray:
    """Few distinct values, so that features come again on paths; gaps, zeros and a constant."""
    rows = random.integers(-3, 4, size=(count, WIDTH)).astype(np.float64)
    rows[:, 1] = random.normal(size=count)
    rows[:, 2] = np.abs(rows[:, 2]) * 1e30
    rows[:, 5] = 7.0
    rows[:, :4][random.random((count, 4)) < 0.15] = np.nan
    return rows


def labels(random: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    push = np.nan_to_num(rows[:, 0]) * np.nan_to_num(rows[:, 3]) + np.nan_to_num(rows[:, 1])
    return (push + random.normal(size=len(rows)) > 1).astype(np.float32)


def xgboost_payload(seed: int, depth: int, rounds: int, **parameters: object) -> bytes:
    import xgboost

    random = np.random.default_rng(seed)
    rows = training_rows(random)
    matrix = xgboost.DMatrix(rows.astype(np.float32), labels(random, rows), nthread=1)
    told = {"objective": "binary:logistic", "max_depth": depth, "nthread": 1, "seed": seed}
    told |= {"min_child_weight": 0.0, "subsample": 0.9, "gamma": 0.0, "reg_lambda": 0.1}
    return bytes(xgboost.train(told | parameters, matrix, num_boost_round=rounds).save_raw("ubj"))


def lightgbm_payload(seed: int, depth: int, rounds: int, **parameters: object) -> bytes:
    import lightgbm

    random = np.random.default_rng(seed)
    rows = training_rows(random).astype(np.float32).astype(np.float64)
    told = {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 2}
    told |= {"num_leaves": 2**depth, "max_depth": depth, "min_data_in_bin": 1, "seed": seed}
    told |= {"zero_as_missing": seed % 3 == 0, "use_missing": seed % 3 != 1}
    data = lightgbm.Dataset(rows, labels(random, rows))
    booster = lightgbm.train(told | parameters, data, num_boost_round=rounds)
    return (booster.model_to_string().split("\nparameters:")[0] + "\n").encode()


@cache
def model(library: str, seed: int = 0, depth: int = 4, rounds: int = 8, **more: object) -> Model:
    payload = (xgboost_payload if library == "xgboost" else lightgbm_payload)(
        seed, depth, rounds, **more
    )
    return Model(
        library=library,
        payload=payload,
        feature_names=NAMES,
        library_version="0",
        parameters={},
        rounds=rounds,
    )


def nasty_rows(forest: Forest, seed: int, count: int = 12) -> np.ndarray:
    """Values on thresholds and one step beside them, tiny, huge and missing ones."""
    random = np.random.default_rng(seed)
    rows = training_rows(random, count)
    thresholds = forest.threshold[forest.inner]
    for _ in range(3 * count if len(thresholds) else 0):
        node = random.choice(forest.inner)
        value = np.float32(forest.threshold[node])
        beside = [
            value,
            np.nextafter(value, np.float32(-np.inf)),
            np.nextafter(value, np.float32(np.inf)),
        ]
        rows[random.integers(count), forest.feature[node]] = beside[random.integers(3)]
    odd = [
        0.0,
        -0.0,
        1e-35,
        -1e-35,
        1.1e-35,
        1e-40,
        3e38,
        -3e38,
        1e300,
        -1e300,
        np.inf,
        -np.inf,
        np.nan,
    ]
    some = random.random(rows.shape) < 0.15
    rows[some] = random.choice(odd, size=int(some.sum()))
    return rows


def as_seen(rows: np.ndarray, of: Model) -> np.ndarray:
    return of.rounded(rows).astype(np.float64)


def shapley(forest: Forest, row: np.ndarray) -> tuple[float, np.ndarray]:
    """The definition: every feature's gain over every set of the other features."""
    [seen] = forest.seen(row.reshape(1, -1))

    def worth(node: int, known: frozenset[int]) -> float:
        left, right = int(forest.left[node]), int(forest.right[node])
        if left < 0:
            return float(forest.value[node])
        if int(forest.feature[node]) in known:
            goes_left = seen[forest.column[node]] < forest.threshold[node]
            return worth(left if goes_left else right, known)
        share = forest.cover[left] / (forest.cover[left] + forest.cover[right])
        return float(share * worth(left, known) + (1 - share) * worth(right, known))

    def total(known: frozenset[int]) -> float:
        return forest.intercept + sum(worth(int(root), known) for root in forest.roots)

    everyone = range(len(row))
    worths = {
        frozenset(some): total(frozenset(some))
        for size in range(len(row) + 1)
        for some in combinations(everyone, size)
    }
    gains = np.zeros(len(row))
    for known, paid in worths.items():
        if len(known) < len(row):
            weight = 1 / (math.comb(len(row) - 1, len(known)) * len(row))
            for feature in set(everyone) - known:
                gains[feature] += weight * (worths[known | {feature}] - paid)
    return worths[frozenset()], gains


@both
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 99), depth=st.integers(1, 6), rounds=st.integers(1, 12))
def test_any_model_gets_the_librarys_contributions(library, seed, depth, rounds):
    found_model = model(library, seed, depth, rounds)
    trees = TreeShap(forest_of(found_model))
    rows = nasty_rows(forest_of(found_model), seed)
    expected = found_model.explain(rows)
    found = trees.contributions(as_seen(rows, found_model))
    assert np.abs(found - expected.contributions).max() <= 1e-5
    assert np.abs(trees.base - expected.base).max() <= 1e-5
    assert np.abs(trees.base + found.sum(axis=1) - expected.margin).max() <= 1e-5


@both
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 99), depth=st.integers(1, 6))
def test_any_model_gets_the_shapley_values_of_the_definition(library, seed, depth):
    forest = forest_of(model(library, seed, depth, 3))
    rows = as_seen(nasty_rows(forest, seed, 3), model(library, seed, depth, 3))
    trees = TreeShap(forest)
    for row, found in zip(rows, trees.contributions(rows), strict=True):
        base, expected = shapley(forest, row)
        assert abs(trees.base - base) <= 1e-9
        assert np.abs(found - expected).max() <= 1e-9


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_trees_that_no_library_would_grow_get_the_shapley_values_too(data):
    """Any shape, any repetition, any cover; also children that no training row reached."""
    nodes: list[list[float]] = []

    def grow(depth: int, cover: float) -> int:
        place = len(nodes)
        nodes.append([-1, -1, 0, 0.0, 0, cover, data.draw(st.floats(-2, 2))])
        if depth and cover and data.draw(st.integers(0, 4)):
            share = data.draw(st.sampled_from([0.5, 0.25, 0.0, 1.0, 0.001, 0.9]))
            about = [data.draw(st.integers(0, 2)), data.draw(st.integers(-2, 2))]
            lane = data.draw(st.integers(0, 4))
            left = grow(depth - 1, cover * share)
            nodes[place][:5] = [left, grow(depth - 1, cover - cover * share), *about, lane]
        return place

    roots = [grow(data.draw(st.integers(0, 7)), 64.0) for _ in range(data.draw(st.integers(1, 3)))]
    table = np.array(nodes)
    left, right, feature, _, lane = table[:, :5].T.astype(np.intp)
    forest = Forest(
        roots=np.array(roots),
        left=left,
        right=right,
        feature=feature,
        threshold=table[:, 3],
        lane=lane,
        cover=table[:, 5],
        value=table[:, 6],
        intercept=0.25,
        width=3,
    )
    element = st.sampled_from([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, np.nan])
    row = np.array(data.draw(st.lists(element, min_size=3, max_size=3)))
    base, expected = shapley(forest, row)
    trees = TreeShap(forest)
    for _ in range(2):  # the buffers keep nothing
        [found] = trees.contributions(row.reshape(1, -1))
        assert abs(trees.base - base) <= 1e-9
        assert np.abs(found - expected).max() <= 1e-9


def test_a_value_on_lightgbms_threshold_goes_left_as_there():
    # Training puts thresholds between float32 values; another writer of the file need not.
    lines = []
    for line in model("lightgbm", 4, 5, 20).payload.decode().splitlines():
        if line.startswith("threshold="):
            numbers = [float(np.float32(number)) for number in line[10:].split()]
            line = "threshold=" + " ".join(f"{number:.17g}" for number in numbers)
        if not line.startswith("tree_sizes="):
            lines.append(line)
    found_model = replace(model("lightgbm"), payload="\n".join(lines).encode())
    forest = forest_of(found_model)
    rows = training_rows(np.random.default_rng(1), 100)
    for row, node in zip(rows, forest.inner, strict=False):
        row[forest.feature[node]] = np.float32(forest.threshold[node])
    found = TreeShap(forest).contributions(as_seen(rows, found_model))
    assert np.abs(found - found_model.explain(rows).contributions).max() <= 1e-9


def test_an_interaction_worked_out_by_hand():
    # Pays 8 where both values are positive, all covers even. Nobody known: 2. The row has both:
    # alone each raises 2 to 4, last each raises 4 to 8, so each gets (2 + 4) / 2.
    forest = Forest(
        roots=np.array([0]),
        left=np.array([1, -1, 3, -1, -1]),
        right=np.array([2, -1, 4, -1, -1]),
        feature=np.array([0, 0, 1, 0, 0]),
        threshold=np.zeros(5),
        lane=np.zeros(5, dtype=np.intp),
        cover=np.array([4.0, 2.0, 2.0, 1.0, 1.0]),
        value=np.array([0.0, 0.0, 0.0, 0.0, 8.0]),
        intercept=0.0,
        width=2,
    )
    trees = TreeShap(forest)
    assert trees.base == 2.0
    found = trees.contributions(np.array([[1.0, 1.0], [-1.0, 1.0]]))
    assert found == pytest.approx(np.array([[3.0, 3.0], [-3.0, 1.0]]))


@both
def test_a_model_whose_trees_are_single_leaves_moves_nothing(library):
    parts = {"xgboost": {"gamma": 1e9}, "lightgbm": {"min_gain_to_split": 1e9}}[library]
    found_model = model(library, 1, 2, 3, **parts)
    rows = training_rows(np.random.default_rng(2), 4)
    found = FastExplainer(found_model, rows)
    assert found.fallback is None
    told = found.explain(rows, found_model.score(rows))
    assert not told.contributions.any()
    assert told.is_exact.all()


@both
def test_the_reasons_are_the_librarys(library):
    found_model = model(library, 5, 6, 40)
    rows = training_rows(np.random.default_rng(9), 200)
    found_explainer = FastExplainer(found_model, rows)
    found = found_explainer.explain(rows, found_model.score(rows))
    expected = found_model.explain(rows)
    assert found_explainer.fallback is None
    assert found.is_exact.all()
    compared = 0
    for ours, theirs in zip(found.contributions, expected.contributions, strict=True):
        pushes = np.sort(np.append(theirs[theirs > 0], 0.0))
        if np.diff(pushes).min(initial=1.0) > 1e-5:
            codes = [strongest_reasons(p.tolist(), NAMES, limit=4) for p in (ours, theirs)]
            assert codes[0] == codes[1]
            compared += 1
    assert compared > 150


@both
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 70))
def test_any_rows_are_explained_exactly(library, seed, count):
    found_model = model(library, 4, 5, 20)
    rows = nasty_rows(forest_of(found_model), seed, count)
    found = ready(library).explain(rows, found_model.score(rows))
    expected = found_model.explain(rows)
    assert np.abs(found.contributions - expected.contributions).max(initial=0) <= 1e-5
    assert np.abs(found.margin - expected.margin).max(initial=0) <= 5e-5
    assert found.is_exact.all()
    assert ready(library).missed == 0


@cache
def ready(library: str) -> FastExplainer:
    found = FastExplainer(model(library, 4, 5, 20), training_rows(np.random.default_rng(3), 30))
    assert found.fallback is None
    return found


@both
def test_margins_from_the_c_functions_have_the_librarys_bits(library):
    found_model = model(library, 4, 5, 20)
    rows = nasty_rows(forest_of(found_model), 8, 40)
    scorer = NativeScorer(found_model, rows, of_margins=True)
    assert scorer.fallback is None
    expected = found_model.explain(rows).margin
    for some in (rows, rows[:1], rows[7:9]):
        found = scorer.score(some)
        assert np.array_equal(found, found_model.margin(some))
    assert np.array_equal(scorer.score(rows), expected)


@both
def test_a_score_near_one_is_held_against_the_margin_itself(library, monkeypatch):
    found_model, explainer = model(library, 4, 5, 20), ready(library)
    rows = training_rows(np.random.default_rng(11), 5)
    asked: list[int] = []
    honest = NativeScorer.score
    monkeypatch.setattr(
        NativeScorer, "score", lambda self, some: asked.append(len(some)) or honest(self, some)
    )
    for scores, calls in ((np.full(5, 0.5), []), (np.array([0.5] * 4 + [0.9999]), [5])):
        found = explainer._fast(explainer._trees, rows, scores)
        assert asked == calls
    assert np.array_equal(found.margin, found_model.explain(rows).margin)


@both
@pytest.mark.parametrize("planted", ["threshold", "value", "lane", "cover", "feature"])
def test_one_wrong_number_in_every_tree_leads_to_the_library(library, planted, monkeypatch):
    found_model = model(library, 4, 5, 20)
    forest = forest_of(found_model)
    numbers = getattr(forest, planted).copy()
    if planted == "value":
        numbers[forest.left < 0] += 1e-3
    elif planted == "cover":
        numbers[:] = 1.0
        for node in forest.inner[::-1]:  # children come after their parents
            numbers[node] = numbers[forest.left[node]] + numbers[forest.right[node]]
    elif planted == "threshold":
        numbers[forest.roots] += 1.0
    elif planted == "lane":
        numbers[:] = 1 - numbers % 2
    else:
        numbers[forest.roots] = (numbers[forest.roots] + 1) % WIDTH
    monkeypatch.setattr(explainer, "forest_of", lambda _: replace(forest, **{planted: numbers}))
    rows = training_rows(np.random.default_rng(5), 32)
    found = FastExplainer(found_model, rows)
    assert found.fallback is not None
    assert "apart from the library's" in found.fallback
    told = found.explain(rows[:2], found_model.score(rows[:2]))
    assert np.array_equal(told.contributions, found_model.explain(rows[:2]).contributions)


@both
def test_scores_that_are_not_the_contributions_sum_lead_to_the_library(library, monkeypatch):
    honest = Model.score
    monkeypatch.setattr(Model, "score", lambda self, rows: honest(self, rows) * 0.9 + 0.05)
    found = FastExplainer(model(library, 4, 5, 20), training_rows(np.random.default_rng(5), 4))
    assert "do not add up to the margin" in str(found.fallback)


@both
def test_a_row_that_does_not_add_up_is_given_to_the_library_and_counted(library, monkeypatch):
    found_model = model(library, 4, 5, 20)
    rows = training_rows(np.random.default_rng(5), 4)
    found = FastExplainer(found_model, rows)
    honest = TreeShap.contributions
    monkeypatch.setattr(
        TreeShap, "contributions", lambda self, some: honest(self, some) + 2 * EXACT
    )
    for _ in range(2):
        told = found.explain(rows, found_model.score(rows))
        assert np.array_equal(told.contributions, found_model.explain(rows).contributions)
    assert found.missed == 8


def test_scores_that_are_not_the_rows_own_are_noticed():
    found_model = model("xgboost", 4, 5, 20)
    rows = training_rows(np.random.default_rng(5), 4)
    found = FastExplainer(found_model, rows)
    found.explain(rows, np.clip(found_model.score(rows) + 0.01, 0.02, 0.98))
    assert found.missed > 0


@pytest.mark.parametrize(
    ("library", "parameters", "why"),
    [
        ("xgboost", {"booster": "dart"}, "a booster dart"),
        ("xgboost", {"objective": "reg:squarederror"}, "the objective reg:squarederror"),
        ("lightgbm", {"linear_tree": True, "zero_as_missing": False}, "linear leaves"),
        ("lightgbm", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "an average"),
        ("lightgbm", {"categorical_feature": [0]}, "categories"),
    ],
)
def test_a_model_of_another_kind_is_left_to_the_library(library, parameters, why):
    if "categorical_feature" in parameters:
        found_model = categorical()
    else:
        payload = (xgboost_payload if library == "xgboost" else lightgbm_payload)(
            3, 4, 4, **parameters
        )
        found_model = replace(model(library), payload=payload)
    rows = training_rows(np.random.default_rng(5), 4)
    found = FastExplainer(found_model, rows)
    assert found.fallback is not None
    assert why in found.fallback
    expected = found_model.explain(rows)
    told = found.explain(rows, found_model.score(rows))
    assert np.array_equal(told.contributions, expected.contributions)


def categorical() -> Model:
    import lightgbm

    random = np.random.default_rng(3)
    rows = np.abs(np.nan_to_num(training_rows(random)))
    data = lightgbm.Dataset(rows, (rows[:, 0] % 2).astype(int), categorical_feature=[0])
    told = {"objective": "binary", "verbosity": -1, "min_data_per_group": 1, "cat_smooth": 0.0}
    text = lightgbm.train(told, data, num_boost_round=2).model_to_string()
    payload = (text.split("\nparameters:")[0] + "\n").encode()
    return replace(model("lightgbm"), payload=payload)


@both
def test_a_forest_beyond_the_memory_bound_is_left_to_the_library(library, monkeypatch):
    monkeypatch.setattr(tree_shap, "MAX_BYTES", 1000)
    found = FastExplainer(model(library), training_rows(np.random.default_rng(5), 4))
    assert "expected at most 1000" in str(found.fallback)


def test_nodes_in_a_circle_are_no_tree():
    circle = Forest(
        roots=np.array([0]),
        left=np.array([0, -1]),
        right=np.array([1, -1]),
        feature=np.array([0, 0]),
        threshold=np.zeros(2),
        lane=np.zeros(2, dtype=np.intp),
        cover=np.array([1.0, 0.0]),
        value=np.zeros(2),
        intercept=0.0,
        width=1,
    )
    with pytest.raises(ValueError, match="a node twice"):
        TreeShap(circle)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"right": -1}, "one child"),
        ({"left": 10**6}, "not there"),
        ({"feature": WIDTH}, "unknown feature"),
        ({"threshold": np.nan}, "threshold that is not a number"),
        ({"threshold": -np.inf}, "threshold that is not a number"),
        ({"cover": 0.0}, "an empty node"),
        ({"cover": 1e9}, "do not add up"),
    ],
)
def test_arrays_that_are_no_trees_are_refused(damage, why):
    forest = forest_of(model("xgboost"))
    [(name, value)] = damage.items()
    numbers = getattr(forest, name).copy()
    numbers[forest.roots[0]] = value
    with pytest.raises(ValueError, match=why):
        replace(forest, **{name: numbers})


@both
def test_no_rows_have_no_contributions(library):
    found = ready(library).explain(np.empty((0, WIDTH)), np.empty(0))
    assert found.contributions.shape == (0, WIDTH)
    assert len(found.base) == len(found.margin) == 0


@both
def test_a_matrix_of_another_width_is_refused_as_by_the_model(library):
    with pytest.raises(DataContractError, match=r"expected \(n, 6\)"):
        ready(library).explain(np.zeros((1, WIDTH + 1)), np.array([0.5]))
