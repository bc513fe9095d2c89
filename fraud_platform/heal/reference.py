"""What is normal: the bounds of the monitors, and what was learnt from payments known to be well.

What belongs here: the policy and the reference. What is held against it is `invariants`, `units`,
`rhythm` and `clues`. A reference is frozen: it is learnt again only after a verified heal.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.fallbacks import GROUPS
from fraud_platform.features.spec import CALENDAR_NAMES, MONEY_NAMES
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.hourly import HOURS, hours_of_day, matched
from fraud_platform.proportions import wilson
from fraud_platform.schemas import CONTEXT_COLUMNS, UTC_MICROSECONDS
from fraud_platform.stats.drift_measures import Bins, Tally, tally

Floats = NDArray[np.float64]

HOUR_US, DAY_US, WEEK_HOURS = 3_600_000_000, 86_400_000_000, 168

AMOUNT = MONEY_NAMES[0]
"""The amount as it was sent, under the name of its feature."""

MANNER = ("payment_method", "entry_mode")
"""How a payment is made: which facts a sender knows depends on it."""

TERMINAL_FACTS = ("merchant_category", "country", "latitude", "longitude")
"""Facts of the terminal: who knows a terminal knows which of them are known."""

CLOSED = ("payment_method", "entry_mode", "currency")
"""Vocabularies that are agreed: one new word is a change of the contract."""
OPEN = ("country", "merchant_category")
"""Vocabularies that trade extends: new words are normal unless old ones vanish for them."""

ENTITIES = ("card_id", "terminal_id", "device_id")
"""Who can make unusually many payments."""

LAWS = (
    ("card_payment_count_1h", "card_payment_count_1d"),
    ("card_payment_count_1d", "card_payment_count_7d"),
    ("card_payment_count_7d", "card_payment_count_30d"),
    ("card_distinct_terminals_1d", "card_payment_count_1d"),
    ("card_amount_min_30d", "card_amount_mean_30d"),
    ("card_amount_mean_30d", "card_amount_max_30d"),
    ("transaction_amount", "card_amount_max_30d"),
    ("terminal_distinct_cards_1d", "terminal_payment_count_1d"),
)
"""Pairs of features, the first of which never exceeds the second, where the reference agrees."""

BUSIEST = (1, 10)
"""One terminal is used to test cards, ten devices are a farm of bots."""

_FEWEST_WINDOWS = 3
_HOUR = "transaction_hour_of_day"
_FEWEST_MATCHED = 200
"""Equal rows of the window's hours in the reference; chance moves the PSI of ten bins of so many
rows by 0.02, as a standard deviation."""
_LEAST_OF_A_KIND = 20  # payments of a terminal or a manner before it speaks for itself


@dataclass(frozen=True, kw_only=True)
class MonitorPolicy:
    """Bounds of the monitors that look at payments, features, labels and audits.

    Raises:
        ValueError: a value is out of its range.
    """

    window: int = 3_000
    """Newest payments that are looked at."""
    min_rows: int = 500
    """Fewest of them; below, a monitor is blind."""
    confidence: float = 0.9999
    """Two-sided confidence that a share must reach before it exceeds its bound."""
    max_null_gain: float = 0.02
    """Tolerated rise of the share of nulls, absolute."""
    max_outside: float = 0.01
    """Tolerated share of values outside of the reference's range."""
    range_spread: float = 3.0
    """The range of a quantity reaches so many times beyond its smallest and largest value."""
    max_new_share: float = 0.02
    """Tolerated share of values, or of pairs of values, that the reference does not know."""
    max_duplicate_gain: float = 0.02
    """Tolerated rise of the share of payments that repeat another."""
    duplicate_seconds: float = 10.0
    """Same card, terminal and amount within this time: a repetition."""
    max_rejected: float = 0.02
    """Tolerated share of payments that are refused at the door."""
    max_unit_distance: float = 0.08
    """Largest Kolmogorov-Smirnov distance, after the division, of a change of unit."""
    min_unit_share: float = 0.05
    """Fewest payments in the other unit, as a share."""
    max_clock_shift_minutes: float = 10.0
    """Tolerated change of the time between a payment and its arrival."""
    min_clock_gain: float = 0.05
    """Likelihood per payment, in nats, that another hour must gain to be called the true one."""
    max_feature_age_seconds: float = 600.0
    """Largest age of what the newest features know, 99th percentile."""
    max_parity_share: float = 0.005
    """Tolerated share of served vectors that differ from the recomputed ones."""
    max_score_change: float = 1e-6
    """Largest change of a stored row's score."""
    max_conflict_gain: float = 0.02
    """Tolerated rise of the share of labelled payments whose sources contradict each other."""
    max_silence_seconds: float = 120.0
    """Longest time without a sign of life."""
    bins: int = 10
    """Quantile bins of a shift."""
    noted_psi: float = 0.02
    """Debiased PSI from which a shift is written down."""
    major_psi: float = 0.10
    """Debiased PSI from which it counts as a clue."""
    false_discoveries: float = 0.05
    """Mean share of the features called shifted that are not."""
    max_volume_ratio: float = 2.0
    """Payments against those of the same hours of the week."""
    max_concentration: float = 1.5
    """Share of the busiest cards or terminals against the largest that the reference ever had."""
    change_hours: float = 24.0
    """For this long a change of model or configuration is a suspect."""
    max_missed_ratio: float = 1.25
    """Tolerated ratio of reported frauds to those the scores led to expect."""
    report_alpha: float = 1e-4
    """A false alarm about missed fraud once in 1 / alpha steps or less often."""
    report_step_hours: int = 6
    """Length of such a step."""
    audit_confidence: float = 0.999
    """Two-sided confidence of the ratio of audited to expected frauds."""
    min_audits: int = 30
    """Fewest audits that may speak."""
    min_audit_ratio: float = 0.8
    """Below this ratio the model sees fraud where none is."""
    surge_audit_ratio: float = 1.3
    """Above it there is an attack that the model does see."""
    max_replay_ratio: float = 1.25
    """Tolerated ratio of disturbed payments, champion to the one before, on the same payments."""
    replay_alpha: float = 1e-4
    """Chance to call a champion worse than the one before that is not."""

    def __post_init__(self) -> None:
        for field in fields(self):
            # A NaN fails every comparison, so this also refuses what is not a number.
            if not getattr(self, field.name) > 0:
                raise ValueError(f"found {field.name}={getattr(self, field.name)}, expected > 0")
        shares = ("confidence", "audit_confidence", "report_alpha", "replay_alpha", "max_outside")
        for name in (*shares, "max_null_gain", "max_new_share", "false_discoveries"):
            if not getattr(self, name) < 1:
                raise ValueError(f"found {name}={getattr(self, name)}, expected below 1")


@dataclass(frozen=True)
class Reference:
    """Payments that are known to be well; everything else here is learnt from them.

    Attributes:
        payments: `PAYLOAD_COLUMNS`, and received_timestamp if known, in order of event time; whole
            weeks tell volumes, several windows tell how busy the busiest are.
        features: one Float64 column per feature, of these or of other well payments; or None.
        scores: of the champion on such payments, shape (n,); or None.
        policy: what it is learnt by, and what is held against it.
    """

    payments: pl.DataFrame
    features: pl.DataFrame | None = None
    scores: Floats | None = None
    policy: MonitorPolicy = MonitorPolicy()

    @cached_property
    def null_shares(self) -> dict[str, float]:
        """Share of nulls by column of the context."""
        row = self.payments.select(pl.col(*CONTEXT_COLUMNS).is_null().mean()).to_dicts()[0]
        return {name: float(share or 0.0) for name, share in row.items()}

    @cached_property
    def nulls_by_terminal(self) -> pl.DataFrame:
        """terminal_id and the share of nulls of each of `TERMINAL_FACTS`, of well-known ones."""
        return (
            self.payments.group_by("terminal_id")
            .agg(pl.col(*TERMINAL_FACTS).is_null().mean(), rows=pl.len())
            .filter(pl.col("rows") >= _LEAST_OF_A_KIND)
            .drop("rows")
        )

    @cached_property
    def nulls_by_manner(self) -> pl.DataFrame:
        """`MANNER` and the share of nulls of every other fact, of common manners of paying."""
        told = [name for name in CONTEXT_COLUMNS if name not in MANNER]
        return (
            self.payments.group_by(MANNER)
            .agg(pl.col(told).is_null().mean(), rows=pl.len())
            .filter(pl.col("rows") >= _LEAST_OF_A_KIND)
            .drop("rows")
        )

    @cached_property
    def amounts(self) -> Floats:
        """Amounts in minor units, sorted; shape (n,)."""
        return np.sort(self.payments["amount_minor"].to_numpy().astype(np.float64))

    @cached_property
    def quantities(self) -> dict[str, Floats]:
        """The amount as sent, and every feature that rests on amounts -> known values, sorted."""
        told = {AMOUNT: self.amounts}
        if self.features is not None:
            for name in GROUPS["money"]:
                if name != AMOUNT and name in self.features.columns:
                    values = floats(self.features[name])
                    told[name] = np.sort(values[~np.isnan(values)])
        return told

    @cached_property
    def bins(self) -> dict[str, Bins]:
        """Quantile bins of the amount as sent and of every numeric feature of no calendar."""
        cut = self.policy.bins
        amounts = floats(self.payments["amount_minor"])
        told = {AMOUNT: Bins.of(amounts, cut, hours_of_day(event_us(self.payments)))}
        if self.features is not None:
            for name, dtype in self.features.schema.items():
                if name not in (*CALENDAR_NAMES, AMOUNT) and dtype.is_numeric():
                    told[name] = Bins.of(floats(self.features[name]), cut, self.feature_hours)
        return told

    @cached_property
    def tallies(self) -> dict[str, Tally]:
        """Field of `CLOSED` and `OPEN` -> its values, null among them, and how often."""
        return {name: tally(self.payments[name]) for name in (*CLOSED, *OPEN)}

    @cached_property
    def tallies_by_hour(self) -> dict[str, list[Tally]]:
        """The same for each hour of the day."""
        hours = hours_of_day(event_us(self.payments))
        parts = [self.payments.filter(hours == hour) for hour in range(HOURS)]
        return {name: [tally(part[name]) for part in parts] for name in (*CLOSED, *OPEN)}

    @cached_property
    def feature_hours(self) -> NDArray[np.int64] | None:
        """Hour of the day of each row of the features, shape (n,); None if they do not say."""
        if self.features is None or _HOUR not in self.features.columns:
            return None
        hours = self.features[_HOUR].cast(pl.Float64).fill_nan(None)
        return None if hours.null_count() else hours.cast(pl.Int64).to_numpy()

    @cached_property
    def score_bins(self) -> Bins | None:
        """Quantile bins of the scores, or None without any."""
        if self.scores is None:
            return None
        return Bins.of(self.scores, self.policy.bins, self._score_hours)

    @property
    def _score_hours(self) -> NDArray[np.int64] | None:
        """Of the scores, where they are of the rows of the features."""
        hours, scores = self.feature_hours, self.scores
        return (
            hours
            if hours is not None and scores is not None and len(hours) == scores.size
            else None
        )

    def matched_payments(self, window: pl.DataFrame) -> Floats | None:
        """What a payment of each hour counts, so that nights are compared with nights.

        None where too few would count: then with all.
        """
        hours = hours_of_day(event_us(self.payments))
        return matched(hours, hours_of_day(event_us(window)), _FEWEST_MATCHED)

    def matched_features(self, window: pl.DataFrame) -> Floats | None:
        """The same of the rows of the features."""
        if self.feature_hours is None:
            return None
        return matched(self.feature_hours, hours_of_day(event_us(window)), _FEWEST_MATCHED)

    def matched_scores(self, window: pl.DataFrame) -> Floats | None:
        """The same of the scores."""
        return None if self._score_hours is None else self.matched_features(window)

    @cached_property
    def delay_minutes(self) -> float | None:
        """Median time from a payment to its arrival, or None when arrivals are not known."""
        return delay_minutes(self.payments)

    @cached_property
    def rates(self) -> Floats:
        """Payments an hour, by hour of the week from Monday midnight UTC, shape (168,).

        From less than a week, by hour of the day; NaN throughout from less than a day.
        """
        hours = hours_of(self.payments)
        first, last = int(hours.min()), int(hours.max())
        whole = np.arange(first + 1, last)  # the first and the last hour may be cut
        cycle = WEEK_HOURS if whole.size >= WEEK_HOURS else 24
        if whole.size < 24:
            return np.full(WEEK_HOURS, np.nan)
        counts = np.bincount(hours - first, minlength=last - first + 1)[1:-1]
        places = hour_of_week(whole) % cycle
        mean = np.bincount(places, counts, cycle) / np.bincount(places, minlength=cycle)
        return np.resize(mean, WEEK_HOURS)

    @cached_property
    def known_values(self) -> dict[str, dict[object, float]]:
        """Field of `CLOSED` and `OPEN` that is ever known -> its values and their share."""
        found = {}
        for name, counts in self.tallies.items():
            known = {value: rows for value, rows in counts.items() if value is not None}
            rows = sum(known.values())
            if rows:
                found[name] = {value: count / rows for value, count in known.items()}
        return found

    @cached_property
    def manners(self) -> frozenset[tuple[object, ...]]:
        """The combinations of `MANNER` that occur."""
        return frozenset(self.payments.select(*MANNER).drop_nulls().unique().rows())

    @cached_property
    def repeated_share(self) -> float:
        """Share of payments that repeat another."""
        return repeated(self.payments, self.policy.duplicate_seconds)

    @cached_property
    def kept_laws(self) -> tuple[tuple[str, str], ...]:
        """Those of `LAWS` that hold for every row of the features."""
        if self.features is None:
            return ()
        told = [law for law in LAWS if set(law) <= set(self.features.columns)]
        return tuple(law for law in told if not broken(self.features, *law))

    @cached_property
    def busiest(self) -> dict[tuple[str, int], float]:
        """(entity, so many busiest) -> their largest share in any window; empty below three."""
        rows = self.policy.window
        windows = [self.payments.slice(n, rows) for n in range(0, self.payments.height, rows)]
        whole = [one for one in windows if one.height == rows]
        if len(whole) < _FEWEST_WINDOWS:
            return {}
        shares = [busiest_shares(one) for one in whole]
        return {who: max(each[who] for each in shares) for who in shares[0]}


def hours_of(payments: pl.DataFrame) -> NDArray[np.int64]:
    """Hours since 1970-01-01 UTC in which the payments happened, shape (n,)."""
    return event_us(payments) // HOUR_US


def event_us(payments: pl.DataFrame) -> NDArray[np.int64]:
    """Event times, microseconds UTC, shape (n,)."""
    times = payments["event_timestamp"].cast(UTC_MICROSECONDS).cast(pl.Int64)
    return times.to_numpy().astype(np.int64)


def hour_of_week(hours: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 for Monday's first hour, UTC; 1970-01-01 was a Thursday.

    Examples:
        >>> hour_of_week(np.array([0, 24, 96])).tolist()
        [72, 96, 0]
    """
    return (hours + 72) % WEEK_HOURS


def floats(column: pl.Series) -> Floats:
    """A column as numbers, NaN for null, shape (n,)."""
    return column.cast(pl.Float64).to_numpy()


def repeated(payments: pl.DataFrame, seconds: float) -> float:
    """Share of payments that repeat the one before of the same card, terminal and amount."""
    if payments.is_empty():
        return 0.0
    # By a hash of 64 bits: among millions of payments not one pair is taken for the same wrongly.
    same = payments.select("card_id", "terminal_id", "amount_minor", "currency").hash_rows()
    told, times = same.to_numpy(), event_us(payments)
    order = np.lexsort((times, told))
    told, gaps = told[order], np.diff(times[order])
    near = (told[1:] == told[:-1]) & (gaps <= seconds * 1e6)
    return float(near.sum()) / payments.height


def delay_minutes(payments: pl.DataFrame) -> float | None:
    """Median time from a payment to its arrival, or None when arrivals are not known."""
    if "received_timestamp" not in payments.columns or payments.is_empty():
        return None
    delay = (payments["received_timestamp"] - payments["event_timestamp"]).dt.total_microseconds()
    return float(np.median(delay.to_numpy())) / 60e6


def broken(features: pl.DataFrame, low: str, high: str) -> float:
    """Share of rows in which one feature exceeds another beyond rounding."""
    over = pl.col(low) > pl.col(high) * (1 + 1e-9)
    return float(features.select(over.fill_null(value=False).mean()).item() or 0.0)


def busiest_shares(payments: pl.DataFrame) -> dict[tuple[str, int], float]:
    """(entity, so many busiest) -> their share of the payments; those without it do not count.

    Examples:
        >>> few = pl.DataFrame({"card_id": ["a", "a", "b", None]})
        >>> few = few.with_columns(terminal_id="card_id", device_id="card_id")
        >>> busiest_shares(few)["card_id", 1]
        0.5
    """
    found = {}
    for entity in ENTITIES:
        counts = payments[entity].drop_nulls().value_counts()["count"].sort(descending=True)
        for count in BUSIEST:
            found[entity, count] = float(counts.head(count).sum()) / max(payments.height, 1)
    return found


def surely_above(hits: float, rows: int, bound: float, policy: MonitorPolicy) -> bool:
    """Whether a share exceeds its bound beyond chance.

    Examples:
        >>> [surely_above(hits, 100, 0.02, MonitorPolicy()) for hits in (4, 20)]
        [False, True]
    """
    return wilson(round(hits), rows, policy.confidence)[0] > min(bound, 1.0)


def blind(signal: Signal, why: str, rows: int = 0) -> Reading:
    """The reading of what cannot be told now."""
    return Reading(signal=signal, standing=Standing.BLIND, rows=rows, why=why)


def standing_of(is_breached: bool) -> Standing:
    """Breached or fine."""
    return Standing.BREACHED if is_breached else Standing.FINE
