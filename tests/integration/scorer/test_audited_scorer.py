"""A scorer whose cap is loosened by audits: when, by which, until when, and across a restart."""

import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from litestar.testing import TestClient

from fraud_platform.adapters.audit_queue import judged_audits
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.home import write_settings
from fraud_platform.events import microseconds
from fraud_platform.settings import Settings, get_settings
from serving.app import assemble, build_scorer
from tests.e2e.scorer_process import home_at, wait_for

HOUR = timedelta(hours=1)
GOVERNOR = {
    "window": 200,
    "min_scores": 50,
    "every": 10,
    "max_decline_fpr": 0.05,
    "loosen_per_hour": 100.0,
}


@pytest.fixture
def home(tmp_path, monkeypatch, publish):
    """Where a model that declines all is capped, and every decline is audited."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("FRAUD_HOME", str(home))
    exploring = {"audit_rate": 1.0, "audits_per_day": 10_000}
    told = {"governor": GOVERNOR, "exploration": exploring, "state_check_seconds": 0}
    write_settings(home, told)
    get_settings.cache_clear()
    publish("1", review=0.0, decline=0.0)
    yield Settings(home=home)
    get_settings.cache_clear()


class Clock:
    """Microseconds that pass when told."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return microseconds(self.now)


@pytest.fixture
def clock(now):
    return Clock(now)


def decide(client, payment, numbers):
    bodies = [payment(number) for number in numbers]
    for first in range(0, len(bodies), 32):
        client.post("/v1/decisions/batch", json={"transactions": bodies[first : first + 32]})


def audit(client, names, **more):
    labels = [{"transaction_id": n, "verdict": "fraud", "source": "audit"} | more for n in names]
    told = client.post("/v1/labels", json=labels).json()
    assert told["recorded"] == len(labels)


def until(found, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def governor(parts):
    return parts.governing.arms["champion"]


def drained(home):
    """What the program beside a scorer does every second."""
    log = EventLog(home.log_path)
    log.drain()
    log.close()


def drawn(home, client):
    drained(home)
    return [one["transaction_id"] for one in client.get("/v1/audits").json()["audits"]]


def test_audits_of_an_attack_loosen_the_cap_and_it_ends_with_them_or_goes_on_after_a_restart(
    home, clock, payment
):
    parts = build_scorer(home, clock)
    with TestClient(assemble(parts)) as client:
        decide(client, payment, range(300))
        certain = governor(parts).budget
        audit(client, drawn(home, client)[:50])
        drained(home)
        until(lambda: governor(parts).budget > certain)
        decide(client, payment, range(300, 400))
        loose = governor(parts).cuts
        page = client.get("/metrics").text
    assert loose.audited_fraud == pytest.approx(0.955, abs=0.01)
    assert loose.budget > certain + 0.02
    assert 1.0 - loose.held_share > certain, "more than is certain without audits"
    assert 'fraud_governor_audited_fraud{arm="champion"} 0.95' in page
    parts = build_scorer(home, clock)
    with TestClient(assemble(parts)) as client:
        after = governor(parts).cuts
        assert after.audited_fraud == loose.audited_fraud
        assert after.held_share == pytest.approx(loose.held_share, abs=0.01), "as if never stopped"
        clock.now += 6 * HOUR
        until(lambda: governor(parts).budget == certain)
        assert governor(parts).cuts.audited_fraud == 0.0


def test_while_the_log_cannot_be_read_credit_lasts_until_the_clock_ends_it(
    home, clock, payment, caplog
):
    parts = build_scorer(home, clock)
    with TestClient(assemble(parts)) as client:
        decide(client, payment, range(300))
        audit(client, drawn(home, client)[:50])
        drained(home)
        until(lambda: governor(parts).cuts.audited_fraud > 0.0)
        home.log_path.rename(home.log_path.with_suffix(".gone"))
        home.log_path.mkdir()
        until(lambda: "credit by the audits of before" in caplog.text)
        assert governor(parts).cuts.audited_fraud > 0.0
        clock.now += 6 * HOUR
        until(lambda: governor(parts).cuts.audited_fraud == 0.0)


@pytest.mark.parametrize(
    ("verdict", "counted"), [("fraud", (1, 1)), ("genuine", (0, 1)), ("withdrawn", (0, 0))]
)
def test_the_newest_word_of_an_audit_counts_and_no_other_ones(
    home, clock, payment, verdict, counted
):
    with TestClient(assemble(build_scorer(home, clock))) as client:
        decide(client, payment, range(2))
        first = (clock.now - HOUR).isoformat()
        audit(client, ["t0"], known_at=first)
        audit(client, ["t0"], verdict=verdict, known_at=clock.now.isoformat())
        audit(client, ["t1"], source="chargeback")
    drained(home)
    since_us = microseconds(clock.now - 6 * HOUR)
    found = judged_audits(home.log_path, since_us).get("1", ())
    assert (sum(one.is_fraud for one in found), len(found)) == counted
    assert {one.transaction_id for one in found} <= {"t0"}
    assert all((one.propensity, one.decided_us) == (1.0, clock()) for one in found)


def test_a_running_scorer_hears_of_audits_within_seconds_and_forgets_them_after_a_check(
    home, payment
):
    with home_at(home.home, FRAUD_GOVERNOR__CHECK_HOURS=str(60 / 3_600)) as place:
        scorer = place.start()
        with httpx.Client(base_url=scorer.url, timeout=30.0) as client:
            decide(client, payment, range(300))
            wait_for(lambda: len(client.get("/v1/audits").json()["audits"]) >= 50, "audits to do")
            certain = scorer.metric("fraud_governor_budget")
            known_at = (datetime.now(UTC) - timedelta(seconds=20)).isoformat()
            names = [one["transaction_id"] for one in client.get("/v1/audits").json()["audits"]]
            audit(client, names[:50], known_at=known_at)
            wait_for(lambda: scorer.metric("fraud_governor_budget") > certain, "credit")
            wait_for(lambda: scorer.metric("fraud_governor_budget") == certain, "the end of it")
            assert scorer.metric("fraud_governor_audited_fraud") == 0.0
