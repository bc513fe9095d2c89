"""The benchmark's unit of work: one scenario under one seed, by all four policies.

What belongs here: which units there are, and one of them from beginning to end. A caller maps
`run_unit` over `units(...)`, over processes if it likes: units of one seed stand together, so that
a process makes few worlds.
"""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from fraud_platform.heal_bench import baselines
from fraud_platform.heal_bench.dealt import costs
from fraud_platform.heal_bench.faults import FAST as FAST_SCENARIOS
from fraud_platform.heal_bench.faults import SCENARIOS
from fraud_platform.heal_bench.loop import heal
from fraud_platform.heal_bench.results import Policy, RunResult
from fraud_platform.heal_bench.scoring import Bill, Deeds, Scored, deeds_of, deeds_of_recipe
from fraud_platform.heal_bench.stage import staged
from fraud_platform.heal_bench.world import INCIDENT_SIZE, SIZE, Size, ground

TUNING_SEEDS = (1, 2, 3)
"""Seeds that constants may be chosen on."""
HELD_OUT_SEEDS = (122, 123, 124, 125, 126)
"""Seeds that nobody looks at while choosing; the figures that are told come from these. Those from
102 to 121 were such until the causes of their misses were looked for."""


class Unit(NamedTuple):
    """One unit of work; small, so that it can be sent to another process.

    Attributes:
        seed: of the world.
        scenario: a name of `faults.SCENARIOS`.
        is_fast: whether it is of the fast form, in which all are small.
    """

    seed: int
    scenario: str
    is_fast: bool = False

    @property
    def size(self) -> Size:
        """How many payments there are."""
        is_full = SCENARIOS[self.scenario].is_full_size and not self.is_fast
        return INCIDENT_SIZE if is_full else SIZE


def units(seeds: Sequence[int] = HELD_OUT_SEEDS, *, is_fast: bool = False) -> tuple[Unit, ...]:
    """All units: every scenario, or those of the fast form, under every seed.

    Examples:
        >>> units((1,))[0]
        Unit(seed=1, scenario='quiet', is_fast=False)
    """
    names = FAST_SCENARIOS if is_fast else tuple(SCENARIOS)
    return tuple(Unit(seed, name, is_fast) for seed in seeds for name in names)


def run_unit(unit: Unit) -> tuple[RunResult, ...]:
    """One scenario under one seed by every policy, in the order of `Policy`.

    The same unit gives the same results but for `cpu_seconds`.
    """
    scenario = SCENARIOS[unit.scenario]
    stage = staged(scenario.drafted(ground(unit.seed, unit.size)))
    took = [time.process_time()]
    none = baselines.nothing(stage)
    took.append(time.process_time())
    recipe = baselines.retrain_on_drift(stage)
    took.append(time.process_time())
    journal = heal(stage)
    took.append(time.process_time())
    oracle = baselines.oracle(stage)
    took.append(time.process_time())
    cpu = [after - before for before, after in pairwise(took)]
    scored = Scored(scenario, stage, Bill(costs(stage, none.dealt), costs(stage, oracle.dealt)))
    return (
        scored.result(Policy.NONE, none.dealt, Deeds(), cpu[0]),
        scored.result(Policy.RETRAIN_ON_DRIFT, recipe.dealt, deeds_of_recipe(recipe), cpu[1]),
        scored.result(Policy.DIAGNOSIS, journal.dealt, deeds_of(journal, stage.onset), cpu[2]),
        scored.result(Policy.ORACLE, oracle.dealt, Deeds(), cpu[3]),
    )
