"""What is asked of the orders when somebody scrapes."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fraud_platform.orders import NORMAL, Orders
from serving.orders import OrdersWatch


class OrdersMetrics(Collector):
    """The orders of one scorer.

    Args:
        watch: who follows them.
    """

    def __init__(self, watch: OrdersWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """Each order in force with its number, and whether the file can be read."""
        told = GaugeMetricFamily(
            "fraud_orders_in_force",
            "What healing has ordered: its factor or share, or 1",
            labels=["order", "subject"],
        )
        for order, subject, value in _in_force(self._watch.orders or NORMAL):
            told.add_metric([order, subject], value)
        yield told
        yield GaugeMetricFamily(
            "fraud_orders_unreadable",
            "1 while the file of the orders cannot be obeyed",
            value=self._watch.error is not None,
        )
        fallback = GaugeMetricFamily(
            "fraud_fallback_in_use", "1 for the fallback model that decides", labels=["version"]
        )
        ruling = self._watch.ruling
        if ruling.champion is not None and ruling.champion.without:
            fallback.add_metric([ruling.champion.version], 1)
        yield fallback


def _in_force(orders: Orders) -> Iterator[tuple[str, str, float]]:
    """Order, what it is about, and its number."""
    yield from (("quarantine", group, 1.0) for group in orders.quarantined)
    yield from (("unit", feature, factor) for feature, factor in orders.unit_factors.items())
    if orders.max_disturbed is not None:
        yield "max_disturbed", "", orders.max_disturbed
    if orders.audit_factor != NORMAL.audit_factor:
        yield "audit", "", orders.audit_factor
    if orders.is_shedding:
        yield "shed", "", 1.0
    if orders.learning_frozen:
        yield "learning_frozen", "", 1.0
