"""The online state in a file and on a server: the same bits as the batch table, whoever writes."""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
import redis
from hypothesis import HealthCheck, given, settings

from fraud_platform.adapters.redis_state import RedisState
from fraud_platform.adapters.sqlite_state import SqliteState
from fraud_platform.errors import PermanentError, StateUnavailableError
from fraud_platform.events import Event, TransactionEvent
from fraud_platform.features.spec import FEATURES, LATENESS, LOOKBACK
from fraud_platform.features.state import Sight
from tests.integration.redis_server import RedisServer
from tests.unit.test_features import (
    ALL,
    DAY,
    HOUR,
    NAMES,
    Values,
    by_batch,
    by_rings,
    differences,
    logs,
    payment,
    random_log,
)

State = SqliteState | RedisState
Open = Callable[[], State]


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where a backend may keep its state: a file that does not exist yet, or an empty server."""
    if request.param == "sqlite":
        return tmp_path / "new" / "state.db"
    url: str = request.getfixturevalue("redis_url")
    return url


def opened(place: str | Path, features=ALL) -> State:
    if isinstance(place, Path):
        return SqliteState(place, features)
    return RedisState(place, features)


@given(log=logs())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_backend_equals_the_batch_table_bit_for_bit(place, log: list[Event]) -> None:
    fresh = place.with_name(uuid.uuid4().hex) if isinstance(place, Path) else place
    with opened(fresh) as state:
        assert differences(by_rings(log, state), by_batch(log), NAMES) == []
        if isinstance(state, RedisState):
            state.clear()
            assert state.resume() == 0


@pytest.mark.parametrize("seed", range(2))
def test_dense_logs_with_late_rows_agree_although_the_state_is_reopened_in_between(place, seed):
    log = random_log(seed)
    values: Values = {}
    for start in range(0, len(log), 50):
        with opened(place) as state:
            assert state.last_seq == (log[start - 1].seq if start else 0)
            values |= by_rings(log[start : start + 50], state)
    assert differences(values, by_batch(log), NAMES) == []
    assert len(values) > 60


def test_old_log_positions_change_nothing(place):
    log = random_log(seed=7)
    with opened(place) as state, opened(place) as other:
        expected = by_rings(log, state)
        for event in log:
            other.apply(event)
        probe = payment(10_000, 100 * DAY, 1, 1, 100)
        assert state.read(probe) == other.read(probe)
        assert (state.last_seq, state.newest_us) == (other.last_seq, other.newest_us)
    assert differences(expected, by_batch(log), NAMES) == []


def apply_all(state: SqliteState, events: Iterable[Event]) -> None:
    with state.applying():
        for event in events:
            state.apply(event)


def test_several_events_in_one_transaction_are_all_applied_or_none(tmp_path):
    log = random_log(seed=9)
    with SqliteState(tmp_path / "state.db", ALL) as state:
        values: Values = {}
        for start in range(0, len(log), 7):
            first = log[start]
            is_asked = isinstance(first, TransactionEvent)
            if is_asked and not state.is_late(first.transaction.event_us):
                values[first.seq] = state.read(first.transaction)
            apply_all(state, log[start : start + 7])
        assert differences(values, by_batch(log), NAMES) == []

        def broken() -> Iterator[Event]:
            yield TransactionEvent(10_000, payment(10_000, 100 * DAY, 1, 1, 100))
            raise KeyError

        probe = payment(20_000, 101 * DAY, 1, 1, 100)
        before = state.read(probe)
        with pytest.raises(KeyError):
            apply_all(state, broken())
        assert (state.last_seq, state.read(probe)) == (log[-1].seq, before)


def test_what_no_window_can_see_is_dropped(place):
    horizon = (LOOKBACK + LATENESS).days * 4
    with opened(place, FEATURES) as state:
        for number in range(3 * horizon):  # a new card every six hours, at one terminal
            at = number * 6 * HOUR
            state.apply(TransactionEvent(number + 1, payment(number, at, number, 0, 1)))
        if isinstance(place, Path):
            with closing(state._connection.execute("SELECT COUNT(*) FROM pasts")) as found:
                assert found.fetchone()[0] <= horizon + 2
        else:
            assert state._client.dbsize() <= horizon + 4
            [terminal] = state._client.scan_iter("*:terminal:*")
            width = 8 * (4 + len(state._reader.layouts["terminal"].values))
            assert state._client.strlen(terminal) <= 2 * (horizon + 2) * width


@dataclass
class Readers:
    """Threads that ask about payments shortly before they are applied."""

    open: Open
    payments: list[TransactionEvent]
    done: threading.Event = field(default_factory=threading.Event)
    seen: dict[int, Sight] = field(default_factory=dict)

    def read(self, number: int) -> None:
        rng = random.Random(number)
        with self.open() as state:
            while not self.done.is_set():
                position = state.last_seq
                ahead = [e for e in self.payments if position < e.seq <= position + 12]
                for event in rng.sample(ahead, min(3, len(ahead))):
                    sight = state.look(event.transaction)
                    if max(sight.card_seen, sight.terminal_seen) < event.seq and not sight.is_late:
                        self.seen[event.seq] = sight


def race(readers: Readers, log: list[Event]) -> None:
    """Two feeders apply the whole log each, while two readers read."""

    def feed(number: int) -> None:
        rng = random.Random(number)
        with readers.open() as state:
            for event in log:
                state.apply(event)
                time.sleep(rng.random() * 0.004)

    readers.open().close()
    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(readers.read, number) for number in range(2)]
        feeding = [pool.submit(feed, number) for number in range(2)]
        try:
            for future in feeding:
                future.result()
        finally:
            readers.done.set()
        for future in reading:
            future.result()


def test_a_reader_between_two_racing_feeders_sees_exactly_what_it_says_it_saw(place):
    log = random_log(seed=21, size=250)
    payments = [event for event in log if isinstance(event, TransactionEvent)]
    readers = Readers(lambda: opened(place), payments)
    race(readers, log)
    rows = [(seq, s.card_seen, s.terminal_seen) for seq, s in readers.seen.items()]
    schema = {"seq": pl.Int64, "card_seen": pl.Int64, "terminal_seen": pl.Int64}
    seen = pl.DataFrame(rows, schema, orient="row")
    values = {seq: sight.values for seq, sight in readers.seen.items()}
    assert differences(values, by_batch(log, ALL, seen), NAMES) == []
    lagging = seen.filter(pl.col("card_seen") < pl.col("seq") - 1).height
    assert lagging > 30
    assert differences(values, by_batch(log), NAMES), "nothing was missed: the race proves nothing"
    with opened(place) as state:
        assert state.last_seq == log[-1].seq


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_killed_server_gives_an_error_and_never_a_wrong_value(tmp_path, is_durable):
    log = random_log(seed=31)
    half = len(log) // 2
    server = RedisServer(tmp_path, is_durable=is_durable)
    server.start()
    try:
        with RedisState(server.url, ALL) as state:
            values = by_rings(log[:half], state)
            server.kill()
            for refused in (
                lambda: state.apply(log[half]),
                lambda: state.read(log[0].transaction),
                lambda: state.last_seq,
            ):
                with pytest.raises(StateUnavailableError, match=f"127.0.0.1:{server.port}/0"):
                    refused()
            server.start()
            if not is_durable:
                with pytest.raises(StateUnavailableError, match="the server has lost events"):
                    state.apply(log[half])
            assert state.resume() == (log[half - 1].seq if is_durable else 0)
            for event in log[:half]:
                state.apply(event)
            values |= by_rings(log[half:], state)
    finally:
        server.kill()
    assert differences(values, by_batch(log), NAMES) == []


def test_a_reader_refuses_a_server_that_has_lost_what_the_reader_saw(redis_url):
    log = random_log(seed=33)
    half = len(log) // 2
    probe = payment(10_000, 100 * DAY, 1, 1, 100)
    with (
        RedisState(redis_url, ALL) as feeder,
        RedisState(redis_url, ALL) as reader,
        redis.Redis.from_url(redis_url) as client,
    ):
        for event in log:
            feeder.apply(event)
        before = reader.look(probe)
        client.flushall()
        lost = rf"log position 0, expected at least {log[-1].seq}: the server has lost events"
        for state in (reader, feeder):
            for refused in (
                lambda state=state: state.look(probe),
                lambda state=state: state.read(probe),
                lambda state=state: state.last_seq,
                lambda state=state: state.is_late(0),
                lambda state=state: state.apply(log[0]),
            ):
                with pytest.raises(StateUnavailableError, match=lost):
                    refused()
        assert feeder.resume() == 0
        for event in log[:half]:
            feeder.apply(event)
        with pytest.raises(StateUnavailableError, match="the server has lost events"):
            reader.look(probe)
        with RedisState(redis_url, ALL) as newcomer:  # which has to compare this with the log
            assert newcomer.look(probe).card_seen == log[half - 1].seq
        for event in log[half:]:
            feeder.apply(event)
        assert reader.look(probe) == feeder.look(probe) == before


def test_states_of_other_features_are_not_taken_for_ours(tmp_path, redis_url):
    event = TransactionEvent(1, payment(0, 0, 0, 0, 250))
    with SqliteState(tmp_path / "state.db", FEATURES[:-1]) as state:
        state.apply(event)
    with pytest.raises(PermanentError, match=r"found the state of the features .*\n\nHint: remove"):
        SqliteState(tmp_path / "state.db")
    with RedisState(redis_url, FEATURES[:-1]) as other, RedisState(redis_url) as ours:
        other.apply(event)
        assert (other.last_seq, ours.last_seq) == (1, 0)
        ours.apply(event)
        other.clear()
        assert (other.resume(), ours.last_seq) == (0, 1)


def test_a_server_that_may_forget_keys_is_refused(redis_url):
    with redis.Redis.from_url(redis_url) as client, RedisState(redis_url) as state:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(PermanentError, match="expected noeviction"):
                state.apply(TransactionEvent(1, payment(0, 0, 0, 0, 250)))
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")


def test_an_unusable_file_is_said_and_not_replaced(tmp_path):
    damaged = tmp_path / "state.db"
    damaged.write_bytes(b"no database " * 1_000)
    with pytest.raises(StateUnavailableError, match=r"found the state .*state\.db unusable"):
        SqliteState(damaged)
    assert damaged.read_bytes().startswith(b"no database")
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnavailableError):
        SqliteState(tmp_path / "file" / "state.db")


def test_a_secret_in_the_address_is_not_in_the_error():
    state = RedisState("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(StateUnavailableError) as refused:
        state.read(payment(0, 0, 0, 0, 250))
    assert "secret" not in str(refused.value)
    assert "127.0.0.1:1/0" in str(refused.value)
