"""Looking for decisions in a log: what is found, and what SQLite reads for it."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.adapters.decision_search import MOST_FOUND, Wanted, find_decisions
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.events import microseconds

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
DECISIONS = 240
ANSWERS = ("approve", "review", "decline")


def moment(number: int) -> datetime:
    """Payments come in late and out of order: the position is not the time."""
    return MONDAY + timedelta(hours=(number * 7) % DECISIONS)


def facts(number: int) -> dict[str, object]:
    """What is in the log of one decision, and can be looked for."""
    return {
        "name": f"t{number}",
        "card_id": f"card-{number % 6}",
        "model": str(number % 4),
        "outcome": ANSWERS[number % 3],
    }


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("log") / "events.db"
    with closing(EventLog(path)) as opened:
        opened.recorded("nobody")
    with closing(sqlite3.connect(path)) as connection:
        for number in range(1, DECISIONS + 1):
            told, at = facts(number), microseconds(moment(number))
            connection.execute(
                "INSERT INTO transactions (seq, transaction_id, event_us, card_id, terminal_id,"
                " amount_minor, currency, received_us, source)"
                " VALUES (?, ?, ?, ?, 'x', 100, 'EUR', ?, 'api')",
                (number, told["name"], at, told["card_id"], at),
            )
            connection.execute(
                "INSERT INTO decisions (transaction_id, decision_id, seq, seen_seq, event_us,"
                " decided_us, decision, reasons, mode, missing, arm, is_late, model_version,"
                " policy_digest, feature_spec_digest, features, latency_us, expires_us) VALUES"
                " (?, ?, ?, 0, ?, ?, ?, '[]', 'normal', '[]', 'none', 0, ?, '', '', x'', 0, 0)",
                (
                    *(told["name"], f"dec_{number}", number, at, at),
                    *(told["outcome"], told["model"]),
                ),
            )
        connection.commit()
    return path


days = st.none() | st.integers(0, 11).map(lambda n: MONDAY + timedelta(days=n))


@given(
    wanted=st.builds(
        Wanted,
        name=st.sampled_from([None, None, None, "t7", "dec_8", "nobody"]),
        card_id=st.sampled_from([None, "card-1", "card-nobody"]),
        since=days,
        until=days,
        model=st.sampled_from([None, "1", "9"]),
        outcome=st.sampled_from([None, *ANSWERS]),
    )
)
def test_what_is_found_is_what_was_looked_for_whatever_is_read_first(log, wanted):
    def fits(number: int) -> bool:
        told = facts(number)
        return (
            wanted.name in (None, told["name"], f"dec_{number}")
            and all(
                getattr(wanted, name) in (None, told[name])
                for name in ("card_id", "model", "outcome")
            )
            and (wanted.since is None or moment(number) >= wanted.since)
            and (wanted.until is None or moment(number) < wanted.until)
        )

    is_by_day = wanted.card_id is None and (wanted.since or wanted.until)
    newest = sorted(
        filter(fits, range(1, DECISIONS + 1)),
        key=lambda number: (moment(number), number) if is_by_day else (number,),
        reverse=True,
    )
    found = [row["decision_id"] for row in find_decisions(log, wanted)]
    assert found == [f"dec_{number}" for number in newest[:MOST_FOUND]]


@pytest.mark.parametrize(
    ("wanted", "first", "second"),
    [
        (Wanted(card_id="card-1"), "SCAN t", "SEARCH d USING INDEX"),
        (Wanted(since=MONDAY), "SEARCH d USING INDEX decisions_by_time", "SEARCH t USING INDEX"),
        (Wanted(until=MONDAY), "SEARCH d USING INDEX decisions_by_time", "SEARCH t USING INDEX"),
        (Wanted(name="t7"), "MULTI-INDEX OR", "INDEX 1"),
        (Wanted(model="1"), "SCAN d", "SEARCH t USING INDEX"),
    ],
    ids=["card", "since", "until", "name", "model"],
)
def test_what_is_read_first_is_small_or_by_an_index(log, wanted, first, second):
    query, arguments = wanted.query
    with closing(sqlite3.connect(log)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", arguments)]
    assert plan[0].startswith(first)
    assert plan[1].startswith(second)
    assert (wanted.name is not None) == any("TEMP B-TREE" in step for step in plan), plan
