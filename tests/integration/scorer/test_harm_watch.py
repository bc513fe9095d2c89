"""What a scorer tells about harm once a second: by real decisions, restarts and failures."""

import asyncio
import re
import time
from datetime import datetime

import pytest
from litestar.testing import TestClient

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.live_file import live_path, read_live
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.errors import PermanentError
from fraud_platform.events import Decision
from fraud_platform.heal.evidence import Signal, Standing
from fraud_platform.heal.harm import HarmPolicy
from fraud_platform.orders import Orders
from serving.app import build_scorer, create_app, wall_clock
from serving.harm import Answered
from tests.small_bundles import deploy, pointer_to, write_small_bundle


@pytest.fixture
def quick(settings):
    """A hundred payments are enough to speak."""
    return settings.model_copy(update={"harm": HarmPolicy(min_rows=100)})


def decide(client, payment, numbers):
    for number in numbers:
        answer = client.post("/v1/decisions", json=payment(number, card_id=f"c{number}"))
        assert answer.is_success, answer.text


def told(settings, until, seconds=10.0):
    """What the scorer tells, as soon as it tells this."""
    deadline, live = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            live = read_live(live_path(settings.home))
        except PermanentError:  # left by the test
            live = None
        if live is not None and until(live):
            return live
        time.sleep(0.02)
    raise AssertionError(f"the scorer never told it: {live}")


def standings(live):
    return {reading.signal: reading.standing for reading in live.readings}


def test_an_idle_scorer_without_a_model_tells_that_it_lives(quick):
    with TestClient(create_app(quick)):
        first = told(quick, lambda live: live.written_us)
        told(quick, lambda live: live.written_us > first.written_us)
    assert (first.payments, first.model_version) == (0, None)
    assert standings(first)[Signal.DISTURBED_RATE] is Standing.BLIND


def test_payments_are_counted_over_a_restart(quick, publish, payment):
    publish("1")
    for part in (0, 60):
        with TestClient(create_app(quick)) as client:
            decide(client, payment, range(part, part + 60))
            live = told(quick, lambda live, seen=part + 60: live.payments == seen)
    assert (live.model_version, live.mode) == ("1", "normal")
    # A step that a restart cuts short is forgotten.
    assert live.harm.watched["errors"].rows in (0, 100)
    assert live.harm.rate == 0.1


def test_what_the_model_disturbs_is_told_before_anyone_judges(quick, models, payment):
    path = write_small_bundle(quick.models_dir, "1", models["1"], review=0.0, decline=0.99)
    deploy(quick.models_dir, Deployment(champion=pointer_to(path)))
    with TestClient(create_app(quick)) as client:
        decide(client, payment, range(200))
        live = told(quick, lambda live: live.payments == 200)
        page = client.get("/metrics").text
    assert standings(live)[Signal.DISTURBED_RATE] is Standing.BREACHED
    assert live.readings[0].value == 1.0
    assert live.readings[0].bound == pytest.approx(0.125)
    assert 'fraud_harm_breached{signal="disturbed_rate"} 1.0' in page
    assert re.search(r'fraud_harm_evidence{signal="latency"} [\d.]+', page)


def test_what_a_champion_disturbs_at_the_hour_of_the_payment_is_no_harm(quick, models, payment):
    paid = {datetime.fromisoformat(payment(n)["event_timestamp"]).hour for n in range(200)}
    hours = tuple(0.95 if hour in paid else 0.01 for hour in range(24))
    path = write_small_bundle(quick.models_dir, "1", models["1"], review=0.0, by_hour=hours)
    deploy(quick.models_dir, Deployment(champion=pointer_to(path)))
    with TestClient(create_app(quick)) as client:
        decide(client, payment, range(200))
        live = told(quick, lambda live: live.payments == 200)
    assert live.harm.by_hour == hours
    assert standings(live)[Signal.DISTURBED_RATE] is Standing.FINE


def test_what_no_model_judged_is_not_held_against_the_model(quick, publish, payment):
    publish("1")
    with TestClient(create_app(quick)) as client:
        told(quick, lambda live: live.harm)
        written = write_orders(quick.orders_path, Orders(quarantined=("money",)))
        told(quick, lambda live: live.orders_sequence == written.sequence)
        decide(client, payment, range(200))
        live = told(quick, lambda live: live.payments == 200)
    assert live.mode == "rules_only"
    assert live.harm.watched["disturbed_rate"].rows == 0
    assert standings(live)[Signal.DISTURBED_RATE] is Standing.BLIND


def test_while_a_disk_hangs_no_more_wait_to_be_counted_than_fit(quick):
    nothing = Decision._make([None] * len(Decision._fields))
    decision = nothing._replace(decision="approve", score=0.1, reasons=(), event_us=1, arm="none")
    scorer = build_scorer(quick, wall_clock)
    for _ in range(3):
        scorer.harm.answered([Answered("c", decision, 0.0)] * 10_000)
    asyncio.run(scorer.harm.look())
    assert read_live(live_path(quick.home)).payments == 20_000


def test_evidence_that_cannot_be_read_is_begun_anew(quick, publish):
    publish("1")
    live_path(quick.home).parent.mkdir(parents=True)
    live_path(quick.home).write_bytes(b"{")
    with TestClient(create_app(quick)):
        assert told(quick, lambda live: live.model_version == "1").payments == 0


@pytest.mark.parametrize(
    ("code", "standing"),
    [("log_unavailable", Standing.BREACHED), ("mode_closed", Standing.BLIND)],
)
def test_only_requests_that_the_scorer_failed_are_errors(quick, code, standing):
    scorer = build_scorer(quick, wall_clock)
    scorer.metrics.refused(code, 400)
    asyncio.run(scorer.harm.look())
    assert standings(read_live(live_path(quick.home)))[Signal.ERRORS] is standing


def test_a_disk_that_takes_no_file_is_said_once_and_nothing_is_lost(quick, caplog):
    quick.home.mkdir()
    (quick.home / "heal").write_text("in the way")
    scorer = build_scorer(quick, wall_clock)
    for _ in range(3):
        scorer.metrics.refused("log_unavailable", 100)
        asyncio.run(scorer.harm.look())
    assert len([r for r in caplog.records if "counting harm" in r.message]) == 1
    (quick.home / "heal").unlink()
    asyncio.run(scorer.harm.look())
    assert standings(read_live(live_path(quick.home)))[Signal.ERRORS] is Standing.BREACHED


def test_arms_are_compared_by_cards_beside_their_control(quick, models, payment):
    champion, challenger = (
        write_small_bundle(quick.models_dir, version, models[version], review=cut, decline=0.99)
        for version, cut in (("1", 0.98), ("2", 0.0))
    )
    roles = {"champion": pointer_to(champion), "challenger": pointer_to(challenger)}
    deploy(quick.models_dir, Deployment(**roles, canary_share=0.5))
    with TestClient(create_app(quick)) as client:
        told(quick, lambda live: live.comparison)
        decide(client, payment, range(100))
        live = told(quick, lambda live: live.payments == 100)
    seen = live.comparison
    assert (seen.candidate, seen.traffic) == ("2", 0.5)
    assert seen.canary.payments + seen.control.payments == 100
    assert seen.canary.disturbed == seen.canary.payments
    assert seen.control.disturbed < seen.control.payments / 2
    assert standings(live)[Signal.CANARY] is Standing.BREACHED


def test_evidence_of_a_challenger_is_not_held_against_the_same_trees_with_other_cuts(quick, models):
    def challenge(version, cut):
        path = write_small_bundle(quick.models_dir, version, models["2"], review=cut, decline=1.0)
        roles = {"champion": pointer_to(champion), "challenger": pointer_to(path)}
        deploy(quick.models_dir, Deployment(**roles, canary_share=0.5))

    champion = write_small_bundle(quick.models_dir, "1", models["1"])
    challenge("2", 0.0)
    with TestClient(create_app(quick)):
        before = told(quick, lambda live: live.comparison).comparison
        challenge("3", 0.9)
        after = told(quick, lambda live: live.comparison and live.comparison.candidate == "3")
    assert after.comparison.key != before.key
