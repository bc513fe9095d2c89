"""Faults of processes and files under healing, for real: killed, damaged, away, twice at once.

What the scorer promises without healing is in `test_kill` and `test_disk_faults`; here is what
healing adds: the cap, the orders, the file of live figures, the tick and its ledger.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.live_file import Live
from fraud_platform.adapters.orders_file import read_orders, write_orders
from fraud_platform.heal.actions import Action
from fraud_platform.orders import Orders
from fraud_platform.settings import Settings
from tests.e2e.healed_home import (
    TICK,
    acts,
    asked,
    first_decisions,
    live,
    newest,
    records,
    tick,
    ticked,
)
from tests.e2e.history import faults
from tests.e2e.scorer_process import Home, Scorer, features_unlike_a_fold, home_at, kept, tell
from tests.e2e.scorer_process import wait_for as wait
from tests.e2e.traffic import Traffic, told
from tests.registered import registered_versions
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

SEED = int(os.environ.get("FRAUD_SEED", "1"))
WINDOW = {
    "FRAUD_GOVERNOR__WINDOW": "600",
    "FRAUD_GOVERNOR__MIN_SCORES": "300",
    "FRAUD_GOVERNOR__EVERY": "50",
}
"""A small one, so that a test fills it within a second."""
LAX = 0.02
"""A review cut that disturbs far more payments than any policy bears."""


def later(home: Home) -> Live:
    """What it says at least one whole look after now."""
    before = live(home).written_us
    wait(lambda: live(home).written_us > before + 1_100_000, "the scorer to say it again")
    return live(home)


def disturbed(answers: list[dict[str, object]]) -> float:
    return statistics.mean(answer["decision"] != "approve" for answer in answers)


@pytest.fixture
def lax(tmp_path) -> Iterator[Home]:
    """A home whose champion would disturb far too many."""
    with home_at(tmp_path / "home", **WINDOW) as home:
        bundle = write_small_bundle(home.models_dir, "1", trained(1), review=LAX, decline=0.97)
        deploy(home.models_dir, Deployment(champion=pointer_to(bundle)))
        yield home


def test_a_killed_scorer_goes_on_under_the_cap_that_held_before(lax):
    scorer, traffic = lax.start(), Traffic(SEED)
    asked(scorer, traffic, 1_500)
    held, count = later(lax), len(first_decisions(traffic))
    before = first_decisions(traffic)[-300:]
    scorer.kill()
    again = lax.start()
    asked(again, traffic, 400)
    after = first_decisions(traffic)[count:]
    now = later(lax)
    tell(
        "killed under the cap",
        disturbed_before=round(disturbed(before), 3),
        disturbed_after=round(disturbed(after), 3),
        governor_before=held.governor,
        governor_after=now.governor,
    )
    assert disturbed(first_decisions(traffic)[:200]) > 0.3, "the model alone disturbs far too many"
    assert disturbed(after) < 0.1, "the cap holds from the first payment on"
    assert held.governor["is_held"] == now.governor["is_held"] == 1.0
    assert now.payments >= held.payments
    assert again.terminate() in {0, -signal.SIGTERM}
    assert faults(traffic.history, kept(lax.log_path)) == []
    assert features_unlike_a_fold(lax.log_path) == []


# --- orders that cannot be read ------------------------------------------------------------------


def test_damaged_orders_change_nothing_for_a_running_scorer_and_keep_a_new_one_from_approving(
    tmp_path,
):
    with home_at(tmp_path / "home") as home:
        home.deploy(1)
        orders = home.path / "orders.json"
        scorer, traffic = home.start(), Traffic(SEED)
        assert any(answer["decision"] == "approve" for answer in newest(scorer, traffic))
        write_orders(orders, Orders(quarantined=("money",)))
        wait(lambda: "under orders 1" in scorer.words, "the scorer to obey")
        assert {answer["decision"] for answer in newest(scorer, traffic)} == {"review"}
        orders.write_bytes(orders.read_bytes()[:-9])
        wait(lambda: "kept the orders of before" in scorer.words, "the scorer to see the damage")
        assert {answer["decision"] for answer in newest(scorer, traffic)} == {"review"}
        scorer.kill()
        again = home.start()
        assert {answer["decision"] for answer in newest(again, traffic)} == {"review"}
        write_orders(orders, Orders())
        wait(lambda: again.mode() == "normal", "the scorer to take new orders")
        assert any(answer["decision"] == "approve" for answer in newest(again, traffic))
        assert again.terminate() in {0, -signal.SIGTERM}
        assert faults(traffic.history, kept(home.log_path)) == []
        tell("damaged orders", **told(traffic.history))


# --- ticks that die, meet, or find things away ---------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A home whose registry has a champion and one before it; to be copied."""
    path = tmp_path_factory.mktemp("released") / "home"
    registry = registered_versions(path, 2)
    registry.promote("1")
    registry.promote("2")
    return path


@pytest.fixture
def rolled_out(tmp_path, released) -> Iterator[tuple[Home, Scorer, Traffic]]:
    """A running scorer with payments behind it, a champion and one before it."""
    with home_at(Path(shutil.copytree(released, tmp_path / "home"))) as home:
        scorer, traffic = home.start(), Traffic(SEED)
        asked(scorer, traffic, 300)
        wait(lambda: scorer.metric("fraud_journal_tail_records") == 0, "the drain to catch up")
        yield home, scorer, traffic


def damage(home: Home, version: str) -> None:
    """Flip a bit of a deployed model's file; the running scorer has it in memory already."""
    path = home.models_dir / version / "model.ubj"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_tick_that_is_killed_in_an_act_is_continued_and_the_act_is_done_once(rolled_out):
    home, scorer, traffic = rolled_out
    damage(home, "2")
    for how in ("before", "after"):
        died = tick(home, how)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert died.stdout.startswith("dies in freeze_learning"), died.stdout
        assert acts(home, Action.FREEZE_LEARNING) == {"planned": 1}
    assert read_orders(home.path / "orders.json").learning_frozen, "it died after the deed"
    assert ticked(home)[0] == "cause model_artifact"
    assert acts(home, Action.FREEZE_LEARNING) == {"planned": 1, "done": 1}
    assert read_orders(home.path / "orders.json").sequence == 1
    HealLedger(home.path / "heal" / "ledger.jsonl").verify()
    assert {a["decision"] for a in newest(scorer, traffic)} <= {"approve", "review", "decline"}
    tell("killed ticks", records=Counter(record.kind.value for record in records(home)))


def test_of_two_ticks_at_once_one_heals_and_the_other_leaves_it_alone(rolled_out):
    home, _, _ = rolled_out
    damage(home, "2")
    slow = subprocess.Popen(
        [sys.executable, str(TICK), str(home.path), "slow"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait(lambda: acts(home, Action.FREEZE_LEARNING), "the slow tick to plan")
    assert ticked(home) == ["held"]
    assert "done freeze_learning" in slow.communicate(timeout=120)[0]
    assert acts(home, Action.FREEZE_LEARNING) == {"planned": 1, "done": 1}
    HealLedger(home.path / "heal" / "ledger.jsonl").verify()


def test_a_lost_registry_stops_no_decision_and_a_later_tick_rolls_back(rolled_out):
    home, scorer, traffic = rolled_out
    settings = Settings(home=home.path)
    elsewhere = settings.mlflow_dir.with_name("mlflow-elsewhere")
    settings.mlflow_dir.rename(elsewhere)
    damage(home, "2")
    tick(home)
    assert read_deployment(home.models_dir).champion.version == "2"
    assert {a["model_version"] for a in newest(scorer, traffic)} == {"2"}, "from memory"
    assert not acts(home, Action.RELOAD_MODEL)["done"]
    shutil.rmtree(settings.mlflow_dir, ignore_errors=True)
    elsewhere.rename(settings.mlflow_dir)
    for _ in range(4):
        ticked(home)
        asked(scorer, traffic, 120)
        wait(lambda: scorer.metric("fraud_journal_tail_records") == 0, "the drain to catch up")
    assert read_deployment(home.models_dir).champion.version == "1"
    assert "1" in {answer["model_version"] for answer in newest(scorer, traffic)}
    tell("lost registry", records=Counter(record.kind.value for record in records(home)))


def test_a_damaged_heal_policy_is_said_and_nothing_is_done_by_another(rolled_out):
    home, scorer, traffic = rolled_out
    damage(home, "2")
    policy = home.path / "heal" / "policy.yaml"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text("policy: fraud-heal/v1\nmaturity: 9\n")
    refused = tick(home)
    assert refused.returncode != 0
    assert "found no heal policy" in refused.stderr, refused.stderr[-2_000:]
    assert "`$.maturity`" in refused.stderr
    assert records(home) == ()
    assert not (home.path / "orders.json").exists()
    assert newest(scorer, traffic)
    policy.unlink()
    assert ticked(home)[0] == "cause model_artifact"
