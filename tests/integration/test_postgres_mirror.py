"""The mirror against a real PostgreSQL: every row once, bit for bit, whatever dies and when."""

import json
import logging
import math
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from zlib import crc32

import psycopg2
import pytest
from click.testing import CliRunner

from fraud_platform import mirror_commands
from fraud_platform.adapters import log_pages, postgres_mirror, postgres_upgrade
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_writer import unpack
from fraud_platform.adapters.mirror_status import is_away, read_status, status_path
from fraud_platform.adapters.postgres_link import Patience, PostgresAddress
from fraud_platform.adapters.postgres_rows import TABLES
from fraud_platform.errors import PermanentError, UnavailableError
from fraud_platform.events import Decision, Label, Transaction
from fraud_platform.settings import Settings
from tests.apart import APART
from tests.integration.postgres_server import PostgresServer
from tests.integration.tcp_proxy import TcpProxy

pytestmark = pytest.mark.xdist_group("postgres-mirror")

ROWS = int(os.environ.get("MIRROR_TEST_ROWS", "10000"))
"""Payments of the catch-up test; the nightly form takes 200000."""
KILLS = int(os.environ.get("MIRROR_TEST_KILLS", "10"))
CRASHES = int(os.environ.get("MIRROR_TEST_CRASHES", "5"))
PATIENCE = 60
START_US = 1_767_571_200_000_000
QUIET_NAN, OTHER_NAN = (
    struct.unpack("<d", struct.pack("<Q", w))[0]
    for w in (
        0x7FF8000000000000,
        0xFFF8000000000123,
    )
)
ODD_FLOATS = (OTHER_NAN, 0.0, -0.0, math.inf, -math.inf, 5e-324, 0.1, 1 / 3, None, -1e308)
ODD_TEXTS = (
    "plain",
    "tab\tand\\backslash",
    "\\N",
    "",
    "'quoted' \"twice\"",
    "ünï 😀",
    "a\nb",
    "{}",
)
PASSWORD = "s3cret:of@the/mirror?#%"  # noqa: S105 -- of a server that lives as long as the test


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    # Not below pytest's own folder: PostgreSQL runs as another user than root, and every start of
    # pytest shuts that folder against all others.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def settings(server: PostgresServer, tmp_path: Path) -> Settings:
    """An installation with an empty log and a schema of its own."""
    schema = f"s{crc32(bytes(tmp_path)):x}"
    return Settings(
        home=tmp_path / "home",
        postgres_url=server.url,
        postgres_schema=schema,
        mirror_poll_seconds=0.02,
    )


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    log = EventLog(settings.log_path)
    yield log
    log.close()


def fill(log: EventLog, count: int, *, seed: int = 1, is_first_version: bool = False) -> None:
    """So many payments, most with a decision, and labels between them."""
    chance = random.Random(f"{seed}:{log.last_seq()}")
    with log.writing() as writer:
        for _ in range(count):
            seq, now = writer.last_seq + 1, START_US + writer.last_seq * 1_000_003
            text = chance.choice(ODD_TEXTS)
            transaction = Transaction(
                f"tx-{seed}-{seq}", now - chance.randrange(10**9), f"card {text}", "terminal",
                chance.choice([1, -5, 2**62]), "EUR", chance.choice([None, text]), None, None,
                None, None, chance.choice([None, -0.0, 0.1]), chance.choice([None, 5e-324]),
            )  # fmt: skip
            writer.append_transaction(transaction, received_us=now, source="api")
            if chance.random() < 0.9:
                writer.append_decision(decision(transaction, seq, now, chance, is_first_version))
            if chance.random() < 0.2:
                told = (None, None) if is_first_version else (now - 7, text)
                reason = chance.choice([None, text])
                writer.append_label(
                    Label(f"tx-{seed}-{seq}", "fraud", "analyst", reason, now, now, *told)
                )


def decision(
    transaction: Transaction, seq: int, now: int, chance: random.Random, is_first_version: bool
) -> Decision:
    odd = ODD_FLOATS[1:] if is_first_version else ODD_FLOATS
    features = tuple(chance.choice([*odd, chance.random()]) for _ in range(30))
    return Decision(
        transaction_id=transaction.transaction_id, decision_id=f"dec_{seq}", seq=seq,
        seen_seq=seq - 1, event_us=transaction.event_us, decided_us=now + 41,
        decision="review", score=chance.choice([None, chance.random(), -0.0]),
        reasons=chance.choice([(), ("A",), ODD_TEXTS]),
        probability=None if is_first_version else chance.random(), expected_fpr=None,
        mode="normal", missing=() if is_first_version else ("mirror", "x,y"),
        arm="none" if is_first_version else "champion", is_late=chance.random() < 0.5,
        model_version=chance.choice([None, "7"]), model_digest=None, policy_digest="p",
        feature_spec_digest="f", features=chance.choice([(), features]), latency_us=99,
        expires_us=0 if is_first_version else now + 10**7,
    )  # fmt: skip


def shadow(log_path: Path, *seqs: int, model: str = "m") -> None:
    """What a challenger would have said, written after the fact."""
    with closing(sqlite3.connect(log_path)) as connection, connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS shadow_scores (seq INTEGER NOT NULL, transaction_id TEXT"
            " NOT NULL, model_version TEXT NOT NULL, model_digest TEXT NOT NULL, score REAL,"
            " decision TEXT NOT NULL, PRIMARY KEY (seq, model_digest)) STRICT"
        )
        connection.executemany(
            "INSERT INTO shadow_scores (seq, transaction_id, model_version, model_digest, score,"
            " decision) VALUES (?, ?, ?, ?, ?, ?)",
            [(seq, f"of {seq}", "9", model, seq / 7, "approve") for seq in seqs],
        )


def bits(value: float | None) -> str | None:
    return None if value is None else struct.pack(">d", value).hex()


def words(blob: bytes) -> list[str | None]:
    """The log's features as hex; the quiet NaN, which says that there is no value, as None."""
    found = [blob[i : i + 8][::-1].hex() for i in range(0, len(blob), 8)]
    return [None if word == bits(QUIET_NAN) else word for word in found]


def sent_words(array: memoryview) -> list[str | None]:
    """PostgreSQL's own binary form of an array as hex words."""
    content, found = bytes(array), []
    place = 20 if content[:4] != b"\0\0\0\0" else len(content)
    while place < len(content):
        (size,) = struct.unpack_from(">i", content, place)
        place += 4
        found.append(None if size < 0 else content[place : place + size].hex())
        place += max(size, 0)
    return found


KINDS = {
    "time": lambda name: f"(extract(epoch FROM {name}) * 1000000)::bigint",
    "float": lambda name: f"encode(float8send({name}), 'hex')",
    "floats": lambda name: f"array_send({name})",
}


def rows_of_the_log(path: Path) -> dict[str, list[tuple]]:
    told: dict[str, list[tuple]] = {}
    with closing(sqlite3.connect(path)) as connection:
        known = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        for table, columns in log_pages.COLUMNS.items():
            if table not in known:
                told[table] = []
                continue
            query = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 -- names are ours
            told[table] = sorted(
                tuple(from_log(c, v) for c, v in zip(columns, row, strict=True))
                for row in connection.execute(query)
            )
    return told


def from_log(column, value):
    if column == "features":
        return words(value)
    if column in ("reasons", "missing"):
        return json.loads(value)
    return bits(value) if isinstance(value, float) else value


def rows_of_postgres(server: PostgresServer, schema: str) -> dict[str, list[tuple]]:
    told = {}
    for name, table in TABLES.items():
        columns = log_pages.COLUMNS[name]
        chosen = []
        for column, there in zip(columns, table.columns, strict=True):
            is_float = column in ("latitude", "longitude", "score", "probability", "expected_fpr")
            kind = "time" if column.endswith("_us") and column != "latency_us" else ""
            kind = "float" if is_float else "floats" if column == "features" else kind
            chosen.append(KINDS.get(kind, str)(there))
        query = f"SELECT {', '.join(chosen)} FROM {name}"  # noqa: S608 -- names are ours
        rows = server.query(query, schema=schema)
        told[name] = sorted(
            tuple(
                sent_words(v) if c == "features" else v for c, v in zip(columns, row, strict=True)
            )
            for row in rows
        )
    return told


def assert_same(server: PostgresServer, settings: Settings) -> None:
    """Row for row, bit for bit: nothing lost, nothing twice, nothing altered."""
    expected = rows_of_the_log(settings.log_path)
    found = rows_of_postgres(server, settings.postgres_schema)
    for table, rows in expected.items():
        assert len(found[table]) == len(rows), table
        for one, other in zip(found[table], rows, strict=True):
            assert one == other, table
    assert server.query("SELECT * FROM conflicts", schema=settings.postgres_schema) == []


@contextmanager
def following(settings: Settings, batch_rows: int = 2_000) -> Iterator[threading.Event]:
    """The mirror in a thread, for as long as the block lasts."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def follow() -> None:
        try:
            postgres_mirror.run(settings, stop, batch_rows=batch_rows)
        except BaseException as error:  # noqa: BLE001 -- told to the test below
            failed.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive(), "the mirror ends when told to"
    assert not failed, failed


def wait_for(what: str, condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


def status_of(settings: Settings):
    return read_status(status_path(settings.log_path))


def wait_until_caught_up(settings: Settings, log: EventLog) -> None:
    def is_done() -> bool:
        status = status_of(settings)
        return bool(
            status
            and status.state == "running"
            and status.seq == log.last_seq()
            and status.behind_rows == 0
        )

    wait_for("the mirror to catch up", is_done)


def test_every_row_of_the_log_is_in_postgresql_bit_for_bit(server, settings, log):
    fill(log, 500)
    shadow(settings.log_path, *range(1, 300, 7))
    done = postgres_mirror.run_once(settings, batch_rows=64)
    assert (done.behind_rows, done.conflicts) == (0, 0)
    assert done.rows == sum(map(len, rows_of_the_log(settings.log_path).values()))
    assert_same(server, settings)
    assert postgres_mirror.run_once(settings).rows == 0, "a second run finds nothing to do"


def test_a_log_that_does_not_exist_yet_is_waited_for(server, settings):
    with following(settings):
        wait_for("the mirror", lambda: (status_of(settings) or 0) and status_of(settings).seq == 0)
        log = EventLog(settings.log_path)
        fill(log, 20)
        wait_until_caught_up(settings, log)
        log.close()
    assert_same(server, settings)


def test_rows_that_come_while_it_runs_are_brought_too(server, settings, log):
    with following(settings, batch_rows=30):
        for round_ in range(20):
            fill(log, 25)
            if round_ % 5 == 4:
                shadow(settings.log_path, *range(round_ * 10 + 1, round_ * 10 + 9))
        wait_until_caught_up(settings, log)
    assert_same(server, settings)
    assert status_of(settings).state == "stopped"


def test_scores_of_a_challenger_that_come_late_are_brought_too(server, settings, log):
    fill(log, 40)
    shadow(settings.log_path, 30, 31)
    postgres_mirror.run_once(settings)
    shadow(settings.log_path, 3, 4)
    shadow(settings.log_path, 30, model="another challenger")
    assert postgres_mirror.run_once(settings).rows == 3
    assert_same(server, settings)


def test_decisions_that_come_late_and_in_any_order_are_brought_too(server, settings, log):
    chance = random.Random(4)
    told = [Transaction(f"tx-{n}", START_US + n, "c", "t", 1, "EUR") for n in range(100)]
    with log.writing() as writer:
        for transaction in told:
            writer.append_transaction(transaction, received_us=START_US, source="api")
    postgres_mirror.run_once(settings, batch_rows=90)
    late = [decision(t, n + 1, START_US, chance, False) for n, t in enumerate(told)]
    chance.shuffle(late)
    with log.writing() as writer:
        for one in late:
            writer.append_decision(one)
    log.close()
    assert postgres_mirror.run_once(settings, batch_rows=7).rows == 100
    with closing(sqlite3.connect(settings.log_path)) as connection:
        connection.execute("VACUUM")
    fill(log, 30)
    postgres_mirror.run_once(settings, batch_rows=7)
    assert_same(server, settings)


def test_a_log_of_the_first_version_is_mirrored_and_follows_its_widening(server, settings, log):
    fill(log, 60, is_first_version=True)
    log.close()
    with closing(sqlite3.connect(settings.log_path)) as connection, connection:
        for table, names in {
            "labels": ["happened_us", "reported_by"],
            "decisions": ["probability", "expected_fpr", "missing", "arm", "expires_us"],
        }.items():
            for name in names:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    postgres_mirror.run_once(settings)
    fill(log, 60)
    postgres_mirror.run_once(settings)
    assert_same(server, settings)


def test_a_schema_of_the_first_revision_is_upgraded_with_its_rows(server, settings, log):
    fill(log, 80, is_first_version=True)
    address = PostgresAddress.parse(server.url)
    postgres_upgrade.upgrade(address, settings.postgres_schema, Patience(), to="0001")
    page = log_pages.read_page(settings.log_path, None, 50)
    assert page is not None
    for name, table in TABLES.items():
        if name == "shadow_scores":
            continue
        known = [
            row[0]
            for row in server.query(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = %s"
                " AND table_name = %s",
                *(settings.postgres_schema, name),
            )
        ]
        for row in page.tables.get(name, []):
            cells = {
                there: postgres_value(column, value)
                for column, there, value in zip(
                    log_pages.COLUMNS[name], table.columns, row, strict=True
                )
                if there in known
            }
            marks = ", ".join(
                "to_timestamp(0) + %s * interval '1 microsecond'"
                if column.endswith("_timestamp")
                else "%s"
                for column in cells
            )
            server.query(
                f"INSERT INTO {name} ({', '.join(cells)}) VALUES ({marks})",  # noqa: S608 -- ours
                *cells.values(),
                schema=settings.postgres_schema,
            )
    at = page.position
    server.query(
        "INSERT INTO mirror_position VALUES (1, %s, %s, %s, %s, 0, 1)",
        *(at.log, at.seq, at.mark, at.decision_id),
        schema=settings.postgres_schema,
    )
    fill(log, 40)
    postgres_mirror.run_once(settings)
    found = server.query("SELECT version_num FROM alembic_version", schema=settings.postgres_schema)
    assert found == [(postgres_upgrade.REVISIONS[-1],)]
    assert_same(server, settings)


def postgres_value(column, value):
    if column in ("reasons", "missing"):
        return json.loads(value)
    if column == "is_late":
        return bool(value)
    if column == "features":
        cells = ["NULL" if v is None else repr(v) for v in unpack(value)]
        return f"{{{','.join(cells)}}}"
    # As text: psycopg2 writes floats as decimals, which have no negative zero.
    return repr(value) if isinstance(value, float) else value


def test_the_code_knows_every_revision_of_its_schema_and_writes_the_last():
    from alembic.script import ScriptDirectory

    folder = Path(postgres_upgrade.__file__).with_name("postgres_schema")
    scripts = ScriptDirectory(str(folder))
    assert scripts.get_current_head() == postgres_upgrade.REVISIONS[-1]
    assert {s.revision for s in scripts.walk_revisions()} == set(postgres_upgrade.REVISIONS)


def test_a_schema_of_a_newer_version_is_refused(server, settings, log):
    fill(log, 5)
    postgres_mirror.run_once(settings)
    schema = settings.postgres_schema
    server.query("UPDATE alembic_version SET version_num = '9999'", schema=schema)
    fill(log, 5)
    with pytest.raises(PermanentError, match="9999"):
        postgres_mirror.run_once(settings)
    assert status_of(settings).state == "refused"
    assert "9999" in status_of(settings).problem


def test_the_mirror_of_another_log_is_refused(server, settings, log, tmp_path):
    fill(log, 5)
    postgres_mirror.run_once(settings)
    other = settings.model_copy(update={"home": tmp_path / "other"})
    fill(EventLog(other.log_path), 50)
    with pytest.raises(PermanentError, match=r"a copy of the log \w+, expected one of the log \w+"):
        postgres_mirror.run_once(other)
    assert_same(server, settings)


@pytest.mark.parametrize("grown", [0, 300])
def test_a_log_that_was_put_back_to_an_earlier_state_is_refused(server, settings, log, grown):
    fill(log, 50)
    log.close()
    copy = settings.home / "backup.db"
    with (
        closing(sqlite3.connect(settings.log_path)) as source,
        closing(sqlite3.connect(copy)) as to,
    ):
        source.backup(to)
    fill(log, 50)
    log.close()
    postgres_mirror.run_once(settings)
    for path in settings.log_path.parent.glob("events.db*"):
        path.unlink()
    shutil.copy(copy, settings.log_path)
    if grown:
        fill(log, grown, seed=2)
    expected = "other events at" if grown else "a log that ends at"
    with pytest.raises(PermanentError, match=expected):
        postgres_mirror.run_once(settings)


def test_a_row_that_postgresql_has_otherwise_is_told_and_not_overwritten(server, settings, log):
    fill(log, 30)
    address, schema = PostgresAddress.parse(server.url), settings.postgres_schema
    postgres_upgrade.upgrade(address, schema, Patience())
    server.query(
        "INSERT INTO transactions VALUES (1, 'forged', now(), 'c', 't', 1, 'EUR', NULL, NULL, NULL,"
        " NULL, NULL, NULL, NULL, now(), 'somebody')",
        schema=schema,
    )
    done = postgres_mirror.run_once(settings)
    assert done.conflicts == 1
    assert done.behind_rows == 0, "a conflict does not hold up the others"
    query = "SELECT table_name, seq, kind, told, found FROM conflicts"
    ((table, seq, kind, told, found),) = server.query(query, schema=schema)
    assert (table, seq, kind, told["seq"]) == ("transactions", 1, "different", 1)
    assert [row["transaction_id"] for row in found] == ["forged"]
    kept = server.query("SELECT transaction_id FROM transactions WHERE seq = 1", schema=schema)
    assert kept == [("forged",)]
    assert status_of(settings).conflicts == 1


def test_the_sign_of_a_zero_is_a_difference_and_an_equal_row_is_none(server, settings, log):
    fill(log, 30)
    schema = settings.postgres_schema
    postgres_mirror.run_once(settings)
    server.query("DELETE FROM mirror_position", schema=schema)  # everything comes once more
    assert postgres_mirror.run_once(settings).conflicts == 0
    server.query("DELETE FROM mirror_position", schema=schema)
    server.query(
        "UPDATE decisions SET features = ARRAY['-0'::float8] WHERE seq = (SELECT min(seq)"
        " FROM decisions)",
        schema=schema,
    )
    server.query("UPDATE transactions SET latitude = '-0' WHERE latitude = 0", schema=schema)
    ((zeros,),) = server.query(
        "SELECT count(*) FROM transactions WHERE latitude = 0", schema=schema
    )
    assert zeros > 0
    assert postgres_mirror.run_once(settings).conflicts == 1 + zeros


def test_a_text_that_postgresql_cannot_hold_is_kept_whole_beside_its_row(server, settings, log):
    row = Transaction("tx\0nul", START_US, "c", "t", 1, "EUR")
    with log.writing() as writer:
        writer.append_transaction(row, received_us=START_US, source="api")
        chance = random.Random(1)
        told = decision(row, 1, START_US, chance, False)
        writer.append_decision(told._replace(reasons=("a\0b",), decided_us=2**62))
    fill(log, 5)
    done = postgres_mirror.run_once(settings)
    assert (done.conflicts, done.behind_rows) == (2, 0)
    query = "SELECT kind, told::text FROM conflicts ORDER BY table_name"
    altered = server.query(query, schema=settings.postgres_schema)
    assert [kind for kind, _ in altered] == ["altered", "altered"]
    assert json.loads(altered[1][1])["transaction_id"] == "tx\0nul"
    assert json.loads(altered[0][1])["decided_us"] == 2**62
    query = "SELECT transaction_id, reasons FROM decisions WHERE seq = 1"
    found = server.query(query, schema=settings.postgres_schema)
    assert found == [("tx\u2400nul", ["a\u2400b"])]


def test_postgresql_may_be_away_at_the_start_and_come_later(server, settings, log):
    fill(log, 200)
    server.crash()
    try:
        with following(settings, batch_rows=50):
            wait_for("the word", lambda: (s := status_of(settings)) and s.state == "away")
            status = status_of(settings)
            assert "usable" in status.problem
            assert status.contact_at is None
            assert is_away(status, now=time.time(), since=time.time() - 100, after=60)
            server.start()
            wait_until_caught_up(settings, log)
    finally:
        if not _answers(server):
            server.start()
    assert not is_away(status_of(settings), now=time.time(), since=0, after=60)
    assert_same(server, settings)


def _answers(server: PostgresServer) -> bool:
    try:
        return server.query("SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def test_postgresql_may_crash_in_the_middle_of_a_drain_again_and_again(
    server, settings, log, monkeypatch
):
    monkeypatch.setattr(postgres_mirror, "_LONGEST_PAUSE", 0.5)
    fill(log, 4_000)
    chance = random.Random(5)
    with following(settings, batch_rows=100):
        for crash in range(CRASHES):
            start = status_of(settings).seq if crash else 0
            wait_for("progress", lambda start=start: _moved(settings, start))
            time.sleep(chance.uniform(0, 0.05))
            server.crash()
            fill(log, 200)
            server.start()
        wait_until_caught_up(settings, log)
    assert_same(server, settings)


def _moved(settings: Settings, since: int, pid: int | None = None) -> bool:
    status = status_of(settings)
    return bool(
        status
        and status.pid == (pid or os.getpid())
        and status.state == "running"
        and (status.seq or 0) > since
    )


def test_a_mirror_that_is_killed_at_any_point_loses_and_doubles_nothing(server, settings, log):
    fill(log, 2_000)
    chance, seen = random.Random(9), 0
    never = APART.Event()
    for _ in range(KILLS):
        process = APART.Process(
            target=postgres_mirror.run,
            args=(settings, never),
            kwargs={"batch_rows": 40},
            daemon=True,
        )
        process.start()
        try:
            wait_for("progress", lambda p=process.pid, s=seen: _moved(settings, s, p))
            time.sleep(chance.uniform(0, 0.03))
        finally:
            process.kill()
            process.join(PATIENCE)
        query = "SELECT max(seq) FROM mirror_position"
        ((seen,),) = server.query(query, schema=settings.postgres_schema)
        fill(log, 300 if seen < log.last_seq() - 500 else 1_000)
    wait_for("the lock of the killed one", lambda: _ran_once(settings))
    assert_same(server, settings)


def _ran_once(settings: Settings) -> bool:
    try:
        return postgres_mirror.run_once(settings).behind_rows == 0
    except UnavailableError as error:
        if "another mirror" not in error.message:
            raise
        return False


def environment(settings: Settings) -> dict[str, str]:
    assert settings.postgres_url is not None
    return dict(os.environ) | {
        "FRAUD_HOME": str(settings.home),
        "FRAUD_POSTGRES_URL": settings.postgres_url.get_secret_value(),
        "FRAUD_POSTGRES_SCHEMA": settings.postgres_schema,
        "FRAUD_MIRROR_POLL_SECONDS": "0.02",
    }


def test_a_connection_that_is_reset_anywhere_loses_and_doubles_nothing(server, settings, log):
    fill(log, 400)
    proxy = TcpProxy(server.port)
    url = server.url.replace(str(server.port), str(proxy.port))
    broken = Settings(**settings.model_dump(exclude={"postgres_url"}), postgres_url=url)
    chance = random.Random(3)
    while proxy.resets < 20:
        fill(log, 60)
        proxy.reset_after = chance.randrange(1, 80_000)
        with suppress(UnavailableError):
            postgres_mirror.run_once(broken, batch_rows=50)
    proxy.reset_after = None
    wait_for("the lock of the last one", lambda: _ran_once(broken))
    proxy.close()
    assert_same(server, settings)


def test_a_commit_whose_answer_is_lost_is_not_repeated(server, settings, log, monkeypatch):
    chance, kept = random.Random(6), postgres_mirror.deadline

    @contextmanager
    def losing(connection, seconds):
        with kept(connection, seconds):
            yield  # commits
        if chance.random() < 0.3:
            connection.close()
            raise psycopg2.OperationalError("the answer was lost")

    monkeypatch.setattr(postgres_mirror, "deadline", losing)
    monkeypatch.setattr(postgres_mirror, "_LONGEST_PAUSE", 0.02)
    fill(log, 500)
    with following(settings, batch_rows=20):
        wait_until_caught_up(settings, log)
    assert_same(server, settings)


def test_a_network_that_swallows_everything_is_given_up(server, settings, log, monkeypatch):
    monkeypatch.setattr(postgres_mirror, "Patience", lambda: Patience(connect=2, answer=0.5))
    fill(log, 50)
    proxy = TcpProxy(server.port)
    url = server.url.replace(str(server.port), str(proxy.port))
    muted = settings.model_copy(update={"postgres_url": Settings(postgres_url=url).postgres_url})
    with following(muted):
        wait_until_caught_up(settings, log)
        proxy.is_mute = True
        fill(log, 50)
        wait_for("the word", lambda: status_of(settings).state == "away")
        assert status_of(settings).behind_rows > 0
        assert status_of(settings).behind_seconds > 0
        proxy.is_mute = False
        wait_until_caught_up(settings, log)
    proxy.close()
    assert_same(server, settings)


def test_a_second_mirror_of_a_home_is_refused(settings, log):
    fill(log, 5)
    with following(settings):
        wait_until_caught_up(settings, log)
        with pytest.raises(PermanentError, match="another mirror"):
            postgres_mirror.run_once(settings)


def test_a_second_mirror_of_a_database_says_so_and_takes_over(server, settings, log, tmp_path):
    fill(log, 5)
    other = settings.model_copy(update={"home": tmp_path / "standby"})
    shutil.copytree(settings.home, other.home)
    with following(settings):
        wait_until_caught_up(settings, log)
        with pytest.raises(UnavailableError, match="another mirror at work"):
            postgres_mirror.run_once(other)
        problem = status_of(other).problem
    assert "another mirror at work" in problem
    wait_for("the lock", lambda: _ran_once(other))


def test_two_mirrors_that_both_believe_to_be_alone_cannot_both_write(server, settings, log):
    fill(log, 5)
    mirror = postgres_mirror._Mirror(settings, 2_000)
    with mirror.session():
        server.query(
            "INSERT INTO mirror_position VALUES (1, 'l', 0, 'm', NULL, 0, 0)",
            schema=settings.postgres_schema,
        )
        with pytest.raises(UnavailableError, match="23505"):
            mirror.step()
    count = "SELECT count(*) FROM transactions"
    assert server.query(count, schema=settings.postgres_schema) == [(0,)]


def test_the_program_ends_in_order_when_asked_to(server, settings, log):
    fill(log, 300)
    command = [sys.executable, "-c", "from fraud_platform.cli import main; main()", "mirror"]
    process = subprocess.Popen(
        command, env=environment(settings), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until_caught_up(settings, log)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "mirror connected" in said
    assert status_of(settings).state == "stopped"
    assert_same(server, settings)


def test_the_commands_tell_the_outcome_and_the_state(server, settings, log, monkeypatch):
    monkeypatch.setattr(mirror_commands, "get_settings", lambda: settings)
    before = CliRunner().invoke(mirror_commands.mirror, ["status", "--json"])
    assert (before.exit_code, json.loads(before.stdout)["state"]) == (1, "never ran")
    fill(log, 20)
    done = CliRunner().invoke(mirror_commands.mirror, ["--once", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["seq"] == log.last_seq()
    told = CliRunner().invoke(mirror_commands.mirror, ["status", "--json"])
    assert (told.exit_code, json.loads(told.stdout)["behind_rows"]) == (0, 0)
    schema = settings.postgres_schema
    server.query("DELETE FROM mirror_position", schema=schema)
    server.query("UPDATE transactions SET source = 'forged' WHERE seq = 1", schema=schema)
    for arguments in (["--once"], ["status"]):
        found = CliRunner().invoke(mirror_commands.mirror, arguments)
        assert found.exit_code == 3, "a conflict is an alarm"


def test_without_an_address_the_mirror_says_what_to_set(settings):
    nowhere = settings.model_copy(update={"postgres_url": None})
    with pytest.raises(PermanentError, match="FRAUD_POSTGRES_URL"):
        postgres_mirror.run_once(nowhere)


@pytest.fixture
def writer_role(server: PostgresServer, settings: Settings) -> Iterator[Settings]:
    """A role that may only read and insert, on a schema that its owner made."""
    schema, role = settings.postgres_schema, f"writer_{settings.postgres_schema}"
    postgres_mirror.run_once(settings)
    server.query(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    server.query(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    server.query(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {schema} TO {role}")
    server.query(f"REVOKE INSERT ON {schema}.alembic_version FROM {role}")
    yield with_url(settings, server, role, PASSWORD)
    server.query(f"DROP OWNED BY {role}")
    server.query(f"DROP ROLE {role}")


def with_url(settings: Settings, server: PostgresServer, user: str, password: str) -> Settings:
    from urllib.parse import quote

    url = (
        f"postgresql+psycopg2://{user}:{quote(password, safe='')}@127.0.0.1:{server.port}/postgres"
    )
    return settings.model_copy(update={"postgres_url": Settings(postgres_url=url).postgres_url})


def test_a_role_that_may_only_read_and_insert_is_enough(server, settings, log, writer_role):
    fill(log, 100)
    shadow(settings.log_path, 1, 2)
    postgres_mirror.run_once(writer_role, batch_rows=20)
    assert_same(server, settings)
    address = PostgresAddress.parse(writer_role.postgres_url.get_secret_value())
    for statement in (
        "UPDATE decisions SET decision = 'approve'",
        "DELETE FROM transactions",
        "TRUNCATE labels",
        "UPDATE mirror_position SET seq = 0",
        "DELETE FROM conflicts",
        "DROP TABLE decisions",
    ):
        with (
            closing(address.connect(settings.postgres_schema, Patience())) as connection,
            pytest.raises(PermanentError, match="42501"),
            address.translated(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


def test_an_upgrade_that_the_role_may_not_do_is_refused_by_name(server, settings, writer_role):
    schema = settings.postgres_schema
    server.query("DROP TABLE shadow_scores", schema=schema)
    server.query("UPDATE alembic_version SET version_num = '0002'", schema=schema)
    with pytest.raises(PermanentError, match="permission denied"):
        postgres_mirror.run_once(writer_role)


WRONG = "wr0ng:of@the/mirror?#%"
ADDRESSES = (
    f"postgresql+psycopg2://u:{PASSWORD}@127.0.0.1/db",
    f"postgresql+psycopg2://u:{PASSWORD.replace('/', '')}@127.0.0.1/db",
    f"postgres//u:{PASSWORD}@127.0.0.1/db",
    f"mysql://u:{PASSWORD}@127.0.0.1/db",
    "postgresql+psycopg2://u:s3cret?of=1@127.0.0.1/db",
    "postgresql+psycopg2://u@127.0.0.1:port/db?password=s3cret",
    "postgresql+psycopg2://u:s3cret@127.0.0.1:1/db",
    "postgresql+psycopg2://u:s3cret@127.0.0.1:1/db?sslmode=s3cret",
)


@pytest.mark.parametrize("url", ADDRESSES)
def test_no_error_repeats_the_password_of_an_address(url, settings, log, caplog):
    fill(log, 1)
    told = settings.model_copy(update={"postgres_url": Settings(postgres_url=url).postgres_url})
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises((PermanentError, UnavailableError)) as caught,
    ):
        postgres_mirror.run_once(told)
    status = status_path(settings.log_path)
    written = status.read_text() if status.exists() else ""
    told_to_anybody = f"{chain(caught.value)}{caplog.text}{written}"
    assert "s3cret" not in told_to_anybody
    assert PASSWORD not in told_to_anybody


def chain(error: BaseException | None) -> str:
    """What a traceback would show of an error and of what led to it."""
    import traceback

    return "".join(traceback.format_exception(error)) if error else ""


def test_a_refused_password_reaches_no_log_no_file_and_no_error(server, settings, writer_role):
    wrong = with_url(settings, server, f"writer_{settings.postgres_schema}", WRONG)
    command = [sys.executable, "-c", "from fraud_platform.cli import main; main()", "mirror"]
    ended = subprocess.run(
        [*command, "--once"], env=environment(wrong), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "password authentication failed" in ended.stderr
    written = [path.read_bytes() for path in settings.home.rglob("*") if path.is_file()]
    assert written
    for content in (ended.stdout, ended.stderr, *(w.decode("latin-1") for w in written)):
        assert WRONG not in content
        assert "wr0ng" not in content


def test_a_row_is_not_quoted_by_an_error(server, settings, log, caplog):
    fill(log, 5)
    postgres_mirror.run_once(settings)
    schema = settings.postgres_schema
    server.query("ALTER TABLE transactions ADD CHECK (card_id <> 'tell-me-not')", schema=schema)
    with log.writing() as writer:
        row = Transaction("tx-odd", START_US, "tell-me-not", "t", 1, "EUR")
        writer.append_transaction(row, received_us=START_US, source="api")
    with pytest.raises(UnavailableError, match="SQL state 23514") as caught:
        postgres_mirror.run_once(settings)
    assert "tell-me-not" not in chain(caught.value) + caplog.text


def test_a_long_absence_is_caught_up_fast(server, settings, log):
    fill(log, ROWS)
    done = postgres_mirror.run_once(settings)
    rate = done.rows / done.seconds
    print(json.dumps({"rows": done.rows, "rows_per_second": round(rate)}))
    assert rate >= 1_500
    assert_same(server, settings)


def test_waits_grow_up_to_a_bound_and_differ_by_chance():
    longest = [postgres_mirror._pause(n, lambda: 1.0) for n in range(40)]
    assert longest == sorted(longest)
    assert longest[0] < 1
    assert longest[-1] == 15.0
    assert postgres_mirror._pause(3, lambda: 0.0) == longest[3] / 2
