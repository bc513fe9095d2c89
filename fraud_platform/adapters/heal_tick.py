"""One tick of healing: look, decide, write it down, do it, write down what became of it.

What belongs here: the order of these, under the lease. It is the same for the sensor, the command
and a dry run, which stops after deciding. Whoever dies on the way is continued by the next tick:
the ledger names every act that was planned and not answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.heal_actuator import HomeActuator, slow
from fraud_platform.adapters.heal_evidence import gather
from fraud_platform.adapters.heal_ledger import HealLedger, lease
from fraud_platform.adapters.heal_policy_file import policy_in_force
from fraud_platform.adapters.heal_policy_gate import gated_policy
from fraud_platform.adapters.model_roles import ModelRoles
from fraud_platform.adapters.notices import notices_of
from fraud_platform.errors import HistoryChangedError, UnavailableError
from fraud_platform.heal.actions import Act
from fraud_platform.heal.controller import Outcome, Plan, answer, decide
from fraud_platform.heal.evidence import Evidence
from fraud_platform.heal.limits import called_off
from fraud_platform.heal.policy import minutes
from fraud_platform.heal.records import Record
from fraud_platform.heal.state import awake
from fraud_platform.settings import Settings

_TRIES = 3
"""Somebody's word may come in between a state and what was decided on it."""


@dataclass(frozen=True, kw_only=True)
class Ticked:
    """What a tick found and did.

    Attributes:
        evidence: what was known; None: no model decides yet, or there is no payment.
        plan: what was decided; None with no evidence.
        asked: slow acts that are planned and not answered: runs of their own.
        answers: what became of fast acts.
    """

    evidence: Evidence | None = None
    plan: Plan | None = None
    asked: tuple[Act, ...] = ()
    answers: tuple[Record, ...] = ()

    @property
    def cause(self) -> str:
        """The diagnosis in one word."""
        return "no_champion" if self.plan is None else self.plan.diagnosis.cause


@dataclass(frozen=True)
class Healer:
    """Healing of one home.

    Attributes:
        settings: of the home.
        log: the event log.
        roles: moves models.
    """

    settings: Settings
    log: EventLog
    roles: ModelRoles

    @cached_property
    def ledger(self) -> HealLedger:
        """Of the home; a look again reads only what is new."""
        return HealLedger(self.settings.heal_ledger_path, governance_of(self.settings))

    def tick(self, now_us: int, *, by: str, is_dry_run: bool = False) -> Ticked:
        """Look once, and do what follows.

        Args:
            now_us: the clock of the wall, microseconds UTC.
            by: who ticks, for the lease.
            is_dry_run: decide only; nothing is written and nothing is done.

        Raises:
            LeaseHeldError: another process heals right now.
            UnavailableError: the log or the ledger cannot be read or written.
        """
        ledger = self.ledger
        if is_dry_run:
            return self._decided(ledger, now_us)
        with lease(self.settings.heal_lease_path, by):
            ticked = self._committed(ledger, now_us)
            if ticked.evidence is None:
                return ticked
            return self._acted(ledger, ticked, ticked.evidence)

    def finish(self, results: Mapping[str, Outcome], now_us: int, *, by: str) -> int:
        """Write down what became of slow acts; those that nobody waits for are left out.

        Args:
            results: act id -> outcome.
            now_us: the clock of the wall, microseconds UTC.
            by: who tells.

        Returns:
            How many were written.
        """
        with lease(self.settings.heal_lease_path, by):
            ledger = self.ledger
            waiting = {k: planned for k, planned in ledger.state().asked.items() if k in results}
            if not waiting:
                return 0
            evidence = self._evidence(ledger, now_us)
            if evidence is None:
                return 0
            for act_id, planned in waiting.items():
                ledger.append(answer(planned, results[act_id], evidence))
        return len(waiting)

    def _committed(self, ledger: HealLedger, now_us: int) -> Ticked:
        """Decide, and write the decision down; again if somebody wrote meanwhile."""
        for attempt in range(_TRIES):
            ticked = self._decided(ledger, now_us)
            if ticked.plan is None:
                return ticked
            try:
                ledger.commit(ticked.plan.records)
            except HistoryChangedError:
                if attempt == _TRIES - 1:
                    raise
            else:
                return ticked
        raise AssertionError("unreachable")

    def _decided(self, ledger: HealLedger, now_us: int) -> Ticked:
        evidence = self._evidence(ledger, now_us)
        if evidence is None:
            return Ticked()
        plan = decide(ledger.state(), evidence, gated_policy(self.settings).policy)
        return Ticked(evidence=evidence, plan=plan, asked=tuple(a for a in plan.acts if slow(a)))

    def _evidence(self, ledger: HealLedger, now_us: int) -> Evidence | None:
        return gather(self.settings, self.log, now_us, ledger.doubtful())

    def _acted(self, ledger: HealLedger, ticked: Ticked, evidence: Evidence) -> Ticked:
        """Carry out what is planned and not answered: of this tick, and of one that died."""
        asked = ledger.state().asked
        actuator = HomeActuator(self.settings, self.roles, notices_of(self.settings), asked)
        wanted = ticked.plan.acts if ticked.plan else ()
        answers = []
        for act in (act for act in wanted if not slow(act)):
            if _called_off(ledger, act, evidence):
                continue
            planned = asked[act.act_id]
            try:
                outcome = actuator.carry_out(act)
            except UnavailableError as error:
                if not self._is_overdue(planned, evidence.now_us):
                    continue  # the next tick asks again
                outcome = Outcome(is_done=False, why=f"no answer in time: {error.message}")
            answers.append(answer(planned, outcome, evidence))
            ledger.append(answers[-1])
        runs = (act for act in wanted if slow(act) and not _called_off(ledger, act, evidence))
        return Ticked(
            evidence=evidence, plan=ticked.plan, asked=tuple(runs), answers=tuple(answers)
        )

    def _is_overdue(self, planned: Record, now_us: int) -> bool:
        """Whether a remedy was in vain for so long that the next one is to be tried.

        First aid, pages and taking back are asked for again and again instead.
        """
        if planned.act is None or planned.rung is None:
            return False
        policy = policy_in_force(self.settings.heal_dir)
        patience = policy.timeout_minutes(planned.cause, planned.act.action)
        return now_us - planned.now_us >= minutes(patience)


def _called_off(ledger: HealLedger, act: Act, evidence: Evidence) -> str:
    """Why an act of this tick may not be done any more: people may speak between two acts."""
    return called_off(awake(ledger.state(), evidence.now_us), act.act_id)
