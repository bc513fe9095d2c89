"""From scores to outcomes by a policy that somebody wants to try: two cuts, and rules for amounts.

What belongs here: the policy of one side of a `backtest`. The one in force is `decision`.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from fraud_platform.decision import Outcome, Thresholds
from fraud_platform.errors import DataContractError
from fraud_platform.money import APPROVE, DECLINE, REVIEW, outcomes_at

CODES = {Outcome.APPROVE: APPROVE, Outcome.REVIEW: REVIEW, Outcome.DECLINE: DECLINE}
"""Outcomes as `money.cost_minor` reads them."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Payments of a band of amounts, and of scores, get an outcome whatever the cuts say.

    Attributes:
        name: what a person calls it; shown as a reason.
        outcome: what its payments get.
        amount_from_minor: lowest amount, minor units of whatever currency.
        amount_below_minor: amounts from here on are not meant; None: no bound.
        score_from: lowest score.
    """

    name: str
    outcome: Outcome
    amount_from_minor: int = 0
    amount_below_minor: int | None = None
    score_from: float = 0.0

    def __post_init__(self) -> None:
        end = self.amount_below_minor
        if self.amount_from_minor < 0 or (end is not None and end <= self.amount_from_minor):
            raise ValueError(
                f"rule {self.name!r}: found amounts from {self.amount_from_minor} to below {end}, "
                "expected 0 <= amount_from_minor < amount_below_minor"
            )
        if not 0.0 <= self.score_from <= 1.0:
            raise ValueError(
                f"rule {self.name!r}: found score_from={self.score_from}, expected 0 to 1"
            )

    def fits(self, scores: NDArray[np.float64], amounts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which payments it is about, shape (n,)."""
        found: NDArray[np.bool_] = (scores >= self.score_from) & (amounts >= self.amount_from_minor)
        return (
            found
            if self.amount_below_minor is None
            else found & (amounts < self.amount_below_minor)
        )


class OutcomePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cuts of the score, each as a score or as a share of the genuine payments, and rules.

    A cut that is not named stays the model's own. The first rule that fits decides; where none
    fits, the cuts do.

    Attributes:
        review: lowest score that is reviewed, in [0, 1].
        decline: lowest score that is declined; above 1 nothing is.
        review_fpr: instead, share of genuine payments reviewed or declined, in (0, 1).
        decline_fpr: instead, share of genuine payments declined, in (0, 1).
        rules: in the order in which they are asked.
        worth_multiplier: what the cuts would disturb is disturbed only where that pays, friction
            counting this many times its price; None: wherever they say so.
    """

    review: float | None = None
    decline: float | None = None
    review_fpr: float | None = None
    decline_fpr: float | None = None
    rules: tuple[Rule, ...] = ()
    worth_multiplier: float | None = None

    def __post_init__(self) -> None:
        for name in ("review", "decline"):
            score, fpr = getattr(self, name), getattr(self, f"{name}_fpr")
            if score is not None and fpr is not None:
                raise ValueError(f"found both {name} and {name}_fpr, expected one of them")
            if score is not None and not 0.0 <= score < math.inf:
                raise ValueError(f"found {name}={score}, expected a score, at least 0")
            if fpr is not None and not 0.0 < fpr < 1.0:
                raise ValueError(f"found {name}_fpr={fpr}, expected between 0 and 1")
        times = self.worth_multiplier
        if times is not None and not 0.0 < times < math.inf:
            raise ValueError(f"found worth_multiplier={times}, expected a number above 0")

    def thresholds(self, own: Thresholds, at_fpr: Callable[[float], float]) -> Thresholds:
        """The cuts as scores.

        Args:
            own: the model's own.
            at_fpr: the lowest score that disturbs at most a share of the genuine payments.

        Raises:
            DataContractError: the cut of reviews is above that of declines.

        Examples:
            >>> OutcomePolicy(review=0.2).thresholds(Thresholds(0.3, 0.8), lambda fpr: 0.5)
            Thresholds(review=0.2, decline=0.8)
        """
        review = own.review if self.review is None else self.review
        decline = own.decline if self.decline is None else self.decline
        if self.review_fpr is not None:
            review = at_fpr(self.review_fpr)
        if self.decline_fpr is not None:
            decline = at_fpr(self.decline_fpr)
        if review > decline:
            raise DataContractError(
                f"found cuts of review={review} and decline={decline}, expected review <= decline",
                hint="name both cuts in the policy; one that is not named is the model's own",
            )
        return Thresholds(review, decline)

    def outcomes(
        self,
        scores: NDArray[np.float64],
        amounts: NDArray[np.int64],
        thresholds: Thresholds,
        weigh: Callable[[NDArray[np.int8]], NDArray[np.int8]] | None = None,
    ) -> NDArray[np.int8]:
        """The outcome of each payment, shape (n,), as `money.cost_minor` reads it.

        Args:
            scores: shape (n,), in [0, 1].
            amounts: shape (n,), minor units.
            thresholds: the cuts.
            weigh: what makes milder the outcomes that the cuts say; None: nothing does.

        Examples:
            >>> policy = OutcomePolicy(rules=(
            ...     Rule(name="large", outcome=Outcome.REVIEW, amount_from_minor=900),))
            >>> cuts = Thresholds(0.5, 0.9)
            >>> policy.outcomes(np.array([0.1, 0.1, 0.95]), np.array([5, 900, 5]), cuts).tolist()
            [0, 1, 2]
        """
        found = outcomes_at(scores, thresholds.review, thresholds.decline)
        if weigh is not None:
            found = weigh(found)
        for rule in reversed(self.rules):
            found[rule.fits(scores, amounts)] = CODES[rule.outcome]
        return found

    def rule_of(self, score: float, amount_minor: int) -> str | None:
        """The name of the rule that decides about one payment; None: the cuts do."""
        scores, amounts = np.array([score]), np.array([amount_minor])
        return next((rule.name for rule in self.rules if rule.fits(scores, amounts)[0]), None)
