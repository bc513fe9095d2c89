"""The nightly check over a home's newest decisions, of which some cannot be taken again."""

import shutil
import time

import pytest
from litestar.testing import TestClient

from assets.audit import decisions_are_taken_again_alike
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.events import microseconds
from serving.app import assemble, build_scorer
from serving.replaying import Replayer


@pytest.fixture
def decided(settings, publish, payment, now):
    """A home whose first model has decided on three payments."""
    publish("1")
    parts = build_scorer(settings, lambda: microseconds(now))
    with TestClient(assemble(parts)) as client:
        deadline = time.monotonic() + 60
        while parts.champion.ruling.version != "1":
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)
        for number in range(3):
            assert client.post("/v1/decisions", json=payment(number)).status_code == 200
    return settings


def checked(settings):
    return decisions_are_taken_again_alike(
        event_log=EventLog(settings.log_path), replayer=Replayer(settings)
    )


def test_a_day_whose_decisions_cannot_be_compared_any_more_proves_nothing(decided):
    assert checked(decided).passed
    shutil.rmtree(decided.models_dir / "1")
    found = checked(decided)
    assert not found.passed
    assert (found.metadata["equal"].value, found.metadata["not_replayed"].value) == (0, 3)


def test_a_home_without_decisions_has_nothing_to_prove(settings):
    assert checked(settings).passed
