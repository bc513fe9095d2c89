"""What a model, its thresholds and rules would have done to past payments, beside another's.

What belongs here: deciding again and counting, on payments whose truth is known. What was counted
is `backtest_report`; where payments and scores come from is `adapters.backtest_source`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.backtest_report import BacktestReport, Moved, Sample, Transition
from fraud_platform.backtest_side import Period, SideReport, Workload
from fraud_platform.bootstrap import Interval, intervals
from fraud_platform.confusion import Confusion, Judged, confusion
from fraud_platform.decision import Outcome, Thresholds
from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.metrics import Ranking
from fraud_platform.money import DECLINE, REVIEW, MoneyPolicy, cost_minor, money_report
from fraud_platform.outcome_policy import CODES, OutcomePolicy
from fraud_platform.proportions import effective_size
from fraud_platform.worth import Worth, WorthPolicy

Floats = NDArray[np.float64]
Codes = NDArray[np.int8]

ROW_COLUMNS: dict[str, pl.DataType] = {
    "transaction_id": pl.String(),
    "event_timestamp": pl.Datetime("us", "UTC"),
    "card_id": pl.String(),
    "amount_minor": pl.Int64(),
    "currency": pl.String(),
    "is_fraud": pl.Boolean(),  # null: no mature label
    "propensity": pl.Float64(),  # chance that the label could become known; null without one
    "is_old": pl.Boolean(),  # whether its label would be mature, had it one
}
"""What a backtest has to know of each payment of its period."""

_OUTCOMES = tuple(Outcome)
_RATES = {
    "recall": ("caught", "frauds"),
    "false_positive_rate": ("disturbed", "genuine"),
    "alert_rate": ("alerts", "payments"),
    "decline_rate": ("declined", "payments"),
}


@dataclass(frozen=True, kw_only=True)
class BacktestPolicy:
    """What outcomes cost, what people can review, and how sure the answers must be."""

    money: MoneyPolicy = field(default_factory=MoneyPolicy)
    """What outcomes cost."""
    worth: WorthPolicy = field(default_factory=WorthPolicy)
    """What every fraud loses at least, and the currency, where a side weighs worth."""
    reviews_per_day: int = 100
    """Reviews that people can do in a day."""
    samples: int = 3
    """Payments shown of each part of the swap set, at most."""
    confidence: float = 0.9
    """Of every interval, in (0, 1)."""
    draws: int = 200
    """Draws of cards for the intervals."""
    min_fraud_cards: int = 20
    """Fewest cards with fraud for intervals to be stated."""
    seed: int = 0
    """Of the draws and of the samples."""

    def __post_init__(self) -> None:
        least = {"reviews_per_day": 1, "samples": 0, "draws": 1, "min_fraud_cards": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least {bound}")
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"found confidence={self.confidence}, expected 0 < confidence < 1")


def no_reasons(places: NDArray[np.int64]) -> Sequence[tuple[str, ...]]:
    """Explains nothing."""
    return [()] * len(places)


@dataclass(frozen=True, eq=False, kw_only=True)
class Side:
    """One model under one policy.

    Attributes:
        name: what it is called.
        scores: of all payments, shape (n,), in [0, 1].
        own: the model's own cuts.
        trained_as_of: the moment whose knowledge the model learnt, UTC.
        policy: what replaces its cuts, and rules.
        probabilities: calibrated chances of fraud of all payments, shape (n,); None: unknown.
        explain: the model's reasons for the payments at these places.
    """

    name: str
    scores: Floats
    own: Thresholds
    trained_as_of: datetime
    policy: OutcomePolicy = field(default_factory=OutcomePolicy)
    probabilities: Floats | None = None
    explain: Callable[[NDArray[np.int64]], Sequence[tuple[str, ...]]] = no_reasons


def backtest(
    rows: pl.DataFrame, candidate: Side, against: Side, *, period: Period, policy: BacktestPolicy
) -> BacktestReport:
    """Decide on past payments again, by two sides, and count what that changes.

    Payments count by 1 / propensity, unclipped, so that those which could have got a label by a
    chance only stand for the others like them. Cuts given as false positive rates are set on these
    same payments, for each side by itself.

    Args:
        rows: `ROW_COLUMNS`, every payment of the period, each once.
        candidate: what is asked about.
        against: what it is compared with; both have a score for each row.
        period: which payments these are.
        policy: prices and the rest.

    Raises:
        LabelsNotMatureError: no payment has a mature label.
        DataContractError: the scores are not as many as the rows, or not numbers in [0, 1]; or a
            propensity is not in (0, 1]; or a cut of reviews is above that of declines.

    Examples:
        A fraud of 50.00 that was approved is now declined:

        >>> from datetime import UTC, date, datetime
        >>> rows = pl.DataFrame({
        ...     "transaction_id": ["a", "b"], "card_id": ["c", "d"], "currency": ["EUR"] * 2,
        ...     "event_timestamp": [datetime(2026, 1, 1, 12, tzinfo=UTC)] * 2,
        ...     "amount_minor": [5000, 700], "is_fraud": [True, False], "propensity": [1.0, 1.0],
        ...     "is_old": [True, True]})
        >>> sides = [Side(name=name, scores=np.array([score, 0.1]), own=Thresholds(0.5, 0.8),
        ...               trained_as_of=datetime(2025, 12, 1, tzinfo=UTC))
        ...          for name, score in (("new", 0.9), ("old", 0.2))]
        >>> period = Period(date(2026, 1, 1), date(2026, 1, 1), datetime(2026, 2, 1, tzinfo=UTC))
        >>> found = backtest(rows, *sides, period=period, policy=BacktestPolicy())
        >>> found.newly(Outcome.DECLINE).frauds, found.difference["saved_minor"]
        (1, 5000.0)
    """
    ground = _Ground(rows, policy)
    for side in (candidate, against):
        _require_scores(side, rows.height)
    ours, theirs = _Decided(candidate, ground), _Decided(against, ground)
    drawn = _intervals(ground, ours, theirs)
    return BacktestReport(
        period=period,
        judged=len(ground.known),
        frauds=int(ground.is_fraud.sum()),
        immature=rows.filter(~pl.col("is_old")).height,
        censored=rows.filter(pl.col("is_old") & pl.col("is_fraud").is_null()).height,
        effective_rows=effective_size(ground.weights),
        effective_frauds=effective_size(ground.weights[ground.is_fraud]),
        fraud_cards=ground.fraud_cards,
        currencies=tuple(sorted(ground.judged["currency"].unique().to_list())),
        money=policy.money,
        candidate=_side_report(ours, ground, period, drawn[0]),
        against=_side_report(theirs, ground, period, drawn[1]),
        differences=drawn[2],
        transitions=_transitions(ground, ours, theirs),
    )


class _Ground:
    """The payments of a backtest; those with a mature label as arrays of shape (k,)."""

    def __init__(self, rows: pl.DataFrame, policy: BacktestPolicy) -> None:
        self.rows, self.policy = rows, policy
        self.known = np.flatnonzero(rows["is_fraud"].is_not_null().to_numpy())
        if not self.known.size:
            raise LabelsNotMatureError(f"None of {rows.height:,} payments has a mature label.")
        self.judged = rows[self.known]
        self.is_fraud = self.judged["is_fraud"].to_numpy()
        self.amounts = self.judged["amount_minor"].to_numpy()
        self.cards = self.judged["card_id"].rank("dense").to_numpy().astype(np.int64) - 1
        chance = self.judged["propensity"].to_numpy()
        if not bool(np.all((chance > 0.0) & (chance <= 1.0))):
            raise DataContractError("found a label with a propensity outside (0, 1]")
        self.weights = 1.0 / chance

    @cached_property
    def fraud_cards(self) -> int:
        """Cards with fraud."""
        return int(np.unique(self.cards[self.is_fraud]).size)

    def confusion(self, outcomes: Codes, at_least: int) -> Confusion:
        """Counts of an outcome and stricter ones; outcomes are ordered, so they serve as scores."""
        judged = Judged(
            is_fraud=self.is_fraud,
            scores=outcomes.astype(np.float64),
            amounts=self.amounts,
            weights=self.weights,
            cards=self.cards,
        )
        return confusion(judged, float(at_least))

    def by_card(self, *columns: NDArray[np.float64] | NDArray[np.bool_]) -> Floats:
        """Weighted sums of columns of shape (k,) over each card, shape (cards, columns)."""
        return np.column_stack([np.bincount(self.cards, self.weights * one) for one in columns])


class _Decided:
    """What one side decides: about all payments, and about the judged ones."""

    def __init__(self, side: Side, ground: _Ground) -> None:
        self.side = side
        scores = side.scores[ground.known]

        def at_fpr(fpr: float) -> float:
            curve = Ranking(ground.is_fraud, scores).curve(ground.weights)
            return curve.threshold_at_fpr(fpr)

        self.thresholds = side.policy.thresholds(side.own, at_fpr)
        amounts = ground.rows["amount_minor"].to_numpy()
        weigh = None if side.policy.worth_multiplier is None else _weighing(side, ground)
        self.all_outcomes = side.policy.outcomes(side.scores, amounts, self.thresholds, weigh)
        self.outcomes = self.all_outcomes[ground.known]
        self.cost = cost_minor(ground.is_fraud, ground.amounts, self.outcomes, ground.policy.money)


def _weighing(side: Side, ground: _Ground) -> Callable[[Codes], Codes]:
    """What makes outcomes milder where disturbing does not pay, as the scorer does."""
    multiplier = side.policy.worth_multiplier
    if multiplier is None or side.probabilities is None:
        raise DataContractError(
            f"{side.name}: found no chances of fraud, expected a model that states them",
            hint="it was calibrated on too few frauds: leave worth_multiplier out of its policy",
        )
    rows, policy, chances = ground.rows, ground.policy.worth, side.probabilities
    worth = Worth(replace(policy, multiplier=multiplier), ground.policy.money)
    is_priced = (rows["currency"] == policy.currency).to_numpy()
    amounts = rows["amount_minor"].to_numpy()

    def weigh(outcomes: Codes) -> Codes:
        found: Codes = np.where(
            is_priced, worth.cheapest_of_each(outcomes, chances, amounts), outcomes
        )
        return found

    return weigh


def _require_scores(side: Side, height: int) -> None:
    usable = int(np.sum((side.scores >= 0.0) & (side.scores <= 1.0)))
    if side.scores.shape != (height,) or usable < height:
        raise DataContractError(
            f"{side.name}: found {usable:,} scores in [0, 1], expected one for each of {height:,} "
            "payments"
        )


def _side_report(
    decided: _Decided, ground: _Ground, period: Period, spans: dict[str, Interval]
) -> SideReport:
    review = ground.confusion(decided.outcomes, REVIEW)
    decline = ground.confusion(decided.outcomes, DECLINE)
    thresholds = decided.thresholds
    return SideReport(
        name=decided.side.name,
        thresholds=thresholds,
        policy=decided.side.policy,
        trained_as_of=decided.side.trained_as_of,
        judged_before_training=ground.judged.filter(
            pl.col("event_timestamp") < decided.side.trained_as_of
        ).height,
        review=replace(review, threshold=thresholds.review),
        decline=replace(decline, threshold=thresholds.decline),
        money=money_report(review, decline, ground.policy.money),
        workload=_workload(decided, ground, period),
        intervals=spans,
    )


def _workload(decided: _Decided, ground: _Ground, period: Period) -> Workload:
    days = [
        period.first + timedelta(days=age) for age in range((period.last - period.first).days + 1)
    ]
    reviewed = ground.rows.filter(pl.Series(decided.all_outcomes == REVIEW))
    found = dict(reviewed.group_by(pl.col("event_timestamp").dt.date()).len().iter_rows())
    return Workload(
        ground.policy.reviews_per_day, tuple(days), tuple(found.get(day, 0) for day in days)
    )


def _intervals(
    ground: _Ground, ours: _Decided, theirs: _Decided
) -> tuple[dict[str, Interval], dict[str, Interval], dict[str, Interval]]:
    """Intervals of both sides and of what lies between them; none where few cards have fraud.

    All numbers are ratios of sums, so each card's sums are made once and cards are drawn.
    """
    policy = ground.policy
    if ground.fraud_cards < policy.min_fraud_cards or ground.is_fraud.all():
        return {}, {}, {}
    common = ground.by_card(ground.is_fraud, ~ground.is_fraud)
    loss = policy.money.fraud_loss_share * ground.amounts * ground.is_fraud
    sums = [
        ground.by_card(
            ground.is_fraud & (one.outcomes >= REVIEW),
            ~ground.is_fraud & (one.outcomes >= REVIEW),
            one.outcomes == DECLINE,
            one.cost,
            loss - one.cost,
        )
        for one in (ours, theirs)
    ]

    def statistic(times: Floats) -> list[float]:
        frauds, genuine = (times @ common).tolist()
        if not (frauds > 0.0 and genuine > 0.0):
            raise LabelsNotMatureError("No fraud, or no genuine payment, among the cards drawn.")
        both = [_numbers(times @ part, frauds, genuine) for part in sums]
        return [*both[0], *both[1], *(a - b for a, b in zip(*both, strict=True))]

    cards = pl.Series(np.arange(len(common)))
    found = intervals(
        cards, statistic, seed=policy.seed, draws=policy.draws, confidence=policy.confidence
    )
    names = (*_RATES, "cost_minor", "saved_minor")
    first, second, third = (
        dict(zip(names, found[place : place + len(names)], strict=True))
        for place in range(0, len(found), len(names))
    )
    return first, second, third


def _numbers(sums: Floats, frauds: float, genuine: float) -> list[float]:
    """The values of `_RATES`, the cost and what is saved."""
    caught, disturbed, declined, cost, saved = sums.tolist()
    whole = {"caught": caught, "disturbed": disturbed, "declined": declined, "frauds": frauds}
    whole |= {"genuine": genuine, "alerts": caught + disturbed, "payments": frauds + genuine}
    return [*(whole[part] / whole[of] for part, of in _RATES.values()), cost, saved]


def _transitions(ground: _Ground, ours: _Decided, theirs: _Decided) -> tuple[Transition, ...]:
    """The swap set: one part for each pair of different outcomes, also where it is empty."""
    return tuple(
        _transition(ground, ours, theirs, (before, after))
        for after in _OUTCOMES
        for before in _OUTCOMES
        if before is not after
    )


def _transition(
    ground: _Ground, ours: _Decided, theirs: _Decided, move: tuple[Outcome, Outcome]
) -> Transition:
    before, after = (CODES[outcome] for outcome in move)
    places = np.flatnonzero((theirs.outcomes == before) & (ours.outcomes == after))
    fraud, weights = ground.is_fraud[places], ground.weights[places]
    amounts = weights * ground.amounts[places]
    moved = Moved(
        payments=len(places),
        frauds=int(fraud.sum()),
        payments_weight=float(weights.sum()),
        frauds_weight=float(weights[fraud].sum()),
        amount_minor=float(amounts.sum()),
        fraud_amount_minor=float(amounts[fraud].sum()),
        saved_minor=float(np.sum(weights * (theirs.cost[places] - ours.cost[places]))),
    )
    shown = min(ground.policy.samples, len(places))
    chosen = np.random.default_rng(ground.policy.seed).choice(places, shown, replace=False)
    stricter = ours if after > before else theirs
    return Transition(
        before=move[0],
        after=move[1],
        moved=moved,
        samples=_samples(ground, (ours, theirs), stricter, ground.known[chosen]),
    )


def _samples(
    ground: _Ground,
    sides: tuple[_Decided, _Decided],
    stricter: _Decided,
    chosen: NDArray[np.int64],
) -> tuple[Sample, ...]:
    """The payments at these places of all rows, in the order of time."""
    places = chosen[ground.rows["event_timestamp"].gather(chosen).arg_sort().to_numpy()]
    if not places.size:
        return ()
    names = ("transaction_id", "event_timestamp", "amount_minor", "currency", "is_fraud")
    scores = (one.side.scores[places].tolist() for one in sides)
    return tuple(
        Sample(**payment, score=ours, score_against=theirs, reasons=tuple(why))
        for payment, ours, theirs, why in zip(
            ground.rows.select(names)[places].iter_rows(named=True),
            *scores,
            _reasons(ground, stricter.side, places),
            strict=True,
        )
    )


def _reasons(ground: _Ground, side: Side, places: NDArray[np.int64]) -> Iterator[tuple[str, ...]]:
    """The rule that decides, if one does, and the model's reasons."""
    amounts = ground.rows["amount_minor"].gather(places).to_list()
    for place, amount, why in zip(places, amounts, side.explain(places), strict=True):
        rule = side.policy.rule_of(side.scores[place], amount)
        yield tuple(why) if rule is None else (f"rule: {rule}", *why)
