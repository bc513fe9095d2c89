"""Whether disturbing a payment pays: the context of a decision as money, not as segments.

What belongs here: among the answers that a model's cuts allow, the one that is expected to cost
least, by the payment's amount and its chance of fraud. Prices are `money`; the cuts and the cap on
them are `decision` and `governor`: nothing here is ever stricter than they are.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fraud_platform.decision import Outcome
from fraud_platform.events import Decision, Transaction
from fraud_platform.money import DECLINE, REVIEW, MoneyPolicy

Floats = NDArray[np.float64]
_Number = TypeVar("_Number", float, Floats)

_MILDEST_FIRST = tuple(Outcome)
_DECISION, _SCORE, _AFTER = map(Decision._fields.index, ("decision", "score", "probability"))
_GOVERNED, _WORTH = map(Decision._fields.index, ("governed", "worth_multiplier"))


@dataclass(frozen=True, kw_only=True)
class WorthPolicy:
    """Whether payments that a cut would disturb are only disturbed where that pays."""

    is_on: bool = False
    """Whether it is asked at all. Set `FRAUD_MONEY__*` to what things cost you before."""
    multiplier: float = 1.0
    """How much a review and a false decline weigh, as a multiple of their prices: more than 1
    lets more payments go, less than 1 fewer; none is ever disturbed that the cuts would not."""
    least_loss_minor: int = 1_500
    """What every fraud is taken to lose at least, minor units: what a chargeback costs, and what a
    card is used for once it was tested with a tiny amount."""
    currency: str = "EUR"
    """Currency of all prices, ISO 4217: for payments in any other the cuts alone decide."""

    def __post_init__(self) -> None:
        if not 0.0 < self.multiplier < float("inf"):
            raise ValueError(f"found multiplier={self.multiplier}, expected one above 0")
        if self.least_loss_minor < 0:
            found = self.least_loss_minor
            raise ValueError(f"found least_loss_minor={found}, expected at least 0")
        if not re.fullmatch("[A-Z]{3}", self.currency):
            raise ValueError(f"found currency={self.currency!r}, expected a code as in ISO 4217")


@dataclass(frozen=True)
class Worth:
    """What is weighed, and the prices.

    Attributes:
        policy: what friction weighs.
        money: what outcomes cost.
    """

    policy: WorthPolicy
    money: MoneyPolicy

    @classmethod
    def of(cls, policy: WorthPolicy, money: MoneyPolicy) -> "Worth | None":
        """What is weighed at these prices; None where the policy wants nothing weighed."""
        return cls(policy, money) if policy.is_on else None

    @property
    def document(self) -> Mapping[str, object]:
        """What names it in the digest of the rules."""
        return asdict(self)

    def cheapest(self, strictest: Outcome, probability: float, amount_minor: int) -> Outcome:
        """The outcome that is expected to cost least, of those that are not stricter than one.

        Expected costs, with L = max(`fraud_loss_share` * amount, `least_loss_minor`): approving
        loses p * L; a review costs its price and loses what it lets through; declining costs what
        a genuine customer who is sent away does, times 1 - p. Of equal costs the stricter counts.
        The higher p the stricter the answer; so it is with the amount, unless a false decline
        costs a share of it.

        Args:
            strictest: what the cuts say.
            probability: the calibrated chance of fraud p, in [0, 1].
            amount_minor: minor units of the policy's currency.

        Examples:
            At a chance of 10 % a look for 2.00 pays from 20.00 on:

            >>> worth = Worth(WorthPolicy(), MoneyPolicy())
            >>> [str(worth.cheapest(Outcome.REVIEW, 0.1, amount)) for amount in (1_999, 2_000)]
            ['approve', 'review']
        """
        loss = max(self.money.fraud_loss_share * amount_minor, self._least_loss)
        costs = self._costs(probability, loss, float(amount_minor))
        found = 0
        for place in range(1, _MILDEST_FIRST.index(strictest) + 1):
            if costs[place] <= costs[found]:
                found = place
        return _MILDEST_FIRST[found]

    def cheapest_of_each(
        self, strictest: NDArray[np.int8], probabilities: Floats, amounts_minor: NDArray[np.int64]
    ) -> NDArray[np.int8]:
        """`cheapest` of many payments in the policy's currency, the same answers.

        Args:
            strictest: shape (n,), outcomes as `money.cost_minor` reads them.
            probabilities: shape (n,); where it is NaN, the outcome stays.
            amounts_minor: shape (n,), minor units.

        Examples:
            >>> worth, reviewed = Worth(WorthPolicy(), MoneyPolicy()), np.ones(2, np.int8)
            >>> worth.cheapest_of_each(reviewed, np.full(2, 0.1), np.array([1_999, 2_000])).tolist()
            [0, 1]
        """
        amounts = amounts_minor.astype(np.float64)
        loss = np.maximum(self.money.fraud_loss_share * amounts, self._least_loss)
        approved, reviewed, declined = self._costs(probabilities, loss, amounts)
        found = ((strictest >= REVIEW) & (reviewed <= approved)).astype(np.int8)
        least = np.where(found == REVIEW, reviewed, approved)
        found[(strictest == DECLINE) & (declined <= least)] = DECLINE
        return np.where(np.isnan(probabilities), strictest, found).astype(np.int8)

    @property
    def _least_loss(self) -> float:
        return float(self.policy.least_loss_minor)

    def _costs(
        self, chance: _Number, loss: _Number, amount: _Number
    ) -> tuple[_Number, _Number, _Number]:
        """What approving, reviewing and declining are expected to cost."""
        price, times = self.money, self.policy.multiplier
        sent_away = price.false_decline_minor + price.false_decline_share * amount
        return (
            chance * loss,
            times * price.review_cost_minor + chance * ((1.0 - price.reviews_catch) * loss),
            times * ((1.0 - chance) * sent_away),
        )


def weighed(decision: Decision, payment: Transaction, worth: Worth) -> Decision:
    """A model's decision under its cap, made milder where disturbing the payment does not pay.

    Args:
        decision: by the cuts in force. Approvals, payments of another currency and those whose
            chance of fraud is unknown stay as they are.
        payment: what was decided on.
        worth: what is weighed; its multiplier is recorded where it was.

    """
    policy, chance = worth.policy, decision.probability
    if decision.decision == Outcome.APPROVE or chance is None:
        return decision
    if payment.currency != policy.currency:
        return decision
    told: tuple[Any, ...] = decision  # `_replace` would take twice as long
    after = (*told[_GOVERNED + 1 : _WORTH], policy.multiplier, *told[_WORTH + 1 :])
    strictest = Outcome(decision.decision)
    found = worth.cheapest(strictest, chance, payment.amount_minor)
    if found is strictest:
        return Decision._make((*told[: _GOVERNED + 1], *after))
    reasons = () if found is Outcome.APPROVE else decision.reasons
    first = (*told[:_DECISION], str(found), told[_SCORE], reasons, *told[_AFTER:_GOVERNED])
    return Decision._make((*first, decision.governed or str(strictest), *after))
