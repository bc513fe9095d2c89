"""`fraud-platform heal ...` on a ledger that the real controller wrote."""

import json
import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from fraud_platform.adapters.heal_ledger import HealLedger, lease
from fraud_platform.adapters.heal_policy_file import policy_in_force, policy_text
from fraud_platform.adapters.live_file import Live, live_path, write_live
from fraud_platform.adapters.mode_order import ModeOrder, read_order, write_order
from fraud_platform.adapters.orders_file import read_orders, write_orders
from fraud_platform.cli import main
from fraud_platform.heal.actions import Act, Action
from fraud_platform.heal.controller import Outcome, answer, decide
from fraud_platform.heal.evidence import Evidence, Reading, Signal, Standing
from fraud_platform.heal.records import EVERYTHING, Kind, Record
from fraud_platform.heal.state import Stage
from fraud_platform.modes import Mode
from fraud_platform.orders import Orders
from fraud_platform.settings import Settings, get_settings

MINUTE_US = 60_000_000
BEGAN_US = 1_767_225_600_000_000


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """A home whose policy asks a person before anything that is not safe by itself."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    get_settings.cache_clear()
    found = get_settings()
    found.heal_dir.mkdir()
    asking = policy_text(found.heal_dir).replace("maturity: 4", "maturity: 3")
    (found.heal_dir / "policy.yaml").write_text(asking, "utf-8")
    return found


@pytest.fixture
def ledger(settings) -> HealLedger:
    return HealLedger(settings.heal_ledger_path)


@pytest.fixture
def say(settings) -> Callable[..., Result]:
    def run(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(main, ["heal", *words])
        assert found.exit_code == code, found.output
        return found.output

    return run


def seen(minute: int, now_us: int, *, is_broken: bool = True) -> Evidence:
    """Amounts in another unit, everything else fine."""
    readings = {
        signal: Reading(signal=signal, standing=Standing.FINE, value=0.01, bound=0.1, rows=3_000)
        for signal in Signal
    }
    if is_broken:
        readings[Signal.UNITS] = Reading(
            signal=Signal.UNITS,
            standing=Standing.BREACHED,
            value=0.37,
            bound=0.1,
            rows=3_000,
            subjects=("amount_minor",),
            details={"sent": 1.0},
        )
    return Evidence(
        readings=readings,
        event_us=BEGAN_US + minute * MINUTE_US,
        now_us=now_us,
        rows=minute * 1_000,
        champion="2",
        previous="1",
        fallbacks=("money", "context"),
    )


@pytest.fixture
def tick(settings, ledger, monkeypatch) -> Callable[..., tuple[Act, ...]]:
    """One tick at a minute of both clocks; what it asks for is done."""
    policy = policy_in_force(settings.heal_dir)

    def run(minute: int, *, is_broken: bool = True) -> tuple[Act, ...]:
        now_us = BEGAN_US + minute * MINUTE_US
        monkeypatch.setattr("fraud_platform.heal_commands._now_us", lambda: now_us)
        evidence = seen(minute, now_us, is_broken=is_broken)
        plan = decide(ledger.state(), evidence, policy)
        ledger.commit(plan.records)
        for act in plan.acts:
            planned = ledger.state().asked[act.act_id]
            outcome = Outcome(is_done=True, before="as usual", after=f"{act.action}")
            ledger.append(answer(planned, outcome, evidence))
        return plan.acts

    return run


def waiting(ledger: HealLedger) -> str:
    """The act that waits for a person."""
    (act_id,) = ledger.state().proposals
    return act_id


# --- looking -----------------------------------------------------------------------------------


def test_a_home_where_nothing_happened_says_so(say):
    told = say("status")
    assert "nothing was seen yet" in told
    assert "open episodes: none" in told
    assert say("log") == ""
    assert say("verify") == "0 records, chain whole, digest none\n"
    assert "found no episode at all" in say("explain", code=1)


def test_the_status_says_what_is_believed_what_is_done_and_what_a_person_can_do(say, tick, ledger):
    tick(1)
    told = say("status")
    assert re.search(r"units +breached +0\.37 +0\.1 +3000  amount_minor", told)
    assert "seen at 2026-01-01T00:01:00+00:00: unit_change" in told
    assert f"fraud-platform heal approve {waiting(ledger)} --why" in told
    assert "quarantine at level 3" in told
    assert "freeze_learning [freeze_learning-" in told, "it is safe, so nobody was asked"
    assert "remedies 0 of 6" in told
    assert "healing now: nobody" in told


def test_the_status_tells_what_the_scorer_says_of_itself(say, settings):
    late = Reading(signal=Signal.LATENCY, standing=Standing.BREACHED, value=0.4, bound=0.05)
    live = Live(
        written_us=BEGAN_US,
        payments=7,
        event_us=BEGAN_US,
        readings=(late,),
        governor={"budget": 0.07, "fpr_bound": 0.031, "price_minor": 812.0, "audited_fraud": 0.4},
    )
    write_live(live_path(settings.home), live)
    told = say("status")
    assert "cap: 7.0% of payments may be disturbed, genuine ones at most 3.1%" in told
    assert "audits show 40% fraud among declines" in told
    assert json.loads(say("status", "--json"))["governor"]["price_minor"] == 812.0
    assert "scorer: last heard at 2026-01-01T00:00:00+00:00" in told
    assert re.search(r"latency +breached +0\.4 +0\.05", told)


def test_the_status_as_json_holds_the_same_and_who_heals(say, tick, ledger, settings):
    tick(1)
    with lease(settings.heal_lease_path, "sensor"):
        told = json.loads(say("status", "--json"))
    assert told["holder"]["name"] == "sensor"
    assert told["matched"] == ["unit_change"]
    assert told["readings"]["units"]["subjects"] == ["amount_minor"]
    (episode,) = told["episodes"]
    assert (episode["stage"], episode["act_id"]) == ("waiting", waiting(ledger))
    assert told["budgets"]["retrains"] == [0, 2]
    assert told["policy"] == policy_in_force(settings.heal_dir).digest


def test_an_episode_is_explained_from_its_evidence_to_what_else_would_have_been_done(
    say, tick, ledger, settings
):
    tick(1)
    say("approve", waiting(ledger), "--by", "anna", "--why", "the producer confirms it")
    tick(2)
    told = say("explain")
    assert told.startswith("unit_change@")
    assert "all causes that held: unit_change" in told
    assert f"policy {policy_in_force(settings.heal_dir).digest[:12]}" in told
    assert re.search(r"units +breached", told)
    assert "skipped invert_unit" in told
    assert "at level 4: do quarantine money at once" in told
    assert "approved quarantine money" in told
    assert "by anna: the producer confirms it" in told
    assert "before: as usual, after: quarantine" in told
    assert "undone by: release" in told
    name = ledger.state().episodes["unit_change"].name
    assert say("explain", name) == say("explain", "unit_change") == told
    assert {one["episode"] for one in json.loads(say("explain", "--json"))} == {name}
    assert "found no episode attack" in say("explain", "attack", code=1)


def test_the_verdict_and_its_money_are_explained(say, tick, ledger):
    tick(1)
    say("approve", waiting(ledger), "--why", "yes")
    tick(2)
    for minute in range(3, 60):
        tick(minute, is_broken=False)
    told = say("explain", "unit_change")
    assert "verified quarantine money" in told
    assert "release" in told, "what was ordered was taken back"
    assert "closed" in told


def test_the_log_has_a_line_per_record(say, tick, ledger):
    tick(1)
    lines = say("log").splitlines()
    assert len(lines) == len(ledger.records())
    assert "diagnosed unit_change@" in lines[1]
    assert say("log", "--last", "1").splitlines() == lines[-1:]
    assert len(json.loads(say("log", "--json"))) == len(lines)


def test_verify_names_the_first_bad_line_and_knows_a_digest_that_was_kept(say, tick, settings):
    tick(1)
    kept = say("verify").split()[-1]
    tick(2)
    assert "chain whole" in say("verify", "--digest", kept)
    lines = settings.heal_ledger_path.read_bytes().splitlines(keepends=True)
    settings.heal_ledger_path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    assert "line 3 follows" in say("verify", code=1)


# --- answering ---------------------------------------------------------------------------------


def test_an_approved_remedy_is_done_by_the_next_tick_in_that_persons_name(say, tick, ledger):
    tick(1)
    act_id = waiting(ledger)
    say("approve", act_id, "--by", "anna", "--why", "seen it")
    assert act_id in [act.act_id for act in tick(2)]
    planned = ledger.state().episodes["unit_change"].planned
    assert (planned.by, planned.act.action) == ("anna", Action.QUARANTINE)


def test_a_rejected_remedy_is_not_done_nor_proposed_again(say, tick, ledger):
    tick(1)
    act_id = waiting(ledger)
    say("reject", act_id, "--by", "anna", "--why", "the producer is about to fix it")
    for minute in range(2, 90):
        assert act_id not in [act.act_id for act in tick(minute)]
        assert act_id not in ledger.state().proposals
    assert ledger.state().episodes["unit_change"].stage is Stage.ESCALATED


@pytest.mark.parametrize("answer_", ["approve", "reject"])
def test_only_what_waits_can_be_answered(say, tick, ledger, answer_):
    assert "expected one of: nothing" in say(answer_, "quarantine-1", "--why", "yes", code=1)
    tick(1)
    act_id = waiting(ledger)
    before = ledger.records()
    assert f"expected one of: {act_id}" in say(answer_, "quarantine-1", "--why", "yes", code=1)
    assert ledger.records() == before


def test_an_answer_that_comes_too_late_is_told_so(say, tick, ledger, monkeypatch):
    tick(1)
    late_us = BEGAN_US + 40 * MINUTE_US
    monkeypatch.setattr("fraud_platform.heal_commands._now_us", lambda: late_us)
    assert "is over" in say("approve", waiting(ledger), "--why", "yes", code=1)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--why", " "), "no person or no reason"),
        (("--by", "", "--why", "x"), "no person"),
        (("--by", "platform", "--why", "x"), "no person or no reason"),
        (("--by", "anna", "--why", "card 4111 1111 1111 1111 is blocked"), "a card number"),
    ],
    ids=["no reason", "nobody", "the platform", "a card number"],
)
def test_words_need_a_person_and_a_reason_and_hold_no_card(say, ledger, words, found):
    told = say("kill", *words, code=1)
    assert found in told
    assert "4111" not in told
    assert ledger.records() == ()


def test_a_reason_must_be_given(say):
    assert "Missing option '--why'" in say("pause", code=2)


def test_a_word_that_crosses_a_tick_is_said_about_what_is_true_then(say, tick, ledger, monkeypatch):
    tick(1)
    act_id, crossing = waiting(ledger), iter([True])
    commit = HealLedger.commit

    def crossed(self: HealLedger, said: list[Record]) -> None:
        if next(crossing, False):
            say("pause", "--why", "at the same moment")
        commit(self, said)

    monkeypatch.setattr(HealLedger, "commit", crossed)
    say("approve", act_id, "--by", "anna", "--why", "yes")
    kinds = [record.kind for record in ledger.records()[-2:]]
    assert kinds == [Kind.PAUSED, Kind.APPROVED]


# --- stopping ----------------------------------------------------------------------------------


def test_while_paused_nothing_new_is_done(say, tick, ledger):
    say("pause", "--by", "anna", "--why", "a migration")
    assert tick(1) == ()
    assert "unit_change" in ledger.state().episodes, "it is seen all the same"
    assert "paused: everything" in say("status")
    say("resume", "--by", "anna", "--why", "done")
    assert Action.FREEZE_LEARNING in [act.action for act in tick(2)]


def test_one_cause_can_be_paused_alone(say, tick, ledger):
    say("pause", "--cause", "latency", "--why", "a load test")
    assert tick(1)
    assert set(ledger.state().paused) == {"latency"}
    say("pause", "--cause", "attack", "--why", "a drill")
    say("resume", "--cause", "attack", "--why", "over")
    assert set(ledger.state().paused) == {"latency"}
    say("resume", "--why", "over")
    assert not ledger.state().paused


def test_a_pause_for_a_time_ends_by_itself(say, tick, ledger):
    tick(0, is_broken=False)
    say("pause", "--for", "30m", "--why", "a migration")
    assert ledger.state().paused == {EVERYTHING: BEGAN_US + 30 * MINUTE_US}
    assert not tick(29)
    assert "paused: everything until 2026-01-01T00:30:00+00:00" in say("status")
    assert tick(30)
    assert "paused" not in say("status")


@pytest.mark.parametrize("told", ["2", "h", "0h", "-1m", "1w", "9999999s"])
def test_a_time_that_is_none_is_refused(say, told):
    assert "expected e.g. 90s" in say("pause", f"--for={told}", "--why", "x", code=2)


def test_killed_nothing_is_done_until_a_person_resumes(say, tick, ledger):
    say("kill", "--by", "anna", "--why", "it heals the wrong thing")
    assert tick(1) == ()
    assert "KILLED by anna" in say("status")
    say("resume", "--by", "anna", "--why", "looked into it")
    assert tick(2) != ()
    assert "KILLED" not in say("status")


def test_killing_keeps_the_orders_in_force_unless_they_are_lifted(say, tick, ledger, settings):
    tick(1)
    (act_id,) = ledger.state().orders
    write_orders(settings.orders_path, Orders(learning_frozen=True, quarantined=("money",)))
    write_order(settings.mode_path, ModeOrder(mode=Mode.RULES_ONLY, ordered_by="bert"))
    say("kill", "--why", "first of all")
    assert read_orders(settings.orders_path).quarantined == ("money",)
    told = say("kill", "--lift", "--by", "anna", "--why", "back to normal")
    assert f"lifted unit_change@{BEGAN_US + MINUTE_US} [{act_id}]" in told
    assert read_orders(settings.orders_path).digest == Orders().digest
    assert not read_orders(settings.orders_path).learning_frozen
    assert not ledger.state().orders
    assert ledger.state().is_killed
    assert read_order(settings.mode_path).ordered_by == "bert", "that was no order of healing's"


def test_lifting_ends_rules_only_if_healing_ordered_it(say, ledger, settings):
    act = Act(act_id="rules_only-1", action=Action.RULES_ONLY)
    for kind in (Kind.PLANNED, Kind.DONE):
        ledger.append(Record(kind=kind, event_us=1, now_us=1, cause="latency", act=act))
    write_order(settings.mode_path, ModeOrder(mode=Mode.RULES_ONLY, ordered_by="healing"))
    say("kill", "--lift", "--by", "anna", "--why", "back to normal")
    assert read_order(settings.mode_path).mode is Mode.NORMAL


def test_orders_are_not_lifted_into_a_tick_that_is_under_way(say, settings, monkeypatch, ledger):
    monkeypatch.setattr("fraud_platform.heal_commands._A_TICK", 0.1)
    with lease(settings.heal_lease_path, "sensor"):
        assert "held by sensor" in say("kill", "--lift", "--why", "stop", code=1)
    assert ledger.state().is_killed, "the switch itself waits for nobody"


# --- the policy --------------------------------------------------------------------------------


def test_a_policy_is_checked_as_healing_would(say, settings):
    path = settings.heal_dir / "policy.yaml"
    assert f"digest {policy_in_force(settings.heal_dir).digest}" in say(
        "policy", "check", str(path)
    )
    path.write_text(path.read_text("utf-8").replace("maturity: 3", "maturity: 9"), "utf-8")
    assert "found no heal policy" in say("policy", "check", str(path), code=1)
    assert "no readable heal policy" in say("policy", "check", "/nowhere", code=1)


def test_the_policy_in_force_is_the_homes_own_or_the_shipped_one(say, settings):
    own = say("policy", "show")
    assert own.startswith(f"# {settings.heal_dir / 'policy.yaml'}, digest ")
    assert "maturity: 3" in own
    (settings.heal_dir / "policy.yaml").unlink()
    shipped = say("policy", "show")
    assert shipped.startswith("# as shipped")
    assert "maturity: 4" in shipped


def test_every_record_names_the_policy_it_was_made_under(tick, ledger, settings):
    tick(1)
    digest = policy_in_force(settings.heal_dir).digest
    made = [record for record in ledger.records() if record.kind in (Kind.DIAGNOSED, Kind.PLANNED)]
    assert made
    assert {record.policy for record in made} == {digest}
