"""A backtest of two bundles: find them, score the past once each, explain the samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters.backtest_source import Past
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_bundle import Bundle, list_manifests, load_bundle, load_pointed
from fraud_platform.backtest import BacktestPolicy, Side, backtest
from fraud_platform.backtest_report import BacktestReport
from fraud_platform.decision import UNEXPLAINED, Thresholds, strongest_reasons
from fraud_platform.errors import NoChampionError, PermanentError
from fraud_platform.features.spec import FEATURES
from fraud_platform.outcome_policy import OutcomePolicy

ROLES = ("champion", "challenger", "previous")
"""Names of models besides versions and paths."""

_CODES = [feature.reason_code for feature in FEATURES]
_TEXTS = {feature.reason_code: feature.reason_text for feature in FEATURES}
_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A bundle under a policy.

    Attributes:
        bundle: the verified bundle.
        policy: what replaces its cuts, and rules.
        note: what to call the policy; empty: its own cuts.
    """

    bundle: Bundle
    policy: OutcomePolicy = field(default_factory=OutcomePolicy)
    note: str = ""

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"version {self.bundle.manifest.version}" + (f", {self.note}" if self.note else "")


def find_bundle(models_dir: Path, told: str) -> Bundle:
    """The verified bundle of a role, a version or a path, in this order.

    Raises:
        NoChampionError: no model has that role.
        BundleIntegrityError: the bundle is damaged, or of another declaration of the features.
        PermanentError: there is no such version and no such path.
    """
    if told in ROLES:
        pointer = getattr(read_deployment(models_dir), told)
        if pointer is None:
            raise NoChampionError(
                f"found no model with the role {told}, expected one",
                hint="name a version; `fraud-platform models show` lists roles and versions",
            )
        return load_pointed(models_dir, pointer)
    versions = [manifest.version for manifest in list_manifests(models_dir)[0]]
    if told in versions:
        return load_bundle(models_dir / told)
    if Path(told).is_dir():
        return load_bundle(Path(told).resolve())
    raise PermanentError(
        f"found no model {told!r}, expected a role ({', '.join(ROLES)}), a version "
        f"({', '.join(versions) or 'there is none'}) or the folder of a bundle",
        hint="`fraud-platform models show` lists roles and versions",
    )


def run_backtest(
    past: Past, candidate: Contender, against: Contender, policy: BacktestPolicy
) -> BacktestReport:
    """Score the past with both, and compare what they would have decided."""
    ours = candidate.bundle.model.score(past.features)
    same = candidate.bundle.model.digest == against.bundle.model.digest
    theirs = ours if same else against.bundle.model.score(past.features)
    return backtest(
        past.rows,
        _side(candidate, ours, past.features),
        _side(against, theirs, past.features),
        period=past.period,
        policy=policy,
    )


def _side(contender: Contender, scores: NDArray[np.float64], features: NDArray[np.float64]) -> Side:
    manifest, model = contender.bundle.manifest, contender.bundle.model

    def explain(places: NDArray[np.int64]) -> Sequence[tuple[str, ...]]:
        found = model.explain(features[places])
        return [
            _texts(parts.tolist()) if is_exact else (UNEXPLAINED,)
            for parts, is_exact in zip(found.contributions, found.is_exact, strict=True)
        ]

    return Side(
        name=contender.name,
        scores=scores,
        own=Thresholds(manifest.review_threshold, manifest.decline_threshold),
        trained_as_of=datetime.fromisoformat(manifest.trained_as_of),
        policy=contender.policy,
        probabilities=contender.bundle.calibration.probabilities(scores),
        explain=explain,
    )


def _texts(contributions: list[float]) -> tuple[str, ...]:
    codes = strongest_reasons(contributions, _CODES, limit=_REASONS)
    return tuple(f"{code} {_TEXTS[code].rstrip('.')}" if code in _TEXTS else code for code in codes)
