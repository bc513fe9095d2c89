"""Which file or segment brought which positions of the log, exactly."""

import hashlib
from datetime import UTC, datetime

import polars as pl
import pytest

from fraud_platform.adapters import event_log
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.ingest import ingest, read_mapping
from fraud_platform.adapters.lineage_store import LineageStore
from fraud_platform.adapters.world_file import write_world
from fraud_platform.errors import UnavailableError
from fraud_platform.lineage import SOURCE_FILE, Node, Record
from fraud_platform.simulation.world import World, simulate
from fraud_platform.validation import ValidationPolicy


@pytest.fixture
def log(tmp_path):
    return EventLog(tmp_path / "log" / "events.db")


@pytest.fixture(scope="module")
def world() -> pl.DataFrame:
    return simulate(World(days=6, customers=60, terminals=30))


@pytest.fixture
def bring(tmp_path, log):
    """Ingest rows as a file of a name; returns its path and its summary."""

    def act(name: str, rows: pl.DataFrame):
        mapping = write_world(rows, tmp_path / name)
        summary = ingest(
            tmp_path / name,
            read_mapping(mapping),
            log=log,
            policy=ValidationPolicy(),
            received=datetime(2026, 6, 1, tzinfo=UTC),
            token_key=None,
        )
        return tmp_path / name, summary

    return act


def test_each_file_has_the_positions_that_it_brought_and_its_bytes_digest(log, bring, world):
    half = world.height // 2
    first, _ = bring("first.parquet", world[:half])
    border = log.last_seq()
    second, _ = bring("second.parquet", world[half:])
    found = log.origins(1, log.last_seq())
    names = {one.node.part for one in found if one.last_seq <= border}
    assert names == {"first.parquet"}
    assert [one.first_seq for one in found] == [1, *(one.last_seq + 1 for one in found[:-1])]
    assert found[-1].last_seq == log.last_seq()
    for path in (first, second):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert Node(SOURCE_FILE, path.name, digest) in {one.node for one in found}


def test_the_same_file_again_brings_nothing(log, bring, world):
    bring("world.parquet", world)
    before = log.origins(1, log.last_seq())
    _, summary = bring("world.parquet", world)
    assert summary.accepted == 0
    assert log.origins(1, log.last_seq()) == before


def test_a_file_whose_name_holds_a_card_number_is_named_without_it(log, bring, world):
    bring("4111111111111111.parquet", world.head(5))
    [one, *_] = log.origins(1, 1)
    assert "4111111111111111" not in one.node.part


def test_a_commit_that_fails_leaves_neither_rows_nor_their_origin(log, bring, world, monkeypatch):
    def broken(*_):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(event_log.log_origins, "note", broken)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        bring("world.parquet", world)
    monkeypatch.undo()
    assert log.last_seq() == 0
    assert log.origins(1, 10**9) == []


def test_records_are_read_back_as_they_were_told_and_the_first_tells_the_inputs(tmp_path):
    store = LineageStore(tmp_path / "lineage.db")
    rows, other = Node("raw", "2026-01-01", "a"), Node("file", "x.csv", "f")
    told = store.record(
        Record(node=rows, rows=3, inputs=(other,), run_id="r1", at_us=7, facts={"k": "v"})
    )
    store.record(Record(node=rows, rows=3, inputs=(), run_id="r2", at_us=8))
    assert store.records("raw", "2026-01-01", "a")[0] == told
    assert store.inputs_of(rows) == [other]
    assert store.outputs_of(other) == [rows]
    assert [one.run_id for one in store.by_fact("raw", "k", "v")] == ["r1"]
    assert store.contents("file", "x.csv") == [other]


def test_a_damaged_store_is_no_empty_one(tmp_path):
    path = tmp_path / "lineage.db"
    path.write_bytes(b"no database at all, and long enough to be taken for one" * 40)
    with pytest.raises(UnavailableError, match="unusable"):
        LineageStore(path).records("raw", "2026-01-01")
