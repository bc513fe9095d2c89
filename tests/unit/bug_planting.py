"""Tests of the tests: bugs planted into the engines' own source must all be caught.

A mutant replaces one exact place of one module; the module and those that import it are loaded
afresh, and a catcher compares what they answer with the oracle.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from polars.exceptions import PolarsError

from fraud_platform import features
from fraud_platform.errors import FraudPlatformError

Load = Callable[[str], ModuleType]
"""Gives a module of the planted engine by its name."""

FEATURES = Path(features.__file__ or "").parent
SHARED = {"__init__", "declaration", "spec", "journal", "sample", "parity", "replay"}
"""What tests and engines have in common: the same values of these mean the same to both."""
ENGINES = (
    *sorted({path.stem for path in FEATURES.glob("*.py")} - SHARED),
    *("adapters.sqlite_state", "adapters.redis_state"),
)
"""Modules that are loaded afresh, each with the mutant of one of them below it."""


_FAILURES = (ArithmeticError, LookupError, ValueError, PolarsError)


@dataclass(frozen=True)
class Mutant:
    """One planted bug: what it means, the module, the place and what stands there instead."""

    bug: str
    module: str
    place: str
    instead: str


def catch(mutant: Mutant, caught_by: Callable[[Load], str]) -> str:
    """What shows that a mutant is wrong; empty if nothing does."""
    with planted(mutant) as load:
        try:
            caught = caught_by(load)
        except (*_FAILURES, FraudPlatformError) as error:
            caught = f"the engine fails: {error!r}"
    print(f"{mutant.module}: {mutant.bug} -> {caught}")
    return caught


@contextmanager
def planted(mutant: Mutant | None) -> Iterator[Load]:
    """The engines' modules loaded afresh, one of them with a planted bug."""
    kept = {name: sys.modules.get(_full(name)) for name in ENGINES}
    for name in ENGINES:
        _put(name, None)
    try:
        _put("compiled", _uncompiled())
        if mutant is not None:
            _load(mutant)
        yield lambda module: importlib.import_module(_full(module))
    finally:
        for name in ENGINES:
            _put(name, kept[name])


def _full(name: str) -> str:
    return f"fraud_platform.{name}" if "." in name else f"fraud_platform.features.{name}"


def _put(name: str, module: ModuleType | None) -> None:
    """Make a module the one that is imported, or (None) have it loaded when it is imported."""
    path, _, short = _full(name).rpartition(".")
    package = importlib.import_module(path)
    if module is None:
        sys.modules.pop(_full(name), None)
        package.__dict__.pop(short, None)
    else:
        sys.modules[_full(name)] = module
        setattr(package, short, module)


def _uncompiled() -> ModuleType:
    """Loops as they are: compiling each mutant would take minutes, and their bugs are the same."""
    module = ModuleType(_full("compiled"))
    module.__dict__["compiled"] = lambda loop: loop
    return module


def _load(mutant: Mutant) -> None:
    name = _full(mutant.module)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text("utf-8")
    found = source.count(mutant.place)
    assert found == 1, (
        f"{mutant.module}: {mutant.place!r} is there {found} times, not once; if the code was"
        " rewritten on purpose, plant the same bug where that line's work is done now"
    )
    module = importlib.util.module_from_spec(spec)
    _put(mutant.module, module)
    code = compile(source.replace(mutant.place, mutant.instead), f"<{mutant.bug}>", "exec")
    exec(code, module.__dict__)  # noqa: S102 -- our own source, with a bug in it
