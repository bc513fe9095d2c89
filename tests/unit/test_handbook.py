from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import DataContractError
from fraud_platform.features.spec import FEATURE_NAMES as STANDARD
from fraud_platform.handbook import challenger, published
from fraud_platform.handbook.benchmark import (
    P1,
    P2_TEST,
    P2_VALIDATION,
    Benchmark,
    HandbookReport,
    Line,
    quality,
    run,
)
from fraud_platform.handbook.inputs import INPUTS, inputs
from fraud_platform.handbook.protocol import TEST, VALIDATION, WEEK, Cut, Fold, cut
from fraud_platform.handbook.published import Quality
from fraud_platform.model import ModelPolicy
from fraud_platform.schemas import UTC_MICROSECONDS

START = datetime(2018, 7, 25, tzinfo=UTC)
FOLD = Fold(START.date())
DAY = timedelta(days=1)


def payments(*told: tuple[float, str, bool]) -> pl.DataFrame:
    """Payments by the day since `START`, the card and whether it is fraud."""
    days, cards, frauds = zip(*told, strict=True)
    return pl.DataFrame(
        {
            "event_timestamp": [START + day * DAY for day in days],
            "card_id": cards,
            "is_fraud": frauds,
        },
        schema_overrides={"event_timestamp": UTC_MICROSECONDS},
    )


def judged(*told: tuple[float, str, bool]) -> list[tuple[int, str]]:
    """Day and card of what is judged, beside payments that make both weeks usable."""
    base = ((0, "a", True), (0, "b", False), (14, "y", True), (14, "z", False))
    left = cut(payments(*sorted([*base, *told])), FOLD).judged
    days = (left["event_timestamp"].dt.date() - START.date()).dt.total_days()
    return [
        (day, card)
        for day, card in zip(days, left["card_id"], strict=True)
        if card not in {"y", "z"}
    ]


# --- folds -------------------------------------------------------------------------------------


def test_the_folds_are_the_published_weeks() -> None:
    assert [fold.judged_start for fold in TEST] == [
        date(2018, 8, 8),
        date(2018, 8, 15),
        date(2018, 8, 22),
        date(2018, 8, 29),
    ]
    assert [fold.train_start for fold in VALIDATION] == [
        date(2018, 7, 11),
        date(2018, 7, 4),
        date(2018, 6, 27),
        date(2018, 6, 20),
    ]
    assert P1.folds == (TEST[0],)


def test_no_validation_week_is_judged_in_a_test_week() -> None:
    assert max(VALIDATION).judged_start + WEEK <= min(TEST).judged_start


def test_one_week_teaches_and_the_week_after_the_next_is_judged() -> None:
    rows = payments(
        (-0.001, "a", True), (0, "a", True), (6.99, "b", False), (7, "c", True),
        (13.99, "d", False), (14, "e", False), (20.99, "f", True), (21, "g", False),
    )  # fmt: skip
    found = cut(rows, FOLD)
    assert found.learn["card_id"].to_list() == ["a", "b"]
    assert found.judged["card_id"].to_list() == ["e", "f"]


def test_a_week_without_frauds_is_refused() -> None:
    with pytest.raises(DataContractError, match="that teaches of the fold from 2018-07-25"):
        cut(payments((0, "a", False), (14, "b", True), (14, "c", False)), FOLD)


# --- removal of known compromised cards ---------------------------------------------------------


def test_a_card_with_a_fraud_in_the_train_week_is_never_judged() -> None:
    assert judged((3, "k", True), (14, "k", False), (20, "k", True)) == []


def test_a_fraud_of_the_delay_is_known_eight_days_later() -> None:
    # Fraud on day 9: on day 16 its label is seven days old but not known before the day began.
    told = [(9.5, "k", True), (14, "k", False), (16, "k", True), (17, "k", True)]
    assert judged(*told) == [(14, "k"), (16, "k")]


def test_a_fraud_before_the_train_week_does_not_count() -> None:
    assert judged((-1, "k", True), (14, "k", True)) == [(14, "k")]


def test_a_fraud_of_the_judged_week_removes_nothing() -> None:
    assert judged((14, "k", True), (20, "k", True)) == [(14, "k"), (20, "k")]


def test_the_first_of_several_frauds_decides() -> None:
    told = [(8, "k", True), (13, "k", True), (15, "k", False), (16, "k", False)]
    assert judged(*told) == [(15, "k")]


@given(st.lists(st.tuples(st.integers(-3, 20), st.sampled_from("klm"), st.booleans())))
def test_removal_is_what_the_handbook_describes_day_by_day(
    told: list[tuple[int, str, bool]],
) -> None:
    expected = []
    for day in range(14, 21):
        known = {card for when, card, fraud in told if fraud and 0 <= when < 7}
        known |= {card for when, card, fraud in told if fraud and 7 <= when <= day - 8}
        expected += [(day, card) for when, card, _ in told if when == day and card not in known]
    assert sorted(judged(*told)) == sorted(expected)


# --- measures ----------------------------------------------------------------------------------


def test_measures_by_hand() -> None:
    rows = payments((0, "a", True), (0, "b", False), (1, "a", True), (1, "c", True))
    found = quality(rows, np.array([0.9, 0.8, 0.7, 0.1]))
    # Pairs in order: the genuine one loses to 1 of 3 frauds.
    assert found.auc_roc == pytest.approx(1 / 3)
    # A fraud at rank 1, 3 and 4.
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    # Day 0: card a among 100; day 1: a was found before, so only c.
    assert found.card_precision == pytest.approx((1 / 100 + 1 / 100) / 2)


# --- the fifteen inputs --------------------------------------------------------------------------


def at(*told: tuple[float, str, str, int, bool]) -> dict[str, list[float]]:
    days, cards, terminals, amounts, frauds = zip(*told, strict=True)
    rows = pl.DataFrame(
        {
            "event_timestamp": [START + day * DAY for day in days],
            "card_id": cards,
            "terminal_id": terminals,
            "amount_minor": amounts,
            "is_fraud": frauds,
        },
        schema_overrides={"event_timestamp": UTC_MICROSECONDS},
    )
    return inputs(rows).to_dict(as_series=False)


def test_a_customers_window_holds_the_payment_itself_and_not_its_old_edge() -> None:
    found = at((0, "c", "t", 100, False), (0.5, "c", "t", 300, False), (1, "c", "t", 500, False))
    assert found["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == [1, 2, 2]
    assert found["CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW"] == [1.0, 2.0, 4.0]
    assert found["CUSTOMER_ID_NB_TX_7DAY_WINDOW"] == [1, 2, 3]


def test_payments_of_one_second_see_each_other_in_the_order_of_rows() -> None:
    found = at((0, "c", "t", 100, False), (0, "c", "t", 300, False))
    assert found["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == [1, 2]


def test_a_terminals_window_ends_seven_days_ago() -> None:
    told = [(0, "c", "t", 1, True), (0.5, "d", "t", 1, False), (7, "e", "t", 1, True)]
    found = at(*told, (7.9, "f", "t", 1, False), (8, "g", "t", 1, False))
    assert found["TERMINAL_ID_NB_TX_1DAY_WINDOW"] == [0, 0, 1, 2, 1]
    assert found["TERMINAL_ID_RISK_1DAY_WINDOW"] == [0, 0, 1.0, 0.5, 0]


def test_weekend_and_night_are_of_utc() -> None:
    # 2018-07-25 was a Wednesday.
    told = [(2.999, "c", "t", 1, False), (3, "c", "t", 1, False), (5.29, "c", "t", 1, False)]
    found = at(*told, (5.3, "c", "t", 1, False))
    assert found["TX_DURING_WEEKEND"] == [0, 1, 0, 0]
    assert found["TX_DURING_NIGHT"] == [0, 1, 1, 0]  # 06:57 is night, 07:12 is not


def test_the_inputs_of_one_customer_do_not_depend_on_others() -> None:
    alone = at((0, "c", "t", 100, False), (1, "c", "t", 300, False))
    among = at((0, "c", "t", 100, False), (0, "b", "s", 900, True), (1, "c", "t", 300, False))
    assert [among[name][::2] for name in INPUTS] == [alone[name] for name in INPUTS]


# --- the report ----------------------------------------------------------------------------------


def line(model: str, origin: str, *figures: float) -> Line:
    return Line(model, origin, Quality(*figures), None, {})


@pytest.mark.parametrize(("ap", "cp"), [(0.781, 0.3), (0.7, 0.331)], ids=["ap", "cp"])
def test_what_is_too_good_to_be_true_is_an_alarm(ap: float, cp: float) -> None:
    report = HandbookReport({"P2 test": (line(challenger.NAME, "ours", 0.9, ap, cp),)})
    (alarm,) = report.alarms
    assert "LEAK" in alarm
    assert alarm in report.to_text()


def test_the_goal_is_no_alarm() -> None:
    report = HandbookReport({"P2 test": (line(challenger.NAME, "ours", 0.893, 0.757, 0.312),)})
    assert report.alarms == ()


@pytest.mark.parametrize(("off", "found"), [(0.0009, 0), (0.0011, 1)], ids=["near", "far"])
def test_a_proof_that_does_not_come_out_as_published_is_told(off: float, found: int) -> None:
    told = line(published.FOREST_20, "published", 0.87, 0.678, 0.299)
    remade = line(published.FOREST_20, "re-made", 0.87, 0.678 + off, 0.299)
    report = HandbookReport({"P2 test": (told, remade)})
    assert len(report.disproofs) == found


def test_our_model_has_only_standard_features() -> None:
    assert [feature.name for feature in challenger.declared()] == [
        name for name in STANDARD if name in challenger.FEATURE_NAMES
    ]
    assert len(challenger.declared()) == len(challenger.FEATURE_NAMES)


@pytest.mark.parametrize("benchmark", [P1, P2_VALIDATION, P2_TEST], ids=lambda each: each.name)
def test_every_benchmark_is_proven_by_a_forest_and_a_booster(benchmark) -> None:
    proofs = set(published.PROOFS) & set(benchmark.models)
    assert len(proofs) == 2


def noise(days: int = 21, per_day: int = 60) -> pl.DataFrame:
    """Payments of 30 cards at one a half minutes, with a few frauds, and random model inputs."""
    size, chance = days * per_day, np.random.default_rng(7)
    base = payments(
        *(
            (n / per_day, f"c{chance.integers(30)}", bool(chance.random() < 0.03))
            for n in range(size)
        )
    )
    names = (*INPUTS, *challenger.FEATURE_NAMES)
    return base.hstack(pl.DataFrame(chance.random((size, len(names))), schema=list(names)))


def test_another_seed_is_another_model() -> None:
    fold = cut(noise(), FOLD)
    one, other = (challenger.scores(fold, ModelPolicy(seed=seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_what_was_judged_teaches_nothing() -> None:
    fold = cut(noise(), FOLD)
    turned = Cut(fold.learn, fold.judged.with_columns(is_fraud=~pl.col("is_fraud")))
    assert np.array_equal(
        challenger.scores(fold, ModelPolicy()), challenger.scores(turned, ModelPolicy())
    )


def test_fits_at_the_same_time_give_the_same_report() -> None:
    told = published.TEST[:1]  # logistic regression
    two = Benchmark("two folds", TEST[:2], told)
    once, again = (run(noise(days=28), (two,), ModelPolicy(), jobs) for jobs in (1, 2))
    assert once == again
    assert [line.origin for line in once.lines["two folds"]] == ["published", "re-made", "ours"]
    assert len(once.lines["two folds"][-1].folds) == 2
