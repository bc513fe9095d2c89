"""T-CTL: a control that is switched off or broken is seen by the scorer that it protects, and told.

Each is broken for real under a running scorer; nothing here tells the watch what to say.
"""

import errno
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
import yaml
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.audit_check import Wanted, recorded_check
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.card_scan import recorded_scan
from fraud_platform.adapters.control_runs import Run
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.audit_log.acts import Act
from fraud_platform.controls import Control, ControlPolicy
from fraud_platform.settings import Settings
from fraud_platform.validation import ValidationPolicy
from serving.app import create_app

ACT = partial(Act, actor="platform", role="", origin="test")
BOUND_SECONDS = 30.0
RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "rules.yaml"
QUICK = ControlPolicy(look_seconds=0.1, drain_seconds=1.0, seal_seconds=1.0, grace_seconds=1.0)
Broken = Callable[[], object]


class Running:
    """A scorer with its home, and what may be done to both."""

    def __init__(self, client: TestClient[Any], settings: Settings, monkeypatch, payment) -> None:
        self.client, self.settings, self.patch = client, settings, monkeypatch
        self._payment, self._number = payment, 0

    def pay(self) -> int:
        self._number += 1
        body = self._payment(transaction_id=f"p{self._number}")
        return self.client.post("/v1/decisions", json=body).status_code

    def drain(self) -> None:
        with closing(EventLog(self.settings.log_path)) as log:
            log.drain()

    def failing(self) -> set[str]:
        """What Prometheus sees, and the rule over it makes an alarm of."""
        page = text_string_to_metric_families(self.client.get("/metrics").text)
        samples = [sample for family in page for sample in family.samples]
        found = [one for one in samples if one.name == "fraud_control_failing"]
        assert {one.labels["control"] for one in found} == set(Control)
        return {one.labels["control"] for one in found if one.value == 1}

    def told(self) -> list[tuple[object, object]]:
        lines = Alerts(self.settings.alerts_path).read()
        return [(line["kind"], line.get("control")) for line in lines]

    def seconds_until(self, control: Control, *, is_failing: bool = True) -> float:
        began = time.monotonic()
        while (control in self.failing()) != is_failing:
            assert time.monotonic() - began < BOUND_SECONDS, f"{control}: waited in vain"
            time.sleep(0.05)
        return time.monotonic() - began


@pytest.fixture
def start(tmp_path, publish, settings, monkeypatch, payment):
    """Starts a scorer with these settings; it has a model, and nothing of it fails."""
    publish("1")
    running = []

    def act(prepared: Mapping[Control, Run] = MappingProxyType({}), **changes: Any) -> Running:
        told = settings.model_copy(update={"controls": QUICK, **changes})
        for control, run in prepared.items():
            replace_file(told.controls_dir / f"{control}.json", msgspec.json.encode(run))
        client = TestClient(create_app(told))
        client.__enter__()
        running.append(client)
        return Running(client, told, monkeypatch, payment)

    yield act
    for client in running:
        client.__exit__(None, None, None)


def blind_the_guard(one: Running) -> None:
    one.patch.setattr("serving.intake.is_plain", lambda *_: True)


def fail_the_disk(one: Running) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "planted")

    one.patch.setattr(os, "fdatasync", fail)
    assert one.pay() == 503


def stop_the_drain(one: Running) -> None:
    assert one.pay() == 200  # nothing drains beside this scorer


def lose_the_key(one: Running) -> None:
    (one.settings.audit_dir / "mac.key").unlink()


def cut_the_audit_log(one: Running) -> None:
    audit_log_of(one.settings).record(ACT(action="audit.head", object="log"))
    change(one, "DELETE FROM acts WHERE seq = (SELECT MAX(seq) FROM acts)")


def stop_the_seals(one: Running) -> None:
    assert one.pay() == 200
    one.drain()


def change_a_row(one: Running) -> None:
    audit_log_of(one.settings).record(ACT(action="audit.head", object="log"))
    change(one, "UPDATE acts SET actor = 'nobody' WHERE seq = 1")
    assert not recorded_check(one.settings, ACT, Wanted()).is_intact


def leave_a_card_number(one: Running) -> None:
    (one.settings.home / "left.txt").write_text("paid by 4111111111111111\n")
    assert not recorded_scan(one.settings, ACT, ()).is_clean


def change(one: Running, statement: str) -> None:
    with closing(sqlite3.connect(one.settings.audit_dir / "audit.db")) as database, database:
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute(statement)


BREAKS: dict[str, tuple[Control, Callable[[Running], object]]] = {
    "guard-blinded": (Control.PAN_GUARD, blind_the_guard),
    "disk-fails": (Control.JOURNAL_SYNC, fail_the_disk),
    "drain-away": (Control.JOURNAL_DRAIN, stop_the_drain),
    "key-lost": (Control.AUDIT_LOG, lose_the_key),
    "audit-log-cut": (Control.AUDIT_LOG, cut_the_audit_log),
    "nothing-sealed": (Control.AUDIT_SEALS, stop_the_seals),
    "audit-log-changed": (Control.AUDIT_CHECK, change_a_row),
    "card-number-left": (Control.CARD_SCAN, leave_a_card_number),
}
SWITCHED_OFF: dict[str, tuple[Control, dict[str, Any]]] = {
    "guard-off": (
        Control.PAN_GUARD,
        {"validation": ValidationPolicy(no_card_numbers_in=())},
    ),
    "never-checked": (
        Control.AUDIT_CHECK,
        {"controls": replace(QUICK, check_seconds=1.0)},
    ),
    "never-scanned": (
        Control.CARD_SCAN,
        {"controls": replace(QUICK, scan_seconds=1.0)},
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_control_that_is_broken_is_seen_and_told(start, name):
    control, break_it = BREAKS[name]
    one = start()
    audit_log_of(one.settings).record(ACT(action="audit.head", object="log"))
    time.sleep(3 * QUICK.look_seconds)
    assert one.failing() == set()
    break_it(one)
    seconds = one.seconds_until(control)
    assert ("page", control) in one.told()
    print(json.dumps({"test": "T-CTL", "control": control, "by": name, "seconds": seconds}))


@pytest.mark.parametrize("name", SWITCHED_OFF)
def test_a_control_that_is_switched_off_is_seen_and_told(start, name):
    control, changes = SWITCHED_OFF[name]
    one = start(**changes)
    seconds = one.seconds_until(control)
    assert ("page", control) in one.told()
    print(json.dumps({"test": "T-CTL", "control": control, "by": name, "seconds": seconds}))


def test_a_control_that_works_again_says_so_and_how_long_it_failed(start):
    one = start()
    stop_the_seals(one)
    one.seconds_until(Control.AUDIT_SEALS)
    seals_of(one.settings).seal()
    one.seconds_until(Control.AUDIT_SEALS, is_failing=False)
    time.sleep(2 * QUICK.look_seconds)
    assert one.told() == [
        ("page", Control.AUDIT_SEALS),
        ("control_works", Control.AUDIT_SEALS),
    ]


def test_a_home_that_was_off_over_a_week_end_calls_nobody_before_its_checks_had_time_to_run(start):
    friday = Run(at_us=time.time_ns() // 1_000 - 3 * 86_400_000_000)
    controls = replace(QUICK, grace_seconds=3.0)
    one = start(
        controls=controls, prepared={Control.AUDIT_CHECK: friday, Control.CARD_SCAN: friday}
    )
    time.sleep(5 * QUICK.look_seconds)
    assert (one.failing(), one.told()) == (set(), [])
    assert one.seconds_until(Control.CARD_SCAN) > 1.0


def test_a_look_that_meets_a_defect_does_not_pass_for_a_control_that_works(start, monkeypatch):
    one = start()
    monkeypatch.setattr("serving.control_probes.payment_from", lambda *_: 1 / 0)
    assert one.seconds_until(Control.PAN_GUARD) < BOUND_SECONDS


def test_the_alarm_follows_the_metric_at_once_and_one_watches_the_watch():
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    alarms = {rule.get("alert"): rule for group in groups for rule in group["rules"]}
    failing, unwatched = alarms["FraudControlFailing"], alarms["FraudControlsNotWatched"]
    assert (failing["expr"], failing.get("for")) == ("fraud_control_failing == 1", None)
    assert "fraud_controls_looked_timestamp_seconds" in unwatched["expr"]
    assert ControlPolicy().look_seconds + 15 <= BOUND_SECONDS, "a look, and a scrape"
