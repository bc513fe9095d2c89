"""The feature table through files and processes: the same bits, bounded memory, no leftovers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from fraud_platform.adapters.sharded_features import compute_out_of_core, on_dask
from fraud_platform.errors import DataContractError, PermanentError, UnavailableError
from fraud_platform.feature_commands import features as features_group
from fraud_platform.features import batch
from fraud_platform.features.spec import FEATURES
from fraud_platform.features.table_digest import digest
from tests.unit.log_frames import log_frames

SINCE = datetime(2026, 2, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log in files: payments in two files of small row groups and no order, labels in one."""
    folder = tmp_path_factory.mktemp("log")
    transactions, labels = log_frames(1, 3_000, cards=80, terminals=50)
    shuffled = transactions.sample(fraction=1.0, shuffle=True, seed=5)
    (folder / "transactions").mkdir()
    for number, rows in enumerate((shuffled[:1_900], shuffled[1_900:])):
        path = folder / "transactions" / f"{number}.parquet"
        rows.write_parquet(path, row_group_size=300)
    labels.write_parquet(folder / "labels.parquet")
    return folder / "transactions", folder / "labels.parquet"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A Dask cluster of two processes."""
    distributed = pytest.importorskip("distributed", reason="the extra `scale` is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as connected,
    ):
        yield connected


def whole(log: tuple[Path, Path], since: datetime | None = None) -> pl.DataFrame:
    transactions, labels = (pl.read_parquet(path) for path in log)
    return batch.compute(transactions, labels, since=since)


@pytest.mark.parametrize(("shards", "since"), [(1, None), (7, None), (64, None), (7, SINCE)])
def test_out_of_core_gives_the_bits_of_one_computation(
    log: tuple[Path, Path], tmp_path: Path, shards: int, since: datetime | None
):
    out = tmp_path / "features"
    report = compute_out_of_core(*log, out, shards=shards, since=since, rows_at_a_time=500)
    print(report.to_text())
    table = whole(log, since)
    assert (report.rows, report.features) == (table.height, len(FEATURES))
    assert report.digest == digest(table)
    parts = sorted(out.glob("*.parquet"))
    assert len(parts) == report.parts > 1
    assert digest(pl.concat(pl.read_parquet(part) for part in parts)) == report.digest
    assert 0 < report.largest_shard_rows <= 3_000
    assert report.peak_memory_mb > 0
    assert [path.name for path in tmp_path.iterdir()] == ["features"], "nothing is left behind"


def test_two_processes_give_the_bits_of_one(log: tuple[Path, Path], tmp_path: Path, client: Any):
    alone = compute_out_of_core(*log, tmp_path / "alone", shards=7, rows_at_a_time=500)
    together = compute_out_of_core(
        *log, tmp_path / "dask", shards=7, rows_at_a_time=500, run=on_dask(client)
    )
    print(together.to_text())
    assert together.digest == alone.digest == digest(whole(log))
    assert len({os.getpid(), *client.run(os.getpid).values()}) == 3


def test_more_shards_need_less_memory(tmp_path: Path):
    """Each run is a process of its own, so that one's memory is not the other's."""
    transactions, labels = log_frames(2, 60_000, cards=3_000, terminals=2_000)
    transactions.write_parquet(tmp_path / "transactions.parquet", row_group_size=10_000)
    labels.write_parquet(tmp_path / "labels.parquet")
    program = (
        "import json, sys; from pathlib import Path;"
        "from fraud_platform.adapters.sharded_features import compute_out_of_core;"
        "folder, shards = Path(sys.argv[1]), int(sys.argv[2]);"
        "report = compute_out_of_core(folder / 'transactions.parquet', folder / 'labels.parquet',"
        " folder / f'out-{shards}', shards=shards, rows_at_a_time=10_000);"
        "print(json.dumps(report.to_dict()))"
    )
    reports = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", program, str(tmp_path), str(shards)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for shards in (1, 16)
    ]
    for report in reports:
        print({name: report[name] for name in ("shards", "start_memory_mb", "peak_memory_mb")})
    needed = [report["peak_memory_mb"] - report["start_memory_mb"] for report in reports]
    assert reports[0]["digest"] == reports[1]["digest"]
    assert needed[1] < needed[0]


def test_an_output_that_exists_is_never_touched(log: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(PermanentError, match="another output folder"):
        compute_out_of_core(*log, tmp_path, shards=2)
    assert not list(tmp_path.iterdir())


def test_an_input_without_a_column_is_refused_by_name(log: tuple[Path, Path], tmp_path: Path):
    transactions = pl.read_parquet(log[0])
    transactions.drop("terminal_id").write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataContractError, match="terminal_id"):
        compute_out_of_core(tmp_path / "t.parquet", log[1], tmp_path / "out", shards=2)
    with pytest.raises(DataContractError, match=r"absent\.parquet"):
        compute_out_of_core(tmp_path / "absent.parquet", log[1], tmp_path / "out", shards=2)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"], "nothing is left behind"


def test_no_payments_make_an_empty_table_with_all_columns(log: tuple[Path, Path], tmp_path: Path):
    pl.read_parquet(log[0]).clear().write_parquet(tmp_path / "t.parquet")
    report = compute_out_of_core(tmp_path / "t.parquet", log[1], tmp_path / "out", shards=2)
    assert report.rows == 0
    assert report.digest == digest(whole(log).clear())


def command(log: tuple[Path, Path], out: Path, *more: str) -> Result:
    options = ["--transactions", str(log[0]), "--labels", str(log[1]), "--out", str(out), *more]
    return CliRunner().invoke(features_group, ["compute", *options], standalone_mode=False)


def test_the_command_prints_rows_digest_and_peak_memory(
    log: tuple[Path, Path], tmp_path: Path, client: Any
):
    expected = digest(whole(log))
    done = command(log, tmp_path / "alone", "--shards", "3", "--json")
    told = json.loads(done.output)
    assert (told["rows"], told["digest"], told["shards"]) == (3_000, expected, 3)
    assert told["peak_memory_mb"] > 0
    done = command(log, tmp_path / "dask", "--dask", client.scheduler_info()["address"])
    assert expected in done.output
    assert "peak memory mb" in done.output


def test_a_cluster_that_is_not_there_is_named(log: tuple[Path, Path], tmp_path: Path):
    dask = pytest.importorskip("dask", reason="the extra `scale` is not installed")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        done = command(log, tmp_path / "out", "--dask", "tcp://127.0.0.1:9")
    assert isinstance(done.exception, UnavailableError)
    assert "tcp://127.0.0.1:9" in done.exception.message
    assert not list(tmp_path.iterdir())
