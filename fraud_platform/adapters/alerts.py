"""Alerts for people: one JSON line each, appended and synced."""

import json
import os
from pathlib import Path


class Alerts:
    """The alert file of one installation.

    Args:
        path: the JSON-lines file; made on the first alert.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, *, kind: str, text: str, facts: dict[str, object], at: float | None) -> None:
        """Append one alert.

        Args:
            kind: what class of alert this is, e.g. "run_failure".
            text: one sentence for a person.
            facts: what a person needs to look further; plain JSON values.
            at: seconds since 1970-01-01 UTC, or None when nobody knows.
        """
        line = json.dumps({"at": at, "kind": kind, "text": text, **facts}, ensure_ascii=False)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, object]]:
        """All alerts, oldest first."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text("utf-8").splitlines()]
