"""A scorer, a process of its own, that is given orders while it runs, and the replay of it all."""

import json
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from click.testing import CliRunner

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.home import write_settings
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.cli import main
from fraud_platform.orders import NORMAL, Orders
from fraud_platform.settings import get_settings
from tests.e2e.scorer_process import features_unlike_a_fold, home_at, tell, wait_for
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

MONEY = Orders(quarantined=("money",), because={"quarantine": "act-1"})
CENTS = Orders(unit_factors={"transaction_amount": 100.0})
FOLLOWS_SECONDS = 1.0


class Home:
    """A home with a champion and one of its fallbacks, and a sender of payments."""

    def __init__(self, home, payment):
        self.home, self._payment, self._next = home, payment, 0
        self.orders_path = home.path / "orders.json"
        [self.champion] = home.deploy(1)

    def deploy_fallback(self, group="money"):
        version, model = f"1-without-{group}", trained(1, (group,))
        path = write_small_bundle(self.home.models_dir, version, model, without=(group,))
        found = Deployment(
            sequence=2,
            champion=pointer_to(self.champion),
            fallbacks={group: pointer_to(path)},
        )
        deploy(self.home.models_dir, found)
        return path

    def start(self):
        self.scorer = self.home.start()
        return self.scorer

    def pay(self):
        number, self._next = self._next, self._next + 1
        moment = datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=number)
        body = self._payment(number, event_timestamp=moment.isoformat())
        answer = httpx.post(f"{self.scorer.url}/v1/decisions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay_until(self, condition, seconds=30.0):
        """Pay until a decision is as it should be; the seconds that took, and the decision."""
        began = time.monotonic()
        while not condition(found := self.pay()):
            assert time.monotonic() - began < seconds, found
        return time.monotonic() - began, found

    def replay(self):
        done = CliRunner().invoke(main, ["decisions", "replay", "--json", "--complete"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def home(settings, payment, monkeypatch):
    settings.home.mkdir(parents=True)
    write_settings(settings.home, {"exploration": {"audit_rate": 0.1}})
    monkeypatch.setenv("FRAUD_HOME", str(settings.home))
    get_settings.cache_clear()
    with home_at(settings.home, FRAUD_CHAMPION_POLL_SECONDS="0.1") as found:
        yield Home(found, payment)
    get_settings.cache_clear()


def test_a_quarantine_is_obeyed_within_a_second_and_ended_again_and_all_of_it_replays(home):
    home.deploy_fallback()
    home.start()
    before = home.pay()
    assert (before["arm"], before["model_version"]) == ("champion", "1")
    write_orders(home.orders_path, MONEY)
    there, found = home.pay_until(lambda told: told["arm"] == "fallback")
    assert found["model_version"] == "1-without-money"
    assert found["policy_digest"] != before["policy_digest"]
    home.pay_until(lambda told: told["mode"] == "degraded" and told["missing"] == ["features"])
    page = home.scorer.get("/metrics")[2].decode()
    assert 'fraud_orders_in_force{order="quarantine",subject="money"} 1.0' in page
    assert 'fraud_fallback_in_use{version="1-without-money"} 1.0' in page
    write_orders(home.orders_path, NORMAL)
    back, found = home.pay_until(lambda told: told["arm"] == "champion")
    assert min(there, back) < FOLLOWS_SECONDS, "the machine may be busy once"
    tell("orders", there_seconds=there, back_seconds=back)
    assert found["policy_digest"] == before["policy_digest"]
    assert home.scorer.metric("fraud_fallback_in_use") == 0.0
    home.scorer.kill()
    told = home.replay()
    assert (told["equal"], told["different"], told["not_replayed"]) == (told["decisions"], 0, 0)
    assert set(told["by_arm"]) == {"champion", "fallback"}


def test_a_unit_is_divided_out_of_scores_and_not_of_the_record(home):
    home.deploy_fallback("amount_history")
    home.start()
    before = home.pay()
    write_orders(home.orders_path, CENTS)
    _, found = home.pay_until(lambda told: told["policy_digest"] != before["policy_digest"])
    assert (found["arm"], found["model_version"]) == ("fallback", "1-without-amount_history")
    url = f"{home.scorer.url}/v1/decisions/{found['transaction_id']}/explanation"
    explained = httpx.get(url).json()
    assert explained["score"] == found["score"]
    [amount] = [c for c in explained["contributions"] if c["feature"] == "transaction_amount"]
    assert amount["value"] >= 1_000, "as it was read"
    home.scorer.kill()
    told = home.replay()
    assert (told["equal"], told["different"]) == (told["decisions"], 0)
    assert features_unlike_a_fold(home.home.log_path) == []


def test_without_a_fallback_people_look_and_the_scorer_says_why(home):
    home.start()
    write_orders(home.orders_path, MONEY)
    _, found = home.pay_until(lambda told: told["arm"] == "none")
    assert (found["decision"], found["mode"]) == ("review", "rules_only")
    assert [reason["code"] for reason in found["reasons"]] == ["R05"]
    assert not home.scorer.is_ready()
    home.deploy_fallback()
    home.pay_until(lambda told: told["arm"] == "fallback")
    wait_for(home.scorer.is_ready, "a model decides again")
    home.scorer.kill()
    assert home.replay()["different"] == 0


def test_a_damaged_fallback_is_named_and_stops_no_champion(home):
    path = home.deploy_fallback()
    model = path / "model.ubj"
    model.write_bytes(model.read_bytes()[:-1])
    home.start()
    assert home.pay()["arm"] == "champion"
    told = home.scorer.health()
    assert told["code"] == 200
    assert any("fallback_money" in problem for problem in told["problems"])
    assert (
        'fraud_model_refused{role="fallback_money"} 1.0' in home.scorer.get("/metrics")[2].decode()
    )


def test_damaged_orders_leave_those_of_before_and_are_named_once(home):
    home.deploy_fallback()
    home.start()
    write_orders(home.orders_path, MONEY)
    home.pay_until(lambda told: told["arm"] == "fallback")
    home.orders_path.write_bytes(b"{")
    wait_for(lambda: home.scorer.metric("fraud_orders_unreadable") == 1.0, "it is seen")
    time.sleep(0.6)  # two more looks
    assert home.pay()["arm"] == "fallback"
    assert any("orders of before" in problem for problem in home.scorer.health()["problems"])
    assert home.scorer.words.count("kept the orders of before") == 1
    write_orders(home.orders_path, NORMAL)
    home.pay_until(lambda told: told["arm"] == "champion")
    assert home.scorer.metric("fraud_orders_unreadable") == 0.0


def test_a_scorer_that_starts_on_damaged_orders_approves_nothing_until_it_can_read_them(home):
    home.orders_path.write_bytes(b"{")
    home.start()
    found = home.pay()
    assert (found["decision"], found["reasons"][0]["code"]) == ("review", "R03")
    write_orders(home.orders_path, NORMAL)
    home.pay_until(lambda told: told["arm"] == "champion")
