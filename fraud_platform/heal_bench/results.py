"""What one run of the scenario benchmark has shown: one scenario, one seed, one policy.

What belongs here: names and meanings. How a run is measured is `scoring`, what it is made of
`faults`; tables and pages over many runs are `report`.
"""

from enum import StrEnum

import msgspec


class Policy(StrEnum):
    """Who answers to a fault. All four see the same payments."""

    NONE = "none"  # nobody: the thresholds of the first day
    RETRAIN_ON_DRIFT = "retrain_on_drift"  # what public "self-healing" loops do
    DIAGNOSIS = "diagnosis"  # governor, monitors, diagnosis, controller
    ORACLE = "oracle"  # knows every label and the right inputs: the end of the scale


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario under one seed and one policy. Delays count payments from the onset on.

    Attributes:
        scenario: name in `faults.SCENARIOS`; those of the incident's drift begin with `incident`.
        seed: of world and scenario.
        severity: how strong the fault is, in (0, 1].
        onset: `abrupt` or `ramp`.
        policy: a value of `Policy`.
        truth_cause: the name in `heal.causes` that is right; `healthy` or `benign_shift` where
            nothing is to be healed.
        harmful: whether doing nothing costs money against the oracle by design.
        diagnosed: first cause named after the onset other than `healthy` and `blind`, or None.
        detection_transactions: until a harm or an invariant was first breached, or None.
        first_aid_transactions: until the first act in the world, or None. Under the governor its
            own hold counts too.
        healed_transactions: until the cost per payment has come back within 5 % of the oracle's
            and stayed there over a check, or None.
        remedies: actions done, in order, once each.
        wrong: acts that the truth does not allow.
        forbidden: acts that the truth forbids.
        windows: 6-hour windows after the onset.
        windows_over: of these, with more than 5 % of legitimate payments disturbed.
        worst_window_fpr: the highest share of legitimate payments disturbed in one window.
        window_fprs: that share in each of the windows, in order; kept of the incident's drift.
        false_alarms: episodes or retrainings begun while nothing was wrong.
        healthy_days: days that could have had one: before the onset, and all of a control.
        canaries: releases in the run that were innocent.
        canaries_rolled_back: of these, taken back.
        cost_minor: missed fraud + false blocks + reviews after the onset, minor units.
        oracle_cost_minor: the oracle's on the same payments.
        none_cost_minor: of doing nothing on the same payments.
        exploration_minor: of the cost, what pass-through of would-be blocks has cost in fraud.
        pages: times a person was called.
        actions: acts done, repetitions included.
        retrains: trainings begun.
        cpu_seconds: processor time of the run; not part of what a seed determines.
    """

    scenario: str
    seed: int
    severity: float
    onset: str
    policy: str
    truth_cause: str
    harmful: bool
    diagnosed: str | None = None
    detection_transactions: int | None = None
    first_aid_transactions: int | None = None
    healed_transactions: int | None = None
    remedies: tuple[str, ...] = ()
    wrong: int = 0
    forbidden: int = 0
    windows: int = 0
    windows_over: int = 0
    worst_window_fpr: float = 0.0
    window_fprs: tuple[float, ...] = ()
    false_alarms: int = 0
    healthy_days: float = 0.0
    canaries: int = 0
    canaries_rolled_back: int = 0
    cost_minor: int = 0
    oracle_cost_minor: int = 0
    none_cost_minor: int = 0
    exploration_minor: int = 0
    pages: int = 0
    actions: int = 0
    retrains: int = 0
    cpu_seconds: float = 0.0

    @property
    def recovered(self) -> float | None:
        """Share of the avoidable cost that was avoided; None where nothing was avoidable.

        Examples:
            >>> run = RunResult(
            ...     scenario="cents", seed=1, severity=1.0, onset="abrupt", policy="diagnosis",
            ...     truth_cause="unit_change", harmful=True,
            ...     cost_minor=30, oracle_cost_minor=20, none_cost_minor=120)
            >>> run.recovered
            0.9
        """
        avoidable = self.none_cost_minor - self.oracle_cost_minor
        if avoidable <= 0:
            return None
        return (self.none_cost_minor - self.cost_minor) / avoidable
