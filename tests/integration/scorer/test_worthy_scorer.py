"""A scorer that disturbs only where that pays: answers, records, proofs, restarts and orders."""

import json
import time

import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.home import write_settings
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.cli import main
from fraud_platform.events import microseconds
from fraud_platform.orders import Orders
from fraud_platform.settings import Settings, get_settings
from serving.app import assemble, build_scorer

DISTURBS_ALL = {"review": 0.0, "decline": 1.0}
PAYMENTS = range(60)


@pytest.fixture
def scorer(tmp_path, monkeypatch, now):
    """A started scorer on a home whose prices make about half of the payments worth a look."""

    def build(**worth):
        told = {"worth": worth, "money": {"review_cost_minor": 2_000}}
        write_settings(tmp_path / "home", {**told, "state_check_seconds": 0})
        get_settings.cache_clear()
        parts = build_scorer(Settings(home=tmp_path / "home"), lambda: microseconds(now))
        return parts, TestClient(assemble(parts))

    (tmp_path / "home").mkdir()
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    yield build
    get_settings.cache_clear()


def answers(client, payment, numbers):
    bodies = [payment(number) for number in numbers]
    told = client.post("/v1/decisions/batch", json={"transactions": bodies}).json()
    return [one["decision"] for one in told["results"]]


def records(settings):
    log = EventLog(settings.log_path)
    found = [log.decision(f"t{number}") for number in PAYMENTS]
    log.close()
    return found


def replayed():
    result = CliRunner().invoke(main, ["decisions", "replay", "--complete", "--json"])
    return json.loads(result.stdout)["equal"], result.exit_code


def test_what_is_not_worth_a_look_is_let_go_recorded_and_proven(scorer, publish, payment, settings):
    publish("1", **DISTURBS_ALL)
    with scorer(is_on=True)[1] as client:
        told = answers(client, payment, PAYMENTS)
    let_go = [one for one in told if one["decision"] == "approve"]
    assert 0 < len(let_go) < len(told)
    assert all((one["governed"], one["reasons"]) == ("review", []) for one in let_go)
    found = records(settings)
    assert {record.worth_multiplier for record in found} == {1.0}
    for record, body in zip(found, map(payment, PAYMENTS), strict=True):
        pays = record.probability * max(body["amount_minor"], 1_500) >= 2_000
        assert record.decision == ("review" if pays else "approve")
    assert replayed() == (60, 0)


def test_it_is_off_by_default_and_records_say_so(scorer, publish, payment, settings):
    publish("1", **DISTURBS_ALL)
    with scorer()[1] as client:
        told = answers(client, payment, PAYMENTS)
    assert {one["decision"] for one in told} == {"review"}
    assert {record.worth_multiplier for record in records(settings)} == {None}


def test_a_restart_changes_no_answer(scorer, publish, payment, settings, tmp_path):
    publish("1", **DISTURBS_ALL)
    with scorer(is_on=True)[1] as client:
        whole = answers(client, payment, PAYMENTS)
    (tmp_path / "home" / "log").rename(tmp_path / "first")
    with scorer(is_on=True)[1] as client:
        parts = answers(client, payment, PAYMENTS[:30])
    with scorer(is_on=True)[1] as client:
        parts += answers(client, payment, PAYMENTS[30:])
    assert [one["decision"] for one in parts] == [one["decision"] for one in whole]


def test_while_anything_is_ordered_the_cuts_alone_decide(scorer, publish, payment, settings):
    publish("1", **DISTURBS_ALL)
    parts, client = scorer(is_on=True)
    with client:
        answers(client, payment, PAYMENTS[:30])
        write_orders(settings.orders_path, Orders(sequence=1, audit_factor=3.0))
        deadline = time.monotonic() + 20
        while parts.orders.ruling.orders.sequence != 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        told = answers(client, payment, PAYMENTS[30:])
    assert {one["decision"] for one in told} == {"review"}
    assert {record.worth_multiplier for record in records(settings)[30:]} == {None}
    assert replayed() == (60, 0)
