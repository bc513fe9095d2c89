"""Groups of features, and models that were trained without one."""

import functools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.errors import PermanentError
from fraud_platform.fallbacks import GROUPS, features_of, groups_of, without
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES
from fraud_platform.model import ModelPolicy, refit

PARAMETERS = {
    "xgboost": {"learning_rate": 0.3, "max_depth": 4, "colsample_bytree": 0.6, "subsample": 0.8},
    "lightgbm": {"learning_rate": 0.3, "num_leaves": 15, "feature_fraction": 0.6},
}


def rows(count: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).gamma(1.0, 2_000.0, (count, len(FEATURE_NAMES)))
    found[found < 300] = np.nan
    return found


@functools.cache
def fitted(library: str, group: str):
    """A model whose label rests on every group, trained without one."""
    values = rows(1_500, 1)
    first = [FEATURE_NAMES.index(names[0]) for names in GROUPS.values()]
    is_fraud = np.nan_to_num(values[:, [*first, 1]]).sum(axis=1) > 11_000
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(values, schema=list(FEATURE_NAMES)).with_columns(
        is_fraud=pl.Series(is_fraud),
        event_timestamp=pl.Series([moment + timedelta(minutes=n) for n in range(len(values))]),
    )
    return refit(library, without(frame, [group]), PARAMETERS[library], 30, ModelPolicy())


@pytest.mark.parametrize("group", sorted(GROUPS))
@pytest.mark.parametrize("library", sorted(PARAMETERS))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_no_value_of_the_group_changes_a_bit_of_any_score(library, group, data):
    model, values = fitted(library, group), rows(64, data.draw(st.integers(0, 10**6)))
    scores = model.score(values)
    drawn = st.floats(allow_nan=True, allow_infinity=True, width=64)
    for name in GROUPS[group]:
        values[:, FEATURE_NAMES.index(name)] = data.draw(drawn)
    assert model.score(values).tobytes() == scores.tobytes()


@pytest.mark.parametrize("group", sorted(GROUPS))
@pytest.mark.parametrize("library", sorted(PARAMETERS))
def test_a_fallback_still_looks_at_the_rest(library, group):
    model, values = fitted(library, group), rows(200, 5)
    assert len(set(model.score(values).tolist())) > 50


def test_every_feature_of_money_or_told_frauds_is_in_its_group():
    told = {f.name for f in FEATURES if "amount" in f.name or "outlier" in f.name}
    assert told <= {*GROUPS["money"]}
    assert {f.name for f in FEATURES if "fraud" in f.name} <= {*GROUPS["fraud_labels"]}
    assert GROUPS["context"] == ("card_distinct_countries_7d", "card_is_new_country_90d")


def test_a_feature_is_in_every_group_that_it_rests_on():
    assert groups_of(["terminal_ordinary_fraud_count_14d_delayed"]) == (
        "amount_history",
        "fraud_labels",
    )
    assert groups_of(["card_payment_count_1d", "transaction_hour_of_day"]) == ()


def test_several_groups_are_the_union_in_the_order_of_the_columns():
    both = features_of(["fraud_labels", "money"])
    assert set(both) == {*GROUPS["money"], *GROUPS["fraud_labels"]}
    assert list(both) == sorted(both, key=FEATURE_NAMES.index)


def test_a_group_that_does_not_exist_is_refused():
    with pytest.raises(PermanentError, match="weather"):
        features_of(["weather"])
