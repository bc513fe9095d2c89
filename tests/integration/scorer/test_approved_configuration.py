"""A running scorer's settings and cuts against those that were approved, and its signs of life."""

import json
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.heal_tick import Healer
from fraud_platform.adapters.live_file import live_path, read_live, write_live
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.cli import main
from fraud_platform.heal.actions import Action
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.heal.records import Kind
from fraud_platform.settings import get_settings
from serving.app import create_app
from tests.e2e.scorer_process import wait_for


@pytest.fixture
def say(settings, monkeypatch):
    """`fraud-platform heal ...` on the scorer's home."""
    monkeypatch.setenv("FRAUD_HOME", str(settings.home))
    get_settings.cache_clear()

    def ran(*words, code=0):
        found = CliRunner().invoke(main, ["heal", *words])
        assert found.exit_code == code, found.output
        return found.output

    yield ran
    get_settings.cache_clear()


@pytest.fixture
def served(settings, publish, payment):
    """What happens while a scorer with some settings decides twenty payments."""
    publish("1")
    numbers = iter(range(0, 1_000, 20))

    def run(**changes):
        with TestClient(create_app(settings.model_copy(update=changes))) as client:
            first = next(numbers)
            for number in range(first, first + 20):
                assert client.post("/v1/decisions", json=payment(number)).is_success
            decided_us = time.time_ns() // 1_000
            told = live_path(settings.home)
            wait_for(lambda: (s := read_live(told)) and s.written_us > decided_us, "its word")

    return run


def ticked(settings, *, is_dry_run=True):
    log = EventLog(settings.log_path)
    roles = ModelRegistry(None, settings.mlflow_dir, settings.models_dir)
    found = Healer(settings, log, roles).tick(
        time.time_ns() // 1_000, by="test", is_dry_run=is_dry_run
    )
    log.close()
    return found


def reading(settings, signal) -> Reading:
    return ticked(settings).evidence.reading(signal)


def test_nobody_approved_anything_until_a_person_does(settings, served, say):
    assert "found no scorer" in say("configuration", code=1)
    served()
    found = reading(settings, Signal.CONFIGURATION)
    assert found.standing is Standing.BLIND
    assert "nobody approved a configuration yet" in found.why
    assert say("configuration").endswith("# approved by nobody\n")
    assert "no reason" in say("configuration", "--approve", code=1)
    told = say("configuration", "--approve", "--by", "anna", "--why", "as agreed in May")
    assert "decision.review_fpr = 0.02\n" in told
    assert "# approved by anna at " in told
    assert reading(settings, Signal.CONFIGURATION).standing is Standing.FINE


def test_a_scorer_that_decides_by_other_settings_is_seen_and_a_person_is_called(
    settings, served, say
):
    served()
    say("configuration", "--approve", "--by", "anna", "--why", "as agreed in May")
    bold = replace(settings.decision, review_fpr=0.5)
    served(decision=bold)
    found = ticked(settings, is_dry_run=False)
    assert found.cause == "configuration_error"
    told = found.evidence.reading(Signal.CONFIGURATION)
    assert (told.standing, told.subjects) == (Standing.BREACHED, ("decision.review_fpr",))
    assert told.why == "decision.review_fpr is 0.5 in place of 0.02"
    assert "decision.review_fpr = 0.5  # approved: 0.02" in say("configuration")
    (failed,) = [answer for answer in found.answers if answer.kind is Kind.FAILED]
    assert failed.act.action is Action.RESTORE_CONFIGURATION
    assert "decision.review_fpr is 0.5 in place of 0.02 as anna approved" in failed.why
    assert "heal configuration" in failed.why
    ticked(settings, is_dry_run=False)
    assert Kind.ESCALATED in [r.kind for r in HealLedger(settings.heal_ledger_path).records()]
    pages = [json.loads(line) for line in settings.alerts_path.read_text().splitlines()]
    assert [page["kind"] for page in pages] == ["page"]
    say("configuration", "--approve", "--by", "ben", "--why", "it is what we want")
    assert reading(settings, Signal.CONFIGURATION).standing is Standing.FINE


def test_cuts_that_were_never_registered_are_seen_though_nobody_approved_anything(settings, served):
    served()
    path = live_path(settings.home)
    live = read_live(path)
    assert live.cuts == {"thresholds.review": "0.3", "thresholds.decline": "0.8"}
    cuts = {**live.cuts, "thresholds.review": "0.9"}
    write_live(path, type(live)(written_us=live.written_us, model_version="1", cuts=cuts))
    found = reading(settings, Signal.CONFIGURATION)
    assert found.standing is Standing.BREACHED
    assert found.why == "thresholds.review is 0.9 in place of 0.3"


def test_a_scorer_that_decided_and_tells_nothing_is_silent(settings, served):
    served()
    assert reading(settings, Signal.HEARTBEAT).standing is Standing.FINE
    live_path(settings.home).unlink()
    found = reading(settings, Signal.HEARTBEAT)
    assert (found.standing, found.subjects) == (Standing.BREACHED, ("scorer",))
    assert found.why == "scorer was never heard, and should be"
    assert ticked(settings, is_dry_run=False).cause == "blind"
    records = HealLedger(settings.heal_ledger_path).records()
    assert records[-1].evidence[Signal.HEARTBEAT].value is None
