"""A window of the night is compared with the reference's nights: inputs that follow the clock."""

import numpy as np
import polars as pl
import pytest

from fraud_platform.heal.clues import feature_shift, score_shift
from fraud_platform.heal.evidence import Standing
from fraud_platform.heal.reference import Reference
from fraud_platform.hourly import matched
from fraud_platform.schemas import CONTEXT_COLUMNS, UTC_MICROSECONDS

HOUR = 3_600_000_000


def of_hours(
    hours: np.ndarray, seed: int, moved: float = 0.0
) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray]:
    """Payments, features and scores: at night amounts are large, and paid over the web."""
    rng, is_night = np.random.default_rng(seed), hours < 6
    amounts = rng.lognormal(7.0 + is_night + moved, 0.5)
    payments = pl.DataFrame(
        {
            "event_timestamp": pl.Series(np.sort(hours) * HOUR).cast(UTC_MICROSECONDS),
            "amount_minor": np.rint(amounts[np.argsort(hours, kind="stable")]).astype(np.int64),
            **dict.fromkeys(CONTEXT_COLUMNS, None),
            "currency": "EUR",
            "payment_method": np.where(np.sort(hours) < 6, "web", "chip"),
        }
    )
    features = pl.DataFrame({"transaction_hour_of_day": hours, "card_amount_max_30d": amounts})
    return payments, features, np.clip(amounts / 10_000, 0.0, 1.0)


def at_night(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 6, rows)


def reference() -> Reference:
    hours = np.concatenate([at_night(400), np.random.default_rng(0).integers(6, 24, 5_600)])
    payments, features, scores = of_hours(np.random.default_rng(1).permutation(hours), seed=2)
    return Reference(payments, features, scores)


@pytest.mark.parametrize("seed", range(3))
def test_a_night_like_other_nights_is_no_shift(seed: int) -> None:
    payments, features, scores = of_hours(at_night(1_000), seed)
    found = feature_shift(reference(), payments, features)
    assert (found.standing, found.subjects) == (Standing.FINE, ())
    assert score_shift(reference(), payments, scores).standing is Standing.FINE


def test_a_night_unlike_other_nights_is_one() -> None:
    payments, features, scores = of_hours(at_night(1_000), 4, moved=0.5)
    found = feature_shift(reference(), payments, features)
    assert set(found.subjects) == {"transaction_amount", "card_amount_max_30d"}
    assert score_shift(reference(), payments, scores).standing is Standing.BREACHED


def test_a_night_is_compared_with_everything_where_nights_are_hardly_known() -> None:
    payments, features, _ = of_hours(np.random.default_rng(0).integers(6, 24, 6_000), seed=2)
    night, told, _ = of_hours(at_night(1_000), 3)
    found = feature_shift(Reference(payments, features), night, told)
    assert "card_amount_max_30d" in found.subjects


def test_matched_hours_have_the_shares_of_the_window_and_err_like_so_many_rows() -> None:
    rng = np.random.default_rng(5)
    known, window = rng.integers(0, 24, 20_000), rng.binomial(23, 0.3, 3_000)
    weights = matched(known, window, 200)
    assert weights is not None
    shares = weights * np.bincount(known, minlength=24)
    wanted = np.bincount(window, minlength=24) / window.size
    assert shares / shares.sum() == pytest.approx(wanted)
    assert 200 <= shares.sum() <= known.size
