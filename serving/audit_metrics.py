"""How far the audit log of this home has come, asked when somebody scrapes.

Only of a log in SQLite: PostgreSQL would let a scrape wait, and has metrics of its own.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_TAIL = "SELECT size, head_size, head_us FROM tail"


class AuditMetrics(Collector):
    """Rows of the audit log, and what its newest head stands for.

    Args:
        path: the log's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Only what is there: no figure is better than a made-up one."""
        tail = self._tail()
        if tail is None:
            return
        size, head_size, head_us = tail
        figures = (
            ("fraud_audit_tree_size", "Rows of the audit log", size),
            ("fraud_audit_head_size", "Rows under its newest signed head", head_size),
            ("fraud_audit_head_timestamp_seconds", "When that head was signed", head_us / 1e6),
        )
        for name, text, value in figures:
            yield GaugeMetricFamily(name, text, value=value)

    def _tail(self) -> tuple[int, int, int] | None:
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=0.1)) as connection:
                row: tuple[int, int, int] | None = connection.execute(_TAIL).fetchone()
                return row
        except sqlite3.Error:  # none yet, or not in SQLite
            return None
