"""The offline reading of a declaration by compiled loops: `batch`, several times faster.

Optional: it needs the extra `kernel` (numba), and nothing imports it unless it is asked for. It
answers with the same bits as `batch`, which says what the values are. Decisions are put behind the
payments they see by `kernel_lines`, `kernel_past` keeps what features share, and the passes over
all decisions are `kernel_loops`; here stands which loop answers which declaration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.features import kernel_loops as loops
from fraud_platform.features import kernel_medians, kernel_spreads
from fraud_platform.features.declaration import (
    ENTITY_COLUMNS,
    KEYS,
    PLAIN,
    Feature,
    Function,
    Stream,
)
from fraud_platform.features.kernel_log import Log
from fraud_platform.features.kernel_past import Accused, Ring, Side, each, marks
from fraud_platform.features.spec import FEATURES

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Floats = NDArray[np.float64]

_P, _F = Stream.PAYMENTS, Function


def compute(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    since: datetime | None = None,
    features: tuple[Feature, ...] = FEATURES,
    seen: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """What `batch.compute` answers for the same arguments, bit for bit.

    Args:
        transactions: as there.
        labels: as there.
        since: as there.
        features: as there.
        seen: as there.

    Returns:
        The table that `batch.compute` returns.

    Raises:
        PermanentError: an amount is too large for exact sums.
    """
    log = Log(transactions, labels, since, seen)
    block = np.empty((len(features), len(log.wanted)))  # at once: it fits large pages better
    columns = {feature.name: column for feature, column in zip(features, block, strict=True)}
    for feature in features:
        if feature.function in PLAIN:
            _PLAIN[feature.function](log.times, log.amounts, log.wanted, columns[feature.name])
    mine = {
        entity: [feature for feature in features if feature.entity == entity]
        for entity in ENTITY_COLUMNS
    }
    sides = {
        entity: Side.of(log, entity, max(feature.reach_us for feature in found))
        for entity, found in mine.items()
        if found
    }
    if any(feature.needs_marks for feature in features) and "is_outlier" not in log.rows.columns:
        log.marks = marks(log, sides.get("card"))
    for entity in list(sides):
        side = sides.pop(entity)  # its memory is free when the next one needs it
        for feature in mine[entity]:
            loop = _LOOPS[feature.stream, feature.function]
            loop(_Look(feature, side), columns[feature.name])
    wanted = log.rows if since is None else log.rows[log.wanted]
    return wanted.select(KEYS).hstack([
        pl.Series(feature.name, columns[feature.name], nan_to_null=True)
        for feature in features
    ])  # fmt: skip


@dataclass(frozen=True)
class _Look:
    """All decisions looking at their windows of one feature."""

    feature: Feature
    side: Side

    @property
    def asked(self) -> loops.Asked:
        return self.side.asked

    @property
    def ring(self) -> Ring:
        return self.side.ring(self.feature.where)

    @property
    def amounts(self) -> Ints:
        return self.ring.payments.amounts

    @property
    def window(self) -> loops.Window:
        return self.ring.window(self.feature.delay_us, self.feature.reach_us)

    @property
    def twice_medians(self) -> Ints:
        return self.ring.twice_medians(self.feature.delay_us, self.feature.reach_us)

    @property
    def accused(self) -> Accused:
        return self.side.accused(self.feature.where)

    @property
    def frauds(self) -> Places:
        """Number of frauds known to each decision."""
        return self.accused.counted(self.feature.delay_us, self.feature.reach_us)[0]

    @property
    def newest_fraud(self) -> Places:
        """Place of the newest one; -1: none."""
        return self.accused.counted(self.feature.delay_us, self.feature.reach_us)[1]

    @property
    def streaks(self) -> Places:
        """How many of the newest payments each decision knows to be frauds, without a gap."""
        return self.accused.streaks(self.ring, self.feature.delay_us, self.feature.reach_us)

    @property
    def codes(self) -> tuple[Places, Places, int]:
        """The values a feature looks at: of the payments, of the asked, and how many there are."""
        name = str(self.feature.value)
        return (
            self.ring.payments.codes(name),
            self.side.askers.codes(name),
            self.side.log.number_of_codes(name),
        )

    def count_distinct(self, out: Floats) -> None:
        """Number of different values seen."""
        codes, _, size = self.codes
        loops.distincts(self.asked, self.window, codes, size, out)

    def find_firsts(self, out: Floats) -> None:
        """Whether the own value was not seen."""
        loops.firsts(self.asked, self.window, *self.codes, out)

    def since_last(self, out: Floats) -> None:
        """Age of the newest payment seen."""
        places = loops.newest(self.window, each(self.asked, -1))
        loops.seconds_since(self.asked, self.ring.payments.times, places, out)

    def since_first(self, out: Floats) -> None:
        """Age of the oldest payment seen."""
        places = loops.oldest(self.window, each(self.asked, -1))
        loops.seconds_since(self.asked, self.ring.payments.times, places, out)

    def since_fraud(self, out: Floats) -> None:
        """Age of the newest fraud known."""
        loops.seconds_since(self.asked, self.accused.payments.times, self.newest_fraud, out)

    def since_streak(self, out: Floats) -> None:
        """Age of the oldest payment of the streak."""
        places = np.where(self.streaks > 0, self.window.last - self.streaks, -1)
        loops.seconds_since(self.asked, self.ring.payments.times, places, out)

    def since_good(self, out: Floats) -> None:
        """Age of the newest payment not known to be fraud."""
        places = self.window.last - self.streaks - 1
        places[places < self.window.first] = -1
        loops.seconds_since(self.asked, self.ring.payments.times, places, out)


_LOOPS: dict[tuple[Stream, Function], Callable[[_Look, Floats], None]] = {
    (_P, _F.COUNT): lambda at, out: loops.counts(at.asked, at.window, out),
    (_P, _F.SUM): lambda at, out: loops.totals(at.asked, at.window, at.ring.sums, out),
    (_P, _F.MEAN): lambda at, out: loops.means(at.asked, at.window, at.ring.sums, out),
    (_P, _F.MIN): lambda at, out: loops.extremes(at.asked, at.window, at.amounts, -1, out),
    (_P, _F.MAX): lambda at, out: loops.extremes(at.asked, at.window, at.amounts, 1, out),
    (_P, _F.MEDIAN): lambda at, out: kernel_medians.medians(
        at.asked, at.window, at.twice_medians, out
    ),
    (_P, _F.STD): lambda at, out: kernel_spreads.spreads(at.asked, at.window, at.ring.squares, out),
    (_P, _F.Z_SCORE): lambda at, out: kernel_spreads.z_scores(
        at.asked, at.window, at.ring.squares, out
    ),
    (_P, _F.OVER_MEAN): lambda at, out: loops.over_means(at.asked, at.window, at.ring.sums, out),
    (_P, _F.OVER_MEDIAN): lambda at, out: kernel_medians.over_medians(
        at.asked, at.twice_medians, out
    ),
    (_P, _F.DISTINCT): _Look.count_distinct,
    (_P, _F.IS_FIRST): _Look.find_firsts,
    (_P, _F.SECONDS_SINCE_LAST): _Look.since_last,
    (_P, _F.SECONDS_SINCE_FIRST): _Look.since_first,
    (Stream.FRAUDS, _F.COUNT): lambda at, out: loops.numbers(at.asked, at.frauds, out),
    (Stream.FRAUDS, _F.RATE): lambda at, out: loops.shares(at.asked, at.window, at.frauds, out),
    (Stream.FRAUDS, _F.SECONDS_SINCE_LAST): _Look.since_fraud,
    (Stream.FRAUDS, _F.STREAK_LENGTH): lambda at, out: loops.numbers(at.asked, at.streaks, out),
    (Stream.FRAUDS, _F.SECONDS_SINCE_STREAK): _Look.since_streak,
    (Stream.GOOD, _F.SECONDS_SINCE_LAST): _Look.since_good,
}

_PLAIN: dict[Function, Callable[[Ints, Ints, Places, Floats], None]] = {
    Function.AMOUNT: loops.own_amounts,
    Function.HOUR_OF_DAY: loops.hours,
    Function.IS_WEEKEND: loops.weekends,
    Function.IS_NIGHT: loops.nights,
}
