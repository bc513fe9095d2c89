"""The scorer as a real process: started from a snapshot, stopped, and told by signals.

Killed and swapped under load it is in `tests/e2e`.
"""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.events import TransactionEvent
from fraud_platform.features.rings import FeatureRings
from tests.e2e.scorer_process import home_at

THREADS = 6


@pytest.fixture
def start(settings):
    """Starts `python -m serving` on a free port; what still runs at the end is killed."""
    with home_at(settings.home, FRAUD_CHAMPION_POLL_SECONDS="0.1") as home:
        yield home.start


@dataclass
class Traffic:
    """Several senders, each with its own numbers, until told to stop."""

    url: str
    build: Callable[..., dict[str, Any]]
    first: int = 0
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def flowing(self) -> Iterator["Traffic"]:
        threads = [threading.Thread(target=self._send, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def _send(self, offset: int) -> None:
        # A killed server resets connections: whatever was not answered is not in `answers`.
        with httpx.Client(base_url=self.url) as client, suppress(httpx.TransportError):
            for number in count(self.first + offset, THREADS):
                if self.stopped.is_set():
                    return
                answer = client.post("/v1/decisions", json=self.build(number))
                if answer.status_code == 200:
                    self.answers[number] = answer.json()
                else:
                    self.refusals.append((answer.status_code, answer.text))


def past(payment):
    """Payments of the last days before now, few cards, so that they have a past."""
    now = datetime.now(UTC)

    def build(number: int, **changes: Any) -> dict[str, Any]:
        moment = now - timedelta(days=2) + timedelta(seconds=number)
        return payment(number, event_timestamp=moment.isoformat(), **changes)

    return build


def recorded(settings):
    """Every decision in the log, and the features that a fresh fold of the log gives each."""
    log, rings, folded = EventLog(settings.log_path), FeatureRings(), {}
    for event in log.follow(0):
        if isinstance(event, TransactionEvent):
            folded[event.transaction.transaction_id] = rings.read(event.transaction)
        rings.apply(event)
    decisions = {name: log.decision(name) for name in folded}
    log.close()
    return decisions, folded


def test_a_killed_scorer_starts_again_from_a_snapshot(start, publish, payment, settings):
    publish("1")
    build, first = past(payment), 0
    for _ in range(2):
        process = start(FRAUD_STATE_CHECK_SECONDS="0.5")
        before = set(settings.state_dir.glob("*.rings"))
        with Traffic(process.url, build, first).flowing() as traffic:
            traffic.wait_for(lambda b=before: set(settings.state_dir.glob("*.rings")) - b)
            sent = len(traffic.answers)
            traffic.wait_for(lambda t=traffic, n=sent: len(t.answers) > n + 30)
            process.popen.send_signal(signal.SIGKILL)
        assert not traffic.refusals
        first = max(traffic.answers) + THREADS * 2
    with Traffic(start().url, build, first).flowing() as traffic:
        traffic.wait_for(lambda: len(traffic.answers) > 30)
    said = process.said.read_text()
    assert said.count("took the snapshot") == 2
    assert "skipped" not in said
    assert "not as the log says" not in said
    decisions, folded = recorded(settings)
    assert all(decision.features == folded[name] for name, decision in decisions.items())
    assert {decision.mode for decision in decisions.values()} == {"normal"}


def test_a_terminated_scorer_answers_what_is_under_way_and_leaves(start, publish, payment):
    publish("1")
    process = start()
    with Traffic(process.url, past(payment)).flowing() as traffic:
        traffic.wait_for(lambda: len(traffic.answers) >= 20)
        process.popen.terminate()
        assert process.popen.wait(timeout=60) in {0, -signal.SIGTERM}
    assert not traffic.refusals


def test_senders_of_the_same_payment_at_once_get_one_decision(start, publish, payment, settings):
    publish("1")
    process, build = start(), past(payment)
    body, answers = build(0), []

    def send() -> None:
        answers.append(httpx.post(f"{process.url}/v1/decisions", json=body).json())

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["decision_id"] for answer in answers}) == 1
    assert [answer["replayed"] for answer in answers].count(False) == 1
    assert len(recorded(settings)[0]) == 1


def version_at(url: str) -> str | None:
    return httpx.get(f"{url}/v1/models").json()["champion"]


def test_a_sighup_makes_it_take_over_what_is_deployed_long_before_it_would_look(start, publish):
    publish("1")
    process = start(FRAUD_CHAMPION_POLL_SECONDS="3600")
    publish("2")
    assert version_at(process.url) == "1"
    process.popen.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while version_at(process.url) != "2":
        assert time.monotonic() < deadline, "the signal changed nothing"
        time.sleep(0.05)
    assert process.popen.poll() is None


def test_systemd_is_told_when_payments_are_answered_and_when_no_longer(start, publish, tmp_path):
    publish("1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        process = start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert systemd.recv(100) == b"READY=1"
        assert httpx.get(f"{process.url}/health/live").is_success
        process.popen.terminate()
        assert systemd.recv(100) == b"STOPPING=1"
        assert process.popen.wait(timeout=60) in {0, -signal.SIGTERM}


def test_a_supervisor_that_does_not_listen_does_no_harm(start, tmp_path):
    process = start(NOTIFY_SOCKET=str(tmp_path / "nobody"))
    assert httpx.get(f"{process.url}/health/live").is_success
