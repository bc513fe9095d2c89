"""Retention with a mirror: PostgreSQL keeps nothing that the log has purged."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from fraud_platform.adapters import log_seals, postgres_mirror, postgres_purge
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.adapters.postgres_link import Patience, PostgresAddress
from fraud_platform.adapters.retention_run import purge, status_of
from fraud_platform.audit_log.acts import Act
from fraud_platform.errors import UnavailableError
from fraud_platform.settings import Settings
from tests.integration.aged_logs import DAY_US, START_US, aged_log
from tests.integration.postgres_server import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres-mirror")

DAYS = 400
NOW_US = START_US + DAYS * DAY_US
ACT = partial(Act, actor="ann", role="", origin="test")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def settings(server, tmp_path, monkeypatch) -> Settings:
    """A home whose log is sealed and mirrored."""
    monkeypatch.setattr(log_seals, "MOST_POSITIONS", 64)
    monkeypatch.setattr(postgres_purge, "_BATCH", 100)
    found = Settings(
        home=tmp_path / "home",
        postgres_url=server.url,
        postgres_schema="mirror",
        retention={"log_days": 200},
    )
    aged_log(found, DAYS, per_day=2)
    seals_of(found).seal()
    postgres_mirror.run_once(found)
    return found


def oldest(settings) -> list[int]:
    address = PostgresAddress.parse(settings.postgres_url.get_secret_value())
    tables = ("transactions", "labels", "decisions")
    with (
        closing(address.connect(settings.postgres_schema, Patience())) as connection,
        connection.cursor() as cursor,
    ):
        found = []
        for table in tables:
            cursor.execute(f"SELECT MIN(seq) FROM {table}")  # noqa: S608 -- names are ours
            found.append(cursor.fetchone()[0])
    return found


def test_the_mirror_loses_what_the_log_loses_and_goes_on(settings):
    (done,) = purge(settings, ACT, NOW_US).purged
    assert min(oldest(settings)) > int(done.facts["last"]) > 200
    assert status_of(settings, NOW_US).mirror
    aged_log(settings, 1, per_day=5, first=DAYS)
    assert postgres_mirror.run_once(settings).rows == 10
    assert postgres_mirror.run_once(settings).conflicts == 0


def test_while_postgresql_is_away_nothing_goes_from_the_log_either(settings, server, monkeypatch):
    before = EventLog(settings.log_path).oldest_event_timestamp()
    server.stop()
    with pytest.raises(UnavailableError):
        purge(settings, ACT, NOW_US)
    assert EventLog(settings.log_path).oldest_event_timestamp() == before
    rows = [row.outcome for row in audit_log_of(settings).rows(RowFilter(action="retention.*"))]
    assert rows == ["begun", "failed: UnavailableError"]
    assert seals_of(settings).compare().bad == ()
    server.start()
    assert len(purge(settings, ACT, NOW_US).purged) == 1


@pytest.mark.parametrize("is_made", [False, True])
def test_what_another_mirror_has_is_not_taken_for_what_this_one_has(settings, tmp_path, is_made):
    other = settings.model_copy(update={"postgres_schema": "new"})
    if is_made:
        theirs = other.model_copy(update={"home": tmp_path / "theirs"})
        aged_log(theirs, DAYS, per_day=2)
        postgres_mirror.run_once(theirs)
    before = oldest(other) if is_made else []
    with pytest.raises(UnavailableError, match="the mirror of log"):
        purge(other, ACT, NOW_US)
    assert EventLog(settings.log_path).horizon() is None
    assert not is_made or oldest(other) == before
