"""The same counts for parts of the traffic, and whether the parts are treated alike.

What belongs here: cutting rows into segments, counting each, comparing each with the rest. A number
is stated only where enough was seen; below, the answer is "cannot judge", never a guess.
"""

import itertools
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.bootstrap import Interval
from fraud_platform.confusion import Confusion, Judged, confusions
from fraud_platform.money import MoneyPolicy, MoneyReport, money_report
from fraud_platform.proportions import clopper_pearson, effective_size

UNKNOWN, OTHER = "unknown", "other"
MOST_VALUES = 20
"""A column's commonest values are segments; all others together are one more."""
_IDENTITIES = {"transaction_id", "card_id", "event_timestamp", "is_fraud", "score", "weight"}


@dataclass(frozen=True)
class Cut:
    """How one column cuts rows into segments.

    Attributes:
        column: a column of the rows, or "hour": the UTC hour of `event_timestamp`.
        edges: where bands begin, ascending; empty: each value is a segment of its own.
    """

    column: str
    edges: tuple[float, ...] = ()

    @staticmethod
    def parse(text: str) -> "Cut":
        """Read `column` or `column:edge,edge,...`.

        Raises:
            ValueError: the column is an identity, or the edges are no ascending numbers.

        Examples:
            >>> Cut.parse("amount_minor:1000,5000")
            Cut(column='amount_minor', edges=(1000.0, 5000.0))
        """
        column, _, told = text.partition(":")
        edges = tuple(float(edge) for edge in told.split(",")) if told else ()
        ascending = all(low < high for low, high in itertools.pairwise(edges))
        if not column or column in _IDENTITIES or not ascending:
            raise ValueError(
                f"found segments by {text!r}, expected a column that groups rows, and after a "
                "colon, if any, ascending numbers with commas between"
            )
        return Cut(column, edges)


@dataclass(frozen=True, kw_only=True)
class SegmentPolicy:
    """Which parts of the traffic are judged apart, and how much must be seen of each."""

    by: tuple[str, ...] = (
        "amount_minor:1000,5000,20000",
        "hour:6,12,18",
        "card_payment_count_30d:1,10",
        "merchant_category",
        "payment_method",
        "country",
        "entry_mode",
    )
    """Columns that cut the traffic, as a JSON list: `column` for its values, `column:10,50` for
    bands. One that the judged rows do not have is left out, and named."""
    min_frauds: int = 30
    """Fewest frauds in a segment for its recall to be stated."""
    min_genuine: int = 300
    """Fewest genuine payments in a segment for its false positive rate to be stated."""
    min_expected: int = 10
    """Fewest payments that must be expected, at the common rate, to be disturbed or declined in a
    segment, and in the rest, for the two to be compared."""
    max_ratio: float = 1.25
    """How many times as often as the rest a segment may be disturbed or declined, or the rest as
    often as it, more than 1."""

    def __post_init__(self) -> None:
        for text in self.by:
            Cut.parse(text)
        for name in ("min_frauds", "min_genuine", "min_expected"):
            if getattr(self, name) < 1:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least 1")
        if not self.max_ratio > 1:
            raise ValueError(f"found max_ratio={self.max_ratio}, expected more than 1")

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """`by`, read."""
        return tuple(Cut.parse(text) for text in self.by)


class Fairness(StrEnum):
    """What an interval of a ratio says about its bounds."""

    OK = "ok"
    """It lies within them."""
    GAP = "gap"
    """It lies outside of them."""
    CANNOT_JUDGE = "cannot judge"
    """It crosses a bound, or too little was seen to have one."""


@dataclass(frozen=True)
class Ratio:
    """A rate of one segment over that of all other rows.

    Attributes:
        interval: of the ratio, so wide that all those of a report hold together (Bonferroni); None:
            too little was seen.
        verdict: what it says.
    """

    interval: Interval | None
    verdict: Fairness


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One part of the traffic.

    Attributes:
        name: its value or band.
        review: its counts at the review threshold.
        decline: its counts at the decline threshold.
        money: what the outcomes cost in it.
        recall: share of its frauds caught; None: cannot judge.
        false_positive_rate: share of its genuine rows disturbed; None: cannot judge.
        fpr_ratio: false positive rate over that of the other segments.
        decline_ratio: share of payments declined over that of the other segments.
    """

    name: str
    review: Confusion
    decline: Confusion
    money: MoneyReport
    recall: Interval | None
    false_positive_rate: Interval | None
    fpr_ratio: Ratio
    decline_ratio: Ratio


@dataclass(frozen=True)
class SegmentTable:
    """All segments of one cut; each row is in exactly one.

    Attributes:
        column: what cut the rows.
        segments: by band, or by falling number of rows.
    """

    column: str
    segments: tuple[Segment, ...]

    @property
    def verdict(self) -> Fairness:
        """A gap if any segment has one, ok if all are, else cannot judge."""
        found = {
            ratio.verdict
            for part in self.segments
            for ratio in (part.fpr_ratio, part.decline_ratio)
        }
        if Fairness.GAP in found:
            return Fairness.GAP
        return Fairness.OK if found == {Fairness.OK} else Fairness.CANNOT_JUDGE


@dataclass(frozen=True)
class WorkingPoint:
    """Both thresholds, and how their outcomes are priced and judged."""

    review_threshold: float
    decline_threshold: float
    money: MoneyPolicy
    confidence: float


def segment_tables(
    rows: pl.DataFrame, judged: Judged, point: WorkingPoint, policy: SegmentPolicy
) -> tuple[SegmentTable, ...]:
    """Count every segment of every cut whose column the rows have.

    Args:
        rows: the judged rows as a frame, with the columns that cut them.
        judged: the same rows in the same order.
        point: thresholds and prices.
        policy: cuts and fewest counts.
    """
    there = [cut for cut in policy.cuts if cut.column in (*rows.columns, "hour")]
    grouped = [groups(rows, cut) for cut in there]
    # So many ratios are judged that, all alike, some would look like a gap by chance.
    ratios = 2 * sum(len(names) for names, _ in grouped)
    court = _Court(judged, point, policy, 1 - (1 - point.confidence) / max(ratios, 1))
    return tuple(court.table(cut, *groups) for cut, groups in zip(there, grouped, strict=True))


def missing_columns(rows: pl.DataFrame, policy: SegmentPolicy) -> tuple[str, ...]:
    """Columns that should cut the rows and are not there."""
    return tuple(
        cut.column for cut in policy.cuts if cut.column not in rows.columns and cut.column != "hour"
    )


def groups(rows: pl.DataFrame, cut: Cut) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the segments that occur, and each row's place among them.

    Args:
        rows: the column of the cut, or `event_timestamp` for "hour".
        cut: which column, and its bands.
    """
    hour = cut.column == "hour" and "hour" not in rows.columns
    values = rows["event_timestamp"].dt.hour() if hour else rows[cut.column]
    names, places = _bands(values, cut) if cut.edges else _values(values)
    occurring, place = np.unique(places, return_inverse=True)
    return tuple(names[i] for i in occurring), place.astype(np.int64)


def _bands(values: pl.Series, cut: Cut) -> tuple[list[str], NDArray[np.int64]]:
    numbers = values.cast(pl.Float64).to_numpy()
    known = np.isfinite(numbers)
    places = np.searchsorted(np.array(cut.edges), np.where(known, numbers, 0.0), side="right")
    edges = [f"{edge:g}" for edge in cut.edges]
    names = [
        f"below {edges[0]}",
        *(f"{low} to below {high}" for low, high in itertools.pairwise(edges)),
        f"{edges[-1]} or more",
        UNKNOWN,
    ]
    return names, np.where(known, places, len(names) - 1)


def _values(values: pl.Series) -> tuple[list[str], NDArray[np.int64]]:
    texts = values.cast(pl.String).fill_null(UNKNOWN)
    counted = texts.value_counts().sort("count", texts.name, descending=[True, False])
    names = [*counted[texts.name].head(MOST_VALUES).to_list(), OTHER]
    place = {name: i for i, name in enumerate(names[:-1])}
    places = texts.replace_strict(place, default=len(names) - 1, return_dtype=pl.Int64)
    return names, places.to_numpy()


@dataclass(frozen=True)
class _Court:
    judged: Judged
    point: WorkingPoint
    policy: SegmentPolicy
    confidence_of_ratios: float

    def table(self, cut: Cut, names: tuple[str, ...], groups: NDArray[np.int64]) -> SegmentTable:
        point, count = self.point, len(names)
        reviewed = confusions(self.judged, point.review_threshold, groups, count)
        declined = confusions(self.judged, point.decline_threshold, groups, count)
        return SegmentTable(
            cut.column,
            tuple(
                self.segment(name, review, decline, groups == i)
                for i, (name, review, decline) in enumerate(
                    zip(names, reviewed, declined, strict=True)
                )
            ),
        )

    def segment(
        self, name: str, review: Confusion, decline: Confusion, inside: NDArray[np.bool_]
    ) -> Segment:
        genuine, scores = ~self.judged.is_fraud, self.judged.scores
        alerts = scores >= self.point.review_threshold
        declines = scores >= self.point.decline_threshold
        return Segment(
            name=name,
            review=review,
            decline=decline,
            money=money_report(review, decline, self.point.money),
            recall=self._rate(review.recall, inside & ~genuine, self.policy.min_frauds),
            false_positive_rate=self._rate(
                review.false_positive_rate, inside & genuine, self.policy.min_genuine
            ),
            fpr_ratio=self._ratio(alerts & genuine, genuine, inside),
            decline_ratio=self._ratio(declines, np.ones_like(inside), inside),
        )

    def _rate(self, rate: float | None, base: NDArray[np.bool_], fewest: int) -> Interval | None:
        if rate is None or int(base.sum()) < fewest:
            return None
        size = effective_size(self.judged.weights[base])
        low, high = clopper_pearson(rate * size, size, self.point.confidence)
        return Interval(low, rate, high, self.point.confidence)

    def _ratio(
        self, hits: NDArray[np.bool_], base: NDArray[np.bool_], inside: NDArray[np.bool_]
    ) -> Ratio:
        """Rate inside over rate outside; the variance of its logarithm is summed over cards."""
        sides = (base & inside, base & ~inside)
        common = float(hits.sum() / max(base.sum(), 1))
        if min(float(side.sum()) for side in sides) * common < self.policy.min_expected:
            return Ratio(None, Fairness.CANNOT_JUDGE)
        weights, logarithm, poisson = self.judged.weights, 0.0, 0.0
        influence = np.zeros(weights.size)
        for sign, side in zip((1, -1), sides, strict=True):
            # Half a hit where there is none: as many were expected that none is telling.
            struck = max(float(weights[side & hits].sum()), 0.5)
            seen = float(weights[side].sum())
            influence += sign * weights * ((side & hits) / struck - side / seen)
            logarithm += sign * np.log(struck / seen)
            poisson += 1 / struck
        variance = max(float(np.sum(np.bincount(self.judged.cards, influence) ** 2)), poisson)
        return self._judged(float(logarithm), float(np.sqrt(variance)))

    def _judged(self, logarithm: float, deviation: float) -> Ratio:
        confidence = self.confidence_of_ratios
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * deviation
        bound = np.log(self.policy.max_ratio)
        if abs(logarithm) + reach <= bound:
            verdict = Fairness.OK
        else:
            verdict = Fairness.GAP if abs(logarithm) - reach > bound else Fairness.CANNOT_JUDGE
        low, estimate, high = (float(np.exp(logarithm + sign * reach)) for sign in (-1, 0, 1))
        return Ratio(Interval(low, estimate, high, confidence), verdict)
