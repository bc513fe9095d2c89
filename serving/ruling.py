"""What decides at this moment: one frozen object that a group of decisions reads once.

Loading and swapping it is `champion`; applying it to a group of requests is `group`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters.model_bundle import Bundle
from fraud_platform.decision import (
    GENERAL_REASONS,
    NO_MODEL,
    STATE_IN_DOUBT,
    UNUSABLE_SCORE,
    DecisionPolicy,
    Outcome,
    Thresholds,
    decide,
    is_usable,
    policy_digest,
    strongest_reasons,
)
from fraud_platform.features.spec import FEATURES, spec_digest
from fraud_platform.model import Model

REASON_TEXTS: Mapping[str, str] = {
    **{feature.reason_code: feature.reason_text for feature in FEATURES},
    **GENERAL_REASONS,
}
"""Reason code -> the sentence a person reads."""

_REASON_CODES = [feature.reason_code for feature in FEATURES]


@dataclass(frozen=True)
class Verdict:
    """One row's outcome: score in [0, 1] or None, and the reasons of a review or decline."""

    outcome: Outcome
    score: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Ruling:
    """A model, its cuts and the policy, under the digests that every decision records.

    Attributes:
        model: the verified champion's model, or None when there is none.
        thresholds: the champion's cuts, or None.
        version: the champion's version, or None.
        policy: the decision policy in force.
        policy_digest: names policy and thresholds.
        feature_spec_digest: names the features the vector consists of.
        without_model: the reason of a review that no model asked for.
    """

    model: Model | None
    thresholds: Thresholds | None
    version: str | None
    policy: DecisionPolicy
    policy_digest: str
    feature_spec_digest: str
    without_model: str = NO_MODEL

    @property
    def mode(self) -> str:
        """`normal`, or `rules_only` when no model decides."""
        return "rules_only" if self.model is None else "normal"

    @property
    def model_digest(self) -> str | None:
        """The model file's SHA-256, or None."""
        return None if self.model is None else self.model.digest

    def verdicts(self, features: NDArray[np.float64]) -> list[Verdict]:
        """Outcomes for a matrix of feature rows.

        Args:
            features: shape (n, k) in `FEATURE_NAMES` order, NaN where undefined.
        """
        if self.model is None:
            return [Verdict(Outcome.REVIEW, None, (self.without_model,))] * len(features)
        scores: list[float] = self.model.score(features).tolist()
        outcomes = [decide(score, self.thresholds) for score in scores]
        disturbed = [row for row, outcome in enumerate(outcomes) if outcome is not Outcome.APPROVE]
        reasons = self._reasons(self.model, features, scores, disturbed)
        return [
            Verdict(outcome, score if is_usable(score) else None, reasons.get(row, ()))
            for row, (outcome, score) in enumerate(zip(outcomes, scores, strict=True))
        ]

    def _reasons(
        self, model: Model, features: NDArray[np.float64], scores: list[float], rows: list[int]
    ) -> dict[int, tuple[str, ...]]:
        # Contributions cost about a hundred scores, so approved rows go without.
        if not rows:
            return {}
        limit = self.policy.max_reasons
        contributions = model.contributions(features[rows]).tolist()
        return {
            row: strongest_reasons(pushes, _REASON_CODES, limit=limit)
            if is_usable(scores[row])
            else (UNUSABLE_SCORE,)
            for row, pushes in zip(rows, contributions, strict=True)
        }


def rules_only(policy: DecisionPolicy) -> Ruling:
    """The ruling while no verified model is loaded: everything goes to a person."""
    return Ruling(None, None, None, policy, policy_digest(policy, None), spec_digest())


def in_doubt(policy: DecisionPolicy) -> Ruling:
    """The ruling for payments whose card or terminal may be remembered wrongly."""
    return replace(rules_only(policy), without_model=STATE_IN_DOUBT)


def ruling_of(bundle: Bundle, policy: DecisionPolicy) -> Ruling:
    """The ruling of a verified bundle.

    Raises:
        DataContractError: the manifest's thresholds make no sense.
    """
    manifest = bundle.manifest
    thresholds = Thresholds(manifest.review_threshold, manifest.decline_threshold)
    digest = policy_digest(policy, thresholds)
    return Ruling(
        bundle.model,
        thresholds,
        manifest.version,
        policy,
        digest,
        manifest.feature_spec_digest,
    )
