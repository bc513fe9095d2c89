"""Bugs planted into the states in SQLite and in Redis; `pytest -s` prints the list.

What both share with the state in memory - what a past is and what is read from it - is in
tests/unit/test_feature_mutations.py.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.unit.bug_planting import Load, Mutant, catch, planted
from tests.unit.dense_logs import ASKED, online_difference

WEEK_US = 7 * 86_400_000_000

SHARED = (
    Mutant(
        "late payments are forgotten too early",
        "state",
        "about.event_us < newest_us - reader.horizon_us:",
        f"about.event_us < newest_us - {WEEK_US} // 2:",
    ),
    Mutant(
        "a verdict reaches only the card",
        "state",
        "for entity, key in keys:\n            yield",
        "for entity, key in keys[:1]:\n            yield",
    ),
    Mutant(
        "the terminal judges outliers",
        "state",
        "reader.entries(event, past_of(*keys[0]))",
        "reader.entries(event, past_of(*keys[1]))",
    ),
)
SQLITE = (
    *SHARED,
    Mutant(
        "an event that comes twice at once is folded twice",
        "adapters.sqlite_state",
        "if event.seq <= self._last_seq:",
        "if event.seq < self._last_seq:",
    ),
    Mutant(
        "an event that comes again later is folded twice",
        "adapters.sqlite_state",
        "if event.seq <= self._last_seq:",
        "if event.seq == self._last_seq:",
    ),
    Mutant(
        "the file forgets where it was",
        "adapters.sqlite_state",
        "(self._last_seq, self._newest_us)\n",
        "(self._last_seq - 1, self._newest_us)\n",
    ),
    Mutant(
        "a late payment turns time back",
        "adapters.sqlite_state",
        "self._newest_us = max(self._newest_us, event.transaction.event_us)",
        "self._newest_us = event.transaction.event_us",
    ),
    Mutant(
        "only the card is written",
        "adapters.sqlite_state",
        "for key in sorted(self._changed):",
        "for key in sorted(self._changed)[:1]:",
    ),
    Mutant(
        "what is late is cut off",
        "adapters.sqlite_state",
        "past.drop_before(horizon_us)",
        f"past.drop_before(horizon_us + {WEEK_US})",
    ),
    Mutant(
        "a past is removed too early",
        "adapters.sqlite_state",
        "WHERE newest_us < ?",
        f"WHERE newest_us - {12 * WEEK_US} < ?",
    ),
)
REDIS = (
    *SHARED,
    Mutant(
        "an event that comes again is folded twice",
        "adapters.redis_state",
        "if event.seq <= last_seq:",
        "if event.seq < 0:",
    ),
    Mutant(
        "an event that comes twice at once is folded twice",
        "adapters.redis_state",
        "if event.seq <= last_seq:",
        "if event.seq < last_seq:",
    ),
    Mutant(
        "the server forgets where it was",
        "adapters.redis_state",
        "redis.call('SET', KEYS[1], ARGV[2])",
        "",
    ),
    Mutant(
        "a late record is appended at the end",
        "adapters.redis_state",
        "if count == 0 or time_at(key, count - 1, width) <= us then",
        "if true then",
    ),
    Mutant(
        "a late tie stands in the wrong order",
        "adapters.redis_state",
        "at < us or (strictly and at == us)",
        "at < us",
    ),
    Mutant(
        "a late record stands in the place of the next",
        "adapters.redis_state",
        "record .. redis.call('GETRANGE', key, place, -1))",
        "record)",
    ),
    Mutant(
        "what is late is cut off",
        "adapters.redis_state",
        "local horizon = tonumber(ARGV[3])",
        f"local horizon = tonumber(ARGV[3]) + {12 * WEEK_US}",
    ),
    Mutant(
        "a string is removed too early",
        "adapters.redis_state",
        "'(' .. ARGV[3]",
        f"string.format('(%d', tonumber(ARGV[3]) + {12 * WEEK_US})",
    ),
    Mutant(
        "a late payment turns time back",
        "adapters.redis_state",
        "newest_us = max(newest_us, about.event_us)",
        "newest_us = about.event_us",
    ),
    Mutant(
        "a verdict at the terminal has no marks",
        "adapters.redis_state",
        'payments.append(f"{self._space}:terminal:{about.terminal_id}:payments")',
        "pass",
    ),
    Mutant(
        "a verdict is kept without its marks",
        "adapters.redis_state",
        "_VERDICT.pack(*added)",
        "_VERDICT.pack(*added._replace(marks=0))",
    ),
)


class Reopened:
    """A state outside of this process: the old client is closed before the new one opens."""

    def __init__(self, opened: Callable[[int], object]) -> None:
        self.opened, self.numbers = opened, itertools.count()
        self.stack = ExitStack()

    def fresh(self):
        self.number = next(self.numbers)
        return self.again(None)

    def again(self, _):
        self.stack.close()
        return self.stack.enter_context(closing(self.opened(self.number)))


@pytest.fixture
def by_sqlite(tmp_path: Path) -> Iterator[Callable[[Load], str]]:
    def caught_by(load: Load) -> str:
        state = load("adapters.sqlite_state").SqliteState
        reopened = Reopened(lambda number: state(tmp_path / f"{number}.db", ASKED))
        with reopened.stack:
            return online_difference(reopened.fresh, reopened.again, "SQLite", 7)

    return caught_by


@pytest.fixture
def by_redis(redis_url: str) -> Callable[[Load], str]:
    def caught_by(load: Load) -> str:
        state = load("adapters.redis_state").RedisState
        reopened = Reopened(lambda number: state(redis_url, ASKED, space=f"test{number}"))
        with reopened.stack:
            return online_difference(reopened.fresh, reopened.again, "Redis", 7)

    return caught_by


@pytest.mark.parametrize("backend", ["by_sqlite", "by_redis"])
def test_without_a_planted_bug_nothing_is_caught(backend, request):
    with planted(None) as load:
        assert request.getfixturevalue(backend)(load) == ""


@pytest.mark.parametrize("mutant", SQLITE, ids=lambda mutant: mutant.bug)
def test_a_bug_in_the_state_in_sqlite_is_caught(mutant, by_sqlite):
    assert catch(mutant, by_sqlite), f"no comparison saw it: {mutant}"


@pytest.mark.parametrize("mutant", REDIS, ids=lambda mutant: mutant.bug)
def test_a_bug_in_the_state_in_redis_is_caught(mutant, by_redis):
    assert catch(mutant, by_redis), f"no comparison saw it: {mutant}"
