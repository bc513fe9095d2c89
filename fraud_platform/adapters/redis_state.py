"""The online state of the features on a Redis server: many readers, one round trip each.

Per card and per terminal there are two strings of fixed-width records sorted by event time: its
payments and the verdicts on them. An append costs the same however long they are. `position` holds
the newest log position folded in and the newest payment time; `ages` is a sorted set of all strings
by their newest payment, from which those that no window can see any more are dropped. No clock is
involved: a state that is fed slowly, or from an old log, forgets nothing too early.

A reader takes the position and its four strings in one MGET, so the vector it works out knows the
log exactly up to that position. A feeder reads what it needs, works the records out and writes them
with the new position in one script, which does nothing if the position has moved meanwhile: another
feeder of the same log has then done the same work. So every change is whole, in log order and once.

A server can come back empty, or without its last events. A client refuses a position smaller than
one it has seen, so it never takes lost pasts for new cards. A client that has seen none cannot
tell: whoever reads must know where the log is, and compare that with `Sight.card_seen`.
"""

import struct
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from fraud_platform.adapters.redis_address import RedisAddress
from fraud_platform.errors import PermanentError, StateUnavailableError
from fraud_platform.events import Event, LabelEvent, Transaction
from fraud_platform.features.declaration import Feature, digest_of
from fraud_platform.features.past import Entry, Past, Verdict
from fraud_platform.features.reading import Layout, Reader
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.state import Sight, changes

_POSITION = struct.Struct("<qq")
_HEAD = struct.Struct("<qq")  # of a packed past: last seq, bytes of payments
_VERDICT = struct.Struct("<qqqq?q")
_ATTEMPTS = 100
_RETRY = Retry(ExponentialBackoff(cap=0.1, base=0.02), 2)
"""A decision does not wait long for a server that is away."""

# KEYS: position, ages, then one string per record. ARGV: the position the feeder saw, the new one,
# the time before which payments are forgotten, then the records; each starts with its event time,
# which Lua's doubles hold exactly.
_APPEND = """
local function time_at(key, place, width)
  return struct.unpack('<i8', redis.call('GETRANGE', key, place * width, place * width + 7))
end
local function first_from(key, count, width, us, strictly)
  local low, high = 0, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = time_at(key, middle, width)
    if at < us or (strictly and at == us) then low = middle + 1 else high = middle end
  end
  return low
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
local horizon = tonumber(ARGV[3])
for i = 3, #KEYS do
  local key, record = KEYS[i], ARGV[i + 1]
  local width, us = #record, struct.unpack('<i8', record)
  local count = redis.call('STRLEN', key) / width
  if count == 0 or time_at(key, count - 1, width) <= us then
    redis.call('APPEND', key, record)
  else
    local place = first_from(key, count, width, us, true) * width
    redis.call('SETRANGE', key, place, record .. redis.call('GETRANGE', key, place, -1))
  end
  -- Cut off the forgotten part only when it is the larger one: rarely, so appends stay cheap.
  if time_at(key, math.floor(count / 2), width) < horizon then
    local place = first_from(key, count + 1, width, horizon, false) * width
    redis.call('SET', key, redis.call('GETRANGE', key, place, -1))
  end
  redis.call('ZADD', KEYS[2], 'GT', us, key)
end
local until_us = '(' .. ARGV[3]
local old = redis.call('ZRANGE', KEYS[2], '-inf', until_us, 'BYSCORE', 'LIMIT', 0, 4)
for _, key in ipairs(old) do
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[2], key)
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisState:
    """The online state on a server. Threads may read together; each feeder has its own.

    Once the server is found to have lost events, everything but `resume` and `clear` refuses until
    a feeder has applied them again.

    Args:
        url: `redis://[user:password@]host:port/database`, or `rediss://` for TLS.
        features: what `read` answers, in this order. States of different features stand side by
            side, so that scorers of both versions can run while one replaces the other.
        space: start of all keys.

    Raises:
        PermanentError: the address cannot be read.
    """

    def __init__(
        self, url: str, features: tuple[Feature, ...] = FEATURES, *, space: str = "fraud"
    ) -> None:
        address = RedisAddress.parse(url)
        self._place = address.place
        self._client = redis.Redis(
            host=address.host, port=address.port, **{"retry": _RETRY, **address.options}
        )
        self._append = self._client.register_script(_APPEND)
        self._reader = Reader(features)
        self._space = f"{space}:{digest_of(features)[:12]}"
        self._position_key = f"{self._space}:position"
        self._is_feeding = False
        self._known = 0  # the newest log position that this client has seen here
        self._knowing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def last_seq(self) -> int:
        """Log position of the newest event applied, by whatever feeder; 0 before the first.

        Raises:
            StateUnavailableError: as for `look`.
        """
        return self._position()[0]

    @property
    def newest_us(self) -> int:
        """Newest payment time applied, microseconds UTC; 0 before the first."""
        return self._position()[1]

    def is_late(self, event_us: int) -> bool:
        """Whether a decision of this event time may no longer find its whole window."""
        return self._reader.is_late(event_us, self.newest_us)

    def read(self, transaction: Transaction) -> tuple[float | None, ...]:
        """The features of a payment, given everything applied so far; changes nothing.

        Raises:
            StateUnavailableError: as for `look`.
        """
        return self.look(transaction).values

    def look(self, transaction: Transaction) -> Sight:
        """The features of a payment and the log position that they know, in one round trip.

        A server that lost everything before this client first looked answers like one that never
        knew anything: with `card_seen` 0. Callers that know where the log is compare the two.

        Raises:
            StateUnavailableError: the server does not answer, or has lost events that this client
                has seen there.
        """
        names = (("card", transaction.card_id), ("terminal", transaction.terminal_id))
        keys = [f"{self._space}:{e}:{k}:{kind}" for e, k in names for kind in _KINDS]
        known = self._known  # before asking: other threads may see a newer one meanwhile
        with self._translated():
            told, *strings = self._client.mget(self._position_key, *keys)  # type: ignore[misc]  # not awaitable
        last_seq, newest_us = self._unpacked(told, known)
        layouts = self._reader.layouts
        card = _past(layouts["card"], *strings[:2])
        terminal = _past(layouts["terminal"], *strings[2:])
        values = self._reader.values(transaction, card, terminal)
        is_late = self._reader.is_late(transaction.event_us, newest_us)
        return Sight(values, last_seq, last_seq, is_late)

    def apply(self, event: Event) -> None:
        """Fold one event in; one that was applied before (seq <= last_seq) changes nothing.

        Feeders of one log may race: each event is applied once, in the order of the log, as long as
        every feeder begins at or before `last_seq` and leaves nothing out.

        Raises:
            StateUnavailableError: the server does not answer - apply the same event again later -
                or it has lost events that were applied before: see `resume`.
        """
        with self._translated():
            for _ in range(_ATTEMPTS):
                if self._try(event):
                    return
        raise StateUnavailableError(
            f"found the state on the Redis {self._place} moving without this feeder, expected "
            "every feeder to follow the same log",
            hint="end other feeders that write under the same key space",
        )

    def resume(self) -> int:
        """Accept where the server is, also if that is earlier; go on with the event after it.

        Returns:
            The log position to follow the log from. After 0 it is enough to apply the history that
            windows can still see.
        """
        with self._translated():
            told = self._client.get(self._position_key)
        with self._knowing:
            self._known = 0
        return self._unpacked(told, 0)[0]  # type: ignore[arg-type]  # not awaitable

    def clear(self) -> None:
        """Remove this state, of these features, from the server."""
        with self._translated():
            for keys in _chunks(self._client.scan_iter(f"{self._space}:*", count=1_000)):
                self._client.unlink(*keys)
        self._known, self._is_feeding = 0, False

    def close(self) -> None:
        """Let go of the server."""
        self._client.close()

    def _try(self, event: Event) -> bool:
        """Apply an event if nobody else moves the state meanwhile; True if it is applied."""
        if not self._is_feeding:
            self._refuse_eviction()
            self._is_feeding = True
        about = event.transaction
        payments = [f"{self._space}:card:{about.card_id}:payments"]
        if isinstance(event, LabelEvent):  # their marks are in the payments they are about
            payments.append(f"{self._space}:terminal:{about.terminal_id}:payments")
        known = self._known
        told, *strings = self._client.mget(self._position_key, *payments)  # type: ignore[misc]  # not awaitable
        last_seq, newest_us = self._unpacked(told, known)
        if event.seq <= last_seq:
            return True
        if not isinstance(event, LabelEvent):
            newest_us = max(newest_us, about.event_us)
        pasts = {
            entity: _past(layout, packed, None)
            for (entity, layout), packed in zip(
                self._reader.layouts.items(), [*strings, None], strict=False
            )
        }
        added = list(changes(event, newest_us, self._reader, lambda entity, _: pasts[entity]))
        keys = [
            f"{self._space}:{c.entity}:{c.key}:{_KINDS[isinstance(c.added, Verdict)]}"
            for c in added
        ]
        done = self._append(
            keys=[self._position_key, f"{self._space}:ages", *keys],
            args=[
                told or b"",
                _POSITION.pack(event.seq, newest_us),
                newest_us - self._reader.horizon_us,
                *(_record(change.added) for change in added),
            ],
        )
        if done:
            self._know(event.seq)
        return bool(done)

    def _refuse_eviction(self) -> None:
        """A server that may drop keys by itself would answer with holes that nobody sees."""
        try:
            memory = self._client.info("memory")
        except redis.exceptions.NoPermissionError:  # then its operator has to know
            return
        policy = memory["maxmemory_policy"]  # type: ignore[index]  # not awaitable
        if memory["maxmemory"] and policy != "noeviction":  # type: ignore[index]  # not awaitable
            raise PermanentError(
                f"found the Redis {self._place} with maxmemory-policy {policy}, expected "
                "noeviction: a state with dropped keys gives wrong features",
                hint="set maxmemory-policy noeviction, or use a server of its own",
            )

    def _position(self) -> tuple[int, int]:
        known = self._known
        with self._translated():
            told = self._client.get(self._position_key)
        return self._unpacked(told, known)  # type: ignore[arg-type]  # not awaitable

    def _unpacked(self, told: bytes | None, known: int) -> tuple[int, int]:
        """Log position and newest payment time, unless the position was further before."""
        last_seq, newest_us = _POSITION.unpack(told) if told else (0, 0)
        if last_seq < known:
            raise StateUnavailableError(
                f"found the state on the Redis {self._place} at log position {last_seq}, expected "
                f"at least {known}: the server has lost events",
                hint="its feeder has to follow the log again from where `resume()` says",
            )
        self._know(last_seq)
        return last_seq, newest_us

    def _know(self, seq: int) -> None:
        with self._knowing:
            self._known = max(self._known, seq)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise StateUnavailableError(
                f"found the Redis {self._place} unusable ({type(error).__name__}), expected to "
                "read and write the state of the features",
                hint="check that the server runs, has memory left and lets this user write; "
                "the log has everything that is to be applied",
            ) from error


_KINDS = ("payments", "verdicts")


def _record(added: Entry | Verdict) -> bytes:
    if isinstance(added, Verdict):
        return _VERDICT.pack(*added)
    event_us, seq, amount, marks, values = added
    return array("q", (event_us, seq, amount, marks, *values)).tobytes()


def _past(layout: Layout, payments: bytes | None, verdicts: bytes | None) -> Past:
    """A past from its records, which stand one after the other; a packed one has columns."""
    if payments is None:  # verdicts are about payments: there are none either
        return layout.new_past()
    width = 4 + len(layout.values)
    words = array("q")
    words.frombytes(payments)
    columns = b"".join([words[place::width].tobytes() for place in range(width)])
    return layout.unpack(_HEAD.pack(0, len(columns)) + columns + (verdicts or b""))


def _chunks(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    for key in keys:
        held.append(key)
        if len(held) == 500:
            yield held
            held = []
    if held:
        yield held
