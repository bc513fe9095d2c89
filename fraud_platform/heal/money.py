"""What a day costs as things are: calibrated expectation, corrected by the truth that came.

What belongs here: the arithmetic. The prices are `fraud_platform.money`; what is done about it is
`verification` and `limits`. Calibration alone would call a new fraud free: so the fraud that
reports find among approved payments, and audits among disturbed ones, each over what calibration
expects there, scale it; and without reports nothing is told.
"""

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fraud_platform.heal.evidence import Evidence, Reading, Signal, Standing, Tier
from fraud_platform.money import APPROVE, DECLINE, REVIEW, MoneyPolicy
from fraud_platform.stats.cbpe import Estimate

CONFIDENCE = 0.9
"""Of every interval, two-sided."""
UNKNOWN_RATIO = Estimate(1.0, 0.0, math.inf)
"""Nobody looked: as calibration says, and anything from no fraud to nothing else."""
_OF_INPUTS = frozenset(
    {
        *(Signal.SCHEMA, Signal.UNITS, Signal.NULLS, Signal.RANGES, Signal.CATEGORIES),
        *(Signal.CROSS_FIELDS, Signal.DUPLICATES, Signal.CLOCK),
    }
)
"""While one of them is breached, amounts and probabilities are no basis to count money on."""


@dataclass(frozen=True, kw_only=True)
class Priced:
    """Decided payments of now.

    Attributes:
        probability: calibrated chance of fraud, shape (n,), in [0, 1].
        amount_minor: shape (n,), minor units.
        outcome: shape (n,), `APPROVE`, `REVIEW` or `DECLINE` of `money`.
        card: a number for each card, shape (n,): payments of one card are not independent.
        per_day: payments a day.
        expected_disturbed: share that is reviewed or declined while all is well, in [0, 1].
    """

    probability: NDArray[np.float64]
    amount_minor: NDArray[np.float64]
    outcome: NDArray[np.int8]
    card: NDArray[np.int64]
    per_day: float
    expected_disturbed: float


@dataclass(frozen=True)
class Daily:
    """Money of a day, minor units.

    Attributes:
        cost: what its outcomes cost.
        gain: at most so much of it would a model save that is right again: fraud beyond what is
            expected among approved payments, and genuine customers disturbed beyond it.
    """

    cost: Estimate
    gain: float


def ratio_missed(reading: Reading, confidence: float = CONFIDENCE) -> Estimate | None:
    """Frauds reported over those expected among approved payments; None if nobody can tell.

    Args:
        reading: of MISSED_FRAUD, with the counts as details.
        confidence: of the exact interval of a Poisson count (Garwood 1936).

    Examples:
        >>> told = {"reported": 30.0, "expected": 20.0}
        >>> found = ratio_missed(Reading(
        ...     signal=Signal.MISSED_FRAUD, standing=Standing.FINE, value=1.5, details=told))
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (1.5, 1.08, 2.03)
    """
    from scipy.special import gammaincinv

    expected = reading.details.get("expected", 0.0)
    if reading.standing is Standing.BLIND or not expected > 0.0:
        return None
    count, tail = reading.details["reported"], (1.0 - confidence) / 2.0
    low = float(gammaincinv(count, tail)) if count else 0.0
    high = float(gammaincinv(count + 1.0, 1.0 - tail))
    return Estimate(count / expected, low / expected, high / expected)


def ratio_audited(reading: Reading) -> Estimate:
    """Frauds that audits found over those expected among disturbed payments."""
    if reading.standing is Standing.BLIND or reading.value is None:
        return UNKNOWN_RATIO
    return Estimate(reading.value, reading.details["low"], reading.details["high"])


def can_be_counted(evidence: Evidence) -> bool:
    """Whether amounts and probabilities are what they say."""
    return not _OF_INPUTS.intersection(evidence.breached(Tier.INVARIANT))


def daily(
    priced: Priced,
    missed: Estimate,
    audited: Estimate,
    prices: MoneyPolicy,
    confidence: float = CONFIDENCE,
) -> Daily:
    """Cost of a day like the payments of now, and what of it a retraining would save at most.

    The interval is the widest over both ends of both ratios, and on top of it that of a mean over
    cards (normal approximation): it holds the truth at least as often as `confidence` says of each.

    Args:
        priced: at least one payment.
        missed: ratio among approved payments.
        audited: ratio among disturbed ones.
        prices: of the outcomes.
        confidence: two-sided, in (0, 1).

    Examples:
        Every tenth of a thousand payments is declined, of which audits find half to be genuine:

        >>> outcome = np.where(np.arange(1000) % 10 == 0, DECLINE, APPROVE).astype(np.int8)
        >>> found = daily(
        ...     Priced(probability=np.where(outcome == DECLINE, 1.0, 0.0), outcome=outcome,
        ...            amount_minor=np.full(1000, 5000.0), card=np.arange(1000), per_day=1000.0,
        ...            expected_disturbed=0.1),
        ...     Estimate(1.0, 1.0, 1.0), Estimate(0.5, 0.4, 0.6), MoneyPolicy())
        >>> found.cost.value, found.gain  # 100 x 0.5 x 283; at most 0.6 of them
        (14150.0, 16980.0)
    """
    each = _costs(priced, missed.value, audited.value, prices)
    ends = itertools.product((missed.low, missed.high), (audited.low, audited.high))
    means = [float(_costs(priced, *end, prices).mean()) for end in ends]
    rest = np.bincount(priced.card, weights=each - each.mean())
    error = float(np.sqrt(np.sum(rest**2))) / each.size
    reach = NormalDist().inv_cdf(0.5 + confidence / 2.0) * error
    cost = (float(each.mean()), max(min(means) - reach, 0.0), max(means) + reach)
    return Daily(
        Estimate(*(priced.per_day * part for part in cost)),
        priced.per_day * _gain(priced, missed.high, audited.low, prices),
    )


def _costs(
    priced: Priced, missed: float, audited: float, prices: MoneyPolicy
) -> NDArray[np.float64]:
    """Expected cost of each payment under both ratios."""
    approved = priced.outcome == APPROVE
    chance = _chance(priced.probability, np.where(approved, missed, audited))
    loss = chance * prices.fraud_loss_share * priced.amount_minor
    reviewed = prices.review_cost_minor + (1.0 - prices.reviews_catch) * loss
    declined = (1.0 - chance) * _sent_away(priced, prices)
    return np.select([approved, priced.outcome == REVIEW], [loss, reviewed], declined)


def _gain(priced: Priced, missed: float, audited: float, prices: MoneyPolicy) -> float:
    """Mean over payments of what is beyond expectation."""
    approved, declined = priced.outcome == APPROVE, priced.outcome == DECLINE
    chance = _chance(priced.probability, np.where(approved, missed, audited))
    beyond = np.maximum(chance - priced.probability, 0.0)
    unseen = np.where(approved, beyond, 0.0) * prices.fraud_loss_share * priced.amount_minor
    fewer = np.maximum(priced.probability - chance, 0.0)
    innocent = np.where(declined, fewer, 0.0) * _sent_away(priced, prices)
    share = 1.0 - float(approved.mean())
    crowd = max(share - priced.expected_disturbed, 0.0) / share if share else 0.0
    disturbed = _costs(priced, missed, audited, prices)[~approved].sum() / approved.size
    return float(unseen.mean() + max(float(innocent.mean()), crowd * float(disturbed)))


def _chance(probability: NDArray[np.float64], ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """The chance of fraud under a ratio, at most 1; none where none was seen."""
    scaled = np.multiply(probability, ratio, where=probability > 0.0, out=np.zeros(ratio.shape))
    return np.asarray(np.minimum(scaled, 1.0))


def _sent_away(priced: Priced, prices: MoneyPolicy) -> NDArray[np.float64]:
    return prices.false_decline_minor + prices.false_decline_share * priced.amount_minor
