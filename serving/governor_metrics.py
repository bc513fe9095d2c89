"""What is asked of the caps when somebody scrapes."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fraud_platform.governor import GovernorState
from serving.governing import Governing

_TOLD = {
    "budget": ("budget", "Share of payments that may be reviewed or declined"),
    "fpr_bound": ("fpr_bound", "Share of genuine payments disturbed at most, by the window"),
    "review": ("review_cut", "Scores from here on are reviewed"),
    "decline": ("decline_cut", "Scores from here on are declined"),
    "held_share": ("held_share", "Share of the window answered more mildly than by the model"),
    "price_minor": ("price_minor", "Fraud let go per false block avoided, minor units"),
    "audited_fraud": ("audited_fraud", "Share of fraud among declines that audits show at least"),
}
"""Field of the cuts -> name of its metric, and its text."""


class GovernorMetrics(Collector):
    """The caps of one scorer.

    Args:
        governing: holds them.
    """

    def __init__(self, governing: Governing) -> None:
        self._governing = governing

    def collect(self) -> Iterator[Metric]:
        """State and cuts of each arm's cap; what is not known is left out."""
        state = GaugeMetricFamily(
            "fraud_governor_state", "1 for the state of an arm's cap", labels=["arm", "state"]
        )
        numbers = {
            field: GaugeMetricFamily(f"fraud_governor_{name}", text, labels=["arm"])
            for field, (name, text) in _TOLD.items()
        }
        for arm, governor in self._governing.arms.items():
            for one in GovernorState:
                state.add_metric([arm, one], governor.state is one)
            for field, family in numbers.items():
                value = getattr(governor.cuts, field)
                if value is not None:
                    family.add_metric([arm], value)
        yield state
        yield from numbers.values()
