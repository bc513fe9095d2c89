"""What decides at this moment: one frozen object that a group of decisions reads once.

Loading models and replacing the object is `residents`; applying it to a group of requests is
`group`. Which card belongs to which arm, and what a score becomes, is said here.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters.model_bundle import Bundle
from fraud_platform.calibration import Calibration
from fraud_platform.decision import (
    GENERAL_REASONS,
    NO_MODEL,
    UNEXPLAINED,
    UNUSABLE_SCORE,
    DecisionPolicy,
    Outcome,
    Thresholds,
    decide,
    decide_without_score,
    is_usable,
    policy_digest,
    strongest_reasons,
)
from fraud_platform.explainer import FastExplainer
from fraud_platform.features.spec import FEATURES, spec_digest
from fraud_platform.governor import GovernorPolicy
from fraud_platform.model import Model
from fraud_platform.native_score import NativeScorer
from fraud_platform.orders import NORMAL, Orders
from fraud_platform.rollout import CANARY_ARM, CHAMPION_ARM, NO_ARM, arm_at
from fraud_platform.selective_labels import Explorer
from fraud_platform.worth import Worth

LOGGER = logging.getLogger("fraud_platform.scorer")

REASON_TEXTS: Mapping[str, str] = {
    **{feature.reason_code: feature.reason_text for feature in FEATURES},
    **GENERAL_REASONS,
}
"""Reason code -> the sentence a person reads."""

FALLBACK_ARM = "fallback"

_REASON_CODES = [feature.reason_code for feature in FEATURES]
_HASHES = 1 << 64


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """One row's outcome, and what its record says about where it comes from.

    Attributes:
        outcome: approve, review or decline.
        score: in [0, 1], or None when no model judged.
        probability: calibrated chance of fraud, or None when it cannot be told.
        expected_fpr: share of genuine payments that score at least this, or None without a score.
        reasons: codes of a review or decline, strongest first.
        arm: "champion", "canary", "control", "fallback", or "none" when no model judged.
        version: version of the model that judged, or None.
        model_digest: SHA-256 of its file, or None.
        policy_digest: names policy and thresholds.
    """

    outcome: Outcome
    score: float | None
    probability: float | None
    expected_fpr: float | None
    reasons: tuple[str, ...]
    arm: str
    version: str | None
    model_digest: str | None
    policy_digest: str


class ShadowVerdict(msgspec.Struct, frozen=True, gc=False):
    """What the challenger would have said about one row; nobody acts on it."""

    version: str
    model_digest: str
    score: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Resident:
    """A verified model in memory with all that turns its scores into verdicts.

    Attributes:
        version: the registry's version.
        model: the model.
        thresholds: its cuts.
        calibration: what its scores mean.
        policy: the decision policy in force.
        policy_digest: names policy, thresholds and what is drawn at random.
        scorer: scores for the thread that decides.
        shadow_scorer: scores for the thread that shadows.
        explainer: reasons for the thread that decides.
        explorer: draws what is let through or audited at random; None: nothing is.
        worth: weighs whether what is disturbed is worth it; None: the cuts alone decide.
        without: groups of features that it was trained without.
        divisors: what each feature is divided by before the model sees it; (): nothing is.
        alert_rate: share of payments that it reviewed or declined when its cuts were set, or None.
        alert_rate_by_hour: the same by hour of the day, UTC; () if only the one is known.
    """

    version: str
    model: Model
    thresholds: Thresholds
    calibration: Calibration
    policy: DecisionPolicy
    policy_digest: str
    scorer: NativeScorer = field(compare=False)
    shadow_scorer: NativeScorer = field(compare=False)
    explainer: FastExplainer = field(compare=False)
    explorer: Explorer | None = None
    worth: Worth | None = None
    without: tuple[str, ...] = ()
    divisors: tuple[float, ...] = ()
    alert_rate: float | None = None
    alert_rate_by_hour: tuple[float, ...] = ()

    def seen(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Recorded rows, shape (n, k), as the model sees them."""
        return features / np.array(self.divisors) if self.divisors else features

    def verdicts(self, features: NDArray[np.float64], arm: str) -> list[Verdict]:
        """Outcomes for a matrix of feature rows, shape (n, k), n >= 1."""
        features = self.seen(features)
        scores: list[float] = self.scorer.score(features).tolist()
        outcomes = [decide(score, self.thresholds) for score in scores]
        disturbed = [row for row, outcome in enumerate(outcomes) if outcome is not Outcome.APPROVE]
        reasons = self._reasons(features, scores, disturbed)
        told = (arm, self.version, self.model.digest, self.policy_digest)
        return [
            Verdict(outcome, *self._meaning(score), reasons.get(row, ()), *told)
            for row, (outcome, score) in enumerate(zip(outcomes, scores, strict=True))
        ]

    def _meaning(self, score: float) -> tuple[float | None, float | None, float | None]:
        """The score, its probability and its expected FPR; nothing of what is no score."""
        if not is_usable(score):
            return None, None, None
        return score, self.calibration.probability(score), self.calibration.expected_fpr(score)

    def shadow(self, features: NDArray[np.float64]) -> list[ShadowVerdict]:
        """What this model would have said, from another thread than the deciding one, or not."""
        return [
            ShadowVerdict(
                self.version,
                self.model.digest,
                score if is_usable(score) else None,
                decide(score, self.thresholds),
            )
            for score in self.shadow_scorer.score(self.seen(features)).tolist()
        ]

    def _reasons(
        self, features: NDArray[np.float64], scores: list[float], rows: list[int]
    ) -> dict[int, tuple[str, ...]]:
        # Contributions cost several scores, and the library's tens, so approved rows go without.
        if not rows:
            return {}
        found = self.explainer.explain(features[rows], np.array([scores[row] for row in rows]))
        pushes, is_exact = found.contributions.tolist(), found.is_exact.tolist()
        reasons: dict[int, tuple[str, ...]] = {}
        for place, row in enumerate(rows):
            if not is_usable(scores[row]):
                reasons[row] = (UNUSABLE_SCORE,)
            elif not is_exact[place]:
                reasons[row] = (UNEXPLAINED,)
            else:
                limit = self.policy.max_reasons
                reasons[row] = strongest_reasons(pushes[place], _REASON_CODES, limit=limit)
        return reasons


@dataclass(frozen=True)
class Ruling:
    """The models in memory by their roles, and the policy.

    Attributes:
        policy: the decision policy in force.
        champion: decides, or None when no verified model can.
        challenger: shadows, and decides on the canary's cards; or None.
        previous: the champion before, ready to take over; or None.
        canary_share: share of the cards that the challenger decides on, in [0, 1].
        missing: "champion" when another model than the deployed one stands in for it, "features"
            when it decides without some.
        fallbacks: stand in for the champion when features are not to be used.
        lead: the arm of what decides where no canary does.
        cause: the reason code of payments that no model may judge.
        orders: what was ordered otherwise, and is obeyed here.
    """

    policy: DecisionPolicy
    champion: Resident | None = None
    challenger: Resident | None = None
    previous: Resident | None = None
    canary_share: float = 0.0
    missing: tuple[str, ...] = ()
    fallbacks: tuple[Resident, ...] = ()
    lead: str = CHAMPION_ARM
    cause: str = NO_MODEL
    orders: Orders = NORMAL

    @property
    def mode(self) -> str:
        """`normal`, `degraded` or `rules_only`, as far as models are concerned."""
        if self.champion is None:
            return "rules_only"
        return "degraded" if self.missing else "normal"

    @property
    def model(self) -> Model | None:
        """The deciding model, or None."""
        return None if self.champion is None else self.champion.model

    @property
    def version(self) -> str | None:
        """The deciding model's version, or None."""
        return None if self.champion is None else self.champion.version

    @property
    def model_digest(self) -> str | None:
        """The SHA-256 of the deciding model's file, or None."""
        return None if self.champion is None else self.champion.model.digest

    @property
    def explorer(self) -> Explorer | None:
        """Draws what is let through or audited at random; None: nothing is."""
        return None if self.champion is None else self.champion.explorer

    @property
    def worth(self) -> Worth | None:
        """Weighs whether what is disturbed is worth it; None: the cuts alone decide."""
        return None if self.champion is None else self.champion.worth

    @cached_property
    def rules_digest(self) -> str:
        """Names the rule for payments that no model judges."""
        return policy_digest(self.policy, None)

    @property
    def feature_spec_digest(self) -> str:
        """Names the features every vector consists of."""
        return spec_digest()

    @property
    def residents(self) -> tuple[Resident, ...]:
        """The models in memory, each once."""
        found = (self.champion, self.challenger, self.previous, *self.fallbacks)
        return tuple({r.model.digest: r for r in found if r is not None}.values())

    @property
    def has_canary(self) -> bool:
        """Whether the challenger decides on any cards; never beside a model that stands in."""
        return self.challenger is not None and self.canary_share > 0.0 and self.mode == "normal"

    def arm(self, card_id: str) -> str:
        """Who decides on a card: always the same for a card and a challenger.

        Another challenger gets other cards. The control arm is the champion's, too.
        """
        if self.challenger is None or not self.has_canary:
            return self.lead if self.champion is not None else NO_ARM
        salt = bytes.fromhex(self.challenger.model.digest)
        place = hashlib.blake2b(card_id.encode(), digest_size=8, key=salt).digest()
        return arm_at(int.from_bytes(place) / _HASHES, self.canary_share)

    def verdicts(
        self, features: NDArray[np.float64], cards: Sequence[str], amounts: Sequence[int]
    ) -> list[Verdict]:
        """Outcomes for a matrix of feature rows.

        Args:
            features: shape (n, k) in `FEATURE_NAMES` order, NaN where undefined.
            cards: n card ids; they choose the arm.
            amounts: n amounts in minor units; they choose the outcome where there is no model.
        """
        if self.champion is None:
            return self.without_score(amounts, self.cause)
        if self.challenger is None or not self.canary_share:
            return self.champion.verdicts(features, self.lead) if cards else []
        rows: dict[str, list[int]] = {}
        for row, card in enumerate(cards):
            rows.setdefault(self.arm(card), []).append(row)
        found: dict[int, Verdict] = {}
        for arm, places in rows.items():
            judge = self.challenger if arm == CANARY_ARM else self.champion
            found |= zip(places, judge.verdicts(features[places], arm), strict=True)
        return [found[row] for row in range(len(cards))]

    def without_score(self, amounts: Sequence[int], cause: str) -> list[Verdict]:
        """Outcomes of payments that no model may judge; never an approval.

        Args:
            amounts: in minor units.
            cause: the reason code that says why.
        """
        decided = [decide_without_score(amount, cause, self.policy) for amount in amounts]
        digest = self.rules_digest
        return [
            Verdict(outcome, None, None, None, reasons, NO_ARM, None, None, digest)
            for outcome, reasons in decided
        ]

    def shadow(self, features: NDArray[np.float64]) -> list[ShadowVerdict] | None:
        """What the challenger says about rows it did not decide on; after the answer is out.

        Returns:
            One per row; empty without a challenger or when ordered so; None when it failed, which
            harms nothing.
        """
        if self.challenger is None or self.orders.is_shedding or not len(features):
            return []
        try:
            return self.challenger.shadow(features)
        except Exception:  # whatever a challenger does must not reach a decision
            LOGGER.exception("challenger %s failed to shadow", self.challenger.version)
            return None


def rules_only(policy: DecisionPolicy) -> Ruling:
    """The ruling while no verified model is loaded."""
    return Ruling(policy)


def resident_of(
    bundle: Bundle,
    policy: DecisionPolicy,
    explorer: Explorer | None = None,
    governor: GovernorPolicy | None = None,
    worth: Worth | None = None,
) -> Resident:
    """A verified bundle, ready to decide: the fast way checked, every path taken once.

    Args:
        bundle: the bundle.
        policy: the decision policy in force.
        explorer: what overrules it at random; named in the policy's digest.
        governor: the cap that it is held under; named there, too.
        worth: what lets go where disturbing does not pay; named there, too.

    Raises:
        DataContractError: the manifest's thresholds make no sense.
    """
    manifest, model = bundle.manifest, bundle.model
    thresholds = Thresholds(manifest.review_threshold, manifest.decline_threshold)
    check = bundle.golden
    resident = Resident(
        manifest.version,
        model,
        thresholds,
        bundle.calibration,
        policy,
        policy_digest(
            policy,
            thresholds,
            None if explorer is None else explorer.document,
            None if governor is None else governor.document,
            None if worth is None else worth.document,
        ),
        NativeScorer(model, check),
        NativeScorer(model, check),
        FastExplainer(model, check),  # explains through the library once, too
        explorer,
        worth,
        manifest.without,
        alert_rate=manifest.report.get("alert_rate"),
        alert_rate_by_hour=manifest.alert_rate_by_hour,
    )
    resident.verdicts(check[:1], CHAMPION_ARM)
    resident.explainer.explain(check[:1], model.score(check[:1]))
    return resident
