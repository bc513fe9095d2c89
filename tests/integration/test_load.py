"""The load tool against servers that answer, refuse, pause, hang up and lie."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click.testing
import msgspec
import polars as pl
import pytest

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.processor_time import listener, usage, waiting
from fraud_platform.adapters.world_file import write_world
from fraud_platform.cli import main
from fraud_platform.errors import DataContractError, PermanentError, UnavailableError
from fraud_platform.load import loops
from fraud_platform.load.client import Target
from fraud_platform.load.loops import Tally, closed_loop, open_loop, poisson, steady
from fraud_platform.load.payments import Payments
from fraud_platform.load.report import NOT_MEASURABLE, Report
from fraud_platform.settings import Settings
from fraud_platform.simulation.world import World, simulate

OK, REFUSED = "200 OK", "422 Unprocessable"
SECRET = "fp_test_abcdefgh_" + "k" * 43
CARD = "4111 1111 1111 1111"


@dataclass
class Asked:
    """One request as a server saw it."""

    number: int
    head: str
    body: bytes


Answer = tuple[str, dict[str, object]] | None
"""Status line and body; None hangs up."""


@asynccontextmanager
async def serving(answer: Callable[[Asked], Awaitable[Answer]]) -> AsyncIterator[str]:
    """A small HTTP server; yields its URL."""
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(re.search(r"content-length: (\d+)", head)[1])
                body = await reader.readexactly(length)
                asked += 1
                found = await answer(Asked(asked - 1, head, body))
                if found is None:
                    break
                content = json.dumps(found[1]).encode()
                lines = f"HTTP/1.1 {found[0]}\r\ncontent-length: {len(content)}\r\n\r\n"
                writer.write(lines.encode() + content)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def approve(asked: Asked) -> Answer:
    known = msgspec.json.decode(asked.body)["transaction_id"]
    return OK, {"decision_id": known, "replayed": False}


class Numbers:
    """Requests that say which one they are; keeps every answer."""

    def __init__(self) -> None:
        self.made = 0
        self.answers: dict[int, tuple[int, bytes]] = {}

    def next(self) -> tuple[bytes, int]:
        self.made += 1
        return b'{"transaction_id":"t%d"}' % self.made, self.made

    def answered(self, token: int, status: int, body: bytes) -> None:
        assert token not in self.answers, "a request is answered once"
        self.answers[token] = status, body


def asked_openly(
    answer: Callable[[Asked], Awaitable[Answer]],
    *,
    rate: float = 200,
    seconds: float = 0.5,
    connections: int = 8,
) -> tuple[Tally, Numbers]:
    async def run() -> tuple[Tally, Numbers]:
        numbers = Numbers()
        async with serving(answer) as url:
            target = Target.of(url, "/v1/decisions", {})
            tally = await open_loop(
                target, numbers, steady(rate), seconds=seconds, connections=connections
            )
        return tally, numbers

    return asyncio.run(run())


def command(answer: Callable[[Asked], Awaitable[Answer]], *options: str) -> click.testing.Result:
    """The command against a server of ours."""

    async def run() -> click.testing.Result:
        async with serving(answer) as url:
            runner = click.testing.CliRunner()
            return await asyncio.to_thread(
                runner.invoke, main, ["load", url, "--rate", "100", "--seconds", "0.5", *options]
            )

    return asyncio.run(run())


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = Settings(home=tmp_path / "home")
    monkeypatch.setattr("fraud_platform.load_commands.get_settings", lambda: found)
    return found


@pytest.fixture
def scorer(settings: Settings) -> Iterator[str]:
    """A real scorer on the home of the settings."""
    environment = {
        **os.environ,
        "FRAUD_HOME": str(settings.home),
        "FRAUD_SCORER_PORT": "0",
        "FRAUD_STATE_CHECK_SECONDS": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "serving"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(20)


def told(result: click.testing.Result) -> dict[str, object]:
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_payments_of_two_runs_are_decided_and_repeats_get_the_same_decision(
    scorer, settings, tmp_path
):
    data = tmp_path / "world.parquet"
    mapping = write_world(simulate(World(days=2, customers=40, terminals=20)), data)
    sources = ([], ["--data", str(data), "--mapping", str(mapping)])
    new = 0
    for source in sources:
        options = ["load", scorer, "--rate", "100", "--seconds", "1.5", "--repeat-share", "0.3"]
        result = click.testing.CliRunner().invoke(main, [*options, "--json", *source])
        assert result.exit_code == 0, result.output
        report = told(result)
        assert report["is_sound"]
        assert report["failed"] == 0
        assert report["sent"] == report["answered"] > 100
        assert report["repeated"] > 20
        assert report["repeated_differently"] == 0
        assert report["run_queue_share"] is not None, "the scorer is a process of this machine"
        new += report["sent"] - report["repeated"]
    log = EventLog(settings.log_path)
    now = datetime.now(UTC)
    recorded = log.decisions(now - timedelta(days=9), now + timedelta(minutes=1))
    log.close()
    assert recorded.height == recorded["transaction_id"].n_unique() == new
    assert not recorded["is_late"].any()


def test_a_refusal_fails_the_run_and_is_named_without_what_it_says(settings):
    async def refuse(asked: Asked) -> Answer:
        if asked.number != 7:
            return await approve(asked)
        return REFUSED, {"error": "invalid_field", "message": f"found {CARD}"}

    result = command(refuse)
    assert result.exit_code == 1
    assert "1 x HTTP 422 invalid_field" in result.output
    assert re.search(r"request \d+ after 0\.\d+ s: HTTP 422 invalid_field", result.output)
    assert CARD not in result.output


@pytest.mark.parametrize("code", [CARD, "Not A Code", 17, None])
def test_a_code_that_is_none_is_not_repeated(code):
    async def refuse(_: Asked) -> Answer:
        return REFUSED, {"error": code}

    tally, _ = asked_openly(refuse, seconds=0.1)
    assert set(tally.failures) == {"HTTP 422"}
    assert tally.answered == 0


def test_a_pause_is_charged_to_everyone_who_would_have_come_in_it():
    stopped = asyncio.Event()

    async def pause_once(asked: Asked) -> Answer:
        if asked.number == 40:
            stopped.set()
            await asyncio.sleep(0.6)
            stopped.clear()
        while stopped.is_set():
            await asyncio.sleep(0.005)
        return await approve(asked)

    tally, numbers = asked_openly(pause_once, rate=200, seconds=1, connections=4)
    assert tally.sent == tally.answered == len(numbers.answers) == 200
    # 120 payments were due in the pause; a closed loop of 4 connections would have seen 4 of them.
    assert tally.latency.largest >= 0.6e9
    assert tally.latency.at(0.6) >= 0.1e9
    assert tally.lateness.at(0.9) < 0.1e9, "the generator itself was on time"


def test_a_server_that_hangs_up_costs_one_request_each_time():
    async def hang_up(asked: Asked) -> Answer:
        return None if asked.number % 10 == 3 else await approve(asked)

    tally, numbers = asked_openly(hang_up, seconds=1, connections=4)
    assert tally.failures["the connection ended"] == 20
    assert tally.answered + 20 == tally.sent == 200 == len(numbers.answers)
    assert len(tally.first_failures) == 5


def test_a_request_without_an_answer_is_a_failure(monkeypatch):
    monkeypatch.setattr(loops, "GRACE_SECONDS", 0.3)

    async def forget_one(asked: Asked) -> Answer:
        if asked.number == 5:
            await asyncio.sleep(60)
        return await approve(asked)

    tally, _ = asked_openly(forget_one, seconds=0.2)
    assert tally.failures == {"no answer within 0.3 s of the end": 1}
    assert tally.answered == tally.sent - 1


def test_another_decision_for_a_repeat_fails_the_run(settings):
    async def lie(asked: Asked) -> Answer:
        return OK, {"decision_id": asked.number, "replayed": True}

    result = command(lie, "--repeat-share", "0.5", "--json")
    assert result.exit_code == 1
    report = told(result)
    assert report["failed"] == 0
    assert report["repeated_differently"] == report["repeated"] > 0


def test_a_repeat_that_is_not_said_to_be_one_fails_the_run(settings):
    result = command(approve, "--repeat-share", "0.5", "--json")
    assert result.exit_code == 1
    assert told(result)["repeated_differently"] > 0


def test_nobody_listening_is_said_with_a_hint(settings):
    result = click.testing.CliRunner().invoke(main, ["load", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "found no server at 127.0.0.1:1" in result.output
    assert "fraud-platform serve" in result.output


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://host:99999"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(PermanentError, match="expected http://host:port"):
        Target.of(url, "/", {})


def test_the_key_is_shown_to_the_scorer_and_to_nobody_else(tmp_path, monkeypatch):
    keys = []

    async def look(asked: Asked) -> Answer:
        keys.append(re.search(r"authorization: Bearer (\S+)\r\n", asked.head)[1])
        return await approve(asked)

    found = Settings(home=tmp_path, api_key=SECRET)
    monkeypatch.setattr("fraud_platform.load_commands.get_settings", lambda: found)
    result = command(look)
    assert result.exit_code == 0, result.output
    assert set(keys) == {SECRET}
    assert SECRET not in result.output


@pytest.mark.parametrize("key", ["two words", "line\r\nx-other: 1", ""])
def test_a_key_that_would_break_a_header_is_refused_and_not_shown(tmp_path, monkeypatch, key):
    found = Settings(home=tmp_path, api_key=key)
    monkeypatch.setattr("fraud_platform.load_commands.get_settings", lambda: found)
    result = click.testing.CliRunner().invoke(main, ["load", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "FRAUD_API_KEY" in result.output
    assert not key or key not in result.output


def tally_of(latency_ms: list[float], lateness_ms: list[float]) -> Tally:
    tally = Tally(sent=len(latency_ms), seconds=1.0)
    for found, late in zip(latency_ms, lateness_ms, strict=True):
        tally.latency.add(int(found * 1e6))
        tally.lateness.add(int(late * 1e6))
    return tally


def test_a_late_generator_makes_up_no_figures():
    late = Report(
        tally=tally_of([5.0] * 98 + [50.0] * 2, [0.01] * 90 + [20.0] * 10), rate=1, seconds=1
    )
    assert late.latency_ms(0.5) == pytest.approx(5.0, rel=1e-3)
    assert late.latency_ms(0.99) is None
    assert NOT_MEASURABLE in late.to_text()
    assert late.to_dict()["latency_ms"]["p99"] is None
    timely = Report(tally=tally_of([5.0] * 100, [0.01] * 100), rate=1, seconds=1)
    assert NOT_MEASURABLE not in timely.to_text()


def test_a_run_without_any_answer_is_not_sound():
    silent = Report(tally=Tally(sent=3), rate=1, seconds=1)
    assert not silent.is_sound
    assert "no answer" in silent.to_text()
    assert NOT_MEASURABLE not in silent.to_text()


def test_requests_are_sent_when_they_are_due():
    tally, _ = asked_openly(approve, rate=100, seconds=1)
    assert tally.sent == 100
    assert 0.95 < tally.seconds < 3
    moments = poisson(500, seed=3)
    offsets = [next(moments) for _ in range(5_000)]
    assert offsets == sorted(offsets)
    assert 9 < offsets[-1] / 1e9 < 11


def test_a_closed_loop_keeps_as_many_under_way_as_it_has_connections():
    under_way, most = 0, 0

    async def count(asked: Asked) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return await approve(asked)

    async def run() -> Tally:
        async with serving(count) as url:
            target = Target.of(url, "/", {})
            return await closed_loop(target, Numbers(), seconds=0.3, connections=6)

    tally = asyncio.run(run())
    assert most == 6
    assert tally.answered == tally.sent >= 6
    assert not tally.failures


def test_a_closed_loop_ends_at_the_first_refusal():
    async def refuse(_: Asked) -> Answer:
        return REFUSED, {}

    async def run() -> Tally:
        async with serving(refuse) as url:
            target = Target.of(url, "/", {})
            return await closed_loop(target, Numbers(), seconds=0.2, connections=4)

    tally = asyncio.run(run())
    assert tally.failures == {"HTTP 422": 4}


def test_connecting_to_nobody_is_an_unavailable_server():
    async def run() -> None:
        await closed_loop(
            Target.of("http://127.0.0.1:1", "/", {}), Numbers(), seconds=1, connections=2
        )

    with pytest.raises(UnavailableError, match="found no server"):
        asyncio.run(run())


WORLD = simulate(World(days=1, customers=20, terminals=10))
NEWEST = datetime(2026, 3, 2, 12, tzinfo=UTC)


def sent(payments: Payments, count: int) -> pl.DataFrame:
    rows = [msgspec.json.decode(payments.next()[0]) for _ in range(count)]
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("event_timestamp").str.to_datetime(time_zone="UTC", time_unit="us")
    )


def test_payments_keep_their_order_and_distances_and_end_at_now():
    rounds = 3
    asked = WORLD.height * rounds
    found = sent(Payments(WORLD, requests=asked, newest=NEWEST), asked)
    moments = found["event_timestamp"]
    assert moments.max() == NEWEST
    assert moments.is_sorted()
    distances = WORLD["event_timestamp"].diff().drop_nulls()
    assert (moments.head(WORLD.height).diff().drop_nulls() == distances).all()
    assert found["card_id"].to_list() == WORLD["card_id"].to_list() * rounds
    assert found["transaction_id"].n_unique() == asked
    more = sent(Payments(WORLD, requests=1, newest=NEWEST), asked)
    assert more["event_timestamp"].max() == NEWEST, "never later, whatever is asked for"


def test_payments_of_days_keep_their_time_of_the_day_when_they_begin_again():
    world = simulate(World(days=3, customers=5, terminals=5))
    twice = 2 * world.height
    moments = sent(Payments(world, requests=twice, newest=NEWEST), twice)["event_timestamp"]
    first, second = moments.head(world.height), moments.tail(world.height)
    assert set(second - first) == {timedelta(days=3)}


def test_ids_of_runs_differ_and_hold_no_digits_but_the_number():
    one, other = (sent(Payments(WORLD, requests=5, newest=NEWEST), 5) for _ in range(2))
    assert not set(one["transaction_id"]) & set(other["transaction_id"])
    assert all(re.fullmatch(r"load-[a-z]{12}-\d", name) for name in one["transaction_id"])


def test_no_payments_are_refused():
    with pytest.raises(DataContractError, match="found no payment"):
        Payments(WORLD.head(0), requests=1, newest=NEWEST)


def test_the_kernel_tells_what_a_process_and_its_children_used():
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])\ninput()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while usage(process.pid).below < 0.2 and time.monotonic() < deadline:
            time.sleep(0.02)
        found = usage(process.pid)
        process.communicate(b"\n")
    assert found.below >= 0.2
    assert found.own < found.below
    with pytest.raises(ProcessLookupError, match="found no process"):
        usage(process.pid)


def test_waiting_for_a_processor_is_a_share_of_the_time_wanted():
    before = waiting(os.getpid())
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after = waiting(os.getpid())
    assert after.ran - before.ran >= 0.09e9
    assert 0 <= after.share_since(before) < 1


def test_the_process_that_listens_is_found_here_and_only_here():
    async def run() -> tuple[int | None, ...]:
        async with serving(approve) as url:
            port = int(url.rpartition(":")[2])
            hosts = ("127.0.0.1", "localhost", "192.0.2.1", "no.such.host.invalid")
            return tuple(listener(host, port) for host in hosts)

    assert asyncio.run(run()) == (os.getpid(), os.getpid(), None, None)
    assert listener("127.0.0.1", 1) is None
