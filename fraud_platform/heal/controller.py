"""What to do next: from all records so far, the evidence and the policy to records and acts.

Pure and level-triggered: nothing is remembered but records, and the same state and evidence give
the same plan. So a crash costs nothing, a dry run is a plan that nobody carries out, and any past
tick can be asked again.

    suspected -> diagnosed -> (waiting) -> acting -> verifying -> healed    -> closed
                     ^------------------------------ refuted -> escalated --^
"""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from fraud_platform.heal.actions import Act
from fraud_platform.heal.causes import NAMES, Diagnosis, diagnose, table
from fraud_platform.heal.evidence import Evidence
from fraud_platform.heal.policy import HealPolicy
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal.state import State, awake
from fraud_platform.heal.tick import Tick


@dataclass(frozen=True)
class Plan:
    """What a tick writes and asks for.

    Attributes:
        diagnosis: what the evidence means.
        records: to be appended to the ledger before anything is done.
        acts: to be carried out, in this order; each is asked again until DONE or FAILED is written.
    """

    diagnosis: Diagnosis
    records: tuple[Record, ...] = ()
    acts: tuple[Act, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of an act.

    Attributes:
        is_done: it is in force now; else it could not be done.
        before: what it was, e.g. a version.
        after: what it is now.
        why: one sentence.
    """

    is_done: bool
    before: str = ""
    after: str = ""
    why: str = ""


class Actuator(Protocol):
    """Whatever carries acts out. The same act twice has the effect of once."""

    def carry_out(self, act: Act) -> Outcome:
        """Do it, or say why it cannot be done."""


def decide(state: State, evidence: Evidence, policy: HealPolicy) -> Plan:
    """The next records and acts.

    Args:
        state: the fold of all records.
        evidence: what is known now.
        policy: what may be done.
    """
    diagnosis = diagnose(evidence, table(policy.storm_share))
    if state.is_killed:
        return Plan(diagnosis)
    tick = Tick(awake(state, evidence.now_us), evidence, policy, diagnosis)
    tick.count_sights()
    tick.give_up_on_acts()
    for cause in NAMES:
        tick.judge(cause)
        tick.undo_refuted(cause)
        tick.watch(cause)
    for cause in NAMES:
        tick.open(cause)
        tick.advance(cause)
    for cause in NAMES:
        tick.take_back(cause)
    return Plan(diagnosis, tuple(tick.records), tick.acts())


def answer(planned: Record, outcome: Outcome, evidence: Evidence) -> Record:
    """The record of what became of an act.

    Args:
        planned: the PLANNED record of the act.
        outcome: as the actuator says.
        evidence: what is known when it was carried out.
    """
    return msgspec.structs.replace(
        planned,
        kind=Kind.DONE if outcome.is_done else Kind.FAILED,
        event_us=evidence.event_us,
        now_us=evidence.now_us,
        rows=evidence.rows,
        before=outcome.before,
        after=outcome.after,
        why=outcome.why,
        evidence={},
        would_have={},
    )
