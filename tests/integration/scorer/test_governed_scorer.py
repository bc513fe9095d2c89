"""A scorer whose models are capped: answers, records, restarts, other models, and what is shown."""

import json
import time

import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.home import write_settings
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.adapters.recent_decisions import recent_decisions
from fraud_platform.cli import main
from fraud_platform.crowds import payer_of
from fraud_platform.events import microseconds
from fraud_platform.governor import GovernorState
from fraud_platform.orders import Orders
from fraud_platform.settings import Settings, get_settings
from serving.app import assemble, build_scorer

DECLINES_ALL = {"review": 0.0, "decline": 0.0}
SMALL = {"window": 200, "min_scores": 50, "every": 10, "max_decline_fpr": 0.05}
QUICK = {"state_check_seconds": 0, "champion_poll_seconds": 0.05}


@pytest.fixture
def governed(tmp_path, monkeypatch):
    """Settings of a home with a small governor, known to every process on it."""

    def build(**policy):
        home = tmp_path / "home"
        write_settings(home, {"governor": {**SMALL, **policy}, **QUICK})
        get_settings.cache_clear()
        return Settings(home=home)

    (tmp_path / "home").mkdir()
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    yield build
    get_settings.cache_clear()


@pytest.fixture
def start(now):
    """A scorer and what is in it."""

    def build(settings):
        parts = build_scorer(settings, lambda: microseconds(now))
        return parts, TestClient(assemble(parts))

    return build


def wait_until(found, seconds=60):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def decide(client, payment, numbers):
    """In groups of 32, the payments a minute apart."""
    numbers, found = list(numbers), []
    for first in range(0, len(numbers), 32):
        bodies = [payment(number) for number in numbers[first : first + 32]]
        answer = client.post("/v1/decisions/batch", json={"transactions": bodies}).json()
        found += [one["decision"] for one in answer["results"]]
    return found


def records(settings, numbers):
    log = EventLog(settings.log_path)
    found = [log.decision(f"t{n}") for n in numbers]
    log.close()
    return found


def replayed():
    result = CliRunner().invoke(main, ["decisions", "replay", "--complete", "--json"])
    return json.loads(result.stdout), result.exit_code


def test_a_model_that_declines_all_is_capped_recorded_and_proven(governed, start, publish, payment):
    settings = governed()
    publish("1", **DECLINES_ALL)
    _, client = start(settings)
    with client:
        told = decide(client, payment, range(300))
        again = client.get("/v1/decisions/t299").json()
        page = client.get("/metrics").text
    answers = [one["decision"] for one in told]
    assert set(answers[:50]) == {"decline"}, "while it warms up the model alone decides"
    assert sum(answer != "approve" for answer in answers[200:]) <= 10
    let_go = next(one for one in told if one["decision"] == "approve")
    assert (let_go["governed"], let_go["reasons"]) == ("decline", [])
    assert again == {**told[299], "replayed": True}
    found = records(settings, range(300))
    assert found[49].fpr_bound is None
    assert all(r.fpr_bound <= 0.06 and r.price_minor is not None for r in found[60:])
    assert {r.governed for r in found if r.decision != "decline"} == {"decline"}
    assert 'fraud_governor_state{arm="champion",state="holding"} 1.0' in page
    report, code = replayed()
    assert (report["equal"], code) == (300, 0)


def test_after_a_restart_the_caps_go_on_as_if_there_had_been_none(
    governed, start, publish, payment
):
    settings = governed()
    publish("1", **DECLINES_ALL)
    parts, client = start(settings)
    with client:
        decide(client, payment, range(240))
        before = parts.governing.arms["champion"].cuts
    parts, client = start(settings)
    with client:
        after = parts.governing.arms["champion"].cuts
        (told,) = decide(client, payment, [240])
    assert before.is_held
    last, first = records(settings, [239, 240])
    assert after.review == first.review_cut == last.review_cut, "what its newest record names"
    assert after.fpr_bound == pytest.approx(before.fpr_bound, abs=0.01)
    assert told["decision"] in {"approve", "review", "decline"}


def test_the_past_is_not_searched_for_ever_for_payments_that_a_model_judged(
    governed, start, publish, payment, monkeypatch
):
    settings = governed()
    publish("1")
    parts, client = start(settings)
    with client:
        decide(client, payment, range(60))
        write_orders(settings.orders_path, Orders(sequence=1, quarantined=("money",)))
        wait_until(lambda: parts.orders.ruling.orders.quarantined)
        decide(client, payment, range(60, 80))
    with start(settings)[1]:
        pass  # a start drains what the scorer before it decided
    newest = recent_decisions(settings.log_path, 40)
    assert newest.event_us.tolist() == [r.event_us for r in records(settings, range(20, 60))]
    bodies = [payment(number) for number in range(20, 60)]
    assert newest.payers == tuple(payer_of(b.get("device_id"), b["card_id"]) for b in bodies)
    monkeypatch.setattr("fraud_platform.adapters.recent_decisions._MOST_READ", 30)
    assert len(recent_decisions(settings.log_path, 40).features) == 10


def test_another_model_is_capped_at_once_by_its_own_scores(governed, start, publish, payment):
    settings = governed()
    publish("1", **DECLINES_ALL)
    parts, client = start(settings)
    with client:
        decide(client, payment, range(240))
        first = parts.governing.arms["champion"]
        publish("2", review=0.0, decline=0.0)
        wait_until(lambda: parts.champion.ruling.version == "2")
        told = decide(client, payment, range(240, 340))
        second = parts.governing.arms["champion"]
    assert second is not first
    assert {one["model_version"] for one in told} == {"2"}
    assert sum(one["decision"] != "approve" for one in told) <= 12, "it does not warm up again"
    report, code = replayed()
    assert (report["equal"], code) == (340, 0)


def test_the_same_trees_with_other_cuts_are_capped_by_those(
    governed, start, publish, models, payment, monkeypatch
):
    settings = governed()
    publish("1", review=1.0, decline=1.0)
    parts, client = start(settings)
    with client:
        told = decide(client, payment, range(240))
        assert {one["decision"] for one in told} == {"approve"}
        monkeypatch.setitem(models, "2", models["1"])
        publish("2", **DECLINES_ALL)
        wait_until(lambda: parts.champion.ruling.version == "2")
        told = decide(client, payment, range(240, 480))
    assert sum(one["decision"] != "approve" for one in told) <= 30
    assert {r.governed for r in records(settings, range(240, 480))} <= {"decline", None}


def test_what_healing_orders_holds_at_once(governed, start, publish, payment):
    settings = governed()
    publish("1", **DECLINES_ALL)
    parts, client = start(settings)
    with client:
        decide(client, payment, range(240))
        usual = parts.governing.arms["champion"].cuts
        write_orders(settings.orders_path, Orders(sequence=1, max_disturbed=0.03))
        wait_until(lambda: parts.orders.ruling.orders.max_disturbed == 0.03)
        decide(client, payment, range(240, 250))
    (record,) = records(settings, [240])
    assert record.budget == 0.03
    assert record.review_cut >= usual.review


def test_what_is_surely_fraud_is_reviewed_although_the_cap_would_let_it_go(
    governed, start, publish, payment
):
    settings = governed(max_block_share=0.9, always_review_from=0.5)
    publish("1", **DECLINES_ALL)
    _, client = start(settings)
    with client:
        told = decide(client, payment, range(300))[200:]
    approved = [one["probability"] for one in told if one["decision"] == "approve"]
    reviewed = [one["probability"] for one in told if one["decision"] == "review"]
    assert len(reviewed) > 10, "more than the cap lets be disturbed"
    assert max(approved) < 0.5 <= min(reviewed)
    report, code = replayed()
    assert (report["equal"], code) == (300, 0)


def test_a_governor_that_is_off_leaves_no_trace(governed, start, publish, payment):
    settings = governed(is_on=False)
    publish("1", **DECLINES_ALL)
    parts, client = start(settings)
    with client:
        told = decide(client, payment, range(100))
        page = client.get("/metrics").text
    assert {one["decision"] for one in told} == {"decline"}
    assert parts.governing is None
    assert "fraud_governor" not in page
    assert records(settings, [99])[0][-6:] == (None,) * 6


def test_a_cap_with_room_changes_no_answer(governed, start, publish, payment):
    settings = governed()
    publish("1", review=1.0, decline=1.0)
    parts, client = start(settings)
    with client:
        told = decide(client, payment, range(100))
        assert parts.governing.arms["champion"].state is GovernorState.SLACK
    assert {one["decision"] for one in told} == {"approve"}
    record = records(settings, [99])[0]
    assert (record.governed, record.review_cut, record.fpr_bound) == (None, 1.0, 0.0)
