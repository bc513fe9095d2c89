"""A scorer that lets declines through or audits them at random: its answers, records and limits."""

import json
import stat

import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from fraud_platform.adapters.audit_queue import count_open, open_audits
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.exploration_key import explorer_at
from fraud_platform.adapters.home import write_settings
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.cli import main
from fraud_platform.errors import PermanentError
from fraud_platform.events import microseconds
from fraud_platform.selective_labels import ExplorationPolicy, Explorer, Spent, day_of
from fraud_platform.settings import Settings, get_settings
from serving.app import create_app

DECLINES_ALL = {"review": 0.0, "decline": 0.0}
APPROVES_ALL = {"review": 1.1, "decline": 1.1}


@pytest.fixture
def exploring(tmp_path, monkeypatch, now):
    """Settings of a home that explores, known to every process on it."""

    def build(**policy):
        home = tmp_path / "home"
        write_settings(home, {"exploration": policy, "state_check_seconds": 0})
        get_settings.cache_clear()
        return Settings(home=home)

    (tmp_path / "home").mkdir()
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    yield build
    get_settings.cache_clear()


@pytest.fixture
def scorer(now):
    return lambda settings: TestClient(create_app(settings, clock=lambda: microseconds(now)))


def decide(client, payment, numbers, **changes):
    """One batch, decided as one group."""
    bodies = [payment(n, **changes) for n in numbers]
    answer = client.post("/v1/decisions/batch", json={"transactions": bodies}).json()
    return [one["decision"] for one in answer["results"]]


def records(settings, numbers):
    log = EventLog(settings.log_path)
    found = [log.decision(f"t{n}") for n in numbers]
    log.close()
    return found


def replayed():
    result = CliRunner().invoke(main, ["decisions", "replay", "--complete", "--json"])
    return json.loads(result.stdout), result.exit_code


def test_what_is_let_through_is_approved_recorded_counted_and_proven(
    exploring, scorer, publish, payment
):
    settings = exploring(pass_rate=1.0, pass_ceiling_minor=10**9)
    publish("1", **DECLINES_ALL)
    with scorer(settings) as client:
        (told,) = decide(client, payment, [0])
        again = client.get("/v1/decisions/t0").json()
        page = client.get("/metrics").text
    assert (told["decision"], told["explored"]) == ("approve", "passed")
    assert told["reasons"][0]["code"] == "R04"
    assert (again["decision"], again["explored"]) == ("approve", "passed")
    (record,) = records(settings, [0])
    assert (record.pass_propensity, record.audit_propensity) == (1.0, 0.0)
    assert 'fraud_explored_total{action="passed"} 1.0' in page
    assert "fraud_exploration_exposure_minor 1000.0" in page
    report, code = replayed()
    assert (report["equal"], code) == (1, 0)


def test_the_ceiling_holds_in_a_batch_across_restarts_and_starts_anew_at_midnight(
    exploring, scorer, publish, payment, now
):
    settings = exploring(pass_rate=1.0, pass_ceiling_minor=20_000)
    publish("1", **DECLINES_ALL)
    for start in (0, 40, 80):
        with scorer(settings) as client:
            decide(client, payment, range(start, start + 40))
    found = records(settings, range(120))
    log = EventLog(settings.log_path)
    passed = [log.recorded(d.transaction_id) for d in found if d.explored == "passed"]
    assert 13_000 < sum(one.transaction.amount_minor for one in passed) <= 20_000
    assert all(d.pass_propensity == 0.0 for d in found if d.decision == "decline")
    report, code = replayed()
    assert (report["equal"], code) == (120, 0)
    tomorrow = create_app(settings, clock=lambda: microseconds(now) + 86_400_000_000)
    with TestClient(tomorrow) as client:
        (told,) = decide(client, payment, [200])
    assert told["decision"] == "approve"


def test_audits_wait_in_a_queue_until_an_audit_has_a_verdict(exploring, scorer, publish, payment):
    settings = exploring(audit_rate=1.0, audits_per_day=5)
    publish("1", **DECLINES_ALL)
    with scorer(settings) as client:
        told = decide(client, payment, range(8))
        assert [one["decision"] for one in told] == ["decline"] * 8
        assert [one.get("explored") for one in told] == ["audited"] * 5 + [None] * 3
        EventLog(settings.log_path).drain()
        first = client.get("/v1/audits", params={"limit": 3}).json()
        rest = client.get("/v1/audits", params={"after": first["next"]}).json()
        verdict = {"transaction_id": "t1", "verdict": "genuine", "source": "audit"}
        other = {"transaction_id": "t2", "verdict": "fraud", "source": "chargeback"}
        assert client.post("/v1/labels", json=[verdict, other]).json()["recorded"] == 2
        EventLog(settings.log_path).drain()
        left = client.get("/v1/audits").json()
    names = [one["transaction_id"] for one in first["audits"] + rest["audits"]]
    assert (names, rest["next"]) == ([f"t{n}" for n in range(5)], None)
    assert [one["transaction_id"] for one in left["audits"]] == ["t0", "t2", "t3", "t4"]
    assert first["audits"][0]["audit_propensity"] == 1.0
    assert "card" not in json.dumps(first)
    assert [one.audit_propensity for one in records(settings, (4, 5))] == [1.0, 0.0]


def test_the_command_lists_the_same_queue_and_an_audit_taken_back_opens_it(
    exploring, scorer, publish, payment
):
    settings = exploring(audit_rate=1.0)
    assert CliRunner().invoke(main, ["audits", "list", "--json"]).output == "[]\n"
    publish("1", **DECLINES_ALL)
    with scorer(settings) as client:
        decide(client, payment, range(3))
        for verdict in ("fraud", "withdrawn"):
            told = {"transaction_id": "t0", "verdict": verdict, "source": "audit"}
            assert client.post("/v1/labels", json=told).status_code == 200
            EventLog(settings.log_path).drain()
            listed = CliRunner().invoke(main, ["audits", "list", "--limit", "2", "--json"])
            names = [one["transaction_id"] for one in json.loads(listed.output)]
            assert names == (["t1", "t2"] if verdict == "fraud" else ["t0", "t1"])
            assert count_open(settings.log_path) == (2 if verdict == "fraud" else 3)
    text = CliRunner().invoke(main, ["audits", "list"]).output
    assert "1 in 1" in text
    assert "card" not in text


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "after=x"])
def test_a_page_out_of_bounds_is_refused(settings, scorer, query):
    with scorer(settings) as client:
        assert client.get(f"/v1/audits?{query}").status_code == 400


def test_a_share_of_the_approvals_may_be_audited_and_keeps_its_label(
    exploring, scorer, publish, payment, now
):
    settings = exploring(audit_rate_approved=1.0)
    publish("1", **APPROVES_ALL)
    with scorer(settings) as client:
        (told,) = decide(client, payment, [0])
    assert (told["decision"], told["reasons"], told["explored"]) == ("approve", [], "audited")
    log = EventLog(settings.log_path)
    log.drain()
    (waiting,) = open_audits(settings.log_path)
    assert (waiting.pass_propensity, waiting.audit_propensity) == (None, 1.0)
    # What is approved shows its truth by itself: no weight comes from its audit.
    (outcome,) = log.outcomes(now.replace(day=1, hour=0), now).rows()
    assert outcome == ("t0", "approve", None, None)


def test_without_exploration_nothing_is_drawn_said_or_kept(settings, scorer, publish, payment):
    publish("1", **DECLINES_ALL)
    with scorer(settings) as client:
        (told,) = decide(client, payment, [0])
        assert client.get("/v1/audits").json() == {"audits": [], "next": None}
    assert "explored" not in told
    (record,) = records(settings, [0])
    assert (record.pass_propensity, record.audit_propensity, record.explored) == (None, None, None)
    assert not settings.exploration_key_path.exists()


def test_what_no_model_judged_is_not_explored(exploring, scorer, payment):
    settings = exploring(pass_rate=1.0, audit_rate=1.0, audit_rate_approved=1.0)
    with scorer(settings) as client:
        (told,) = decide(client, payment, [0])
    assert told["mode"] == "rules_only"
    assert records(settings, [0])[0][-3:] == (None, None, None)


def test_another_key_makes_a_record_unprovable_not_wrong(exploring, scorer, publish, payment):
    settings = exploring(pass_rate=0.5)
    publish("1", **DECLINES_ALL)
    with scorer(settings) as client:
        decide(client, payment, range(10))
    settings.exploration_key_path.unlink()
    report, code = replayed()
    assert (report["different"], report["not_replayed"], code) == (0, 10, 1)
    assert next(iter(report["gaps"])).startswith("another policy")


def test_a_ledger_that_starts_knows_what_is_spent(exploring, scorer, publish, payment, now):
    settings = exploring(pass_rate=1.0, audit_rate=1.0, pass_max_amount_minor=2_000)
    publish("1", **DECLINES_ALL)
    with scorer(settings) as client:
        decide(client, payment, range(6))  # 1,000 and 1,700 pass, four are audited
    with scorer(settings) as client:
        page = client.get("/metrics").text
    assert "fraud_exploration_exposure_minor 2700.0" in page
    assert LogFile(settings.log_path).spent() == {day_of(microseconds(now)): Spent(2_700, 4)}


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path):
    path, policy = tmp_path / "home" / "exploration.key", ExplorationPolicy(pass_rate=0.1)
    made = explorer_at(path, policy)
    assert isinstance(made, Explorer)
    assert explorer_at(path, policy) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    path.chmod(0o640)
    with pytest.raises(PermanentError, match="open to others"):
        explorer_at(path, policy)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(PermanentError, match="not what this platform writes"):
        explorer_at(path, policy)
