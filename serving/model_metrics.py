"""What is asked of the models in memory when somebody scrapes, and needs no counting before."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.residents import Residents


class ModelMetrics(Collector):
    """The models of one scorer.

    Args:
        residents: who holds them.
    """

    def __init__(self, residents: Residents) -> None:
        self._residents = residents

    def collect(self) -> Iterator[Metric]:
        """Who has which role, and which deployed model is not the one in memory."""
        ruling, info = (
            self._residents.ruling,
            GaugeMetricFamily(
                "fraud_model_info",
                "1 for each model in memory, by role",
                labels=["role", "version", "digest"],
            ),
        )
        held = (
            ("champion", ruling.champion),
            ("challenger", ruling.challenger),
            ("previous", ruling.previous),
            *(("fallback", resident) for resident in ruling.fallbacks),
        )
        for role, resident in held:
            if resident is not None:
                info.add_metric([role, resident.version, resident.model.digest], 1)
        yield info
        yield GaugeMetricFamily(
            "fraud_canary_share", "Share of the cards for the challenger", value=ruling.canary_share
        )
        refused = GaugeMetricFamily(
            "fraud_model_refused",
            "1 for each role whose deployed model was not taken",
            labels=["role"],
        )
        for role in sorted(self._residents.load_errors):
            refused.add_metric([role], 1)
        yield refused
        yield CounterMetricFamily(
            "fraud_model_fallbacks",
            "Models loaded that the library's slower public call scores",
            value=self._residents.fallbacks,
        )
        yield CounterMetricFamily(
            "fraud_model_look_failures",
            "Looks at the deployment that failed unforeseen",
            value=self._residents.defects,
        )
