"""The cuts that a governor holds, and what becomes of a model's decision under them.

What belongs here: what is recorded of the cuts, and the answer that follows from them, for the
scorer and for a replay alike. Where they should be is `governor`.
"""

from typing import Any, NamedTuple

from fraud_platform.decision import Outcome
from fraud_platform.events import Decision
from fraud_platform.score_cap import tie_breaker

_SEVERITY = list(Outcome).index
_DECISION, _SCORE = map(Decision._fields.index, ("decision", "score"))
_AFTER, _GOVERNED = map(Decision._fields.index, ("probability", "governed"))
_PRICE = Decision._fields.index("price_minor")


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
        audited_fraud: share of fraud among declined payments that audits show at least; 0.0
            without audits.
    """

    review: float
    decline: float
    budget: float
    fpr_bound: float | None = None
    is_held: bool = False
    held_share: float = 0.0
    price_minor: float | None = None
    audited_fraud: float = 0.0


def governed(alone: Outcome, untied: float, cuts: Cuts) -> Outcome:
    """The outcome under the cuts in force; never stricter than the model alone.

    Args:
        alone: what the model alone would have decided.
        untied: its score with the payment's `tie_breaker`.
        cuts: those in force.

    Examples:
        >>> cuts = Cuts(0.5, 0.9, 0.049, is_held=True)
        >>> [str(governed(Outcome.DECLINE, score, cuts)) for score in (0.4, 0.85, 0.95)]
        ['approve', 'review', 'decline']
    """
    if untied >= cuts.decline:
        return alone
    capped_to = Outcome.APPROVE if untied < cuts.review else Outcome.REVIEW
    return min(alone, capped_to, key=_SEVERITY)


def capped(decision: Decision, cuts: Cuts) -> Decision:
    """A model's decision under the cuts in force, with what it would have been without them.

    Args:
        decision: what the model alone would have decided.
        cuts: those in force; recorded, so that the decision can be derived again.
    """
    told: tuple[Any, ...] = decision  # `_replace` would take twice as long
    after = (cuts.review, cuts.decline, cuts.fpr_bound, cuts.budget, cuts.price_minor)
    after += told[_PRICE + 1 :]
    score = decision.score
    if cuts.is_held and score is not None and decision.decision != Outcome.APPROVE:
        alone = Outcome(decision.decision)
        found = governed(alone, score + tie_breaker(decision.transaction_id), cuts)
        if found is not alone:
            reasons = () if found is Outcome.APPROVE else decision.reasons
            first = (*told[:_DECISION], str(found), told[_SCORE], reasons, *told[_AFTER:_GOVERNED])
            return Decision._make((*first, str(alone), *after))
    return Decision._make((*told[:_GOVERNED], None, *after))
