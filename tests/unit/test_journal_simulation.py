"""Thousands of lives of the journal, and bugs planted into it that these lives must notice.

More of them: JOURNAL_SEEDS=200000 pytest tests/unit/test_journal_simulation.py -s
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fraud_platform import adapters
from tests.unit import journal_simulation as simulation

SEEDS = int(os.environ.get("JOURNAL_SEEDS", "5000"))
FIND_WITHIN = 500
MODULES = ("journal_frames", "journal", "journal_reader", "drain", "ledger")
"""Loaded afresh, in this order, with the bug in one of them."""

BUGS = [
    (
        "what is written counts as durable",
        "ledger",
        "return seq <= self.durable_seq",
        "return seq <= self.last_seq",
    ),
    (
        "a failed sync is not noticed",
        "journal",
        'raise self._break(f"a failed sync ({error})") from error',
        "pass",
    ),
    (
        "a failed sync is simply tried again",
        "journal",
        'raise self._break(f"a failed sync ({error})") from error',
        'raise LogUnavailableError("try again") from error',
    ),
    (
        "what was written during a sync counts as synced",
        "journal",
        "return self._synced(Position(segment.number, written))",
        "return self._synced(Position(segment.number, segment.written))",
    ),
    (
        "only the newest segment is synced",
        "journal",
        "for segment, written in waiting:",
        "for segment, written in waiting[-1:]:",
    ),
    (
        "the group that begins a segment is lost",
        "journal",
        "data = header_frame(header) + data",
        "data = header_frame(header)",
    ),
    (
        "a short write goes unnoticed",
        "journal",
        "if taken != len(data):",
        "if taken > len(data):",
    ),
    (
        "a mark says more than is durable",
        "journal",
        "durable = self._durable\n        has_news",
        "durable = self.position\n        has_news",
    ),
    (
        "checksums are not compared",
        "journal_frames",
        "!= checksum:",
        "== -1:",
    ),
    (
        "the torn tail is not left behind",
        "drain",
        "rows.advance(Position(fresh, 0))",
        "rows.drained()",
    ),
    (
        "recovery drops what is not drained",
        "drain",
        "count = _drain(disk, reader, sink)\n        with sink.draining()",
        "count = 0\n        with sink.draining()",
    ),
    (
        "the position is stored outside of the rows' transaction",
        "drain",
        "            rows.advance(at)\n    if sealed",
        "            pass\n    with sink.draining() as rows:\n        rows.advance(at)\n"
        "    if sealed",
    ),
    (
        "a batch is drained again after its last segment ended",
        "drain",
        "if at != begun:",
        "if at.segment == begun.segment and at != begun:",
    ),
    (
        "what a group that failed had let through stays spent",
        "ledger",
        "self._spent |= self._spent_before",
        "pass",
    ),
    (
        "what was let through before a restart is forgotten",
        "ledger",
        "self._forget(self._log.drained(), self._log.spent())",
        "self._forget(self._log.drained(), {})",
    ),
    (
        "the head is not set before a foreign commit",
        "drain",
        "disk.write_head(UNKNOWN_HEAD)",
        "disk.read_head()",
    ),
    (
        "a foreign commit does not wait for what is in the journal",
        "drain",
        "drain(disk, sink, locked=True)",
        "sink.drained()",
    ),
    (
        "the owner does not look for foreign commits",
        "ledger",
        "if head == self._head:",
        "if head is not None:",
    ),
    (
        "memory forgets what is not drained yet",
        "ledger",
        "self._order[0][0] <= now.last_seq",
        "self._order[0][0] <= self.last_seq",
    ),
    (
        "a segment goes on behind a torn one",
        "journal_reader",
        "if header is None or header.previous != at:",
        "if header is None:",
    ),
    (
        "a group that failed keeps its positions",
        "ledger",
        "            self.last_seq = self._before_group\n",
        "            pass\n",
    ),
    (
        "an id that the tables have counts as new",
        "ledger",
        "set(unseen) - self._log.held(unseen)",
        "set(unseen)",
    ),
    (
        "a verdict is not remembered until it is drained",
        "ledger",
        "self._labels.setdefault(name, {}).update(labels)",
        "self._labels.update({})",
    ),
]


@contextmanager
def parts(bug: str = "", module: str = "", place: str = "", instead: str = "") -> Iterator[object]:
    """The classes under test, one of their modules with a planted bug."""
    kept = {name: import_module(f"{adapters.__name__}.{name}") for name in MODULES}
    try:
        loaded = {name: _loaded(name, bug, *((place, instead) * (name == module))) for name in kept}
        yield SimpleNamespace(
            Ledger=loaded["ledger"].Ledger,
            drain=loaded["drain"].drain,
            appending=loaded["drain"].appending,
            Drained=loaded["drain"].Drained,
            Position=loaded["journal_frames"].Position,
            ShadowScore=loaded["journal_frames"].ShadowScore,
        )
    finally:
        for name, original in kept.items():
            _put(name, original)


def _loaded(name: str, bug: str, place: str = "", instead: str = "") -> ModuleType:
    source = (Path(adapters.__file__ or "").parent / f"{name}.py").read_text("utf-8")
    if place:
        assert source.count(place) == 1, (
            f"{name}: {place!r} is there {source.count(place)} times, not once; if the code was"
            " rewritten on purpose, plant the same bug where that line's work is done now"
        )
        source = source.replace(place, instead)
    module = ModuleType(f"{adapters.__name__}.{name}")
    _put(name, module)  # first: dataclasses look their module up
    exec(compile(source, f"<{name}: {bug}>", "exec"), module.__dict__)  # noqa: S102 -- our own source
    return module


def _put(name: str, module: ModuleType) -> None:
    sys.modules[f"{adapters.__name__}.{name}"] = module
    setattr(adapters, name, module)


def test_no_life_breaks_a_promise_of_the_journal() -> None:
    faults: Counter[str] = Counter()
    answers = restarts = 0
    with parts() as sound:
        for seed in range(SEEDS):
            try:
                world = simulation.run(seed, sound)
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            faults += world.disk.faults
            answers, restarts = answers + world.answers.count, restarts + world.restarts
    print(f"{SEEDS} seeds, {answers} answers, {restarts} restarts, faults: {dict(faults)}")
    assert answers > 20 * SEEDS
    assert restarts > 2 * SEEDS
    assert all(faults[kind] > SEEDS / 100 for kind in ("power", "kill", "write", "sync", "full"))


@pytest.mark.parametrize(("bug", "module", "place", "instead"), BUGS, ids=[b[0] for b in BUGS])
def test_a_planted_bug_is_found(bug: str, module: str, place: str, instead: str) -> None:
    with parts(bug, module, place, instead) as planted:
        for seed in range(FIND_WITHIN):
            try:
                simulation.run(seed, planted)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it was noticed
                print(f"{bug}: seed {seed}: {error!r:.100}")
                return
    pytest.fail(f"{FIND_WITHIN} lives did not notice: {bug}")
