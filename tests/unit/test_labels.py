import random
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import DataContractError
from fraud_platform.labels import (
    OUTCOME_COLUMNS,
    SOURCES,
    LabelPolicy,
    frauds_called_genuine,
    ledger,
    mature_by_day,
    standing,
)
from fraud_platform.schemas import LABELS, MATURE_LABELS, UTC_MICROSECONDS

DAY = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = LabelPolicy(maturity_days=7, final_days=30)
SETTLED = date(2026, 1, 8)  # a payment of January 1 comes of age at its end


def paid(*ids: str, at: datetime = DAY) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "transaction_id": list(ids),
            "event_timestamp": [at] * len(ids),
            "card_id": [f"card-{name}" for name in ids],
        },
        schema_overrides={"transaction_id": pl.String, "event_timestamp": UTC_MICROSECONDS},
    )


def verdicts(*rows: tuple[str, str, float] | tuple[str, str, float, str]) -> pl.DataFrame:
    """Rows of (transaction, verdict, days after DAY, source); later rows have a larger seq."""
    told = [
        {
            "seq": place,
            "transaction_id": row[0],
            "verdict": row[1],
            "label_timestamp": DAY + timedelta(days=row[2]),
            "label_source": row[3] if len(row) == 4 else "chargeback",
        }
        for place, row in enumerate(rows)
    ]
    return pl.DataFrame(told, schema=LABELS.columns)


def decided(*rows: tuple[str, str, float | None, float | None]) -> pl.DataFrame:
    """Rows of (transaction, decision, pass propensity, audit propensity)."""
    return pl.DataFrame(rows, schema=OUTCOME_COLUMNS, orient="row")


def at(days: float) -> datetime:
    return DAY + timedelta(days=days)


def state(*rows, as_of_days: float = 8, outcomes: pl.DataFrame | None = None) -> dict:
    outcomes = decided() if outcomes is None else outcomes
    told = ledger(paid("a"), verdicts(*rows), outcomes, as_of=at(as_of_days), policy=POLICY)
    return told.row(0, named=True)


def is_fraud(*rows, as_of_days: float = 8) -> bool | None:
    return state(*rows, as_of_days=as_of_days)["is_fraud"]


def settled(transactions, labels, outcomes=None, first=SETTLED, last=SETTLED):
    outcomes = decided() if outcomes is None else outcomes
    return mature_by_day(transactions, labels, outcomes, policy=POLICY, first=first, last=last)


# --- the rule --------------------------------------------------------------------------------


def test_a_fraud_verdict_counts_from_when_it_was_known():
    assert is_fraud(("a", "fraud", 3))
    assert not is_fraud(("a", "fraud", 9))


def test_a_verdict_known_at_as_of_itself_belongs_to_the_next_day():
    assert not is_fraud(("a", "fraud", 8))


@pytest.mark.parametrize("later", ["genuine", "withdrawn"])
def test_a_fraud_verdict_taken_back_is_genuine_once_it_is_old_enough(later):
    assert is_fraud(("a", "fraud", 2), ("a", later, 3)) is False


def test_a_verdict_taken_back_only_later_still_counts_now():
    assert is_fraud(("a", "fraud", 2), ("a", "withdrawn", 9))


def test_of_two_verdicts_of_one_instant_the_later_in_the_log_decides():
    assert is_fraud(("a", "genuine", 2), ("a", "fraud", 2))
    assert not is_fraud(("a", "fraud", 2), ("a", "genuine", 2))


@pytest.mark.parametrize(
    ("high", "low"),
    [pair for n, high in enumerate(SOURCES) for pair in [(high, low) for low in SOURCES[n + 1 :]]],
)
def test_the_higher_ranked_source_decides_whoever_spoke_last(high, low):
    assert is_fraud(("a", "fraud", 2, high), ("a", "genuine", 3, low))
    assert is_fraud(("a", "genuine", 2, low), ("a", "fraud", 3, high))


def test_a_withdrawal_restores_what_the_others_said():
    said = [("a", "fraud", 1, "chargeback"), ("a", "genuine", 2, "dispute")]
    assert is_fraud(*said) is False
    assert is_fraud(*said, ("a", "withdrawn", 3, "dispute")) is True


def test_a_source_takes_back_only_its_own_words():
    assert is_fraud(("a", "fraud", 1, "chargeback"), ("a", "withdrawn", 2, "audit"))


def test_sources_that_disagree_leave_a_contested_label():
    said = [("a", "fraud", 1, "chargeback"), ("a", "genuine", 2, "analyst")]
    assert state(*said)["is_contested"]
    assert not state(*said, ("a", "withdrawn", 3, "analyst"))["is_contested"]


def test_the_deciding_verdict_gives_source_and_label_time():
    told = state(("a", "fraud", 2, "analyst"), ("a", "genuine", 4, "dispute"))
    assert (told["label_source"], told["label_timestamp"]) == ("dispute", at(4))


def test_verdicts_about_other_transactions_change_nothing():
    assert not is_fraud(("other", "fraud", 1))


def test_a_source_without_a_rank_is_refused():
    with pytest.raises(DataContractError, match="'gossip'"):
        standing(verdicts(("a", "fraud", 1, "gossip")), as_of=at(8))


words = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["fraud", "genuine", "withdrawn"]),
    st.integers(min_value=0, max_value=12),
    st.sampled_from(SOURCES),
)
ledgers = st.lists(words, max_size=14)


def told_plainly(rows, name: str, as_of_days: float) -> str | None:
    """The rule once more, one verdict at a time: the last word of the best source that has one."""
    last: dict[str, tuple[float, int, str]] = {}
    for seq, (transaction, verdict, day, source) in enumerate(rows):
        if transaction == name and day < as_of_days:
            last[source] = max(last.get(source, (-1, -1, "")), (day, seq, verdict))
    standing = [last[s][2] for s in SOURCES if s in last and last[s][2] != "withdrawn"]
    return standing[0] if standing else None


@given(ledgers, st.integers(min_value=0, max_value=13))
def test_the_rule_is_the_one_that_is_written_down(rows, as_of_days):
    found = standing(verdicts(*rows), as_of=at(as_of_days))
    expected = {name: told_plainly(rows, name, as_of_days) for name in ("a", "b")}
    told = {n: "fraud" if f else "genuine" for n, f, *_ in found.iter_rows()}
    assert told == {name: verdict for name, verdict in expected.items() if verdict}


@given(ledgers, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_decides_nothing(rows, chance: random.Random):
    labels = verdicts(*rows)
    order = list(range(labels.height))
    chance.shuffle(order)
    assert standing(labels[order], as_of=at(9)).equals(standing(labels, as_of=at(9)))


@given(ledgers)
def test_what_becomes_known_later_never_changes_a_label(rows):
    labels = verdicts(*rows)
    past = labels.filter(pl.col("label_timestamp") < at(8))
    everything = settled(paid("a", "b"), labels)
    assert everything.equals(settled(paid("a", "b"), past))


@given(ledgers, words)
def test_a_withdrawal_leaves_what_stood_without_its_source(rows, word):
    name, _, _, source = word
    taken_back = [*rows, (name, "withdrawn", 12.5, source)]
    without = [row for row in rows if (row[0], row[3]) != (name, source)]
    now = at(13)
    told = standing(verdicts(*taken_back), as_of=now)
    assert told.equals(standing(verdicts(*without), as_of=now))


# --- states ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "silent", "accused"),
    [
        (7.9, "unlabelled", "early"),
        (8, "mature", "mature"),
        (30.9, "mature", "mature"),
        (31, "final", "final"),
    ],
)
def test_a_label_ages_from_early_over_mature_to_final(days, silent, accused):
    assert state(as_of_days=days)["state"] == silent
    assert state(("a", "fraud", 1), as_of_days=days)["state"] == accused


def test_what_is_young_and_silent_is_not_genuine():
    assert is_fraud(as_of_days=7.9) is None


def test_silence_that_is_old_enough_means_genuine_and_has_no_label_time():
    told = state()
    assert (told["is_fraud"], told["label_source"]) == (False, "implied")
    assert told["label_timestamp"] is None


def test_a_declined_payment_that_nobody_spoke_of_stays_unlabelled_for_ever():
    told = state(as_of_days=400, outcomes=decided(("a", "decline", None, None)))
    assert (told["state"], told["is_fraud"]) == ("unlabelled", None)


def test_a_verdict_about_a_decline_is_a_label_that_stands_for_itself():
    told = state(("a", "fraud", 1), outcomes=decided(("a", "decline", None, None)))
    assert (told["state"], told["is_fraud"], told["propensity"]) == ("mature", True, 1.0)


@pytest.mark.parametrize(
    ("decision", "passed", "audited", "verdict", "propensity"),
    [
        ("approve", None, None, None, 1.0),
        ("review", None, None, None, 1.0),
        ("approve", 0.02, 0.0, None, 0.02),  # was to be declined, and was let through
        ("approve", 0.02, 0.10, None, 0.118),  # 1 - 0.98 * 0.9
        ("decline", 0.02, 0.10, ("a", "genuine", 1, "audit"), 0.118),
        ("decline", 0.02, 0.10, ("a", "fraud", 1, "analyst"), 1.0),  # nobody drew it
        ("decline", 0.0, 0.0, ("a", "fraud", 1, "audit"), 1.0),
    ],
)
def test_the_propensity_is_the_chance_that_the_label_could_become_known(
    decision, passed, audited, verdict, propensity
):
    outcomes = decided(("a", decision, passed, audited))
    told = state(*([verdict] if verdict else []), outcomes=outcomes)
    assert told["propensity"] == pytest.approx(propensity)


@given(ledgers, st.sampled_from(["approve", "review", "decline"]))
def test_states_only_grow_older(rows, decision):
    order = ["unlabelled", "early", "mature", "final"]
    labels = verdicts(*(row for row in rows if row[1] != "withdrawn"))
    ages = (1, 5, 7.5, 8, 20, 31, 60)
    outcomes = decided(("a", decision, None, None))
    states = [
        ledger(paid("a"), labels, outcomes, as_of=at(age), policy=POLICY)["state"].item()
        for age in ages
    ]
    places = [order.index(found) for found in states]
    assert places == sorted(places)


def test_a_transaction_after_as_of_is_refused():
    with pytest.raises(DataContractError, match="1 of 1 transactions"):
        ledger(paid("a", at=at(9)), verdicts(), decided(), as_of=at(8), policy=POLICY)


def test_a_repeated_transaction_is_refused():
    with pytest.raises(DataContractError, match="more than once"):
        settled(paid("a", "a"), verdicts())


@pytest.mark.parametrize(
    "wrong",
    [
        {"maturity_days": -1},
        {"final_days": 6},
        {"delay_history_days": 7},
        {"arrival_days": 0},
        {"min_arrival_share": 1.0},
        {"arrival_confidence": float("nan")},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=f"found {next(iter(wrong))}="):
        LabelPolicy(**wrong)


# --- days that come of age -------------------------------------------------------------------


def test_rows_follow_the_table_contract_and_the_order_of_the_transactions():
    labels = settled(paid("b", "a"), verdicts(("a", "fraud", 1)))
    assert labels.schema == MATURE_LABELS.empty().schema
    assert labels["transaction_id"].to_list() == ["b", "a"]
    assert labels["is_fraud"].to_list() == [False, True]
    assert not any(labels[name].has_nulls() for name in MATURE_LABELS.required)


def test_declined_payments_are_left_out_unless_somebody_spoke_of_them():
    outcomes = decided(*((name, "decline", None, None) for name in "ab"))
    labels = settled(paid("a", "b", "c"), verdicts(("b", "genuine", 2)), outcomes)
    assert labels["transaction_id"].to_list() == ["b", "c"]
    assert labels["is_fraud"].to_list() == [False, False]


@given(ledgers, st.lists(st.sampled_from(["approve", "decline"]), min_size=2, max_size=2))
def test_a_range_of_days_equals_its_days_one_by_one(rows, decisions):
    transactions = pl.concat([paid("a"), paid("b", at=at(1))])
    outcomes = decided(*((n, d, None, None) for n, d in zip("ab", decisions, strict=True)))
    first, last = SETTLED, date(2026, 1, 9)

    def days(start: date, end: date) -> pl.DataFrame:
        return settled(transactions, verdicts(*rows), outcomes, start, end)

    assert days(first, last).equals(pl.concat([days(first, first), days(last, last)]))


def test_each_day_settles_the_transactions_of_maturity_days_before():
    transactions = pl.concat([paid("a"), paid("b", at=at(1))])
    labels = settled(transactions, verdicts(("a", "fraud", 8)))  # known a day too late
    assert labels["transaction_id"].to_list() == ["a"]
    assert labels["is_fraud"].to_list() == [False]
    assert labels["as_of_timestamp"].to_list() == [at(8)]


def test_days_without_transactions_settle_nothing():
    days = (date(2026, 3, 1), date(2026, 3, 2))
    assert settled(paid("a"), verdicts(), None, *days).equals(MATURE_LABELS.empty())


# --- frauds that are called genuine ----------------------------------------------------------


@given(ledgers)
def test_no_fraud_known_by_then_is_called_genuine(rows):
    labels = verdicts(*rows)
    assert frauds_called_genuine(settled(paid("a", "b"), labels), labels, as_of=at(8)).is_empty()


def test_a_fraud_that_became_known_too_late_is_counted_from_then_on():
    labels = verdicts(("a", "fraud", 9))
    rows = settled(paid("a", "b"), labels)
    late = [frauds_called_genuine(rows, labels, as_of=at(day)).height for day in (8, 9, 10)]
    assert late == [0, 0, 1]


def test_a_row_that_forgot_a_known_fraud_is_found():
    forgot = settled(paid("a", "b"), verdicts())
    found = frauds_called_genuine(forgot, verdicts(("b", "fraud", 3)), as_of=at(8))
    assert found["transaction_id"].to_list() == ["b"]
