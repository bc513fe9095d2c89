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
_USERS = ".users"
_KEPT = {_DEMO, _LOCK, _USERS}
"""What emptying a home leaves: who deletes a lock's file lets two processes hold it."""
_NOBODYS = {_LOCK, _USERS, "dagster", "logs"}
"""What commands that take no data leave behind; a home with nothing else may become a demo's."""
_SHOWN = 5


@contextmanager
def occupied(home: Path) -> Iterator[None]:
    """Hold a home for as long as the block lasts; the hold ends with the process, however it ends.

    Raises:
        PermanentError: another process holds it.
    """
    with _held(home, _LOCK, fcntl.LOCK_EX, "another `fraud-platform up` or `demo`"):
        yield


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Keep a demonstration from emptying a home for as long as the block lasts; many may.

    Raises:
        PermanentError: the home is being emptied right now, or cannot be made.
    """
    with _held(home, _USERS, fcntl.LOCK_SH, "a `fraud-platform demo` that empties it"):
        yield


def start_demo_home(home: Path) -> None:
    """Empty a home that an earlier demonstration made, or take one that nobody has used.

    Raises:
        PermanentError: the home holds something else, which is left alone, or is in use.
    """
    with _held(home, _USERS, fcntl.LOCK_EX, "a `fraud-platform serve` or `ingest`"):
        _refuse_what_is_not_a_demos(home)
        # Before the first deletion: whoever is killed in between can start again.
        write_demo_facts(home, {"state": "started"})
        for entry in home.iterdir():
            if entry.name in _KEPT:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def write_demo_facts(home: Path, facts: Mapping[str, object]) -> None:
    """Keep what the demonstration did; also the mark of a demo home."""
    _replace(home / _DEMO, facts)


def write_settings(home: Path, settings: Mapping[str, object]) -> None:
    """Keep settings in the home, so that every process on it agrees."""
    _replace(home / _SETTINGS, settings)


@contextmanager
def _held(home: Path, name: str, kind: int, others: str) -> Iterator[None]:
    """A lock of the operating system: it ends with the process, however that ends."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / name).open("w")
    except OSError as error:
        raise PermanentError(
            f"found no way to use {home} as a home ({error}), expected a folder to write into",
            hint="name another home: FRAUD_HOME=...",
        ) from error
    with file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermanentError(
                f"found {home} in use by {others}",
                hint="stop that one first, or name another home: FRAUD_HOME=...",
            ) from error
        yield


def _refuse_what_is_not_a_demos(home: Path) -> None:
    if (home / _DEMO).exists():
        return
    foreign = sorted({entry.name for entry in home.iterdir()} - _NOBODYS)
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise PermanentError(
            f"found {', '.join(foreign[:_SHOWN])}{more} in {home}, and not of a demonstration;"
            " expected an empty folder",
            hint="name another home: FRAUD_HOME=.fraud-demo fraud-platform demo",
        )


def _replace(path: Path, document: Mapping[str, object]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(document, indent=1), "utf-8")
    part.replace(path)
