"""What a run of an open loop found, and what it could not find."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fraud_platform.load.loops import Tally

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
_LATE_SHARE = 0.2
"""A latency means nothing when more than this share of it may be the generator's own lateness."""
_LATE_NS = 100_000
"""So late is nobody's fault: one turn of the generator's loop, nanoseconds."""
_KEPT_UP = 0.95
_NEEDED = 10
"""A percentile needs so many answers above it, or else chance made it."""
NOT_MEASURABLE = "the generator was late: not measurable"


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run.

    Attributes:
        tally: what was counted.
        rate: requests per second that were asked for.
        seconds: for how long.
        repeated: payments that were sent again and answered.
        different: of these, how many got another decision than before.
        run_queue_share: of the time in which the scorer wanted a processor, the part in which it
            waited for one; None where that cannot be seen.
    """

    tally: Tally
    rate: float
    seconds: float
    repeated: int = 0
    different: int = 0
    run_queue_share: float | None = None

    @property
    def is_sound(self) -> bool:
        """Whether every request was answered with a decision, and every repeat with the same."""
        answered = self.tally.answered
        return bool(answered) and answered == self.tally.sent and not self.different

    @property
    def achieved_rate(self) -> float:
        """Decisions per second, until the last answer."""
        return self.tally.answered / max(self.tally.seconds, self.seconds)

    def latency_ms(self, share: float) -> float | None:
        """A percentile of the latency, milliseconds; None when the generator was too late."""
        if not self.tally.answered:
            return None
        found, late = (counts.at(share) for counts in (self.tally.latency, self.tally.lateness))
        return None if late > max(_LATE_NS, _LATE_SHARE * found) else found / 1e6

    def lateness_ms(self, share: float) -> float:
        """A percentile of the generator's own lateness, milliseconds."""
        return self.tally.lateness.at(share) / 1e6 if self.tally.lateness.count else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything by name; a latency that could not be measured is null."""
        return {
            "asked_rate": self.rate,
            "achieved_rate": round(self.achieved_rate, 1),
            "sent": self.tally.sent,
            "answered": self.tally.answered,
            "failed": self.tally.sent - self.tally.answered,
            "failures": dict(self.tally.failures),
            "first_failures": self.tally.first_failures,
            "repeated": self.repeated,
            "repeated_differently": self.different,
            "latency_ms": {
                name: _rounded(self.latency_ms(share)) for name, share in PERCENTILES.items()
            },
            "generator_late_ms": {
                name: _rounded(self.lateness_ms(PERCENTILES[name])) for name in ("p50", "p99")
            },
            "run_queue_share": _rounded(self.run_queue_share),
            "is_sound": self.is_sound,
        }

    def to_text(self) -> str:
        """The same as lines for people."""
        return "\n".join(f"{name:<22} {text}" for name, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        sent, answered = self.tally.sent, self.tally.answered
        keeps_up = self.achieved_rate >= _KEPT_UP * min(self.rate, sent / self.seconds)
        behind = "" if keeps_up else ": the scorer did not keep up"
        yield "rate", f"{self.achieved_rate:,.1f} of {self.rate:,.1f} per second{behind}"
        yield "answered", f"{answered:,} of {sent:,}"
        for name, share in PERCENTILES.items():
            found = self.latency_ms(share)
            few = share < 1 and (1 - share) * answered < _NEEDED and found is not None
            missing = NOT_MEASURABLE if answered else "no answer"
            text = missing if found is None else f"{found:,.2f} ms"
            yield f"latency {name}", text + (" (few answers)" if few else "")
        yield "generator late", f"{self.lateness_ms(0.99):,.2f} ms (p99)"
        waited = self.run_queue_share
        queue = "cannot be seen from here" if waited is None else f"{waited:.1%} of its time"
        yield "scorer in run queue", queue
        if self.repeated:
            yield "sent again", f"{self.repeated:,}, answered differently: {self.different:,}"
        yield from (
            ("failed", f"{count:,} x {what}") for what, count in self.tally.failures.items()
        )
        yield from (("first failures", text) for text in self.tally.first_failures)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
