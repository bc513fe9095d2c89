"""The platform's home as a place: who uses it, and whether a demonstration may replace it."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fraud_platform.errors import PermanentError

_DEMO = "demo.json"
_SETTINGS = "settings.json"
_LOCK = ".lock"
_DATA = ("log", "tables", "models", "mlflow", "feast")


@contextmanager
def occupied(home: Path) -> Iterator[None]:
    """Hold a home for as long as the block lasts; the hold ends with the process, however it ends.

    Raises:
        PermanentError: another process holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermanentError(
                f"found {home} in use by another `fraud-platform up` or `demo`",
                hint="stop that one first, or name another home: FRAUD_HOME=...",
            ) from error
        yield


def start_demo_home(home: Path) -> None:
    """Empty a home that an earlier demonstration made, or take one without data.

    Raises:
        PermanentError: the home holds other data, which are left alone.
    """
    data = [name for name in _DATA if (home / name).exists()]
    if data and not (home / _DEMO).exists():
        raise PermanentError(
            f"found {', '.join(data)} in {home}, and not of a demonstration; expected no data",
            hint="name another home: FRAUD_HOME=.fraud-demo fraud-platform demo",
        )
    for entry in home.iterdir():
        # The marker goes last: whoever is killed in between can start again.
        if entry.name not in {_DEMO, _LOCK}:
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()
    write_demo_facts(home, {"state": "started"})


def write_demo_facts(home: Path, facts: Mapping[str, object]) -> None:
    """Keep what the demonstration did; also the mark of a demo home."""
    _replace(home / _DEMO, facts)


def write_settings(home: Path, settings: Mapping[str, object]) -> None:
    """Keep settings in the home, so that every process on it agrees."""
    _replace(home / _SETTINGS, settings)


def _replace(path: Path, document: Mapping[str, object]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(document, indent=1), "utf-8")
    part.replace(path)
