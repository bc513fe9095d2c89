"""Innocent canaries by the hundred, through the real ramp: how often one is taken back.

What belongs here: a few releases within the other scenarios cannot tell a rate of 1 in 1,000. Here
only the counts of both arms are simulated, between two looks; what follows from them is `rollout`.
"""

from dataclasses import dataclass

import numpy as np

from fraud_platform.heal_bench.results import Policy, RunResult
from fraud_platform.rollout import (
    ArmCount,
    Comparison,
    Ramp,
    RolloutPolicy,
    Sight,
    Step,
    compared_traffic,
    control_share,
    next_move,
)

SCENARIO = "canary_ramp"

_LOOK_MINUTES = 5
_MINUTE_US = 60_000_000
_PAYMENTS_PER_MINUTE = 50_000 / 24 / 60
"""The incident's traffic."""
_DISTURBED = (0.01, 0.05)
"""Lowest and highest share of cards that both models disturb alike, drawn for each canary."""
_FAILED = 1e-4
_LONGEST_MINUTES = 3 * 24 * 60


@dataclass(frozen=True)
class Ramped:
    """What became of one canary.

    Attributes:
        step: the last one: stopped, finished, or still waiting when time was up.
        payments: that the canary had decided by then.
    """

    step: Step
    payments: int


def innocent(seed: int, count: int) -> RunResult:
    """So many canaries that are exactly as good as what they replace.

    Args:
        seed: of the counts.
        count: canaries.
    """
    random = np.random.default_rng([seed, 17])
    stopped = sum(
        ramped(random, float(random.uniform(*_DISTURBED))).step is Step.STOP for _ in range(count)
    )
    return RunResult(
        scenario=SCENARIO,
        seed=seed,
        severity=0.0,
        onset="abrupt",
        policy=Policy.DIAGNOSIS,
        truth_cause="healthy",
        harmful=False,
        canaries=count,
        canaries_rolled_back=stopped,
    )


def ramped(random: np.random.Generator, rate: float, ratio: float = 1.0) -> Ramped:
    """One canary, from its first cards to its end.

    Args:
        random: chance.
        rate: share of the control's cards that are disturbed.
        ratio: the canary's rate over the control's; 1 is innocent.
    """
    policy = RolloutPolicy(is_on=True)
    share, ramp, canary, control = policy.steps[0], Ramp(), ArmCount(), ArmCount()
    for minute in range(_LOOK_MINUTES, _LONGEST_MINUTES, _LOOK_MINUTES):
        now_us = minute * _MINUTE_US
        canary = canary.plus(_looked(random, share, rate * ratio))
        control = control.plus(_looked(random, control_share(share), rate))
        seen = Comparison(
            key="k",
            candidate="2",
            traffic=compared_traffic(share),
            canary=canary,
            control=control,
        )
        sight = Sight(now_us=now_us, share=share, comparison=seen, written_us=now_us)
        move = next_move(ramp, sight, policy)
        ramp, share = move.ramp, move.share
        if move.step in (Step.STOP, Step.FINISH):
            return Ramped(move.step, canary.payments)
    return Ramped(Step.WAIT, canary.payments)


def _looked(random: np.random.Generator, share: float, rate: float) -> ArmCount:
    payments = int(random.poisson(_PAYMENTS_PER_MINUTE * _LOOK_MINUTES * share))
    return ArmCount(
        payments, int(random.binomial(payments, rate)), int(random.binomial(payments, _FAILED))
    )
