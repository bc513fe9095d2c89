"""A cap on how many payments a model may disturb, held while no label is known.

What belongs here: the window of scores, the cuts that it allows, and what holding them costs. The
arithmetic of the bound is `stats.block_budget`; what becomes of a decision under the cuts is
`cuts`; feeding it and obeying it is `serving.governing`.

It is a cap and never a target: a cut in force is the model's own cut or a higher one. Tightening is
immediate, for every payment too many disturbs a customer; loosening is slow, for whoever can make
scores rise for a while must not be able to open the gate behind them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fraud_platform.crowds import NOBODY, Payer, Spared, crowded
from fraud_platform.cuts import Cuts
from fraud_platform.decision import Thresholds
from fraud_platform.score_cap import ScoreCap, lowest_cut
from fraud_platform.stats.block_budget import (
    Audits,
    FprPolicy,
    audited_fraud_share,
    block_budget,
    fpr_bound,
)

Floats = NDArray[np.float64]

_HOUR_US = 3_600_000_000
_NONE = -1.0


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
    check_hours: float = 6.0
    """Length of a check, hours: audits that were judged in the last one bound their credit, and
    without any it ends."""
    checks: int = 4
    """Checks whose audits count together; what they show bounds the credit, too."""
    always_review_from: float | None = None
    """Calibrated chance of fraud, in (0, 1), from which a payment is at least reviewed although the
    cap would let it go, as long as at most `max_block_share` are disturbed; None: the cap alone.
    Of these payments the calibration, and no longer the cap, says how few are genuine."""
    max_crowd_share: float = 0.03
    """Largest share of payments of crowded devices (`crowds`) that do not count against the
    bounds, in [0, max_block_share]: many cards of one device are a burst of fraud and no sign of a
    model gone wrong. It is a share of the window and of what left it within a check. Where a crowd
    is honest, the bounds may be exceeded by as much. 0: all count."""
    audited_max_fpr: float = 0.045
    """What is aimed at in place of `max_fpr` by as much as audits loosen the cap: their credit is
    an estimate, the rest is certain."""
    window: int = 3_000
    """Newest scores that the cap is an order statistic of: at least 3,000, and where many come
    some two hours of them. A longer window holds an abrupt change later, a shorter one takes a
    burst of fraud for a change."""
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
        self._require_shares()
        if not self.check_hours > 0.0 or self.checks < 1:
            raise ValueError(
                f"found check_hours={self.check_hours} and checks={self.checks}, expected above 0"
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

    def _require_shares(self) -> None:
        for name in ("max_decline_fpr", "audited_max_fpr"):
            if not 0.0 < (share := getattr(self, name)) <= self.max_fpr:
                raise ValueError(
                    f"found {name}={share}, expected one in (0, max_fpr={self.max_fpr}]"
                )
        if not 0.0 <= self.max_crowd_share <= self.max_block_share:
            raise ValueError(
                f"found max_crowd_share={self.max_crowd_share}, "
                f"expected one in [0, max_block_share={self.max_block_share}]"
            )

    @property
    def check_us(self) -> int:
        """Length of a check, microseconds."""
        return int(self.check_hours * _HOUR_US)

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


class Governor:
    """The cap on one model's cuts.

    Its state is the window, the cuts in force and since when, and how many of crowds it spared in
    the check before: a pure function of what it was told, in that order. A restart and another
    model forget the last, so that a crowd gets its share of the window once more. Payments are told
    after they were decided, so that each is decided by the cuts of the step before it.

    Guarantee: while the payments that follow are exchangeable with those of the window, the share
    disturbed exceeds the budget with a chance of at most `risk` per step; after any shift it does
    so for at most a window of payments. Up to `max_crowd_share` of crowded devices stands beside
    the budget, of the window and the check before it. It promises nothing while warming.

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
        self._audited_fraud = 0.0
        self._rows = np.empty((3, policy.window))  # scores, probabilities, amounts: a ring
        self._payers = np.zeros((2, policy.window), np.int64)  # of the same payments
        self._was_spared = np.zeros(policy.window, np.bool_)
        self._begin(thresholds)

    def _begin(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._place = self._count = self._since_step = self._now_us = 0
        self._caps = (ScoreCap(thresholds.review), ScoreCap(thresholds.decline))
        self._declined = 0.0
        self._was_spared[:] = False
        self._left = self._left_spared = 0  # the window since the last step
        self._past = Spared(self._policy.check_us)
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
        return self._allowed(self._policy.max_fpr)

    @property
    def state(self) -> GovernorState:
        """What the cap does at the moment."""
        if not self._policy.is_on:
            return GovernorState.OFF
        if self._cuts.is_held:
            return GovernorState.HOLDING
        return GovernorState.WARMING if self._cuts.fpr_bound is None else GovernorState.SLACK

    def add(
        self,
        score: float,
        probability: float | None,
        amount_minor: int,
        event_us: int,
        payer: Payer = NOBODY,
    ) -> None:
        """Tell one decided payment, as `observe` does for many.

        Args:
            score: of this model with the payment's `tie_breaker`, finite.
            probability: calibrated chance of fraud, or None.
            amount_minor: minor units.
            event_us: when it happened, microseconds UTC.
            payer: who paid by what.
        """
        place, rows = self._place, self._rows
        self._leave(slice(place, place + 1))
        rows[0, place] = score
        rows[1, place] = np.nan if probability is None else probability
        rows[2, place] = amount_minor
        self._payers[0, place], self._payers[1, place] = payer
        self._advance(1, event_us)

    def observe(
        self,
        scores: ArrayLike,
        probabilities: ArrayLike,
        amounts_minor: ArrayLike,
        event_us: ArrayLike,
        payers: ArrayLike | None = None,
    ) -> Cuts:
        """Tell decided payments in the order of their decisions; a step every `every` of them.

        Args:
            scores: shape (n,), of this model with each payment's `tie_breaker`, finite.
            probabilities: shape (n,), calibrated chances of fraud; NaN where unknown.
            amounts_minor: shape (n,), minor units.
            event_us: shape (n,), when each happened, microseconds UTC.
            payers: shape (2, n), `Payer` of each; None: nobody knows.

        Returns:
            The cuts in force from now on.
        """
        told = np.array([scores, probabilities, amounts_minor], np.float64)
        times, total = np.asarray(event_us), told.shape[1]
        who = np.zeros((2, total), np.int64) if payers is None else np.asarray(payers)
        start = 0
        while start < total:
            room = min(self._policy.every - self._since_step, self._policy.window - self._place)
            end = min(start + room, total)
            places = slice(self._place, self._place + end - start)
            self._leave(places)
            self._rows[:, places], self._payers[:, places] = told[:, start:end], who[:, start:end]
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
        payers: ArrayLike | None = None,
    ) -> Cuts:
        """Begin anew with another model, or after a restart, from payments that are known already.

        Args:
            thresholds: the model's own cuts.
            scores: shape (n,), as `observe` takes them, of the newest payments, newest last; only
                a window of them counts.
            probabilities: shape (n,), calibrated chances of fraud; NaN where unknown.
            amounts_minor: shape (n,), minor units.
            event_us: when the newest happened, microseconds UTC.
            payers: as `observe` takes them.

        Returns:
            The cuts in force from now on.
        """
        self._begin(thresholds)
        told = np.array([scores, probabilities, amounts_minor], np.float64)
        told = told[:, -self._policy.window :]
        self._count = told.shape[1]
        self._rows[:, : self._count] = told
        self._payers[:] = 0
        if payers is not None:
            self._payers[:, : self._count] = np.asarray(payers)[:, -self._policy.window :]
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
            cuts = max(self._thresholds.review, review), max(self._thresholds.decline, decline)
            self._caps[0].cut, self._caps[1].cut = cuts
            self._cuts = self._cuts._replace(review=cuts[0], decline=cuts[1])
            self._step()
        return self._cuts

    def credit(self, checks: Sequence[Audits]) -> None:
        """Take the audits of the last checks into account, at once.

        What they show to be fraud among the declined payments of the window does not count against
        the bounds. Nobody draws reviewed payments, so those count as genuine.

        Args:
            checks: of payments drawn at random from those declined (`audit_credit`), by check,
                oldest first; a last one without audits ends all credit.
        """
        found = audited_fraud_share(checks, self._policy.audit_confidence)
        if found != self._audited_fraud:
            self._audited_fraud = found
            self._step()

    def order(self, max_disturbed: float | None) -> None:
        """Take a budget in place of the policy's, at once; None: the policy's again.

        Args:
            max_disturbed: share of payments in (0, 1); at most `max_block_share` of it counts.
        """
        if max_disturbed != self._ordered:
            self._ordered = max_disturbed
            self._step()

    def _leave(self, places: slice) -> None:
        """Count what is to be overwritten."""
        if self._count == self._policy.window:
            self._left += places.stop - places.start
            self._left_spared += int(np.count_nonzero(self._was_spared[places]))
            self._was_spared[places] = False

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
        policy, own = self._policy, self._thresholds
        rows = self._rows[:, : self._count]
        if not policy.is_on or self._count < policy.min_scores:
            self._cuts = self._cuts._replace(budget=self.budget)
            return
        scores, (review, decline), now_us = rows[0], self._caps, self._now_us
        pace, is_first = policy.loosen_per_hour, self._cuts.fpr_bound is None  # nothing was audited
        counted, risk = self._counted(), policy.risk
        self._declined = 0.0 if is_first else float(np.mean(counted >= self._cuts.decline))
        declined = min(self.budget, self._allowed(policy.max_decline_fpr))
        lowest = lowest_cut(counted, declined, risk)
        decline.move(scores, max(own.decline, lowest), now_us, pace)
        # What is declined no more is no credit; what is newly declined is one of the next step.
        self._declined = min(self._declined, float(np.mean(counted >= decline.cut)))
        least = lowest_cut(scores, policy.max_block_share, risk)
        target = min(lowest_cut(counted, self.budget, risk), max(self._sure_from, least))
        review.move(scores, max(own.review, target, least), now_us, pace)
        self._cuts = self._told(rows, review.cut, max(review.cut, decline.cut))

    def _counted(self) -> Floats:
        """The window's scores, below all others where a crowd stands beside the budget."""
        window, oldest_first = slice(0, self._count), np.arange(self._count) - self._count
        scores, order = self._rows[0, window], self._place + oldest_first
        is_crowd = (crowded(self._payers[:, window]) & (scores >= self._thresholds.review))[order]
        self._past.left(self._now_us, self._left, self._left_spared)
        self._left = self._left_spared = 0
        most = self._past.room(self._policy.max_crowd_share, self._count)
        spared = order[is_crowd & (np.cumsum(is_crowd) <= most)]
        # Once is enough: a crowd that leaves one by one is none before its last ones have left.
        self._was_spared[spared] = True
        counted = scores.copy()
        counted[spared] = _NONE
        return counted

    def _allowed(self, max_fpr: float) -> float:
        """What is certain without audits, or what they allow when less is aimed at: the larger."""
        policy = self._policy
        aimed = max_fpr * policy.audited_max_fpr / policy.max_fpr
        known = self._audited_fraud * self._declined
        certain = block_budget(_bound(policy, max_fpr))
        return max(certain, block_budget(_bound(policy, aimed), known))

    def _told(self, rows: Floats, review: float, decline: float) -> Cuts:
        """The cuts with what they mean, by the window."""
        scores, own = rows[0], self._thresholds
        fraud = self._audited_fraud
        known = fraud * float(np.mean(scores >= decline))
        bound = fpr_bound(float(np.mean(scores >= review)), self._policy, known)
        spared = (scores >= own.review) & (scores < review)
        milder = float(np.mean(spared | ((scores >= own.decline) & (scores < decline))))
        is_held = review > own.review or decline > own.decline
        price = _price(rows[1, spared], rows[2, spared]) if is_held else None
        return Cuts(review, decline, self.budget, bound, is_held, milder, price, fraud)


def _bound(policy: FprPolicy, max_fpr: float) -> FprPolicy:
    fraud, blocks = policy.max_fraud_share, policy.max_block_share
    return FprPolicy(max_fpr=max_fpr, max_fraud_share=fraud, max_block_share=blocks)


def _price(probabilities: Floats, amounts_minor: Floats) -> float | None:
    """Expected fraud let go, minor units, per expected false block that was avoided."""
    known = ~np.isnan(probabilities)
    fraud = probabilities[known]
    spared = float(np.sum(1.0 - fraud))
    return float(np.sum(fraud * amounts_minor[known])) / spared if spared > 0.0 else None
