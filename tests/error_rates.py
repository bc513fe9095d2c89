"""Is an error that was counted in a simulation still what was promised?

`STATS_RUNS=10000` is the nightly form: every simulated rate then rests on so many runs.
"""

import os

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom


def at_least(runs: int) -> int:
    """How often to simulate: so often, or as the nightly form asks."""
    return max(runs, int(os.environ.get("STATS_RUNS", "0")))


def keeps(errors: NDArray[np.bool_], rate: float) -> bool:
    """Whether so many errors could be chance (1 in 1,000) if their true rate is at most `rate`."""
    return bool(errors.sum() <= binom.isf(1e-3, errors.size, rate))


def within(errors: NDArray[np.bool_], low: float, high: float) -> bool:
    """Whether the true rate of errors could lie between the two."""
    return keeps(errors, high) and keeps(~errors, 1.0 - low)
