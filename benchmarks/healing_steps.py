"""What is done to a running scorer while it is measured, each in a process of its own.

Times are of the clock that all processes of a machine share, so the one who asks can compare.
"""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.heal_tick import Healer, Ticked
from fraud_platform.adapters.model_bundle import Evidence, Lineage, load_bundle
from fraud_platform.adapters.model_cards import card_for
from fraud_platform.adapters.model_contest import newest_payments
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.adapters.model_roles import CHAMPION
from fraud_platform.errors import PermanentError
from fraud_platform.evaluation import EvaluationPolicy, EvaluationReport, evaluate
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.promotion_gates import Alerts
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.settings import Settings

GOOD, UPDATE, BAD = "1", "2", "3"
"""Versions: the champion, its successor, and a release that disturbs far too many."""

_MANDATE = Mandate(by="benchmark", why="to measure what follows")
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
_BAD_TIMES = 2
"""So many times what the others disturb is disturbed by the bad release."""
_MOST_TICKS = 10
_TOLD = 30


@dataclass(frozen=True)
class Step:
    """When something was begun and how long its parts took.

    Attributes:
        began: by the clock that does not jump, seconds.
        parts: seconds by name, in order.
    """

    began: float
    parts: dict[str, float]

    def told(self) -> str:
        """The parts in words."""
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.parts.items())


def register(home: Path, trained_as_of: datetime) -> None:
    """Register three versions of the home's model, the first as champion.

    They differ in their thresholds only, so the cost of a step is that of a real model.

    Args:
        home: of the scorer.
        trained_as_of: the payments before it are what is normal.
    """
    settings = Settings(home=home)
    registry = _registry(settings)
    known = load_bundle(settings.models_dir / GOOD)
    reference = known.reference()
    settings.models_dir.rename(settings.models_dir.with_name("models-before"))
    evidence = Evidence(
        calibration=known.calibration, golden=known.golden, reference=reference.drop("score")
    )
    scores, usual = reference["score"].to_numpy(), known.manifest.review_threshold
    share = float((scores >= usual).mean())
    lax = float(np.quantile(scores, 1.0 - _BAD_TIMES * share))
    for version, review in ((GOOD, usual), (UPDATE, usual), (BAD, lax)):
        as_of = trained_as_of.isoformat()
        run = registry.log_training(
            known.model,
            _report(),
            Provenance(training_set_digest="0" * 64, trained_as_of=as_of),
        )
        lineage = Lineage(
            review_threshold=review,
            decline_threshold=max(known.manifest.decline_threshold, review),
            trained_as_of=as_of,
            training_set_digest="0" * 64,
            run_id=run,
            report={"average_precision": 0.5, "alert_rate": float((scores >= review).mean())},
        )
        card = card_for(settings, known.model, _report(), known.calibration, lineage)
        if registry.register(known.model, lineage, replace(evidence, card=card)) != version:
            raise PermanentError(f"found another number for version {version}, expected a new home")
    registry.promote(GOOD, _MANDATE)


def flip(home: Path, version: str) -> Step:
    """Only the move of the roles and of the pointer, by a process that has found its registry."""
    registry = _registry(Settings(home=home))
    started = time.monotonic()
    registry.alias(CHAMPION)
    began, worked = time.monotonic(), time.process_time()
    registry.promote(version, _MANDATE)
    parts = {"promote": time.monotonic() - began, "of it CPU": time.process_time() - worked}
    return Step(began, parts | {"MLflow before": began - started})


def update(home: Path, version: str, replayed_rows: int) -> Step:
    """What stands between a finished training and its decisions: golden rows, replay, promotion.

    Args:
        home: of the scorer.
        version: the challenger.
        replayed_rows: so many of the newest payments are scored by both models.

    Raises:
        PermanentError: the replay had too few payments, or the alerts changed.
    """
    began, parts = time.monotonic(), {}
    settings = Settings(home=home)
    registry = _registry(settings)
    challenger, champion = (registry.bundle(one) for one in (version, GOOD))
    parts["golden rows"] = time.monotonic() - began
    started = time.monotonic()
    policy = PromotionPolicy(replay_rows=replayed_rows)
    log = EventLog(settings.log_path)
    moment = (log.newest_event_timestamp() or _LONG_AGO) + timedelta(seconds=1)
    no_table = pl.DataFrame(schema=["event_timestamp", *FEATURE_NAMES])
    newest = newest_payments(log, no_table, moment, policy)
    log.close()
    replayed = Alerts(
        new=challenger.model.score(newest) >= challenger.manifest.review_threshold,
        old=champion.model.score(newest) >= champion.manifest.review_threshold,
    )
    parts[f"replay of {len(newest):,} payments"] = time.monotonic() - started
    if len(newest) < policy.replay_rows or abs(replayed.ratio - 1.0) > policy.max_alert_change:
        raise PermanentError(
            f"found {len(newest):,} payments to replay with {replayed.ratio:.2f} times the alerts,"
            f" expected {policy.replay_rows:,} and about as many"
        )
    started = time.monotonic()
    registry.promote(version, _MANDATE)
    parts["promote"] = time.monotonic() - started
    return Step(began, parts)


def release(home: Path, version: str, tick_seconds: float) -> Step:
    """A release just after a tick of healing, and ticks until another version decides.

    Args:
        home: of the scorer.
        version: the bad one.
        tick_seconds: from the beginning of a tick to that of the next.

    Raises:
        PermanentError: healing leaves the version where it is.
    """
    settings = Settings(home=home)
    registry = _registry(settings)
    healer = Healer(settings, EventLog(settings.log_path), registry)
    _tick(healer)  # as the daemon, which has long read what is normal
    began = time.monotonic()
    registry.promote(version, _MANDATE)
    released, seen = time.monotonic(), []
    parts = {"promote": released - began}
    for number in range(1, _MOST_TICKS + 1):
        time.sleep(max(0.0, released + number * tick_seconds - time.monotonic()))
        started, worked = time.monotonic(), time.process_time()
        seen.append(_told(_tick(healer)))
        parts[f"tick {number} ({seen[-1]})"] = time.monotonic() - started
        parts["of it CPU"] = time.process_time() - worked
        champion = read_deployment(settings.models_dir).champion
        if champion is not None and champion.version != version:
            return Step(began, parts | {"done after": time.monotonic() - began})
    told = [f"{one.kind} {one.why}" for one in HealLedger(settings.heal_ledger_path).records()]
    raise PermanentError(
        f"found version {version} still deciding after ticks that saw {seen}",
        hint=f"the ledger ends with {told[-_TOLD:]}",
    )


def _tick(healer: Healer) -> Ticked:
    return healer.tick(time.time_ns() // 1000, by="benchmark")


def _told(ticked: Ticked) -> str:
    breached = ticked.evidence.breached() if ticked.evidence else ()
    return f"{ticked.cause} by {', '.join(breached)}"


def _registry(settings: Settings) -> ModelRegistry:
    return ModelRegistry(None, settings.mlflow_dir, settings.models_dir)


def _report() -> EvaluationReport:
    """Some report: MLflow's record of a training has one, and nothing here reads it."""
    rows = pl.DataFrame(
        {
            "event_timestamp": [_LONG_AGO, _LONG_AGO],
            "card_id": ["a", "b"],
            "amount_minor": [100, 100],
            "is_fraud": [True, False],
            "score": [0.9, 0.1],
        }
    )
    return evaluate(rows, EvaluationPolicy())
