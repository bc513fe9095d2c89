"""What the mirror said last, asked when somebody scrapes; nothing while none has run here."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fraud_platform.adapters.mirror_status import read_status, status_path


class MirrorMetrics(Collector):
    """How far PostgreSQL is behind the log.

    Args:
        log_path: the log whose mirror is meant.
    """

    def __init__(self, log_path: Path) -> None:
        self._path = status_path(log_path)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Only what the mirror knows: no figure is better than a made-up one."""
        status = read_status(self._path)
        if status is None:
            return
        figures = (
            ("fraud_mirror_behind_rows", "Rows not in PostgreSQL yet", status.behind_rows),
            (
                "fraud_mirror_behind_seconds",
                "How long the oldest of them waits",
                status.behind_seconds,
            ),
            (
                "fraud_mirror_conflicts",
                "Rows that PostgreSQL has otherwise than the log",
                status.conflicts,
            ),
            (
                "fraud_mirror_contact_timestamp_seconds",
                "When PostgreSQL last answered the mirror",
                status.contact_at,
            ),
        )
        for name, text, value in figures:
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)
