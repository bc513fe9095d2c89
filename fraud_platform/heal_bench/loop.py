"""The closed loop of one run: decide, count, look, diagnose, act, in simulated time.

What belongs here: the order of it. Deciding is `governor` and `selective_labels`, counting is
`heal.harm`, looking is `sight`, diagnosing and planning is `heal.controller`, acting is `plant`:
the parts that a home runs, called as it calls them. A step is 100 payments, a tick 500.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

import numpy as np

from fraud_platform.audit_credit import JudgedAudit, audits_by_check
from fraud_platform.events import Transaction
from fraud_platform.governor import Governor, GovernorPolicy
from fraud_platform.heal.actions import Action
from fraud_platform.heal.controller import answer, decide
from fraud_platform.heal.doubt import doubtful_spans
from fraud_platform.heal.harm import Harm, HarmPolicy, Payments
from fraud_platform.heal.policy import HealPolicy, policy_from
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal.reference import MonitorPolicy, event_us
from fraud_platform.heal.state import START, State, fold
from fraud_platform.heal_bench.dealt import Dealt
from fraud_platform.heal_bench.plant import Plant
from fraud_platform.heal_bench.sight import Sight
from fraud_platform.heal_bench.stage import HOUR_US, Stage
from fraud_platform.heal_bench.world import CHECK_HOURS, Bools, Size
from fraud_platform.orders import NORMAL
from fraud_platform.score_cap import tie_breaker
from fraud_platform.selective_labels import (
    AUDITED,
    PASSED,
    ExplorationPolicy,
    Explorer,
    Spent,
    day_of,
)

_STEP, _TICK = 100, 500
_AUDITS = 40 / 12_500
"""Audits in quiet times, by payment: what the governor needs at the incident's traffic. A smaller
shop cannot look at as many: they would cost it more than what healing saves."""
_USUAL_BLOCKED = 0.055
_LEARNT_AFTER_US = {Action.RECALIBRATE: 24 * HOUR_US, Action.RETRAIN: 48 * HOUR_US}
"""A whole day of the harm for cuts, two for a training: chargebacks come within days here."""
_SALT = b"scenario benchmark"
_WINDOW_CHECKS = 0.36
"""Some two hours of payments, where that is more than the shipped window."""


@dataclass
class Journal:
    """What healing wrote down in one run.

    Attributes:
        dealt: the decisions.
        records: of the ledger, in order, with the row that each was written at.
        harmed: what was breached at a tick, with its row.
        held: rows at which the governor held.
        retrains: rows at which a training began.
        pages: times that a person was called.
    """

    dealt: Dealt
    records: list[tuple[int, Record]] = field(default_factory=list)
    harmed: list[tuple[int, str]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    retrains: Sequence[int] = ()
    pages: int = 0


def heal(stage: Stage) -> Journal:
    """Let the platform heal itself through one run."""
    loop = _Loop(stage)
    for begin in range(0, stage.rows, _STEP):
        loop.step(begin, min(begin + _STEP, stage.rows))
    journal = loop.journal
    journal.retrains, journal.pages = tuple(loop.plant.retrains), loop.plant.pages
    return journal


def cap_of(size: Size) -> GovernorPolicy:
    """The shipped cap, as a platform of this size has it, but for this: nothing is reviewed here.

    Whatever is disturbed is declined, as in the incident, so both bounds are one, and audits are
    drawn from all that is disturbed.

    Examples:
        >>> cap_of(Size(6_250)).window, cap_of(Size(25_000)).window
        (3000, 4500)
    """
    window = max(GovernorPolicy.window, int(_WINDOW_CHECKS * size.check))
    return GovernorPolicy(max_decline_fpr=GovernorPolicy.max_fpr, window=window)


def shipped_policy() -> HealPolicy:
    """The policy that the package brings."""
    text = resources.files("fraud_platform.heal").joinpath("policy.yaml").read_text("utf-8")
    return policy_from(text)


class _Loop:
    def __init__(self, stage: Stage) -> None:
        self.journal = Journal(Dealt.blank(stage.rows))
        self.plant = Plant(stage, self.journal.dealt)
        self._cap = cap_of(stage.draft.ground.size)
        self._governor = Governor(self._cap, self.plant.decider.thresholds)
        self._harm = Harm(HarmPolicy())
        self._sight = Sight(self.plant, self._harm, MonitorPolicy())
        self._policy = shipped_policy()
        self._state: State = START
        self._decider, self._decides_from = "", 0
        self._spent: tuple[int, Spent] = (0, Spent())
        self._has_crashed = self._struck = False
        self._ids = stage.sent["transaction_id"].to_list()
        self._ties = np.array([tie_breaker(name) for name in self._ids])
        self._cards = stage.sent["card_id"].rank("dense").to_numpy().astype(np.int64)
        devices = stage.sent["device_id"].rank("dense").fill_null(0).to_numpy().astype(np.int64)
        self._payers = np.stack([devices, self._cards])
        self._amounts = stage.sent["amount_minor"].to_numpy()
        self._event_us = event_us(stage.sent)
        self._audit_chances = np.zeros(stage.rows)

    def step(self, begin: int, end: int) -> None:
        """Decide some payments; tick where one is due."""
        plant = self.plant
        if not self._struck and begin >= plant.stage.onset:
            self._struck = True
            plant.strike()
        self._follow_decider(begin)
        self._decide(begin, end)
        plant.row = end
        if end % _TICK == 0:
            self._tick(end)

    def _follow_decider(self, begin: int) -> None:
        """Another model decides, or with other orders: the cap and the counts begin with it."""
        plant = self.plant
        name = f"{plant.decider.name} {plant.orders.unit_factors} {plant.decider.thresholds}"
        if name == self._decider:
            return
        self._decider, self._decides_from = name, begin
        self._governor.credit(())  # audits of one model tell nothing of another
        arm, first = plant.decider, max(0, begin - self._cap.window)
        if begin:
            scores = plant.replayed(arm, first, begin)
            self._governor.rebase(
                arm.thresholds,
                scores + self._ties[first:begin],
                arm.probabilities(scores),
                self._amounts[first:begin],
                plant.now_us,
                self._payers[:, first:begin],
            )
        # Not of a fallback: an order that is to end a harm must not make it forgotten.
        champion = plant.champion
        self._harm.expect(champion.name, champion.rate, champion.rate_by_hour)

    def _decide(self, begin: int, end: int) -> None:
        plant, dealt, rows = self.plant, self.journal.dealt, slice(begin, end)
        arm, stage = plant.decider, plant.stage
        scores = plant.scores(begin, end)
        probabilities = arm.probabilities(scores)
        cuts = self._governor.cuts
        own = scores >= arm.thresholds.review
        is_shed = plant.orders.is_shedding
        fails = stage.answers.fails[rows] & (not is_shed)
        dealt.own[rows], dealt.probability[rows], dealt.score[rows] = own, probabilities, scores
        untied = scores + self._ties[rows]
        dealt.would[rows] = own & (untied >= cuts.review) & ~fails
        dealt.blocked[rows] = dealt.would[rows]
        for row in np.flatnonzero(dealt.would[rows]) + begin:
            self._explore(int(row))
        arrived_us = stage.arrived_us[rows]
        told = untied, probabilities, self._amounts[rows], arrived_us
        self._governor.observe(*told, self._payers[:, rows])
        if self._governor.cuts.is_held:
            self.journal.held.append(end)
        self._count(rows, own, fails, is_shed=is_shed)

    def _count(self, rows: slice, own: Bools, fails: Bools, *, is_shed: bool) -> None:
        stage = self.plant.stage
        slow = stage.answers.latency_us[rows]
        latency = np.minimum(slow, 8_000) if is_shed else slow
        sound = ~fails
        self._harm.observe(
            Payments(
                cards=self._cards[rows][sound],
                disturbed=own[sound],
                is_watched=np.ones(int(sound.sum()), dtype=bool),
                latency_us=latency[sound],
                event_us=self._event_us[rows][sound],
            ),
            refused=int(fails.sum()),
        )

    def _explore(self, row: int) -> None:
        """Let through or put up for audit at random what would be blocked, as the scorer does."""
        dealt, stage = self.journal.dealt, self.plant.stage
        day = day_of(int(stage.arrived_us[row]))
        spent = self._spent[1] if self._spent[0] == day else Spent()
        amount = int(self._amounts[row])
        payment = Transaction(self._ids[row], 0, "", "", amount, "EUR")
        drawn = self._explorer.draw("decline", payment, spent)
        passes, audits = drawn.pass_propensity or 0.0, drawn.audit_propensity or 0.0
        dealt.propensity[row] = 1.0 - (1.0 - passes) * (1.0 - audits)
        if drawn.explored is not None:
            spent = spent.after(drawn.explored, amount)
        dealt.blocked[row] = drawn.explored != PASSED
        dealt.audited[row] = drawn.explored == AUDITED
        self._audit_chances[row] = audits
        self._spent = (day, spent)

    @property
    def _explorer(self) -> Explorer:
        times, check = self.plant.orders.audit_factor, self.plant.stage.draft.ground.size.check
        rate = min(1.0, times * _AUDITS / _USUAL_BLOCKED)
        is_normal = self.plant.orders.digest == NORMAL.digest
        policy = ExplorationPolicy(
            pass_rate=0.02 if is_normal else 0.0,
            pass_floor=0.002 if is_normal else 0.0,
            pass_max_amount_minor=5_000,  # a large payment costs more and teaches no more
            pass_ceiling_minor=100 * check,
            audit_rate=rate,
            audit_amount_minor=10**9,  # every would-be block alike: their share is a bound's input
            audits_per_day=int(times * _AUDITS * check * 24 / CHECK_HOURS),
        )
        return Explorer(policy, _SALT)

    def _tick(self, row: int) -> None:
        self._credit(row)
        evidence = self._sight.evidence()
        for signal in evidence.breached():
            self.journal.harmed.append((row, str(signal)))
        plan = decide(self._state, evidence, self._policy)
        for record in plan.records:
            self._write(row, record)
        for act in plan.acts:
            if act.act_id not in self._state.asked:
                continue
            planned = self._state.asked[act.act_id]
            if evidence.event_us - planned.event_us < _LEARNT_AFTER_US.get(act.action, 0):
                continue  # it is asked again until the data can hold the harm, as the sensor does
            outcome = self.plant.carry_out(act)
            if self._dies(act.action):
                return  # done, and nobody has written it down; the next tick asks again
            self._write(row, answer(planned, outcome, evidence))
        self._governor.order(self.plant.orders.max_disturbed)

    def _write(self, row: int, record: Record) -> None:
        self._state = fold(self._state, record)
        self.journal.records.append((row, record))
        self.plant.doubtful = doubtful_spans(told for _, told in self.journal.records)
        learnt = record.act is not None and record.act.action in (
            Action.RETRAIN,
            Action.RECALIBRATE,
        )
        if record.kind is Kind.VERIFIED and learnt:
            self._sight.rebase()

    def _dies(self, action: Action) -> bool:
        stage = self.plant.stage
        if not stage.draft.crashes or self._has_crashed or self.plant.row < stage.onset:
            return False
        self._has_crashed = action not in (Action.PAGE, Action.OBSERVE)
        return self._has_crashed

    def _credit(self, row: int) -> None:
        """Tell the governor of the audits that are judged by now, as the scorer does."""
        stage, dealt, now_us = self.plant.stage, self.journal.dealt, self.plant.now_us
        oldest_us = now_us - (self._cap.checks + 1) * self._cap.check_us
        first = max(self._decides_from, int(np.searchsorted(stage.arrived_us, oldest_us)))
        judged = [
            JudgedAudit(
                self._ids[at],
                int(stage.arrived_us[at]),
                int(stage.verdicts.judged_us[at]),
                float(self._audit_chances[at]),
                bool(stage.verdicts.says_fraud[at]),
            )
            for at in np.flatnonzero(dealt.audited[first:row]) + first
        ]
        checks = audits_by_check(
            judged, now_us, check_us=self._cap.check_us, checks=self._cap.checks
        )
        self._governor.credit(checks)
