"""Faults of a running scorer and of releases, and whether ticks name them and do what is right."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.live_file import live_path
from fraud_platform.adapters.orders_file import read_orders
from fraud_platform.adapters.tables import Tables
from fraud_platform.features import batch
from fraud_platform.heal.actions import Action
from fraud_platform.heal.evidence import Signal, Standing
from fraud_platform.settings import Settings
from tests.e2e.healed_home import acts, asked, live, newest, records, ticked
from tests.e2e.scorer_process import Home, Scorer, features_unlike_a_fold, home_at, tell, wait_for
from tests.e2e.traffic import Traffic
from tests.registered import registered_versions

BENT = (str(Path(__file__).with_name("bent_scorer.py")),)
SEED = int(os.environ.get("FRAUD_SEED", "1"))
USUAL = 4_450
"""Of amounts below it the small models suspect about the tenth that they are expected to."""
SUSPICIOUS = 0.01
"""A review cut that disturbs every payment."""
SLOW_SYNC = "0.1"
"""Seconds; twice what an answer may take."""


def actions(home: Home) -> set[str]:
    """Everything that was done."""
    return {r.act.action.value for r in records(home) if r.act and r.kind.value == "done"}


def standing(home: Home, signal: Signal) -> Standing:
    """How the scorer says that a signal of harm stands."""
    [found] = [one.standing for one in live(home).readings if one.signal is signal]
    return found


BUSY = {"FRAUD_HARM__SLOW_MS": "10000"}
"""Where slowness is not what is tested, that of a busy machine is none."""


@contextmanager
def bent(tmp_path: Path, **settings: str) -> Iterator[tuple[Home, Scorer, Traffic]]:
    """A running scorer with usual payments behind it, whose disk and memory may be bent."""
    bends = {"BENT_DISK_FILE": str(tmp_path / "disk"), "BENT_MEMORY_FILE": str(tmp_path / "memory")}
    with home_at(tmp_path / "home", FRAUD_STATE_CHECK_SECONDS="0", **bends, **settings) as home:
        home.deploy(1)
        scorer, traffic = home.start(program=BENT), Traffic(SEED, largest=USUAL)
        asked(scorer, traffic, 300)
        yield home, scorer, traffic


def test_a_slow_disk_is_told_as_slow_answers_and_only_what_no_decision_needs_is_shed(tmp_path):
    with bent(tmp_path) as (home, scorer, traffic):
        (tmp_path / "disk").write_text(SLOW_SYNC)

        def is_seen() -> bool:
            asked(scorer, traffic, 150)
            return standing(home, Signal.LATENCY) is Standing.BREACHED

        wait_for(is_seen, "slowness to be seen")
        said = ticked(home)
        asked(scorer, traffic, 150)
        assert [said[0], ticked(home)[0]] == ["cause latency"] * 2
        assert acts(home, Action.SHED) == {"planned": 1, "done": 1}
        wait_for(lambda: live(home).orders_sequence == 1, "the scorer to obey")
        assert read_orders(home.path / "orders.json").is_shedding
        assert actions(home) <= {"shed", "page"}
        assert newest(scorer, traffic), "it decides all the same"
        tell("slow disk", done=sorted(actions(home)))


@pytest.mark.parametrize("leaves", ["its last words", "a damaged file"])
def test_a_scorer_that_is_gone_makes_healing_blind_and_nothing_is_learnt(tmp_path, leaves):
    with bent(tmp_path, **BUSY) as (home, scorer, traffic):
        path = live_path(home.path)
        wait_for(lambda: live(home).payments, "the scorer to tell of its payments")
        scorer.kill()
        if leaves == "a damaged file":
            path.write_bytes(path.read_bytes()[:-9])
        assert [ticked(home, later=seconds)[0] for seconds in (200, 300)] == ["cause blind"] * 2
        assert read_orders(home.path / "orders.json").learning_frozen
        assert actions(home) <= {"freeze_learning", "page"}
        again = home.start(program=BENT)
        if leaves == "a damaged file":
            assert "watching for harm from nothing" in again.words
        asked(again, traffic, 150)
        assert ticked(home)[0] != "cause blind"
        tell(f"gone scorer that left {leaves}", done=sorted(actions(home)))


def recomputed(home: Home) -> None:
    """What the graph's features of each day are, from the log."""
    settings = Settings(home=home.path)
    log, tables = EventLog(settings.log_path), Tables(settings.tables_dir)
    always = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
    rows = batch.compute(log.transactions(*always), log.labels(*always))
    log.close()
    for (day,), part in rows.group_by(rows["event_timestamp"].dt.date()):
        tables.write("transaction_features", day, part)


def test_features_that_stopped_learning_are_told_from_the_log_and_are_to_be_folded_again(tmp_path):
    with bent(tmp_path, **BUSY) as (home, scorer, traffic):
        (tmp_path / "memory").touch()
        asked(scorer, traffic, 200)
        (tmp_path / "memory").unlink()
        wait_for(lambda: scorer.metric("fraud_journal_tail_records") == 0, "the drain to catch up")
        assert features_unlike_a_fold(home.log_path), "the fault is real"
        recomputed(home)
        cause, *said = ticked(home)
        assert cause == "cause serving_skew"
        assert [line.split()[-1] for line in said if line.startswith("asked")] == ["refold"]
        assert read_orders(home.path / "orders.json").learning_frozen
        assert actions(home) <= {"freeze_learning", "page"}


def test_a_bad_release_is_rolled_back_by_a_tick_and_the_version_before_decides(tmp_path):
    with home_at(tmp_path / "home", **BUSY) as home:
        registry = registered_versions(home.path, 2, v2=SUSPICIOUS)
        registry.promote("1")
        scorer, traffic = home.start(), Traffic(SEED, largest=USUAL)
        asked(scorer, traffic, 800)
        assert ticked(home) == ["cause healthy"]
        registry.promote("2")
        wait_for(lambda: newest(scorer, traffic)[-1]["model_version"] == "2", "the release")
        assert ticked(home)[0] == "cause bad_release"
        assert acts(home, Action.ROLL_BACK) == {"planned": 1, "done": 1}
        assert read_deployment(home.models_dir).champion.version == "1"
        wait_for(lambda: newest(scorer, traffic)[-1]["model_version"] == "1", "the roll-back")
        assert {a["model_version"] for a in newest(scorer, traffic)} == {"1"}
        assert actions(home) <= {"freeze_learning", "roll_back", "page"}
        tell("bad release", done=sorted(actions(home)))
