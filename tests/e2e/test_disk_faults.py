"""Disks that are full, damaged or read-only, a clock that jumps, and others that are away.

Each on a real scorer under load: what it then does is said beside each test.
"""

import asyncio
import math
import os
import resource
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from fraud_platform.adapters.journal_frames import PREFIX
from tests.e2e.history import faults
from tests.e2e.scorer_process import Home, Scorer, home_at, kept, tell, wait_for
from tests.e2e.traffic import Senders, Traffic, told
from tests.integration.postgres_server import PostgresServer

BENT = (str(Path(__file__).with_name("bent_scorer.py")),)
SEED = int(os.environ.get("FRAUD_SEED", "1"))
RATE = 100.0
AWAY_SECONDS = 10 if int(os.environ.get("FRAUD_KILLS", "20")) < 100 else 120
"""How long the database is away once the scorer has noticed; minutes in the nightly form."""
HOUR = 3_600
REFUSED = {(503, "journal_full"), (503, "log_unavailable"), (503, "mode_closed")}
"""What a scorer says that cannot record; never a decision."""


def asked(scorer: Scorer, traffic: Traffic, enough: int) -> None:
    """So many requests, one after another on each connection; all must be answered."""

    async def flow() -> None:
        senders = Senders(scorer.url, traffic)
        await senders.flow(lambda: senders.answers >= enough)
        await senders.drained()
        assert not senders.lost

    asyncio.run(flow())


async def became(senders: Senders, condition: Callable[[], object], what: str) -> None:
    """Send until something has happened that only a look at the scorer tells."""
    deadline = time.monotonic() + 120
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what
        again = time.monotonic() + 0.1
        await senders.resumed(lambda again=again: time.monotonic() > again)
        assert not senders.lost, what


# --- damage on the disk of a stopped scorer ------------------------------------------------------


@pytest.fixture
def stopped(tmp_path) -> Iterator[tuple[Home, Traffic]]:
    """A home whose scorer was killed, with everything it decided still in the journal."""
    with home_at(tmp_path / "home") as home:
        home.deploy(1)
        scorer, traffic = home.start(), Traffic(SEED)
        drain = wait_for(lambda: scorer.child("drain_loop"), "the drain")
        os.kill(drain, signal.SIGSTOP)
        asked(scorer, traffic, 200)
        scorer.kill()
        wait_for(lambda: not _is_alive(drain), "the drain to end with its parent")
        yield home, traffic


def _is_alive(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def _written(segment: Path) -> bytes:
    return segment.read_bytes().rstrip(b"\0")


def test_a_torn_last_frame_is_dropped_and_said(stopped):
    home, traffic = stopped
    segment = next(path for path in home.segments if _written(path))
    content = _written(segment)
    torn = content[-PREFIX * 20 :][: PREFIX * 10] + b"\x01"
    with segment.open("r+b") as file:
        file.seek(len(content))
        # As much of a frame as came to the disk before the power went.
        file.write((500).to_bytes(4, "little") + torn)
    scorer = home.start()
    assert f"dropped a torn tail of {4 + len(torn)} bytes behind byte" in scorer.words
    assert segment.name in scorer.words
    asked(scorer, traffic, 50)
    assert scorer.terminate() in {0, -signal.SIGTERM}
    assert faults(traffic.history, kept(home.log_path)) == []
    tell("torn last frame", **told(traffic.history), dropped_bytes=4 + len(torn))


def test_a_flipped_byte_keeps_a_scorer_from_starting_until_it_is_mended(stopped):
    home, traffic = stopped
    segment = next(path for path in home.segments if _written(path))
    content = _written(segment)
    place = len(content) // 3
    damaged = bytearray(segment.read_bytes())
    damaged[place] ^= 0x10
    segment.write_bytes(damaged)
    refused = home.begun()
    assert refused.popen.wait(120) not in {0, -signal.SIGTERM}
    assert f"of {segment.name}" in refused.words
    [said] = [
        line for line in refused.words.splitlines() if "found no valid frame at byte" in line
    ][-1:]
    offset = int(said.partition("found no valid frame at byte ")[2].split()[0])
    assert 0 <= place - offset < 4_000, "the frame that was damaged begins there"
    assert segment.read_bytes() == damaged, "nothing was dropped"
    damaged[place] ^= 0x10
    segment.write_bytes(damaged)
    scorer = home.start()
    assert scorer.terminate() in {0, -signal.SIGTERM}
    assert faults(traffic.history, kept(home.log_path)) == []
    tell("flipped byte", **told(traffic.history), byte=place, named=offset, said=said[-300:])


# --- a disk that is full, and one that cannot be written -----------------------------------------


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own, or a skipped test where nobody may mount one."""
    folder.mkdir()
    size = f"size={megabytes}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class FullDisk:
    """All room of a disk taken, and given back."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "filler"

    def take(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def give_back(self) -> None:
        self._file.unlink()


class FileLimit:
    """No file of a process may grow further: also a write in the middle of a segment fails."""

    def __init__(self, scorer: Scorer, largest: int) -> None:
        self._process, self._largest = scorer.popen.pid, largest

    def take(self) -> None:
        self._limit(self._largest)

    def give_back(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, largest: int) -> None:
        resource.prlimit(self._process, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))


async def squeezed(
    scorer: Scorer, traffic: Traffic, room: FullDisk | FileLimit
) -> dict[str, object]:
    """Load while the room is taken and given back."""
    senders = Senders(scorer.url, traffic, rate=RATE)
    await senders.flow(lambda: senders.answers >= 50)
    assert not traffic.refusals
    room.take()
    began = time.monotonic()
    await senders.resumed(lambda: traffic.refusals)
    refused_after = time.monotonic() - began
    await became(senders, lambda: not scorer.is_ready(), "readiness did not notice")
    problems = (await asyncio.to_thread(scorer.health)).get("problems", [])
    count = len(traffic.refusals)
    await senders.resumed(lambda: len(traffic.refusals) > count + 100)
    status, headers, _ = await asyncio.to_thread(scorer.get, "/health/ready")
    assert (status, headers.get("retry-after")) == (503, "1")
    room.give_back()
    began, acknowledged = time.monotonic(), senders.acknowledged
    await senders.resumed(lambda: senders.acknowledged > acknowledged)
    back_after = time.monotonic() - began
    await became(senders, scorer.is_ready, "it did not get ready again")
    ready_after = time.monotonic() - began
    count = len(traffic.refusals)
    await senders.resumed(lambda: senders.acknowledged > acknowledged + 100)
    assert len(traffic.refusals) == count, "refused again although there is room"
    traffic.ask_again()
    await senders.drained()
    return {
        "refused_after_seconds": round(refused_after, 2),
        "answers_again_after_seconds": round(back_after, 2),
        "ready_again_after_seconds": round(ready_after, 2),
        "problems": problems,
    }


def judged(test: str, home: Home, scorer: Scorer, traffic: Traffic, **figures: object) -> None:
    """Everything else that must hold after any disturbance."""
    while len(traffic.again):
        asked(scorer, traffic, len(traffic.again))
    assert scorer.terminate() in {0, -signal.SIGTERM}
    found, codes = faults(traffic.history, kept(home.log_path)), set(traffic.refusals)
    tell(
        test,
        **told(traffic.history),
        faults=len(found),
        refused_as=sorted(f"{status} {code}" for status, code in codes),
        **figures,
    )
    assert found == []
    assert codes <= REFUSED


def test_a_full_disk_is_refused_and_left_behind_without_help(tmp_path):
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        home_at(disk / "home", BENT_SEGMENT_BYTES="65536") as home,
    ):
        home.deploy(1)
        scorer, traffic = home.start(program=BENT), Traffic(SEED)
        figures = asyncio.run(squeezed(scorer, traffic, FullDisk(disk)))
        judged("full disk (tmpfs)", home, scorer, traffic, **figures)


def test_writes_that_fail_are_refused_and_left_behind_without_help(tmp_path):
    with home_at(tmp_path / "home") as home:
        home.deploy(1)
        scorer, traffic = home.start(), Traffic(SEED)
        room = FileLimit(scorer, 60_000)
        figures = asyncio.run(squeezed(scorer, traffic, room))
        judged("failing writes (RLIMIT_FSIZE)", home, scorer, traffic, **figures)


def test_a_scorer_without_room_for_its_journal_waits_for_it(tmp_path):
    with small_disk(tmp_path / "disk", 12) as disk, home_at(disk / "home") as home:
        home.deploy(1)
        scorer = home.start()
        assert scorer.health()["code"] == 503
        assert any("no room for segment" in text for text in scorer.health()["problems"])
        traffic = Traffic(SEED)
        asked(scorer, traffic, 20)
        assert {*traffic.refusals} <= REFUSED
        assert not any(one.is_ok for one in traffic.history)
        subprocess.run(["mount", "-o", "remount,size=96m", str(disk)], check=True)
        began = time.monotonic()
        wait_for(scorer.is_ready, "the scorer to see that there is room")
        ready_after = round(time.monotonic() - began, 2)
        traffic.ask_again()
        asked(scorer, traffic, 50)
        judged("no room at the start", home, scorer, traffic, ready_again_after_seconds=ready_after)


def test_a_scorer_on_a_read_only_disk_does_not_start_and_says_why(tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk, home_at(disk / "home") as home:
        home.deploy(1)
        scorer, traffic = home.start(), Traffic(SEED)
        asked(scorer, traffic, 50)
        assert scorer.terminate() in {0, -signal.SIGTERM}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused = home.begun()
        assert refused.popen.wait(120) not in {0, -signal.SIGTERM}
        assert "Read-only file system" in refused.words
        said = refused.words.strip().splitlines()[-3:]
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        again = home.start()
        asked(again, traffic, 50)
        judged("read-only disk", home, again, traffic, said=said)


# --- a clock that jumps --------------------------------------------------------------------------


async def jumped(scorer: Scorer, traffic: Traffic, clock: Path) -> list[str]:
    """Load while the clock goes an hour forth, two back and one forth; the modes meanwhile."""
    senders, modes = Senders(scorer.url, traffic, rate=RATE), []
    await senders.flow(lambda: senders.answers >= 50)
    for offset in (HOUR, -HOUR, 0, -HOUR, HOUR, 0):
        part = clock.with_suffix(".part")
        part.write_text(str(offset))
        part.replace(clock)
        enough = senders.answers + 80
        await senders.resumed(lambda enough=enough: senders.answers >= enough)
        modes.append(await asyncio.to_thread(scorer.mode))
    await senders.drained()
    assert not senders.lost
    return modes


async def blasted(scorer: Scorer, traffic: Traffic, seconds: float) -> tuple[int, float]:
    """How many requests are let through when as many come as possible, and in what time."""
    senders, began = Senders(scorer.url, traffic), time.monotonic()
    await senders.flow(lambda: time.monotonic() - began > seconds)
    await senders.drained()
    return senders.acknowledged, time.monotonic() - began


def test_a_clock_that_jumps_changes_no_order_no_mode_and_no_allowance(tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    with home_at(
        tmp_path / "home",
        BENT_CLOCK_FILE=str(clock),
        FRAUD_ACCESS__REQUESTS_PER_SECOND=str(2 * RATE),
        FRAUD_ACCESS__BURST=str(int(2 * RATE)),
    ) as home:
        home.deploy(1)
        scorer, traffic = home.start(program=BENT), Traffic(SEED)
        modes = asyncio.run(jumped(scorer, traffic, clock))
        assert set(modes) == {"normal"}
        # Below its rate nobody is refused, as they would be for an hour by the wall clock.
        assert not traffic.refusals
        decided = [one.answer for one in traffic.history if one.kind == "decision" and one.is_ok]
        assert min(answer["latency_us"] for answer in decided) >= 0
        first = [one.answer for one in traffic.history if one.kind == "decision" and one.is_first]
        moments = [answer["decided_at"] for answer in sorted(first, key=lambda a: a["seq"])]
        assert moments != sorted(moments), "the clock did go back"
        # And above it nobody gets more than the allowance, whatever the clock does.
        clock.write_text(str(HOUR))
        asyncio.run(blasted(scorer, traffic, 1.0))
        clock.write_text(str(2 * HOUR))
        admitted, seconds = asyncio.run(blasted(scorer, traffic, 1.0))
        assert {*traffic.refusals} <= {(429, "rate_limited")}
        assert admitted <= 2 * RATE * (1 + seconds) + 1
        traffic.refusals.clear()
        clock.write_text("0")
        judged(
            *("clock jumps", home, scorer, traffic),
            jumps=len(modes),
            modes=sorted(set(modes)),
            admitted=admitted,
        )


# --- others that are busy or away ----------------------------------------------------------------


def test_tables_that_another_process_locks_hold_up_no_answer(tmp_path):
    with home_at(tmp_path / "home") as home:
        home.deploy(1)
        scorer, traffic = home.start(), Traffic(SEED)

        async def flow() -> float:
            senders = Senders(scorer.url, traffic, rate=RATE)
            await senders.flow(lambda: senders.answers >= 50)
            with closing(sqlite3.connect(home.log_path, isolation_level=None)) as tables:
                tables.execute("PRAGMA busy_timeout=60000")
                tables.execute("BEGIN IMMEDIATE")
                until = time.monotonic() + 5
                await senders.resumed(lambda: time.monotonic() > until)
                tail = await asyncio.to_thread(scorer.metric, "fraud_journal_tail_records")
                tables.execute("ROLLBACK")
            await senders.drained()
            assert not senders.lost
            return tail

        tail = asyncio.run(flow())
        assert tail > 100, "the tables took records although they were locked"
        assert all(one.is_ok for one in traffic.history)
        began = time.monotonic()
        wait_for(lambda: scorer.metric("fraud_journal_tail_records") == 0, "the drain to catch up")
        waits = sorted((one.ended - one.begun) / 1e6 for one in traffic.history if one.ended)
        judged(
            *("tables locked for 5 s", home, scorer, traffic),
            records_behind=round(tail),
            caught_up_after_seconds=round(time.monotonic() - began, 2),
            p99_ms=round(waits[math.ceil(0.99 * len(waits)) - 1], 1),
        )


def test_a_registry_that_is_away_changes_nothing(tmp_path):
    away = {"FRAUD_MLFLOW_URI": "http://127.0.0.1:9", "FRAUD_CHAMPION_POLL_SECONDS": "0.1"}
    with home_at(tmp_path / "home", **away) as home:
        home.deploy(1)
        scorer, traffic = home.start(), Traffic(SEED)

        async def flow() -> None:
            senders = Senders(scorer.url, traffic, rate=RATE)
            await senders.flow(lambda: senders.answers >= 50)
            home.models_dir.rename(home.path / "models-elsewhere")
            until = time.monotonic() + 4
            await senders.resumed(lambda: time.monotonic() > until)
            assert await asyncio.to_thread(scorer.mode) == "normal"
            (home.path / "models-elsewhere").rename(home.models_dir)
            enough = senders.answers + 50
            await senders.resumed(lambda: senders.answers >= enough)
            await senders.drained()

        asyncio.run(flow())
        assert all(one.is_ok for one in traffic.history)
        answers = [one.answer for one in traffic.history if one.kind == "decision"]
        assert {(a["model_version"], a["mode"]) for a in answers} == {("1", "normal")}
        judged("registry away", home, scorer, traffic)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    # Not below pytest's own folder: PostgreSQL runs as another user than root.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.stop()


def mirrored(server: PostgresServer) -> int:
    """How many rows the database has."""
    tables = ("transactions", "decisions", "labels")
    counts = " + ".join(f"(SELECT count(*) FROM {name})" for name in tables)  # noqa: S608 -- ours
    return int(server.query(f"SELECT {counts}", schema="fraud")[0][0])


def has_tables(server: PostgresServer) -> bool:
    found = server.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'fraud'")
    return int(found[0][0]) >= 3


async def without_database(scorer: Scorer, traffic: Traffic, server: PostgresServer) -> float:
    """Load while the database crashes, is away and comes back; when the mode says so, seconds."""
    senders = Senders(scorer.url, traffic, rate=RATE)
    await senders.flow(lambda: senders.answers >= 50)
    await became(senders, lambda: mirrored(server), "the mirror brought nothing")
    await became(senders, lambda: scorer.mode() == "normal", "the mirror is there, and missed")
    await asyncio.to_thread(server.crash)
    began = time.monotonic()
    await became(senders, lambda: scorer.mode() == "degraded", "the mode says nothing")
    degraded_after = time.monotonic() - began
    until = time.monotonic() + AWAY_SECONDS
    await senders.resumed(lambda: time.monotonic() > until, seconds=2 * AWAY_SECONDS + 60)
    await asyncio.to_thread(server.start)
    await became(senders, lambda: scorer.mode() == "normal", "the mode did not recover")
    await senders.drained()
    assert not senders.lost
    return degraded_after


@pytest.mark.xdist_group("postgres-mirror")
def test_a_database_that_is_away_costs_no_answer_and_is_caught_up(tmp_path, server):
    settings = {
        "FRAUD_POSTGRES_URL": server.url,
        "FRAUD_MIRROR_POLL_SECONDS": "0.2",
        "FRAUD_MIRROR_AWAY_SECONDS": "3",
    }
    with home_at(tmp_path / "home", **settings) as home:
        home.deploy(1)
        scorer, traffic = home.start(), Traffic(SEED)
        wait_for(lambda: has_tables(server), "the mirror to make its tables")
        degraded_after = asyncio.run(without_database(scorer, traffic, server))
        assert all(one.is_ok for one in traffic.history)
        decided = [one.answer for one in traffic.history if one.kind == "decision"]
        missing = {tuple(answer.get("missing", [])) for answer in decided}
        assert missing == {(), ("mirror",)}
        expected = sum(1 + (record.kind == "decision") for record in kept(home.log_path))
        began = time.monotonic()
        wait_for(lambda: mirrored(server) == expected, "the mirror to catch up")
        caught_up_after = round(time.monotonic() - began, 2)
        query = "SELECT seq, transaction_id, decision, score FROM decisions ORDER BY seq"
        with closing(sqlite3.connect(home.log_path)) as tables:
            assert server.query(query, schema="fraud") == tables.execute(query).fetchall()
        judged(
            *("PostgreSQL away", home, scorer, traffic),
            away_seconds=AWAY_SECONDS + round(degraded_after, 1),
            degraded_after_seconds=round(degraded_after, 1),
            caught_up_after_seconds=caught_up_after,
        )
