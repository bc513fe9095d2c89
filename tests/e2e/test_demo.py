"""The story, as the README tells it: the demonstration in real processes, killed once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FRAUD_PLATFORM = Path(sys.executable).with_name("fraud-platform")


def demo(home: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FRAUD_")}
    return subprocess.Popen(
        [FRAUD_PLATFORM, "demo", "--json"],
        env=environment | {"FRAUD_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_at_a_random_moment(home: Path) -> None:
    """Start a demonstration and kill it, up to a minute after it began to write."""
    process = demo(home)
    deadline = time.monotonic() + 120
    while not (home / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    moment = random.SystemRandom().uniform(0, 60)
    time.sleep(moment)
    print(f"killed {moment:.1f} s after the first write")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    home = tmp_path_factory.mktemp("demo") / "home"
    kill_at_a_random_moment(home)
    process = demo(home)
    out, told = process.communicate(timeout=1_800)
    print(told)
    logs = {path.name: path.read_text("utf-8")[-2_000:] for path in (home / "logs").glob("*.log")}
    assert process.returncode == 0, f"{told}\n{logs}"
    return json.loads(out)


pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(2_400)]


def test_after_a_kill_at_a_random_moment_the_loop_closes(facts):
    assert facts["loop_closed"] is True
    assert facts["first_champion"]["version"] != facts["second_champion"]["version"]


def test_every_row_of_the_history_is_accounted_for(facts):
    history = facts["history"]
    settled = history["accepted"] + history["duplicates"] + sum(history["quarantined"].values())
    assert settled == history["rows_in"] > 0


def test_the_scorer_answers_every_request_also_while_it_swaps(facts):
    assert (facts["requests_failed"], facts["failures"]) == (0, {})
    by_version = facts["answered_by_version"]
    assert {facts["first_champion"]["version"], facts["second_champion"]["version"]} <= set(
        by_version
    )
    assert sum(by_version.values()) == facts["requests_answered"] > 5_000


def test_the_incident_and_the_broken_feed_are_called_by_their_names(facts):
    named = [line["cause"] for line in facts["ledger"] if line["kind"] == "diagnosed"]
    assert "covariate_shift" in named
    assert named.index("covariate_shift") < named.index("unit_change")


def test_the_governor_spares_customers_whom_the_models_alone_would_disturb(facts):
    share = facts["held"]
    assert share["genuine_payments"] > 3_000
    assert share["with_governor"] <= 0.05 < share["models_alone"]


def test_amounts_in_a_wrong_unit_are_decided_without_and_not_learnt(facts):
    feed = facts["broken_feed"]
    assert feed["quarantined"] in (["amount_history"], ["money"], ["money", "amount_history"])
    assert feed["learning_frozen"] is True
    assert feed["decided_by_fallback"] > 100
    assert feed["disturbed"] < feed["champion_would_disturb"]


def test_new_cuts_spare_customers(facts):
    compared = facts["before_and_after"]
    assert compared["after"]["alert_rate"] < compared["before"]["alert_rate"]
    told = {(line["kind"], line["act"].split()[0]) for line in facts["ledger"] if line["act"]}
    assert ("done", "recalibrate") in told


def test_every_served_feature_is_recomputed_to_the_bit(facts):
    served = facts["served_features"]
    assert served["values_compared"] > 100_000
    assert (served["mismatches"], served["missing"]) == (0, 0)


def test_no_run_failed(facts):
    assert facts["alerts"] == []
