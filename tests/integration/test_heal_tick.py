"""Ticks of healing on a real home: log, deployment, registry, orders, ledger and lease."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from fraud_platform.adapters import heal_models
from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_actuator import HEALING, HomeActuator
from fraud_platform.adapters.heal_ledger import HealLedger, lease
from fraud_platform.adapters.heal_tick import Healer
from fraud_platform.adapters.live_file import Live, live_path, write_live
from fraud_platform.adapters.mode_order import ModeOrder, read_order, write_order
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.notices import Notices, notices_of
from fraud_platform.adapters.orders_file import read_orders
from fraud_platform.adapters.tables import Tables
from fraud_platform.cli import main
from fraud_platform.errors import LeaseHeldError, UnavailableError
from fraud_platform.heal.actions import Act, Action
from fraud_platform.heal.controller import Outcome
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.heal.policy_parts import Verify
from fraud_platform.heal.records import EVERYTHING, Kind, Record
from fraud_platform.heal.verification import symptoms
from fraud_platform.health import DayFacts, HealthReport, diagnosed, health_frame
from fraud_platform.modes import Mode
from fraud_platform.schemas import LABELS, PAYLOAD_COLUMNS
from fraud_platform.settings import Settings, get_settings
from fraud_platform.simulation.world import World, simulate
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

NOW, MINUTE = 1_780_000_000_000_000, 60_000_000
TRAINED = datetime(2026, 3, 1, tzinfo=UTC)
NO_LABELS = LABELS.empty().select(
    "transaction_id", "verdict", "label_source", "reason", "label_timestamp", "received_timestamp"
)


@cache
def world() -> pl.DataFrame:
    return simulate(
        World(days=50, customers=500, terminals=250, start=TRAINED - timedelta(days=25))
    )


def days(first: int, last: int) -> pl.DataFrame:
    """Payments from so many days after the champion was trained to so many."""
    when = pl.col("event_timestamp")
    return world().filter(
        when >= TRAINED + timedelta(days=first), when < TRAINED + timedelta(days=last)
    )


Run = Callable[..., str]


@pytest.fixture
def run(home: Healer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The command on that home."""
    monkeypatch.setenv("FRAUD_HOME", str(home.settings.home))
    get_settings.cache_clear()

    def ran(*words: str) -> str:
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    yield ran
    get_settings.cache_clear()


class NoRoles:
    """No test here that uses it may move a model."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Healer]:
    """A home whose champion was trained on healthy weeks, a fallback beside it."""
    settings = Settings(home=tmp_path / "home")
    champion = write_small_bundle(settings.models_dir, "1", trained(1))
    fallback = write_small_bundle(settings.models_dir, "1-money", trained(2), without=("money",))
    told = Deployment(
        sequence=1, champion=pointer_to(champion), fallbacks={"money": pointer_to(fallback)}
    )
    deploy(settings.models_dir, told)
    log = EventLog(settings.log_path)
    healer = Healer(settings, log, NoRoles())  # type: ignore[arg-type]
    add(healer, days(-25, 8))
    yield healer
    log.close()


def add(healer: Healer, payments: pl.DataFrame) -> None:
    rows = payments.select(*PAYLOAD_COLUMNS).with_columns(
        received_timestamp=pl.col("event_timestamp"), source=pl.lit("ingest:test")
    )
    healer.log.append(rows, NO_LABELS)


def cents(first: int, last: int) -> pl.DataFrame:
    return days(first, last).with_columns(pl.col("amount_minor") * 100)


def kinds(healer: Healer) -> list[Kind]:
    return [record.kind for record in HealLedger(healer.settings.heal_ledger_path).records()]


def test_a_healthy_home_writes_nothing(home: Healer) -> None:
    found = [home.tick(NOW + n * MINUTE, by="test") for n in range(3)]
    assert [ticked.cause for ticked in found] == ["healthy"] * 3
    assert kinds(home) == []


def test_a_home_without_a_champion_has_nothing_to_heal(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    healer = Healer(settings, EventLog(settings.log_path), NoRoles())  # type: ignore[arg-type]
    assert healer.tick(NOW, by="test").cause == "no_champion"


def test_a_change_of_unit_quarantines_and_freezes_in_one_tick(home: Healer) -> None:
    add(home, cents(8, 9))
    ticked = home.tick(NOW, by="test")
    assert ticked.cause == "unit_change"
    orders = read_orders(home.settings.orders_path)
    assert orders.learning_frozen
    assert orders.quarantined == ("money",) or orders.unit_factors
    assert {Kind.DIAGNOSED, Kind.PLANNED, Kind.DONE} <= set(kinds(home))
    assert orders.because["learning_frozen"].startswith("freeze_learning-")


def test_a_dry_run_decides_the_same_and_changes_nothing(home: Healer) -> None:
    add(home, cents(8, 9))
    dry = home.tick(NOW, by="test", is_dry_run=True)
    assert dry.plan is not None
    assert kinds(home) == []
    assert not home.settings.orders_path.exists()
    wet = home.tick(NOW, by="test")
    assert wet.plan is not None
    assert [record.kind for record in wet.plan.records] == [r.kind for r in dry.plan.records]


def test_who_dies_between_plan_and_deed_is_continued(
    home: Healer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(home, cents(8, 9))

    def die(self: HomeActuator, act: Act) -> Outcome:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(HomeActuator, "carry_out", die)
        with pytest.raises(KeyboardInterrupt):
            home.tick(NOW, by="test")
    assert Kind.DONE not in kinds(home)
    home.tick(NOW + MINUTE, by="test")
    assert read_orders(home.settings.orders_path).learning_frozen
    planned = kinds(home).count(Kind.PLANNED)
    assert kinds(home).count(Kind.DONE) == planned


def test_a_disk_that_does_not_answer_is_asked_again(
    home: Healer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(home, cents(8, 9))

    def busy(self: HomeActuator, act: Act) -> Outcome:
        raise UnavailableError("the disk is busy")

    with monkeypatch.context() as patched:
        patched.setattr(HomeActuator, "carry_out", busy)
        assert home.tick(NOW, by="test").answers == ()
    assert home.tick(NOW + MINUTE, by="test").answers


def test_only_one_process_heals(home: Healer) -> None:
    with lease(home.settings.heal_lease_path, "somebody else"), pytest.raises(LeaseHeldError):
        home.tick(NOW, by="test")


def test_a_scorer_that_fell_silent_makes_blind_and_its_last_word_does_not_count(
    home: Healer,
) -> None:
    alarm = Reading(signal=Signal.DISTURBED_RATE, standing=Standing.BREACHED, value=0.3)
    path = live_path(home.settings.home)
    write_live(path, Live(written_us=NOW - MINUTE // 2, model_version="1", readings=(alarm,)))
    alive = home.tick(NOW, by="test", is_dry_run=True)
    assert alive.evidence is not None
    assert alive.evidence.reading(Signal.DISTURBED_RATE).standing is Standing.BREACHED
    silent = home.tick(NOW + 60 * MINUTE, by="test", is_dry_run=True)
    assert silent.evidence is not None
    assert silent.evidence.reading(Signal.DISTURBED_RATE).standing is Standing.BLIND
    assert silent.cause == "blind"


def test_a_model_file_that_changed_is_an_artifact(home: Healer) -> None:
    path = home.settings.models_dir / "1" / "model.ubj"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert home.tick(NOW, by="test", is_dry_run=True).cause == "model_artifact"


def test_stored_rows_are_scored_again_at_once_when_a_file_changed_and_every_minute(
    home: Healer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, load = [], heal_models.load_pointed
    monkeypatch.setattr(heal_models, "load_pointed", lambda *a: read.append(1) or load(*a))

    def golden(now_us: int) -> Standing:
        read.clear()
        told = home.tick(now_us, by="test", is_dry_run=True).evidence
        assert told is not None
        return told.reading(Signal.GOLDEN_ROWS).standing

    began = NOW - NOW % MINUTE
    assert golden(began) is Standing.FINE
    assert golden(began + MINUTE - 1) is Standing.FINE
    assert not read, "not twice within a minute"
    assert golden(began + MINUTE) is Standing.FINE
    assert read
    path = home.settings.models_dir / "1" / "model.ubj"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert golden(began + MINUTE + 1) is Standing.BREACHED


def test_memory_that_holds_another_model_is_an_artifact(home: Healer) -> None:
    told = Live(written_us=NOW, model_version="1", model_digest="0" * 64)
    write_live(live_path(home.settings.home), told)
    found = home.tick(NOW, by="test", is_dry_run=True)
    assert found.evidence is not None
    assert found.evidence.reading(Signal.ARTIFACT).subjects == ("in memory",)


def test_what_labels_of_a_day_tell_counts_while_nobody_else_tells_it(home: Healer) -> None:
    missed = DayFacts(
        champion_version="1",
        rows=2_000,
        alerts=50,
        expected_alert_rate=0.025,
        mature_frauds=60,
        missed_frauds=55,
        expected_recall=0.7,
        max_psi=0.05,
        drifted_feature=None,
    )
    tables, policy = Tables(home.settings.tables_dir), home.settings.health
    day = (TRAINED + timedelta(days=7)).date()
    report = HealthReport(day, missed, diagnosed(missed, policy))
    tables.write("health_report", day, health_frame([report]))
    assert home.tick(NOW, by="test", is_dry_run=True).cause == "concept_drift"
    other = replace(missed, champion_version="0")
    report = HealthReport(day, other, diagnosed(other, policy))
    tables.write("health_report", day, health_frame([report]))
    assert home.tick(NOW, by="test", is_dry_run=True).cause == "healthy"


def test_the_command_ticks_as_the_sensor_does(home: Healer, run: Run) -> None:
    add(home, cents(8, 9))
    dry = json.loads(run("heal", "tick", "--dry-run", "--json"))
    assert dry["cause"] == "unit_change"
    assert {one["kind"] for one in dry["records"]} >= {"diagnosed", "planned"}
    assert kinds(home) == []
    wet = run("heal", "tick")
    assert wet.startswith("unit_change\n")
    assert Kind.DONE in kinds(home)


def actuator(healer: Healer) -> HomeActuator:
    return HomeActuator(healer.settings, healer.roles, notices_of(healer.settings), {})


def act(action: Action, *subjects: str, **amounts: float) -> Act:
    return Act(act_id=f"{action}-1", action=action, subjects=subjects, amounts=amounts)


ORDERED = [
    (act(Action.FREEZE_LEARNING), Action.THAW_LEARNING),
    (act(Action.QUARANTINE, "money"), Action.RELEASE),
    (act(Action.INVERT_UNIT, "transaction_amount", factor=100.0), Action.KEEP_UNIT),
    (act(Action.TIGHTEN_BUDGET, share=0.02), Action.RESTORE_BUDGET),
    (act(Action.STEP_UP_REVIEW, times=3.0), Action.STEP_DOWN_REVIEW),
    (act(Action.SHED), Action.UNSHED),
]


@pytest.mark.parametrize(("order", "inverse"), ORDERED, ids=[o.action for o, _ in ORDERED])
def test_an_order_given_twice_is_one_and_its_inverse_leaves_nothing(
    home: Healer, order: Act, inverse: Action
) -> None:
    hands, path = actuator(home), home.settings.orders_path
    assert hands.carry_out(order).is_done
    first = read_orders(path)
    assert hands.carry_out(order).is_done
    assert read_orders(path) == first
    assert list(first.because.values()) == [order.act_id]
    hands.carry_out(act(inverse, *order.subjects, **order.amounts))
    assert "ordered" in hands.carry_out(act(inverse, *order.subjects)).after
    assert read_orders(path).digest == type(first)().digest
    assert read_orders(path).because == {}


def test_rules_only_is_taken_back_but_never_a_persons_order(home: Healer) -> None:
    hands, path = actuator(home), home.settings.mode_path
    hands.carry_out(act(Action.RULES_ONLY))
    assert read_order(path).mode is Mode.RULES_ONLY
    assert read_order(path).ordered_by == HEALING
    hands.carry_out(act(Action.LEAVE_RULES))
    assert read_order(path).mode is Mode.NORMAL
    write_order(path, ModeOrder(mode=Mode.CLOSED, ordered_by="ann"))
    hands.carry_out(act(Action.LEAVE_RULES))
    assert read_order(path).mode is Mode.CLOSED


def test_a_page_reaches_the_alert_file(home: Healer) -> None:
    assert actuator(home).carry_out(act(Action.PAGE)).after == "alerts"
    (line,) = home.settings.alerts_path.read_text().splitlines()
    assert json.loads(line)["kind"] == "page"


def test_what_cannot_be_done_says_why(home: Healer) -> None:
    found = actuator(home).carry_out(act(Action.ROLL_BACK, "0"))
    assert not found.is_done
    assert "not the one before" in found.why
    assert not actuator(home).carry_out(act(Action.RETRAIN)).is_done


def test_slow_acts_are_answered_by_their_runs(home: Healer) -> None:
    assert home.finish({"retrain-nobody-asked": Outcome(is_done=True)}, NOW, by="test") == 0


@pytest.fixture
def registry(home: Healer) -> ModelRegistry:
    """Versions 1 and 2 in a real registry: 2 replaced 1."""
    settings = home.settings
    found = ModelRegistry(None, settings.mlflow_dir, settings.models_dir)
    client = found._client  # the versions' runs do not matter here
    client.create_registered_model("fraud")
    for version, seed, review in (("1", 1, 0.3), ("2", 3, 0.05)):
        if version != "1":
            write_small_bundle(settings.models_dir, version, trained(seed), review=review)
        client.create_model_version("fraud", str(settings.models_dir / version), run_id=None)
    found.promote("1", Mandate(by="test"))
    found.promote("2", Mandate(by="test"))
    return found


def test_a_roll_back_done_twice_goes_back_once(home: Healer, registry: ModelRegistry) -> None:
    hands = HomeActuator(home.settings, registry, notices_of(home.settings), {})
    for _ in range(2):
        assert hands.carry_out(act(Action.ROLL_BACK, "1")).after == "1"
    champion = read_deployment(home.settings.models_dir).champion
    assert champion is not None
    assert champion.version == "1"
    assert [entry.by for entry in registry.history()].count(HEALING) == 1


def test_a_model_is_published_again_only_if_it_is_sound(
    home: Healer, registry: ModelRegistry
) -> None:
    hands = HomeActuator(home.settings, registry, notices_of(home.settings), {})
    sound = hands.carry_out(act(Action.RELOAD_MODEL, "2"))
    assert sound.after == "2"
    assert "its stored rows score to the same bits" in sound.why
    (home.settings.models_dir / "2" / "model.ubj").write_bytes(b"x")
    damaged = hands.carry_out(act(Action.RELOAD_MODEL, "2"))
    assert not damaged.is_done
    assert "model.ubj" in damaged.why


def said(healer: Healer, kind: Kind) -> None:
    """A person's word, at any moment."""
    word = Record(kind=kind, event_us=0, now_us=NOW, cause=EVERYTHING, by="ann")
    HealLedger(healer.settings.heal_ledger_path).append(word)


@pytest.mark.parametrize("word", [Kind.KILLED, Kind.PAUSED])
def test_a_word_between_two_acts_stops_the_second(
    home: Healer, monkeypatch: pytest.MonkeyPatch, word: Kind
) -> None:
    add(home, cents(8, 9))
    done: list[Action] = []

    def first(self: HomeActuator, act: Act) -> Outcome:
        done.append(act.action)
        said(home, word)
        return Outcome(is_done=True)

    monkeypatch.setattr(HomeActuator, "carry_out", first)
    home.tick(NOW, by="test")
    assert [action for action in done if action is not Action.PAGE] == [Action.FREEZE_LEARNING]


def test_a_remedy_that_the_disk_refuses_for_long_gives_way_to_the_next(
    home: Healer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(home, cents(8, 9))

    def full(path: Path, orders: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fraud_platform.adapters.heal_actuator.write_orders", full)
    assert home.tick(NOW, by="test").answers == ()
    answers = home.tick(NOW + 11 * MINUTE, by="test").answers
    (failed,) = [one for one in answers if one.kind is Kind.FAILED]
    assert failed.rung is not None
    assert failed.why.startswith("no answer in time: the disk does not answer: No space left")


def test_a_page_that_only_a_file_took_is_not_delivered_while_there_is_a_way(home: Healer) -> None:
    away = Notices(Alerts(home.settings.alerts_path), webhook="https://127.0.0.1:1/", seconds=0.5)
    found = replace(actuator(home), notices=away).carry_out(act(Action.PAGE))
    assert (found.is_done, found.after) == (False, "alerts")
    assert found.why.startswith("webhook: ")


def test_a_roll_back_leaves_a_champion_alone_that_nobody_accused(
    home: Healer, registry: ModelRegistry
) -> None:
    hands = HomeActuator(home.settings, registry, notices_of(home.settings), {})
    found = hands.carry_out(replace(act(Action.ROLL_BACK, "1"), replacing="9"))
    assert (found.is_done, found.why) == (False, "found that 2 decides by now, not 9")
    assert hands.carry_out(replace(act(Action.ROLL_BACK, "1"), replacing="2")).after == "1"


def test_only_the_canary_that_was_accused_is_stopped(home: Healer, registry: ModelRegistry) -> None:
    hands = HomeActuator(home.settings, registry, notices_of(home.settings), {})
    registry.set_challenger("1")
    registry.set_canary(0.05)
    assert hands.carry_out(act(Action.STOP_CANARY, "7")).after == "0.05"
    assert hands.carry_out(act(Action.STOP_CANARY, "1")).after == "0"
    assert read_deployment(home.settings.models_dir).canary_share == 0.0


@pytest.mark.parametrize(("version", "expected"), [("1", Standing.BREACHED), ("9", Standing.BLIND)])
def test_rates_of_a_model_that_decides_no_more_are_no_news(
    home: Healer, version: str, expected: Standing
) -> None:
    alarm = Reading(signal=Signal.DISTURBED_RATE, standing=Standing.BREACHED, value=0.3)
    told = Live(written_us=NOW, model_version=version, readings=(alarm,))
    write_live(live_path(home.settings.home), told)
    found = home.tick(NOW, by="test", is_dry_run=True).evidence
    assert found is not None
    assert found.reading(Signal.DISTURBED_RATE).standing is expected


def test_a_scorer_that_has_seen_too_little_is_not_spoken_for_by_a_day(home: Healer) -> None:
    many = DayFacts(
        champion_version="1",
        rows=2_000,
        alerts=400,
        expected_alert_rate=0.025,
        mature_frauds=0,
        missed_frauds=0,
        expected_recall=0.7,
        max_psi=0.05,
        drifted_feature=None,
    )
    day = (TRAINED + timedelta(days=7)).date()
    report = HealthReport(day, many, diagnosed(many, home.settings.health))
    Tables(home.settings.tables_dir).write("health_report", day, health_frame([report]))
    assert home.tick(NOW, by="test", is_dry_run=True).cause == "unknown"
    unseen = Reading(signal=Signal.DISTURBED_RATE, standing=Standing.BLIND)
    told = Live(written_us=NOW, model_version="1", readings=(unseen,))
    write_live(live_path(home.settings.home), told)
    found = home.tick(NOW, by="test", is_dry_run=True).evidence
    assert found is not None
    assert found.reading(Signal.DISTURBED_RATE).standing is Standing.BLIND


def test_without_a_scorer_a_verdict_says_who_is_missing(home: Healer) -> None:
    found = home.tick(NOW, by="test", is_dry_run=True).evidence
    assert found is not None
    wrong = symptoms(Verify(fine=(Signal.DISTURBED_RATE, Signal.UNITS)), found)
    assert wrong == "disturbed_rate is blind (no running scorer tells it)"


def test_a_sign_of_life_from_the_future_is_none(home: Healer) -> None:
    write_live(live_path(home.settings.home), Live(written_us=NOW + 60 * MINUTE))
    assert home.tick(NOW, by="test", is_dry_run=True).cause == "blind"
