"""What operators see at /metrics: every child is bound once, so counting costs one attribute call.

Labels are outcomes, modes and versions, never ids.
"""

import itertools
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fraud_platform.adapters.ledger import Ledger
from fraud_platform.decision import Outcome
from fraud_platform.events import Decision
from fraud_platform.features.rings import FeatureRings
from fraud_platform.modes import Mode
from fraud_platform.selective_labels import AUDITED, PASSED
from serving.group import DecisionRequest, DecisionResult
from serving.harm import Answered, HarmWatch
from serving.histogram import GroupHistogram
from serving.stance import Stance
from serving.waiting import Written

Synced = TypeVar("Synced")

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SCORES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one scorer, in a registry of their own.

    Attributes:
        harm: what was answered or refused is told here, too; None: nowhere.
        groups_refused: how many groups the log has refused.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.harm: HarmWatch | None = None
        self.groups_refused = 0
        decisions = Counter(
            "fraud_decisions", "Decisions taken", ["outcome", "mode", "arm"], registry=registry
        )
        arms = ("champion", "canary", "control", "fallback")
        ways = (*itertools.product(("normal", "degraded"), arms), ("rules_only", "none"))
        self._decisions = {
            (str(outcome), mode, arm): decisions.labels(str(outcome), mode, arm)
            for outcome, (mode, arm) in itertools.product(Outcome, ways)
        }
        self._score = GroupHistogram(
            "fraud_score", "Scores of decided payments, all models", _SCORES, registry
        )
        self._replays = Counter(
            "fraud_decisions_replayed", "Decisions answered again", registry=registry
        )
        self._labels = Counter("fraud_labels", "New verdicts recorded", registry=registry)
        self._refusals = Counter(
            "fraud_requests_refused", "Requests refused, by code", ["code"], registry=registry
        )
        self._latency = GroupHistogram(
            "fraud_decision_seconds",
            "From the parsed request to the answer, its record durable",
            _SECONDS,
            registry,
        )
        self._commit = GroupHistogram(
            "fraud_group_seconds",
            "One group, from its first step to its answers",
            _SECONDS,
            registry,
        )
        self._group = GroupHistogram(
            "fraud_group_requests", "Requests in one group", _SIZES, registry
        )
        self.waiting = Gauge("fraud_requests_waiting", "Requests not yet begun", registry=registry)
        self._mode = Gauge("fraud_mode", "1 for the mode in force", ["mode"], registry=registry)
        self._missing = Gauge(
            "fraud_missing",
            "1 for each capability that is missing",
            ["capability"],
            registry=registry,
        )
        self._count_journal(registry)
        self._count_models(registry)
        self._count_state(registry)
        self._count_exploration(registry)

    def _count_exploration(self, registry: CollectorRegistry) -> None:
        explored = Counter(
            "fraud_explored", "Payments drawn at random", ["action"], registry=registry
        )
        self._explored = {action: explored.labels(action) for action in (PASSED, AUDITED)}
        self.exposure = Gauge(
            "fraud_exploration_exposure_minor",
            "Amounts let through on this UTC day, minor units",
            registry=registry,
        )
        self.audits_open = Gauge(
            "fraud_audits_open", "Payments that wait for an audit", registry=registry
        )

    def _count_journal(self, registry: CollectorRegistry) -> None:
        self.journal_sync = Histogram(
            "fraud_journal_sync_seconds",
            "One sync of the disk",
            buckets=_SECONDS,
            registry=registry,
        )
        self.journal_tail = Gauge(
            "fraud_journal_tail_records",
            "Records not yet in the log's tables",
            registry=registry,
        )
        self.journal_bytes = Gauge(
            "fraud_journal_undrained_bytes",
            "Journal not yet in the log's tables",
            registry=registry,
        )
        self._log_errors = Counter(
            "fraud_log_errors", "Groups the event log refused", registry=registry
        )

    def _count_models(self, registry: CollectorRegistry) -> None:
        self._shadows = Counter(
            "fraud_shadow_scores", "Scores of a challenger nobody acted on", registry=registry
        )
        self._shadow_failures = Counter(
            "fraud_shadow_failures", "Groups a challenger failed to score", registry=registry
        )
        self._swaps = Counter("fraud_model_swaps", "Champions taken over", registry=registry)
        self._load_errors = Counter(
            "fraud_model_load_errors", "Models that failed verification", registry=registry
        )

    def _count_state(self, registry: CollectorRegistry) -> None:
        self._checked = Counter(
            "fraud_state_shards_checked", "Shards compared with the log", registry=registry
        )
        self._differing = Counter(
            "fraud_state_shards_differing",
            "Shards that were not as the log says",
            registry=registry,
        )
        self._failed_checks = Counter(
            "fraud_state_checks_failed", "Rounds that could not be compared", registry=registry
        )
        self.in_doubt = Gauge(
            "fraud_state_shards_in_doubt", "Shards whose payments go to review", registry=registry
        )
        self.seq = Gauge("fraud_log_seq", "Newest log position folded in", registry=registry)
        self.pasts = Gauge(
            "fraud_state_pasts", "Cards and terminals remembered", ["entity"], registry=registry
        )

    def committed(self, written: Written, *, now: float) -> None:
        """Count one committed group.

        Args:
            written: the group, answered by now.
            now: seconds of the loop.
        """
        self._group.observe([len(written.results)])
        self._commit.observe([now - written.started])
        answered: list[float] = []
        told: list[Answered] = []
        for waiting, result in zip(written.waiting, written.results, strict=True):
            if isinstance(result, DecisionResult):
                answered.append(now - waiting.since)
                if not result.replayed and isinstance(waiting.request, DecisionRequest):
                    card_id = waiting.request.transaction.card_id
                    told.append(Answered(card_id, result.decision, answered[-1]))
            elif isinstance(result, tuple):
                self._labels.inc(sum(getattr(label, "recorded", False) for label in result))
        if self.harm is not None:
            self.harm.answered(told)
        self._decided(answered, [each.decision for each in told])

    def _decided(self, answered: Sequence[float], taken: Sequence[Decision]) -> None:
        self._latency.observe(answered)
        self._replays.inc(len(answered) - len(taken))
        self._score.observe([d.score for d in taken if d.score is not None])
        for kind, count in Tally((d.decision, d.mode, d.arm) for d in taken).items():
            self._decisions[kind].inc(count)
        for action, count in Tally(d.explored for d in taken if d.explored).items():
            self._explored[action].inc(count)

    def refused(self, code: str, count: int = 1) -> None:
        """Count refused requests."""
        self._refusals.labels(code).inc(count)
        if self.harm is not None:
            self.harm.refused(code, count)

    def timed(self, sync: Callable[[Synced], object]) -> Callable[[Synced], None]:
        """The same, with each call's time counted."""

        def timed(synced: Synced) -> None:
            with self.journal_sync.time():
                sync(synced)

        return timed

    def looked(self, rings: FeatureRings, ledger: Ledger | None, *, waiting: int) -> None:
        """Note what no request changes: sizes of the state, of the queue and of the journal."""
        self.seq.set(rings.last_seq)
        self.waiting.set(waiting)
        for entity, count in rings.sizes().items():
            self.pasts.labels(entity).set(count)
        if ledger is not None:
            self.journal_tail.set(ledger.tail)
            self.journal_bytes.set(ledger.undrained_bytes)

    def shadowed(self, scores: int) -> None:
        """Count scores of a challenger."""
        self._shadows.inc(scores)

    def shadow_failed(self) -> None:
        """Count one group that a challenger failed to score."""
        self._shadow_failures.inc()

    def took_stance(self, stance: Stance) -> None:
        """Name the mode in force and what is missing in it."""
        for mode in Mode:
            self._mode.labels(mode).set(mode is stance.mode)
        self._missing.clear()
        for capability in stance.missing:
            self._missing.labels(capability).set(1)

    def log_failed(self) -> None:
        """Count one group that the log refused."""
        self._log_errors.inc()
        self.groups_refused += 1

    def checked(self, shards: int, differing: int) -> None:
        """Count one round of comparing the state with the log."""
        self._checked.inc(shards)
        self._differing.inc(differing)

    def check_failed(self) -> None:
        """Count one round that could not be compared."""
        self._failed_checks.inc()

    def load_failed(self) -> None:
        """Count one model that failed verification."""
        self._load_errors.inc()

    def swapped(self) -> None:
        """Count one take-over; which model decides is asked by `model_metrics`."""
        self._swaps.inc()

    def page(self) -> bytes:
        """The text exposition of everything."""
        return generate_latest(self.registry)
