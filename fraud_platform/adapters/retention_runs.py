"""Purging Dagster's runs: asked of a process of its own, for only that knows Dagster."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fraud_platform.adapters.retention_class import Due, Kept, digest_of
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import UnavailableError
from fraud_platform.events import moment_of
from fraud_platform.retention import before_us
from fraud_platform.settings import Settings

_SECONDS = 1_800


class KeptRuns(Kept):
    """The class `runs` of one home: finished runs, their events and what they printed.

    Args:
        settings: of the home.
    """

    name, unit = "runs", "runs"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def days(self) -> int | None:
        """Its limit."""
        return self._settings.retention.runs_days

    def oldest(self) -> datetime | None:
        """When the oldest run was made."""
        told = self._ask("oldest")
        return moment_of(told["oldest_us"]) if told.get("oldest_us") else None

    def prepare(self) -> None:
        """Nothing has to be."""

    def require_intact(self, facts: Mapping[str, str]) -> None:
        """Dagster keeps no seals of its own runs."""

    def due(self, now_us: int) -> Due | None:
        """Runs that ended before the limit and made nothing that is still the newest content."""
        if self.days is None:
            return None
        limit_us = before_us(now_us, self.days)
        told = self._ask("list", limit_us)
        if not told.get("runs"):
            return None
        facts = {"days": self.days, "before_us": limit_us, "runs": len(told["runs"])}
        facts |= {"first_us": told["first_us"], "last_us": told["last_us"]}
        return Due(
            object="runs",
            digest=digest_of(told["runs"]),
            count=len(told["runs"]),
            facts={name: str(value) for name, value in facts.items()},
        )

    def carry_out(self, row: Row, require_free: Callable[[], None]) -> None:
        """Delete them."""
        require_free()
        self._ask("delete", int(row.told["before_us"]))

    def _ask(self, *words: object) -> Mapping[str, Any]:
        folder = self._settings.dagster_dir.resolve()
        if not (folder / "dagster.yaml").exists():
            return {}
        done = subprocess.run(  # noqa: S603 -- our own program
            [sys.executable, "-m", "sensors.old_runs", str(folder), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise UnavailableError(
                f"found Dagster's runs in {folder} unusable ({last}), expected to read them",
                hint="see whether Dagster's storage is there: fraud-platform up",
            )
        told: Mapping[str, Any] = json.loads(done.stdout)
        return told
