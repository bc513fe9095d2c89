"""From a score to an answer: approve, review or decline, with stable reasons.

What belongs here: the rule that turns a number into an outcome, the choice of reason codes, and the
digest that names the rule. Scores come from `model`, the texts of feature reasons from
`features.spec`, thresholds from the champion's bundle; HTTP is `serving`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeGuard

from fraud_platform.errors import DataContractError
from fraud_platform.events import IN_DOUBT, Decision
from fraud_platform.selective_labels import PASSED, Drawn


@dataclass(frozen=True, kw_only=True)
class DecisionPolicy:
    """How much of the genuine traffic may be disturbed."""

    review_fpr: float = 0.02
    """Share of genuine transactions that may be reviewed or declined, in (0, 1)."""
    decline_fpr: float = 0.002
    """Share of genuine transactions that may be declined, in (0, review_fpr]."""
    max_reasons: int = 4
    """Most reason codes in one answer."""
    valid_seconds: int = 300
    """How long an answer may be acted on, seconds after it was decided."""
    rules_decline_from_minor: int | None = None
    """While no model decides: decline from this amount on, in minor units of whatever currency, and
    review below; unset: review everything. Nothing is ever approved without a model."""

    def __post_init__(self) -> None:
        if not 0.0 < self.decline_fpr <= self.review_fpr < 1.0:
            raise ValueError(
                f"found decline_fpr={self.decline_fpr} and review_fpr={self.review_fpr}, "
                "expected 0 < decline_fpr <= review_fpr < 1"
            )
        for name in ("max_reasons", "valid_seconds"):
            if getattr(self, name) < 1:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least 1")
        if self.rules_decline_from_minor is not None and self.rules_decline_from_minor < 0:
            raise ValueError(
                f"found rules_decline_from_minor={self.rules_decline_from_minor}, "
                "expected 0 or more, or nothing"
            )


class Outcome(StrEnum):
    """What the platform answers for one transaction, mildest first."""

    APPROVE = "approve"
    REVIEW = "review"
    DECLINE = "decline"


@dataclass(frozen=True)
class Thresholds:
    """The two cuts of a model's score; a score on a cut belongs to the stricter side.

    Attributes:
        review: scores from here on are at least reviewed, >= 0.
        decline: scores from here on are declined, >= review; above 1 nothing is declined.

    Raises:
        DataContractError: a cut is not a number, negative, or the cuts are in the wrong order.
    """

    review: float
    decline: float

    def __post_init__(self) -> None:
        # A NaN fails every comparison, so this also refuses cuts that are not numbers.
        if not 0.0 <= self.review <= self.decline:
            raise DataContractError(
                f"found thresholds review={self.review} and decline={self.decline}, "
                "expected 0 <= review <= decline",
                hint="write the bundle again from the evaluation that chose the thresholds",
            )


NO_MODEL = "R00"
STATE_IN_DOUBT = IN_DOUBT
LARGE_AMOUNT = "R02"
SET_ASIDE = "R03"
LET_THROUGH = "R04"
QUARANTINED = "R05"
UNEXPLAINED = "R97"
UNUSABLE_SCORE = "R98"
NOTHING_STANDS_OUT = "R99"

GENERAL_REASONS: Mapping[str, str] = {
    NO_MODEL: "No verified model is loaded; a person must look.",
    STATE_IN_DOUBT: "What is known about this card or terminal is in doubt; a person must look.",
    LARGE_AMOUNT: "The amount is too large to wait for a person.",
    SET_ASIDE: "The model is set aside for now; a person must look.",
    QUARANTINED: "Facts that every model rests on are set aside for now; a person must look.",
    LET_THROUGH: "Let through at random, to learn what declining costs.",
    UNEXPLAINED: "The model suspects it, but its reasons could not be verified.",
    UNUSABLE_SCORE: "The model gave no usable score; a person must look.",
    NOTHING_STANDS_OUT: "No single fact stands out; several small ones add up.",
}
"""Reason code -> text, for reasons that belong to no feature."""


_DECISION, _SCORE = map(Decision._fields.index, ("decision", "score"))
_AFTER, _DRAWN = map(Decision._fields.index, ("probability", "pass_propensity"))
_GOVERNED = _DRAWN + len(Drawn._fields)


def decide(score: float | None, thresholds: Thresholds | None) -> Outcome:
    """The outcome for one score; whatever is not a score is reviewed, never approved.

    Args:
        score: the model's fraud score in [0, 1], or None when no model scored.
        thresholds: the cuts that belong to that model, or None when there is no model.

    Returns:
        DECLINE from the decline cut on, REVIEW from the review cut on, else APPROVE; REVIEW when
        the score is missing, not a number or outside [0, 1].

    Examples:
        >>> cuts = Thresholds(review=0.3, decline=0.8)
        >>> [str(decide(score, cuts)) for score in (0.29, 0.3, 0.8)]
        ['approve', 'review', 'decline']
        >>> str(decide(None, cuts)), str(decide(float("nan"), cuts)), str(decide(0.1, None))
        ('review', 'review', 'review')
    """
    if thresholds is None or not is_usable(score):
        return Outcome.REVIEW
    if score >= thresholds.decline:
        return Outcome.DECLINE
    return Outcome.REVIEW if score >= thresholds.review else Outcome.APPROVE


def decide_without_score(
    amount_minor: int, cause: str, policy: DecisionPolicy
) -> tuple[Outcome, tuple[str, ...]]:
    """The outcome and reasons of a payment that no model may judge; never an approval.

    Args:
        amount_minor: the amount in minor units.
        cause: reason code that says why no model judges it.
        policy: holds the amount from which it is declined.

    Examples:
        >>> policy = DecisionPolicy(rules_decline_from_minor=50_000)
        >>> [decide_without_score(amount, NO_MODEL, policy) for amount in (49_999, 50_000)]
        [(<Outcome.REVIEW: 'review'>, ('R00',)), (<Outcome.DECLINE: 'decline'>, ('R00', 'R02'))]
    """
    limit = policy.rules_decline_from_minor
    if limit is None or amount_minor < limit:
        return Outcome.REVIEW, (cause,)
    return Outcome.DECLINE, (cause, LARGE_AMOUNT)[: policy.max_reasons]


def is_usable(score: float | None) -> TypeGuard[float]:
    """Whether this is a score at all: a number in [0, 1].

    Examples:
        >>> is_usable(0.5), is_usable(float("nan")), is_usable(1.5), is_usable(None)
        (True, False, False, False)
    """
    return score is not None and 0.0 <= score <= 1.0


def strongest_reasons(
    contributions: Sequence[float], codes: Sequence[str], *, limit: int
) -> tuple[str, ...]:
    """The reason codes that pushed one score up most.

    Features may share a code; the code then ranks by its strongest feature and appears once.

    Args:
        contributions: shape (k,), each feature's share of the margin, positive towards fraud.
        codes: shape (k,), each feature's reason code.
        limit: most codes in the answer.

    Returns:
        At most `limit` codes, strongest first; `NOTHING_STANDS_OUT` when nothing pushed upwards,
        so that a reviewed or declined payment never goes without a reason.

    Examples:
        >>> strongest_reasons([0.2, -1.0, 0.9, 0.5], ["R01", "R02", "R03", "R01"], limit=2)
        ('R03', 'R01')
    """
    ranked = sorted(
        (-contribution, place)
        for place, contribution in enumerate(contributions)
        if contribution > 0 and math.isfinite(contribution)
    )
    chosen = tuple(dict.fromkeys(codes[place] for _, place in ranked))[:limit]
    return chosen or (NOTHING_STANDS_OUT,)


def explored(decision: Decision, drawn: Drawn, policy: DecisionPolicy) -> Decision:
    """A model's decision with what was drawn for it: what is let through is approved, and says so.

    Args:
        decision: what the model alone would have decided.
        drawn: what `selective_labels.Explorer` drew.
        policy: the decision policy in force.
    """
    told: tuple[Any, ...] = decision  # `_replace` would take twice as long
    if drawn.explored == PASSED:
        reasons = (LET_THROUGH, *decision.reasons)[: policy.max_reasons]
        first = (*told[:_DECISION], str(Outcome.APPROVE), told[_SCORE], reasons)
        return Decision._make((*first, *told[_AFTER:_DRAWN], *drawn, *told[_GOVERNED:]))
    return Decision._make((*told[:_DRAWN], *drawn, *told[_GOVERNED:]))


def policy_digest(
    policy: DecisionPolicy | Mapping[str, object],
    thresholds: Thresholds | None,
    exploration: Mapping[str, object] | None = None,
    governor: Mapping[str, object] | None = None,
    worth: Mapping[str, object] | None = None,
) -> str:
    """The name of the rule that decided: SHA-256 over everything that it consists of, hex.

    Args:
        policy: the decision policy in force, or its fields as they were told at its time.
        thresholds: the champion's cuts, or None without a champion.
        exploration: `selective_labels.Explorer.document`, or None where nothing is drawn.
        governor: `governor.GovernorPolicy.document`, or None where no cap is held.
        worth: `worth.Worth.document`, or None where the cuts alone decide.

    Returns:
        64 hex digits; equal exactly when every field is equal.

    Examples:
        >>> policy_digest(DecisionPolicy(), None) == policy_digest(DecisionPolicy(), None)
        True
        >>> policy_digest(DecisionPolicy(), Thresholds(0.3, 0.8))[:8]
        'ed75cef2'
    """
    document = {
        "policy": asdict(policy) if isinstance(policy, DecisionPolicy) else policy,
        "thresholds": None if thresholds is None else asdict(thresholds),
        **({} if exploration is None else {"exploration": exploration}),
        **({} if governor is None else {"governor": governor}),
        **({} if worth is None else {"worth": worth}),
    }
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
