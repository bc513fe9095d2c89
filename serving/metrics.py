"""What operators see at /metrics: every child is bound once, so counting costs one attribute call.

Labels are outcomes, modes and versions, never ids.
"""

import itertools
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fraud_platform.decision import Outcome
from serving.group import DecisionResult, Result
from serving.ruling import Ruling

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one scorer, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        decisions = Counter(
            "fraud_decisions", "Decisions taken", ["outcome", "mode"], registry=registry
        )
        modes = ("normal", "degraded", "rules_only")
        self._decisions = {
            (str(outcome), mode): decisions.labels(str(outcome), mode)
            for outcome, mode in itertools.product(Outcome, modes)
        }
        self._replays = Counter(
            "fraud_decisions_replayed", "Decisions answered again", registry=registry
        )
        self._labels = Counter("fraud_labels", "New verdicts recorded", registry=registry)
        self._refusals = Counter(
            "fraud_requests_refused", "Requests refused, by code", ["code"], registry=registry
        )
        self._latency = Histogram(
            "fraud_decision_seconds",
            "From the parsed request to the durable decision",
            buckets=_SECONDS,
            registry=registry,
        )
        self._commit = Histogram(
            "fraud_commit_seconds", "One group's commit", buckets=_SECONDS, registry=registry
        )
        self._group = Histogram(
            "fraud_group_requests", "Requests in one commit", buckets=_SIZES, registry=registry
        )
        self._log_errors = Counter(
            "fraud_log_errors", "Groups the event log refused", registry=registry
        )
        self._swaps = Counter("fraud_model_swaps", "Champions taken over", registry=registry)
        self._load_errors = Counter(
            "fraud_model_load_errors", "Champions that failed verification", registry=registry
        )
        self._model = Gauge(
            "fraud_model_info",
            "1 for the model that decides",
            ["version", "digest"],
            registry=registry,
        )
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

    def committed(
        self, results: Sequence[Result], *, waited_us: Sequence[int], took_us: int
    ) -> None:
        """Count one committed group.

        Args:
            results: one per request.
            waited_us: from each request's arrival to the end of the commit, microseconds.
            took_us: duration of the group's work and commit, microseconds.
        """
        self._group.observe(len(results))
        self._commit.observe(took_us / 1e6)
        for result, waited in zip(results, waited_us, strict=True):
            if isinstance(result, DecisionResult):
                self._latency.observe(waited / 1e6)
                if result.replayed:
                    self._replays.inc()
                else:
                    decision = result.decision
                    self._decisions[decision.decision, decision.mode].inc()
            elif isinstance(result, tuple):
                self._labels.inc(sum(getattr(label, "recorded", False) for label in result))

    def refused(self, code: str) -> None:
        """Count one refused request."""
        self._refusals.labels(code).inc()

    def log_failed(self) -> None:
        """Count one group that the log refused."""
        self._log_errors.inc()

    def checked(self, shards: int, differing: int) -> None:
        """Count one round of comparing the state with the log."""
        self._checked.inc(shards)
        self._differing.inc(differing)

    def check_failed(self) -> None:
        """Count one round that could not be compared."""
        self._failed_checks.inc()

    def load_failed(self) -> None:
        """Count one champion that failed verification."""
        self._load_errors.inc()

    def swapped(self, ruling: Ruling) -> None:
        """Count one take-over and name the model that decides from now on."""
        self._swaps.inc()
        self._model.clear()
        self._model.labels(ruling.version or "", ruling.model_digest or "").set(1)

    def page(self) -> bytes:
        """The text exposition of everything."""
        return generate_latest(self._registry)
