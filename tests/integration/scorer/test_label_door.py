"""Verdicts over real HTTP: kept as they were said, and resolved by the written rule."""

from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import pytest

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.labels import OUTCOME_COLUMNS, SOURCES, LabelPolicy, ledger
from tests.e2e.scorer_process import home_at

TODAY = datetime.now(UTC)
FOUR_DAYS_AGO = TODAY - timedelta(days=4)

SAID = {
    "reversed": [("fraud", "chargeback", 3), ("genuine", "dispute", 2)],
    "restored": [
        ("fraud", "chargeback", 3),
        ("genuine", "dispute", 2),
        ("withdrawn", "dispute", 1),
    ],
    "outranked": [("fraud", "audit", 3), ("genuine", "customer_report", 1)],
    "taken back": [("fraud", "analyst", 3), ("withdrawn", "analyst", 2)],
    "said again": [("fraud", "analyst", 3), ("withdrawn", "analyst", 2), ("fraud", "analyst", 1)],
    "quiet": [],
}
"""Payment -> its verdicts: what, by whom, and how many days ago it became known."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Payments and verdicts sent to a scorer process; its log, and what it answered."""
    home = tmp_path_factory.mktemp("door") / "home"
    with home_at(home) as installation:
        with httpx.Client(base_url=installation.start().url, timeout=30) as client:
            for name in SAID:
                answer = client.post("/v1/decisions", json=payment(name))
                assert answer.status_code == 200, answer.text
            body = [verdict(name, *said) for name, all_said in SAID.items() for said in all_said]
            answers = [client.post("/v1/labels", json=body).json() for _ in range(2)]
            answers += [client.post("/v1/labels", json=verdict("quiet", "fraud", "gossip", 1))]
        log = EventLog(installation.log_path)
        yield log, answers
        log.close()


def payment(name):
    return {
        "transaction_id": name,
        "event_timestamp": FOUR_DAYS_AGO.isoformat(),
        "card_id": "c1",
        "terminal_id": "m1",
        "amount_minor": 1_500,
        "currency": "EUR",
    }


def verdict(name, what, source, days_ago):
    known = TODAY - timedelta(days=days_ago)
    return {
        "transaction_id": name,
        "verdict": what,
        "source": source,
        "reason": f"{source} says {what}",
        "happened_at": (known - timedelta(hours=5)).isoformat(),
        "known_at": known.isoformat(),
    }


def at(log, days_ago):
    """State of every payment so many days ago."""
    everything = (FOUR_DAYS_AGO - timedelta(days=1), TODAY + timedelta(days=1))
    now = TODAY - timedelta(days=days_ago, seconds=-1)
    found = ledger(
        log.transactions(*everything),
        log.labels(*everything),
        pl.DataFrame(schema=OUTCOME_COLUMNS),
        as_of=now,
        policy=LabelPolicy(),
    )
    return {row["transaction_id"]: row for row in found.to_dicts()}


def test_every_source_is_taken_and_another_one_is_refused(told):
    _, (first, again, gossip) = told
    assert (first["recorded"], first["refused"]) == (12, 0)
    assert (again["recorded"], again["known"]) == (0, 12)
    assert gossip.status_code == 422
    assert {source for said in SAID.values() for _, source, _ in said} == set(SOURCES)


def test_reversals_and_conflicts_are_kept_with_reason_times_and_sender(told):
    log, _ = told
    kept = log.labels(FOUR_DAYS_AGO, TODAY + timedelta(days=1))
    rows = kept.filter(pl.col("transaction_id") == "restored").sort("label_timestamp")
    assert rows.select("verdict", "label_source").rows() == [
        ("fraud", "chargeback"),
        ("genuine", "dispute"),
        ("withdrawn", "dispute"),
    ]
    assert rows["reason"][0] == "chargeback says fraud"
    waited = (rows["label_timestamp"] - rows["happened_timestamp"]).dt.total_hours()
    assert waited.to_list() == [5] * 3
    assert rows["reported_by"].null_count() == 0


def test_they_are_resolved_by_the_written_rule_at_every_moment(told):
    log, _ = told
    verdicts = [
        {name: row["is_fraud"] for name, row in at(log, days).items()} for days in (3, 2, 1)
    ]
    assert [v["reversed"] for v in verdicts] == [True, False, False]
    assert [v["restored"] for v in verdicts] == [True, False, True]
    assert [v["outranked"] for v in verdicts] == [True, True, True]
    assert [v["taken back"] for v in verdicts] == [True, None, None]
    assert [v["said again"] for v in verdicts] == [True, None, True]
    assert [v["quiet"] for v in verdicts] == [None, None, None]


def test_conflicts_are_marked_and_what_nobody_spoke_of_is_unlabelled(told):
    log, _ = told
    now = at(log, 0)
    assert {name for name, row in now.items() if row["is_contested"]} == {"reversed", "outranked"}
    assert now["taken back"]["state"] == now["quiet"]["state"] == "unlabelled"
    assert now["reversed"]["state"] == "early"
