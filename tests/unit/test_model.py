from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import (
    BundleIntegrityError,
    DataContractError,
    InexactExplanationError,
    LabelsNotMatureError,
    PermanentError,
)
from fraud_platform.metrics import average_precision
from fraud_platform.model import LIBRARIES, Explanations, Model, ModelPolicy, fit, matrix, refit

NAMES = ("signal", "noise", "often_unknown")
POLICY = ModelPolicy(trials=2, max_rounds=20, early_stopping_rounds=5)
both = pytest.mark.parametrize("library", LIBRARIES)


@cache
def rows(days: int = 21, n: int = 1500, part: str = "train", seed: int = 1) -> pl.DataFrame:
    """Fraud follows `signal`; `often_unknown` is null in a third of the rows."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 3))
    values[random.random(n) < 1 / 3, 2] = np.nan
    start = datetime(2026, 1, 1, tzinfo=UTC)
    seconds = np.sort(random.integers(0, days * 86_400, n)).tolist()
    return pl.DataFrame(
        {
            "transaction_id": [f"t{row}" for row in range(n)],
            "event_timestamp": [start + timedelta(seconds=second) for second in seconds],
            "card_id": [f"c{row % 50}" for row in range(n)],
            "amount_minor": [100] * n,
            "is_fraud": values[:, 0] + random.normal(scale=0.5, size=n) > 1.6,
            "slice": [part] * n,
            **{name: values[:, column] for column, name in enumerate(NAMES)},
        }
    ).with_columns(pl.col(NAMES).fill_nan(None))


@cache
def fitted(library: str) -> Model:
    return fit(library, rows(), POLICY)


@both
def test_training_twice_gives_the_same_bytes(library):
    again = fit(library, rows(), POLICY)
    assert again.payload == fitted(library).payload
    assert again == fitted(library)


@both
def test_a_refit_with_what_the_search_chose_is_the_same_model(library):
    found = fitted(library)
    assert refit(library, rows(), found.parameters, found.rounds, POLICY) == found


@both
def test_the_number_of_threads_does_not_change_the_bytes(library):
    policy = ModelPolicy(trials=2, max_rounds=20, early_stopping_rounds=5, threads=2)
    assert fit(library, rows(), policy).digest == fitted(library).digest


@both
def test_a_single_row_scores_as_in_the_batch_bit_for_bit(library):
    model, features = fitted(library), matrix(rows(), NAMES)
    batch = model.score(features)
    single = np.array([model.score(features[row : row + 1])[0] for row in range(200)])
    assert single.tobytes() == batch[:200].tobytes()
    assert batch.dtype == np.float64
    assert 0 <= batch.min() <= batch.max() <= 1


@both
def test_threads_that_share_a_fresh_model_get_the_same_bits(library):
    features = matrix(rows(), NAMES)
    fresh = replace(fitted(library))
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda _: fresh.score(features).tobytes(), range(16)))
    assert set(scores) == {fitted(library).score(features).tobytes()}


@both
def test_a_value_scores_as_its_float32_rounding(library):
    model, features = fitted(library), matrix(rows(), NAMES)
    rounded = features.astype(np.float32).astype(np.float64)
    assert model.score(features).tobytes() == model.score(rounded).tobytes()


@both
def test_a_model_read_back_from_json_scores_the_same_bits(library):
    model, features = fitted(library), matrix(rows(), NAMES)
    back = msgspec.json.decode(msgspec.json.encode(model), type=Model)
    assert back == model
    assert back.score(features).tobytes() == model.score(features).tobytes()


@both
def test_it_learns_what_there_is_to_learn(library):
    fresh = rows(seed=2)
    scores = fitted(library).scored(fresh)["score"].to_numpy()
    assert average_precision(fresh["is_fraud"].to_numpy(), scores) > 0.7


@both
def test_contributions_name_the_feature_that_matters_and_add_up(library):
    model, features = fitted(library), matrix(rows(), NAMES)[:200]
    found, scores = model.explain(features), model.score(features)
    parts = found.contributions
    assert parts.shape == (200, 3)
    assert np.abs(parts).mean(axis=0).argmax() == 0
    assert found.is_exact.all()
    assert np.abs(found.margin - np.log(scores / (1 - scores))).max() < 1e-4
    # What is left after the sum is one constant of the model, the base.
    assert np.ptp(found.margin - parts.sum(axis=1)) < 1e-4


@both
def test_one_rows_explanation_is_the_same_as_in_a_batch(library):
    model, features = fitted(library), matrix(rows(), NAMES)[:50]
    many = model.explain(features)
    for place, row in enumerate(features):
        one = model.explanation(row)
        assert one.contributions.tobytes() == many.contributions[place].tobytes()
        assert (one.base[0], one.margin[0]) == (many.base[place], many.margin[place])


@pytest.mark.parametrize("change", [2e-4, -2e-4, np.nan, np.inf])
def test_contributions_that_miss_the_margin_are_no_explanation(change, monkeypatch):
    model, row = fitted("xgboost"), matrix(rows(), NAMES)[0]
    found = model.explain(row.reshape(1, -1))
    off = Explanations(
        base=found.base, contributions=found.contributions, margin=found.margin + change
    )
    assert not off.is_exact[0]
    monkeypatch.setattr(Model, "explain", lambda *_: off)
    with pytest.raises(InexactExplanationError, match="add up to"):
        model.explanation(row)


@both
def test_an_amount_beyond_float32_is_scored_not_refused(library):
    model = fitted(library)
    huge = np.array([[1e300, 0.0, np.nan], [3.0e38, 0.0, np.nan]])
    assert model.score(huge)[0] == model.score(huge)[1]


@both
def test_no_rows_give_no_scores(library):
    assert fitted(library).score(np.empty((0, 3))).shape == (0,)


@both
def test_a_matrix_of_another_width_is_refused(library):
    with pytest.raises(DataContractError, match=r"expected \(n, 3\)"):
        fitted(library).score(np.zeros((1, 2)))


@both
def test_the_test_slice_is_never_read(library):
    mixed = pl.concat([rows(), rows(seed=3, part="test")])
    assert fit(library, mixed, POLICY).digest == fitted(library).digest


@both
def test_weights_of_one_change_no_byte_and_others_do(library):
    ones = rows().with_columns(weight=pl.lit(1.0), propensity=pl.lit(1.0))
    assert fit(library, ones, POLICY).payload == fitted(library).payload
    heavy = ones.with_columns(weight=pl.when("is_fraud").then(5.0).otherwise(1.0))
    weighted = fit(library, heavy, POLICY)
    assert weighted.feature_names == NAMES
    features = matrix(rows(), NAMES)
    assert weighted.score(features).mean() > 1.2 * fitted(library).score(features).mean()


@cache
def directed(library: str) -> Model:
    """`noise` may only rise and `signal`, against all it learns, only fall."""
    return fit(library, rows(), replace(POLICY, rising=("noise",), falling=("signal",)))


finite = st.floats(-(2.0**99), 2.0**99, width=32)
values = st.tuples(finite, finite, finite | st.just(float("nan")))


@both
@given(row=values, step=st.floats(0, 2.0**99, width=32))
def test_the_score_never_goes_against_a_direction_that_the_policy_gives(library, row, step):
    model = directed(library)
    more = [(row[0] + step, *row[1:]), (row[0], row[1] + step, row[2])]
    asked, lower, higher = model.score(np.array([row, *more])).tolist()
    assert lower <= asked <= higher


@both
def test_directions_take_hold_and_stand_among_the_parameters(library):
    told = {"xgboost": "(-1,1,0)", "lightgbm": "-1,1,0"}[library]
    assert directed(library).parameters["monotone_constraints"] == told
    assert "monotone_constraints" not in fitted(library).parameters
    steps = np.array([[step, 0.0, 0.0] for step in np.linspace(-3, 3, 50)])
    # Without the direction, suspicion follows the signal.
    assert np.ptp(fitted(library).score(steps)) > 0.3
    assert np.diff(fitted(library).score(steps)).max() > 0
    assert np.diff(directed(library).score(steps)).max() <= 0


@both
def test_a_refit_keeps_the_directions_of_the_parameters(library):
    found = directed(library)
    assert refit(library, rows(), found.parameters, found.rounds, POLICY) == found


@both
def test_a_direction_for_no_feature_is_refused(library):
    policy = replace(POLICY, rising=("signal", "no_such"))
    with pytest.raises(PermanentError, match="no_such"):
        fit(library, rows(), policy)
    with pytest.raises(PermanentError, match="no_such"):
        refit(library, rows(), {}, 5, policy)


@pytest.mark.parametrize(
    "told",
    [
        {"trials": 0},
        {"full_trials": 0},
        {"max_seconds": -1.0},
        {"max_seconds": float("nan")},
        {"rising": ("a", "b"), "falling": ("b",)},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(told):
    with pytest.raises(ValueError, match="found"):
        ModelPolicy(**told)


@both
def test_the_order_of_rows_and_columns_is_part_of_the_input(library):
    turned = rows().select(*(n for n in rows().columns if n not in NAMES), *reversed(NAMES))
    assert fit(library, turned, POLICY).feature_names == NAMES[::-1]
    assert fit(library, turned, POLICY).digest != fitted(library).digest
    assert fit(library, rows().reverse(), POLICY).digest != fitted(library).digest


@both
def test_a_train_slice_whose_last_days_hold_no_fraud_waits(library):
    late = pl.col("event_timestamp") > datetime(2026, 1, 14, tzinfo=UTC)
    honest = rows().with_columns(is_fraud=pl.col("is_fraud") & ~late)
    with pytest.raises(LabelsNotMatureError, match=r"judging rows .* 0 frauds"):
        fit(library, honest, POLICY)


@both
def test_a_short_train_slice_is_cut_in_thirds(library):
    assert fit(library, rows(days=3), POLICY).rounds >= 1


def test_the_payload_is_the_librarys_own_format_and_never_a_pickle():
    assert fitted("xgboost").payload[:2] == b"{L"  # UBJSON object
    assert fitted("lightgbm").payload.startswith(b"tree\nversion=")
    assert b"num_threads" not in fitted("lightgbm").payload


def test_an_xgboost_payload_that_is_no_model_is_an_integrity_error():
    broken = Model(
        library="xgboost",
        payload=b"junk",
        feature_names=NAMES,
        library_version="3.2.0",
        parameters={},
        rounds=1,
    )
    with pytest.raises(BundleIntegrityError):
        broken.score(np.zeros((1, 3)))


def test_an_unknown_library_is_refused():
    with pytest.raises(PermanentError, match="catboost"):
        fit("catboost", rows(), POLICY)
    with pytest.raises(PermanentError, match="catboost"):
        refit("catboost", rows(), {}, 10, POLICY)
