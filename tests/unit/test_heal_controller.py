from dataclasses import dataclass, field, replace

import msgspec
import pytest

from fraud_platform.adapters.heal_policy_file import read_heal_policy
from fraud_platform.heal.account import status
from fraud_platform.heal.actions import Act, Action, Level
from fraud_platform.heal.controller import Outcome, Plan, answer, decide
from fraud_platform.heal.evidence import Evidence, Signal
from fraud_platform.heal.policy import HealPolicy
from fraud_platform.heal.policy_parts import Rung
from fraud_platform.heal.records import EVERYTHING, Kind, Record
from fraud_platform.heal.remedies import words
from fraud_platform.heal.state import START, Stage, State, fold
from tests.unit.heal_evidence import evidence

S = Signal
A = Action
POLICY = read_heal_policy()
DRIFTED = (S.FEATURE_SHIFT, S.DISTURBED_RATE)
CENTS = (S.UNITS, S.DISTURBED_RATE)
DONE = Outcome(is_done=True, before="as it was", after="as it is")
BROKEN = Outcome(is_done=False, why="the disk is full")


@dataclass
class Home:
    """An installation whose acts succeed unless told."""

    policy: HealPolicy = POLICY
    state: State = START
    minute: float = 0.0
    records: list[Record] = field(default_factory=list)
    broken: set[Action] = field(default_factory=set)
    silent: set[Action] = field(default_factory=set)

    def append(self, record: Record) -> None:
        self.records.append(record)
        self.state = fold(self.state, record)

    def tick(self, *breached: Signal, minutes: float = 10, **known: object) -> Plan:
        """Ten minutes and a thousand payments later."""
        self.minute += minutes
        now = evidence(*breached, minute=self.minute, **known)
        plan = decide(self.state, now, self.policy)
        for record in plan.records:
            self.append(record)
        for act in plan.acts:
            if act.action not in self.silent:
                outcome = BROKEN if act.action in self.broken else DONE
                self.append(answer(self.state.asked[act.act_id], outcome, now))
        return plan

    def ticks(self, times: int, *breached: Signal, **known: object) -> None:
        for _ in range(times):
            self.tick(*breached, **known)

    def person(self, kind: Kind, act: Act | None = None, cause: str = "") -> None:
        now = evidence(minute=self.minute)
        self.append(
            Record(
                kind=kind,
                event_us=now.event_us,
                now_us=now.now_us,
                act=act,
                cause=cause,
                by="ann",
            )
        )

    def approve(self) -> None:
        [proposal] = self.state.proposals.values()
        self.person(Kind.APPROVED, proposal.record.act, proposal.record.cause)

    def did(self, kind: Kind = Kind.DONE) -> list[Action]:
        return [one.act.action for one in self.records if one.kind is kind and one.act]

    def last(self, kind: Kind) -> Record:
        return [one for one in self.records if one.kind is kind][-1]


def with_maturity(level: Level) -> HealPolicy:
    return msgspec.structs.replace(POLICY, maturity=level)


def test_a_quiet_month_writes_nothing():
    home = Home()
    home.ticks(50)
    assert home.records == []


def test_a_unit_change_is_divided_back_at_first_sight_and_learning_is_frozen():
    home = Home()
    plan = home.tick(*CENTS)
    assert [act.action for act in plan.acts] == [A.FREEZE_LEARNING, A.INVERT_UNIT]
    assert plan.acts[1].subjects == ("transaction_amount",)
    assert plan.acts[1].amounts == {"factor": 100.0}


def test_a_slow_machine_keeps_no_bad_release_from_being_rolled_back_and_verified():
    home = Home()
    home.ticks(2, S.LATENCY)
    assert home.did() == [A.SHED]
    plan = home.tick(S.LATENCY, S.REPLAY, S.CHANGE, S.DISTURBED_RATE)
    assert plan.diagnosis.cause == "bad_release"
    assert home.did()[1:] == [A.FREEZE_LEARNING, A.ROLL_BACK]
    home.tick(S.LATENCY)
    assert home.state.episodes["bad_release"].stage is Stage.HEALED
    assert home.state.episodes["latency"].cause in home.state.episodes


def remembered(home: Home, *breached: Signal) -> Plan:
    """A tick that sees right amounts, and memories of both units."""
    told = evidence(S.UNITS, *breached).reading(S.UNITS)
    memories = replace(told, subjects=("card_amount_mean_30d",), details={"sent": 0.0})
    seen = evidence(S.UNITS, *breached)
    return home.tick(S.UNITS, *breached, readings={**seen.readings, S.UNITS: memories})


def test_a_mixed_history_is_decided_without_its_memories_until_they_are_usual_again():
    home = Home()
    home.tick(*CENTS)
    for _ in range(5):
        remembered(home, S.DISTURBED_RATE)
    assert set(home.state.episodes) == {"mixed_history"}
    [order] = [one for one in home.state.orders.values() if one.act.action is A.QUARANTINE]
    assert order.act.subjects == ("amount_history",)
    home.ticks(5)
    assert home.did()[-2:] == [A.THAW_LEARNING, A.RELEASE]
    home.tick()
    assert not home.state.episodes
    assert not home.state.orders
    home.ticks(5, *DRIFTED)
    assert not home.state.episodes, "rates and windows still hold what it did"


BAD = (S.REPLAY, S.CHANGE, S.DISTURBED_RATE)


@pytest.mark.parametrize("sender", [S.CLOCK, S.DUPLICATES, S.NULLS])
def test_a_bad_release_does_not_wait_behind_what_the_sender_breaks(sender: Signal):
    home = Home()
    home.ticks(2, sender)
    home.tick(sender, *BAD, minutes=1)
    assert A.ROLL_BACK in home.did()


def test_a_bad_release_does_not_wait_until_a_clock_that_was_doubted_has_settled():
    home = Home()
    home.tick(S.CLOCK)
    home.ticks(5)
    assert "clock_skew" in home.state.closed
    home.tick(*BAD)
    assert A.ROLL_BACK in home.did()


def test_what_broken_input_does_to_rates_refutes_no_roll_back():
    home = Home()
    home.tick(S.CLOCK, *BAD)
    home.ticks(8, S.CLOCK, S.DISTURBED_RATE)
    assert home.state.episodes["bad_release"].stage is Stage.VERIFYING
    home.ticks(4)
    home.tick(minutes=360)
    assert A.ROLL_BACK in home.did(Kind.VERIFIED)
    assert not home.did(Kind.REFUTED)


def test_exact_laws_act_while_a_monitor_is_silent():
    home = Home()
    home.tick(S.HEARTBEAT, *CENTS)
    assert A.INVERT_UNIT in home.did()


def test_a_feed_that_breaks_while_a_roll_back_is_verified_does_not_wait_for_it():
    home = Home()
    home.tick(S.REPLAY, S.CHANGE, S.DISTURBED_RATE, minutes=1)
    assert home.state.episodes["bad_release"].stage is Stage.VERIFYING
    home.tick(*CENTS, minutes=1)
    assert A.INVERT_UNIT in home.did()


def test_a_healed_unit_change_is_verified_then_taken_back_when_the_producer_mends_it():
    home = Home()
    home.tick(*CENTS)
    home.ticks(3, S.UNITS)
    assert home.state.episodes["unit_change"].stage is Stage.HEALED
    home.ticks(2)
    assert home.did() == [A.FREEZE_LEARNING, A.INVERT_UNIT, A.THAW_LEARNING, A.KEEP_UNIT]
    assert not home.state.episodes
    assert not home.state.orders


def units_told(**details: float) -> dict:
    """Readings of a change of unit with some details otherwise."""
    found = evidence(*CENTS).readings
    told = {**found[S.UNITS].details, **details}
    return {**found, S.UNITS: replace(found[S.UNITS], details=told)}


def test_amounts_are_not_divided_while_some_are_surely_in_the_old_unit():
    home = Home()
    home.tick(*CENTS, readings=units_told(plain=0.4))
    assert home.did() == [A.FREEZE_LEARNING, A.QUARANTINE]
    assert "plain <= 0.005" in home.last(Kind.SKIPPED).why


def test_amounts_are_not_divided_where_no_model_does_without_what_remembers_them():
    home = Home()
    home.tick(*CENTS, fallbacks=("context",))
    assert home.did() == [A.FREEZE_LEARNING, A.PAGE]


def test_once_the_producer_mends_it_amounts_are_whole_and_their_history_stays_set_aside():
    home = Home()
    home.tick(*CENTS)
    mended = units_told(sent=0.0)
    mended[S.UNITS] = replace(mended[S.UNITS], subjects=("card_amount_max_30d",))
    for _ in range(3):
        home.tick(S.UNITS, readings=mended)
    assert [words(order.act) for order in home.state.orders.values()] == [
        "freeze_learning",
        "quarantine amount_history",
    ]
    home.ticks(6)
    assert not home.state.orders


def test_statistics_are_believed_at_the_second_of_three_checks():
    home = Home()
    home.tick(*DRIFTED)
    assert not home.state.episodes
    home.tick()
    home.tick(*DRIFTED)
    assert "covariate_shift" in home.state.episodes


def test_the_same_payments_seen_twice_are_one_sight():
    home = Home()
    home.tick(*DRIFTED)
    home.ticks(5, *DRIFTED, minutes=0.1)
    assert not home.state.episodes


def test_a_refuted_remedy_is_taken_back_and_the_next_rung_is_tried_then_a_person_called():
    home = Home()
    home.ticks(60, S.UNITS, S.QUIET_RATE)
    assert home.did(Kind.REFUTED) == [A.INVERT_UNIT, A.QUARANTINE]
    assert home.did().count(A.INVERT_UNIT) == 1
    assert A.KEEP_UNIT in home.did()
    assert home.state.episodes["unit_change"].stage is Stage.ESCALATED
    assert home.did()[-1] is A.PAGE


def test_a_remedy_that_could_not_be_done_is_not_done_again():
    home = Home(broken={A.RELOAD_MODEL})
    home.ticks(3, S.GOLDEN_ROWS)
    assert home.did(Kind.FAILED) == [A.RELOAD_MODEL]
    assert A.ROLL_BACK in home.did()


def test_without_a_version_to_go_back_to_the_rung_is_skipped_with_the_reason():
    home = Home(broken={A.RELOAD_MODEL})
    home.ticks(2, S.GOLDEN_ROWS, previous=None)
    assert home.last(Kind.SKIPPED).why == "there is no version to go back to"


def test_a_remedy_after_which_a_day_costs_more_has_failed():
    home = Home()
    home.tick(*CENTS, money_per_day=1_000.0)
    home.ticks(15, S.UNITS, money_per_day=1_200.0)
    assert home.last(Kind.REFUTED).why == "a day costs more than before"
    assert home.last(Kind.REFUTED).money.per_day == 200.0


@pytest.mark.parametrize(("high", "failed"), [(1_090.0, True), (1_150.0, False)])
def test_only_what_surely_costs_more_has_failed(high: float, failed: bool):
    home = Home()
    home.tick(*CENTS, money_per_day=1_000.0, money_interval=(900.0, high))
    home.ticks(15, S.UNITS, money_per_day=1_300.0, money_interval=(1_200.0, 1_400.0))
    assert (Kind.REFUTED in [record.kind for record in home.records]) is failed
    money = home.last(Kind.REFUTED if failed else Kind.VERIFIED).money
    assert (money.per_day, money.low, money.high) == (300.0, 1_200.0 - high, 500.0)


def test_a_symptom_that_comes_back_before_the_cause_is_gone_is_a_relapse():
    home = Home()
    home.tick(*CENTS)
    home.ticks(6, S.UNITS)
    home.tick(S.UNITS, S.QUIET_RATE)
    assert home.did(Kind.RELAPSED) == [A.INVERT_UNIT]
    assert home.did()[-2:] == [A.KEEP_UNIT, A.QUARANTINE]


def test_a_remedy_that_only_hid_its_symptom_is_done_again_and_kept_for_longer():
    home, kept = Home(), []
    for _ in range(2):
        home.ticks(4, S.LATENCY)
        since = len(home.records)
        while home.did()[-1] != A.UNSHED:
            home.tick()
        kept.append(len(home.records) - since)
    assert home.did().count(A.SHED) == 2
    assert kept[1] > kept[0]
    assert not home.did(Kind.RELAPSED)


def test_a_cause_that_nobody_can_see_is_not_over():
    home = Home()
    home.tick(*CENTS)
    home.ticks(30, blind=[S.UNITS])
    assert A.KEEP_UNIT not in home.did()
    assert "unit_change" in home.state.episodes


def test_a_cause_that_nobody_can_measure_for_long_is_told_once_and_its_orders_stay():
    home = Home()
    home.tick(*CENTS)
    orders, pages = dict(home.state.orders), home.did().count(A.PAGE)
    home.ticks(12, blind=[S.UNITS])
    assert home.did().count(A.PAGE) == pages, "not yet: two hours"
    home.ticks(30, blind=[S.UNITS])
    assert home.did().count(A.PAGE) == pages + 1
    assert home.last(Kind.UNSEEN).why.startswith(
        "for 120 minutes it can be neither confirmed nor refuted: units is blind"
    )
    assert dict(home.state.orders) == orders
    told = status(home.records, POLICY, None, evidence(minute=home.minute).now_us)
    assert any("a person was told" in one.why for one in told.episodes)
    home.tick(S.UNITS)
    assert home.state.episodes["unit_change"].unseen is None


def test_after_a_crash_between_plan_and_deed_the_same_act_is_asked_again():
    home = Home(silent={A.INVERT_UNIT})
    first = home.tick(*CENTS).acts[-1]
    again = home.tick(*CENTS).acts
    assert again == (first,)
    assert home.did(Kind.PLANNED).count(A.INVERT_UNIT) == 1


def test_a_slow_act_without_an_answer_has_failed_in_time():
    home = Home(silent={A.RECALIBRATE})
    home.ticks(50, *DRIFTED, minutes=240)
    assert home.last(Kind.FAILED).why == "no answer in time"
    assert A.RETRAIN in home.did(Kind.PLANNED)


def test_what_is_proposed_waits_for_a_person_and_names_them():
    home = Home(with_maturity(Level.PROPOSE))
    home.ticks(2, *DRIFTED)
    assert (home.did(), home.last(Kind.PROPOSED).act.action) == ([A.PAGE], A.RECALIBRATE)
    home.approve()
    home.tick(*DRIFTED)
    assert home.did()[-1] is A.RECALIBRATE
    assert (home.last(Kind.PLANNED).by, home.last(Kind.PLANNED).level) == ("ann", Level.PROPOSE)


def test_an_approval_after_the_end_counts_for_nothing():
    home = Home(with_maturity(Level.PROPOSE))
    home.ticks(2, *DRIFTED)
    home.minute += 31
    home.approve()
    home.tick(*DRIFTED)
    assert home.last(Kind.EXPIRED).why == "nobody answered in time"
    assert A.RECALIBRATE not in home.did()


def test_the_platform_cannot_approve_for_a_person():
    home = Home(with_maturity(Level.PROPOSE))
    home.ticks(2, *DRIFTED)
    record = home.last(Kind.PROPOSED)
    home.append(msgspec.structs.replace(record, kind=Kind.APPROVED))
    home.tick(*DRIFTED)
    assert A.RECALIBRATE not in home.did()


def test_a_proposal_whose_cause_is_gone_is_withdrawn():
    home = Home(with_maturity(Level.PROPOSE))
    home.ticks(2, *DRIFTED)
    home.ticks(4, minutes=5)
    assert home.last(Kind.EXPIRED).why == "the cause is gone"
    assert not home.state.proposals


@pytest.mark.parametrize("level", [Level.OBSERVE, Level.ALERT])
def test_below_proposing_a_person_is_told_what_to_do(level: Level):
    home = Home(with_maturity(level))
    home.tick(*CENTS)
    assert home.last(Kind.ESCALATED).why.startswith("invert_unit transaction_amount factor=100")
    assert A.INVERT_UNIT not in home.did()
    assert (A.FREEZE_LEARNING in home.did()) == (level is Level.ALERT)


def test_every_record_of_an_act_says_what_each_level_would_have_done():
    home = Home()
    home.tick(*CENTS)
    assert set(home.last(Kind.PLANNED).would_have) == {1, 2, 3, 4}
    assert home.last(Kind.PLANNED).policy == POLICY.digest
    assert home.last(Kind.PLANNED).evidence[S.UNITS].subjects == ("transaction_amount",)


def test_a_pause_of_a_cause_stops_its_acts_and_no_others():
    home = Home()
    home.person(Kind.PAUSED, cause="unit_change")
    home.ticks(2, *CENTS, S.LATENCY)
    assert home.did() == [A.SHED]
    home.person(Kind.RESUMED, cause="unit_change")
    home.tick(*CENTS)
    assert A.FREEZE_LEARNING in home.did()


def test_a_pause_of_everything_keeps_orders_in_force():
    home = Home()
    home.tick(*CENTS)
    home.person(Kind.PAUSED, cause=EVERYTHING)
    home.ticks(10)
    assert len(home.state.orders) == 2


def test_the_kill_switch_stops_records_too():
    home = Home()
    home.person(Kind.KILLED)
    home.ticks(3, *CENTS)
    assert [one.kind for one in home.records] == [Kind.KILLED]
    home.person(Kind.REVIVED)
    home.tick(*CENTS)
    assert home.did()


def test_while_blind_nothing_is_done_that_is_not_safe():
    home = Home(silent={A.QUARANTINE})
    home.tick(S.NULLS, S.DISTURBED_RATE)
    plan = home.tick(blind=tuple(Signal))
    assert plan.diagnosis.cause == "blind"
    assert plan.acts == ()
    assert [act.action for act in home.tick(S.NULLS).acts] == [A.QUARANTINE]


def test_a_flood_that_harms_nobody_freezes_learning_and_is_decided_without_once_it_does_harm():
    home = Home()
    home.ticks(5, S.NULLS)
    assert home.did() == [A.FREEZE_LEARNING, A.PAGE]
    assert "waits for a breach of disturbed_rate or quiet_rate" in home.last(Kind.HELD).why
    home.tick(S.NULLS, S.QUIET_RATE)
    assert home.did()[-1] is A.QUARANTINE


def test_a_skew_that_folding_again_does_not_end_is_decided_without_only_if_it_does_harm():
    home = Home(broken={A.REFOLD})
    home.ticks(5, S.PARITY)
    assert A.QUARANTINE not in home.did()
    home.ticks(6, S.PARITY, S.QUIET_RATE)
    assert A.QUARANTINE in home.did()


def test_what_a_sale_left_in_the_counts_of_a_week_is_no_drift():
    home = Home()
    home.ticks(3, S.VOLUME)
    home.ticks(10, *DRIFTED)
    assert not home.state.episodes
    home.ticks(3, *DRIFTED, minutes=4_320)
    assert "covariate_shift" in home.state.episodes


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        ((S.AUDITED_PRECISION,), None),
        ((S.MISSED_FRAUD,), "concept_drift"),
        ((S.DISTURBED_RATE,), "unknown"),
    ],
)
def test_after_a_sale_only_alarms_that_are_none_are_its_own(seen: tuple, cause: str | None):
    home = Home()
    home.ticks(3, S.VOLUME)
    home.ticks(5)
    home.ticks(3, *seen)
    assert list(home.state.episodes) == ([cause] if cause else [])


def test_frauds_of_an_attack_that_are_reported_after_it_are_no_new_pattern():
    home = Home()
    home.ticks(3, S.AUDITED_SURGE, S.VOLUME)
    home.ticks(6)
    assert not home.state.episodes
    home.ticks(10, S.MISSED_FRAUD)
    assert not home.state.episodes
    home.ticks(3, S.MISSED_FRAUD, minutes=4_320)
    assert "concept_drift" in home.state.episodes


def test_breakage_explains_drift_until_windows_have_forgotten_it():
    home = Home()
    home.tick(S.NULLS, *DRIFTED)
    home.ticks(8, *DRIFTED)
    assert set(home.state.episodes) == {"null_flood"}
    home.ticks(6, *DRIFTED)
    home.ticks(4)
    assert not home.did(Kind.PLANNED).count(A.RETRAIN)
    assert "covariate_shift" not in {one.cause for one in home.records}


def test_nothing_is_learnt_while_labels_are_in_doubt():
    home = Home()
    home.ticks(10, *DRIFTED, S.LABEL_ARRIVALS)
    assert set(home.state.episodes) == {"label_pipeline", "covariate_shift"}
    assert A.RECALIBRATE not in home.did(Kind.PLANNED)
    assert home.state.episodes["covariate_shift"].held == "label_pipeline forbids recalibrate"


def test_two_frozen_episodes_thaw_once_when_the_last_is_over():
    home = Home()
    home.ticks(2, S.DUPLICATES, S.LABEL_ARRIVALS)
    home.ticks(8, S.LABEL_ARRIVALS)
    assert A.THAW_LEARNING not in home.did()
    assert home.last(Kind.LIFTED).cause == "duplicate_feed"
    home.ticks(8)
    assert home.did().count(A.THAW_LEARNING) == 1


def test_a_cause_that_returns_must_stay_away_longer():
    home = Home()
    for _ in range(2):
        home.ticks(2, S.LATENCY)
        home.ticks(12)
    closed = [one.event_us for one in home.records if one.kind is Kind.CLOSED]
    diagnosed = [one.event_us for one in home.records if one.kind is Kind.DIAGNOSED]
    first, second = (end - start for start, end in zip(diagnosed, closed, strict=True))
    assert second > first


def test_a_higher_cause_does_not_wait_for_the_remedy_of_a_lower_one():
    home = Home()
    home.tick(*CENTS)
    plan = home.tick(*CENTS, S.GOLDEN_ROWS)
    assert A.RELOAD_MODEL in [act.action for act in plan.acts]


def test_a_lower_cause_waits_for_the_remedy_of_a_higher_one():
    home = Home()
    home.ticks(2, S.LATENCY)
    home.tick(S.LATENCY, *CENTS)
    assert home.state.episodes["unit_change"].held == "waits for the remedy of latency"


def test_a_release_into_bad_times_is_not_rolled_back():
    home = Home()
    home.ticks(3, *DRIFTED, S.CHANGE)
    assert A.ROLL_BACK not in home.did()
    assert A.RECALIBRATE in home.did()


def test_a_bad_release_is_rolled_back_at_first_sight():
    home = Home()
    plan = home.tick(S.REPLAY, S.CHANGE)
    assert plan.acts[-1].action is A.ROLL_BACK
    assert plan.acts[-1].subjects == ("2",)


def test_a_model_is_not_made_from_too_few_frauds_nor_for_too_little():
    home = Home()
    home.ticks(3, S.MISSED_FRAUD, learnable_frauds=10)
    few = f"fewer than {POLICY.learning.min_frauds} frauds can be learnt from"
    assert home.last(Kind.HELD).why == few
    home.tick(S.MISSED_FRAUD, learnable_frauds=900, gain_per_day=100.0)
    assert home.last(Kind.HELD).why == "within 7 days it would not earn what it costs"
    home.tick(S.MISSED_FRAUD, learnable_frauds=900, gain_per_day=10_000.0)
    assert A.RETRAIN in home.did()


def test_the_budget_of_a_day_is_kept_and_a_person_hears_of_it():
    home = Home()
    for _ in range(5):
        home.ticks(2, S.CONFIGURATION, minutes=40)
        home.ticks(20)
    assert home.did().count(A.RESTORE_CONFIGURATION) == POLICY.budgets.per_action
    assert "budget of 3 for restore_configuration" in home.last(Kind.HELD).why
    assert A.PAGE in home.did()


def test_healing_that_is_often_wrong_must_ask():
    home = Home()
    home.state = replace(home.state, verdicts=(False,) * 5 + (True,) * 15)
    home.tick(*CENTS)
    assert home.last(Kind.PROPOSED).act.action is A.INVERT_UNIT
    assert home.did() == [A.FREEZE_LEARNING, A.PAGE]


def test_a_page_that_cannot_be_delivered_is_sent_again_but_not_at_once():
    home = Home(broken={A.PAGE})
    home.ticks(2, S.DUPLICATES)
    assert home.did(Kind.PLANNED).count(A.PAGE) == 1
    home.ticks(4, S.DUPLICATES)
    assert home.did(Kind.PLANNED).count(A.PAGE) == 2


def test_records_that_fit_nothing_change_nothing():
    now: Evidence = evidence()
    act = Act(act_id="x", action=A.SHED)
    for kind in set(Kind) - {Kind.CHECKED, Kind.DIAGNOSED, Kind.PLANNED, Kind.PAUSED, Kind.KILLED}:
        record = Record(
            kind=kind, event_us=now.event_us, now_us=now.now_us, act=act, cause="latency", by="ann"
        )
        assert fold(START, record) == START, kind


def test_no_model_is_made_while_learning_is_frozen_though_nobody_forbids_it():
    causes = dict(POLICY.causes)
    causes["bots"] = msgspec.structs.replace(causes["bots"], forbids=())
    home = Home(msgspec.structs.replace(POLICY, causes=causes))
    home.ticks(3, S.CONCENTRATION, S.MISSED_FRAUD)
    assert home.state.episodes["concept_drift"].held == "learning is frozen"
    assert A.RETRAIN not in home.did(Kind.PLANNED)


def test_another_change_of_what_decides_restarts_the_clock_of_a_verification():
    home = Home()
    home.tick(S.NULLS, S.DISTURBED_RATE)
    home.tick(S.NULLS)
    home.tick(S.NULLS, S.GOLDEN_ROWS)
    home.ticks(2, S.NULLS)
    assert A.QUARANTINE not in home.did(Kind.VERIFIED)
    home.tick(S.NULLS)
    assert A.QUARANTINE in home.did(Kind.VERIFIED)


def test_a_remedy_that_a_pause_kept_back_is_not_done_once_the_cause_is_gone():
    home = Home(silent={A.QUARANTINE})
    home.tick(S.NULLS, S.DISTURBED_RATE)
    home.person(Kind.PAUSED, cause=EVERYTHING)
    home.ticks(5)
    home.person(Kind.RESUMED, cause=EVERYTHING)
    home.silent.clear()
    home.ticks(5)
    assert A.QUARANTINE not in home.did()
    assert home.last(Kind.FAILED).why == "the cause is gone"
    assert not home.state.episodes
    assert not home.state.orders


def test_what_is_ordered_for_a_time_ends_then_though_the_cause_stays():
    rung = Rung(do=A.QUARANTINE, level=Level.ACT, lasts_minutes=60)
    causes = {**POLICY.causes}
    causes["null_flood"] = msgspec.structs.replace(causes["null_flood"], ladder=(rung,))
    home = Home(msgspec.structs.replace(POLICY, causes=causes))
    home.ticks(6, S.NULLS)
    assert A.RELEASE not in home.did()
    home.ticks(2, S.NULLS)
    assert home.did().count(A.RELEASE) == 1
    assert A.QUARANTINE not in [one.act.action for one in home.state.orders.values()]
    home.ticks(10, S.NULLS)
    assert home.did().count(A.QUARANTINE) == 1


def test_a_receiver_of_pages_keeps_no_remedy_waiting():
    asked = Home().tick(S.DUPLICATES, S.GOLDEN_ROWS).acts
    assert [act.action for act in asked][-2:] == [A.RELOAD_MODEL, A.PAGE]


def test_a_roll_back_names_the_champion_that_is_to_go():
    home = Home()
    home.ticks(2, S.REPLAY, S.CHANGE)
    [act] = [one.act for one in home.records if one.act and one.act.action is A.ROLL_BACK][:1]
    assert (act.subjects, act.replacing) == (("2",), "3")
