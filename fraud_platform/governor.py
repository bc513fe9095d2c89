"""A cap on how many payments a model may disturb, held while no label is known.

What belongs here: the window of scores, the cuts that it allows, and what holding them costs. The
arithmetic of the bound is `stats.block_budget`; feeding it and obeying it is `serving.governing`.

It is a cap and never a target: a cut in force is the model's own cut or a higher one. Tightening is
immediate, for every payment too many disturbs a customer; loosening is slow, for whoever can make
scores rise for a while must not be able to open the gate behind them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_platform.decision import Outcome, Thresholds, decide
from fraud_platform.events import Decision
from fraud_platform.stats.block_budget import (
    Audits,
    FprPolicy,
    allowed_blocks,
    block_budget,
    fpr_bound,
    lowest_threshold,
)

Floats = NDArray[np.float64]

_HOUR_US = 3_600_000_000
_SEVERITY = list(Outcome).index
_DECISION, _SCORE = map(Decision._fields.index, ("decision", "score"))
_AFTER, _GOVERNED = map(Decision._fields.index, ("probability", "governed"))
_PRICE = Decision._fields.index("price_minor")


@dataclass(frozen=True, kw_only=True)
class GovernorPolicy(FprPolicy):
    """The bound on how many genuine payments are disturbed, and how it is held."""

    is_on: bool = True
    """Whether the cap is held at all."""
    max_fpr: float = 0.05
    """Largest share of genuine payments that may be disturbed: reviewed or declined."""
    max_block_share: float = 0.15
    """Largest share of payments that may be disturbed, however good audits look or what is
    ordered."""
    max_decline_fpr: float = 0.02
    """Largest share of genuine payments that may be declined, in (0, max_fpr]. Declined fraud
    counts against it while no audit says otherwise: it leaves room for what is caught on a usual
    day."""
    always_review_from: float | None = None
    """Calibrated chance of fraud, in (0, 1), from which a payment is at least reviewed although the
    cap would let it go, as long as at most `max_block_share` are disturbed; None: the cap alone.
    Of these payments the calibration, and no longer the cap, says how few are genuine."""
    audited_max_fpr: float = 0.045
    """What is aimed at in place of `max_fpr` by as much as audits loosen the cap: their credit is
    an estimate, the rest is certain."""
    window: int = 3_000
    """Newest scores that the cap is an order statistic of."""
    min_scores: int = 1_000
    """With fewer scores the model's own cuts hold: a cap from a handful would let nearly
    everything through."""
    every: int = 100
    """Payments from one step of the cuts to the next."""
    risk: float = 0.1
    """Chance that the cap of one step lets more than its budget be disturbed, in (0, 1)."""
    loosen_per_hour: float = 0.25
    """Largest share of payments by which a cut may be lowered in an hour of event time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.max_decline_fpr <= self.max_fpr:
            raise ValueError(
                f"found max_decline_fpr={self.max_decline_fpr}, "
                f"expected one in (0, max_fpr={self.max_fpr}]"
            )
        if not 0.0 < self.audited_max_fpr <= self.max_fpr:
            raise ValueError(
                f"found audited_max_fpr={self.audited_max_fpr}, "
                f"expected one in (0, max_fpr={self.max_fpr}]"
            )
        if self.always_review_from is not None and not 0.0 < self.always_review_from < 1.0:
            raise ValueError(
                f"found always_review_from={self.always_review_from}, expected one in (0, 1)"
            )
        if not 1 <= self.every <= self.window or not 1 <= self.min_scores <= self.window:
            raise ValueError(
                f"found window={self.window}, every={self.every} and min_scores={self.min_scores}, "
                "expected 1 <= every <= window and 1 <= min_scores <= window"
            )
        if not 0.0 < self.risk < 1.0 or not self.loosen_per_hour > 0.0:
            raise ValueError(
                f"found risk={self.risk} and loosen_per_hour={self.loosen_per_hour}, "
                "expected 0 < risk < 1 and loosen_per_hour > 0"
            )
        least = self.max_decline_fpr * (1.0 - self.max_fraud_share)
        if (1.0 - least) ** self.window > self.risk:
            raise ValueError(
                f"found max_decline_fpr={self.max_decline_fpr} with window={self.window}, expected "
                f"a window of at least {math.ceil(math.log(self.risk) / math.log1p(-least))}"
            )

    @property
    def document(self) -> Mapping[str, object] | None:
        """What the digest of a decision policy tells of it; None where it is off."""
        return asdict(self) if self.is_on else None


class GovernorState(StrEnum):
    """What the cap does at the moment."""

    OFF = "off"  # the policy does not want it
    WARMING = "warming"  # too few scores: the model's own cuts hold, and nothing is promised
    SLACK = "slack"  # the model disturbs less than it may: its own cuts hold
    HOLDING = "holding"  # the model would disturb too many: a cut is higher than its own


class Cuts(NamedTuple):
    """The cuts in force from one step to the next, and what they mean.

    Attributes:
        review: scores from here on are reviewed; the model's own cut or a higher one.
        decline: scores from here on are declined; not below `review`.
        budget: share of payments that may be disturbed.
        fpr_bound: the largest share of genuine payments that can be disturbed by what the window
            shows; None while warming, when nothing is known.
        is_held: whether a cut is higher than the model's own.
        held_share: share of the window's payments that are answered more mildly than by the model.
        price_minor: money of expected fraud let go per avoided false block, minor units; None
            when nothing is let go, or no probability is known.
    """

    review: float
    decline: float
    budget: float
    fpr_bound: float | None = None
    is_held: bool = False
    held_share: float = 0.0
    price_minor: float | None = None


def governed(score: float | None, thresholds: Thresholds, cuts: Cuts) -> Outcome:
    """The outcome for one score under the cuts in force; never stricter than the model alone.

    Args:
        score: the model's score, or None; what is no score is reviewed, as without a governor.
        thresholds: the model's own cuts.
        cuts: those in force.

    Examples:
        >>> own, cuts = Thresholds(0.3, 0.8), Cuts(0.5, 0.9, 0.049, is_held=True)
        >>> [str(governed(score, own, cuts)) for score in (0.4, 0.6, 0.85, 0.95)]
        ['approve', 'review', 'review', 'decline']
    """
    alone = decide(score, thresholds)
    return _milder(alone, decide(score, Thresholds(cuts.review, cuts.decline)))


def capped(decision: Decision, cuts: Cuts) -> Decision:
    """A model's decision under the cuts in force, with what it would have been without them.

    Args:
        decision: what the model alone would have decided.
        cuts: those in force; recorded, so that the decision can be derived again.
    """
    told: tuple[Any, ...] = decision  # `_replace` would take twice as long
    after = (cuts.review, cuts.decline, cuts.fpr_bound, cuts.budget, cuts.price_minor)
    after += told[_PRICE + 1 :]
    if cuts.is_held and decision.decision != Outcome.APPROVE:
        alone = Outcome(decision.decision)
        found = _milder(alone, decide(decision.score, Thresholds(cuts.review, cuts.decline)))
        if found is not alone:
            reasons = () if found is Outcome.APPROVE else decision.reasons
            first = (*told[:_DECISION], str(found), told[_SCORE], reasons, *told[_AFTER:_GOVERNED])
            return Decision._make((*first, str(alone), *after))
    return Decision._make((*told[:_GOVERNED], None, *after))


class Governor:
    """The cap on one model's cuts.

    Its state is the window, the cuts in force and since when: a pure function of what it was told,
    in that order. Payments are told after they were decided, so that each is decided by the cuts
    of the step before it.

    Guarantee: while the payments that follow are exchangeable with those of the window, the share
    disturbed exceeds the budget with a chance of at most `risk` per step; after any shift it does
    so for at most a window of payments. It promises nothing while warming.

    Args:
        policy: the bound, and how it is held.
        thresholds: the model's own cuts.
        sure_from: the score at which this model's chance of fraud is `always_review_from`; above
            every score: there is none.
    """

    def __init__(
        self, policy: GovernorPolicy, thresholds: Thresholds, sure_from: float = math.inf
    ) -> None:
        self._policy = policy
        self._sure_from = sure_from
        self._ordered: float | None = None
        self._audits: tuple[tuple[Audits, ...], ...] = ((), ())
        self._rows = np.empty((3, policy.window))  # scores, probabilities, amounts: a ring
        self._begin(thresholds)

    def _begin(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._place = self._count = self._since_step = self._now_us = 0
        self._caps = (_Cap(thresholds.review), _Cap(thresholds.decline))
        self._cuts = Cuts(thresholds.review, thresholds.decline, self.budget)

    @property
    def cuts(self) -> Cuts:
        """The cuts of the last completed step."""
        return self._cuts

    @property
    def thresholds(self) -> Thresholds:
        """The model's own cuts."""
        return self._thresholds

    @property
    def budget(self) -> float:
        """The share of payments that may be disturbed now: what is ordered, or the policy's."""
        if self._ordered is not None:
            return min(self._ordered, self._policy.max_block_share)
        return _budget(self._policy, self._policy.max_fpr, self._audits[0])

    @property
    def state(self) -> GovernorState:
        """What the cap does at the moment."""
        if not self._policy.is_on:
            return GovernorState.OFF
        if self._cuts.is_held:
            return GovernorState.HOLDING
        return GovernorState.WARMING if self._cuts.fpr_bound is None else GovernorState.SLACK

    def add(
        self, score: float, probability: float | None, amount_minor: int, event_us: int
    ) -> None:
        """Tell one decided payment, as `observe` does for many.

        Args:
            score: of this model, finite.
            probability: calibrated chance of fraud, or None.
            amount_minor: minor units.
            event_us: when it happened, microseconds UTC.
        """
        place, rows = self._place, self._rows
        rows[0, place] = score
        rows[1, place] = np.nan if probability is None else probability
        rows[2, place] = amount_minor
        self._advance(1, event_us)

    def observe(
        self,
        scores: ArrayLike,
        probabilities: ArrayLike,
        amounts_minor: ArrayLike,
        event_us: ArrayLike,
    ) -> Cuts:
        """Tell decided payments in the order of their decisions; a step every `every` of them.

        Args:
            scores: shape (n,), of this model, finite.
            probabilities: shape (n,), calibrated chances of fraud; NaN where unknown.
            amounts_minor: shape (n,), minor units.
            event_us: shape (n,), when each happened, microseconds UTC.

        Returns:
            The cuts in force from now on.
        """
        told = np.array([scores, probabilities, amounts_minor], np.float64)
        times = np.asarray(event_us)
        start, total = 0, told.shape[1]
        while start < total:
            room = min(self._policy.every - self._since_step, self._policy.window - self._place)
            end = min(start + room, total)
            self._rows[:, self._place : self._place + end - start] = told[:, start:end]
            self._advance(end - start, int(times[start:end].max()))
            start = end
        return self._cuts

    def rebase(
        self,
        thresholds: Thresholds,
        scores: ArrayLike,
        probabilities: ArrayLike,
        amounts_minor: ArrayLike,
        event_us: int,
    ) -> Cuts:
        """Begin anew with another model, or after a restart, from payments that are known already.

        Args:
            thresholds: the model's own cuts.
            scores: shape (n,), what this model says about the newest payments, newest last; only
                a window of them counts.
            probabilities: shape (n,), calibrated chances of fraud; NaN where unknown.
            amounts_minor: shape (n,), minor units.
            event_us: when the newest happened, microseconds UTC.

        Returns:
            The cuts in force from now on.
        """
        self._begin(thresholds)
        told = np.array([scores, probabilities, amounts_minor], np.float64)
        told = told[:, -self._policy.window :]
        self._count = told.shape[1]
        self._rows[:, : self._count] = told
        self._place = self._count % self._policy.window
        self._now_us = event_us
        self._step()
        return self._cuts

    def resume(self, review: float, decline: float) -> Cuts:
        """Go on from cuts that were in force before a restart: they are loosened slowly, too.

        Args:
            review: as the newest record of this model says.
            decline: likewise.
        """
        if self._cuts.fpr_bound is not None:
            for cap, before in zip(self._caps, (review, decline), strict=True):
                cap.cut = max(cap.cut, before)
            self._step()
        return self._cuts

    def credit(self, disturbed: Sequence[Audits], declined: Sequence[Audits] = ()) -> None:
        """Take the audits of the last checks into account, at once.

        Args:
            disturbed: of payments drawn at random from those reviewed or declined, by check,
                oldest first; a last one without audits ends all credit.
            declined: likewise of those declined.
        """
        self._audits = (tuple(disturbed), tuple(declined))
        self._step()

    def order(self, max_disturbed: float | None) -> None:
        """Take a budget in place of the policy's, at once; None: the policy's again.

        Args:
            max_disturbed: share of payments in (0, 1); at most `max_block_share` of it counts.
        """
        if max_disturbed != self._ordered:
            self._ordered = max_disturbed
            self._step()

    def _advance(self, count: int, event_us: int) -> None:
        window = self._policy.window
        self._place = (self._place + count) % window
        self._count = min(self._count + count, window)
        # A payment that comes late is no news of the time: the next one would seem days after it.
        self._now_us = max(self._now_us, event_us) if self._since_step else event_us
        self._since_step += count
        if self._since_step >= self._policy.every:
            self._step()
            self._since_step = 0

    def _step(self) -> None:
        policy, budget = self._policy, self.budget
        own, rows = self._thresholds, self._rows[:, : self._count]
        self._cuts = Cuts(own.review, own.decline, budget)
        if not policy.is_on or self._count < policy.min_scores:
            return
        declined = min(budget, _budget(policy, policy.max_decline_fpr, self._audits[1]))
        sure = max(self._sure_from, self._lowest_cut(policy.max_block_share))
        targets = min(self._lowest_cut(budget), sure), self._lowest_cut(declined)
        for cap, lowest, target in zip(self._caps, (own.review, own.decline), targets, strict=True):
            cap.move(rows[0], max(lowest, target), self._now_us, policy)
        review = self._caps[0].cut
        self._cuts = self._told(rows, review, max(review, self._caps[1].cut), budget)

    def _lowest_cut(self, share: float) -> float:
        """The lowest cut that at most this share of payments reaches, as far as is known."""
        # Where no cut would be sure, the highest that these scores tell of comes closest.
        allowed = allowed_blocks(self._count, share, self._policy.risk) or 0
        return lowest_threshold(self._rows[0, : self._count], allowed)

    def _told(self, rows: Floats, review: float, decline: float, budget: float) -> Cuts:
        """The cuts with what they mean, by the window."""
        scores, own = rows[0], self._thresholds
        disturbed = float(np.mean(scores >= review))
        bound = fpr_bound(disturbed, self._policy, self._audits[0])
        if review <= own.review and decline <= own.decline:
            return Cuts(review, decline, budget, bound)
        spared = (scores >= own.review) & (scores < review)
        milder = spared | ((scores >= own.decline) & (scores < decline))
        price = _price(rows[1, spared], rows[2, spared])
        return Cuts(review, decline, budget, bound, True, float(np.mean(milder)), price)


class _Cap:
    """One cut and since when it stands."""

    def __init__(self, cut: float) -> None:
        self.cut = cut
        self._since_us = 0

    def move(self, scores: Floats, target: float, now_us: int, policy: GovernorPolicy) -> None:
        """Up to the target at once, down to it slowly."""
        elapsed_us = now_us - self._since_us
        if target >= self.cut or elapsed_us < 0:  # a clock that ran ahead once delays nothing
            self.cut, self._since_us = max(target, self.cut), now_us
            return
        ranks = int(policy.loosen_per_hour * elapsed_us / _HOUR_US * scores.size)
        if ranks:  # else the time goes on counting
            reaching = int(np.count_nonzero(scores >= self.cut)) + ranks
            lower = lowest_threshold(scores, min(reaching, scores.size - 1))
            self.cut, self._since_us = max(target, min(lower, self.cut)), now_us


def _milder(first: Outcome, second: Outcome) -> Outcome:
    return min(first, second, key=_SEVERITY)


def _budget(policy: GovernorPolicy, max_fpr: float, checks: Sequence[Audits]) -> float:
    """What is certain without audits, or what they allow when less is aimed at: the larger."""
    certain = FprPolicy(
        max_fpr=max_fpr,
        max_fraud_share=policy.max_fraud_share,
        max_block_share=policy.max_block_share,
        audit_confidence=policy.audit_confidence,
    )
    aimed = replace(certain, max_fpr=max_fpr * policy.audited_max_fpr / policy.max_fpr)
    return max(block_budget(certain), block_budget(aimed, checks))


def _price(probabilities: Floats, amounts_minor: Floats) -> float | None:
    """Expected fraud let go, minor units, per expected false block that was avoided."""
    known = ~np.isnan(probabilities)
    fraud = probabilities[known]
    spared = float(np.sum(1.0 - fraud))
    return float(np.sum(fraud * amounts_minor[known])) / spared if spared > 0.0 else None
