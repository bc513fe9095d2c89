import json
import os
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from fraud_platform.cli import main
from fraud_platform.evaluate_commands import read
from fraud_platform.features.journal import Journal
from fraud_platform.handbook import challenger
from fraud_platform.handbook.benchmark import P1, Benchmark, HandbookReport, run
from fraud_platform.handbook.inputs import INPUTS, inputs
from fraud_platform.handbook.protocol import CHAPTER_3, cut
from fraud_platform.handbook.rows import FIRST_DAY, LAST_DAY, rows
from fraud_platform.model import ModelPolicy

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("handbook")  # one reading of the data for all tests


def public(name: str) -> Path:
    folder = Path(os.environ.get("FRAUD_BENCHMARK_DATA", ROOT.parent / "shared" / "data"))
    path = folder / "handbook" / name
    if not path.exists():
        pytest.skip(f"no benchmark data at {path}; set FRAUD_BENCHMARK_DATA to its folder")
    return path


def small_world(path: Path, first: date = FIRST_DAY, per_day: int = 40) -> Path:
    """A file in the handbook's form: few payments a day, frauds by chance."""
    chance = np.random.default_rng(3)
    size = (LAST_DAY - first).days * per_day
    start = datetime.combine(first, datetime.min.time())
    pl.DataFrame(
        {
            "TRANSACTION_ID": range(size),
            "TX_DATETIME": [start + timedelta(days=row / per_day) for row in range(size)],
            "CUSTOMER_ID": chance.integers(0, 60, size),
            "TERMINAL_ID": chance.integers(0, 90, size),
            "TX_AMOUNT": chance.integers(1, 20_000, size) / 100,
            "TX_FRAUD": (chance.random(size) < 0.05).astype(int),
        }
    ).write_parquet(path)
    return path


def evaluated(path: Path, *more: str):
    command = [
        "evaluate",
        "--protocol",
        "handbook",
        "--data",
        str(path),
        "--folds",
        "test",
        "--jobs",
        "1",
        *more,
    ]
    return CliRunner().invoke(main, command)


def test_the_command_tells_each_model_per_fold_and_that_other_data_prove_nothing(tmp_path):
    found = evaluated(small_world(tmp_path / "small.parquet"), "--json")
    told = json.loads(found.stdout)
    assert list(told["benchmarks"]) == ["P1", "P2 test"]
    lines = told["benchmarks"]["P2 test"]
    assert {line["origin"] for line in lines} == {"published", "re-made", "ours"}
    (ours,) = [line for line in lines if line["origin"] == "ours"]
    assert list(ours["folds"]) == ["2018-08-08", "2018-08-15", "2018-08-22", "2018-08-29"]
    values = [fold["auc_roc"] for fold in ours["folds"].values()]
    assert ours["mean"]["auc_roc"] == pytest.approx(np.mean(values))
    assert ours["spread"]["auc_roc"] == pytest.approx(np.std(values))
    assert len(told["disproofs"]) == 4
    assert found.exit_code == 1


def test_data_of_other_weeks_are_refused(tmp_path):
    late = small_world(tmp_path / "late.parquet", first=FIRST_DAY + timedelta(days=1))
    found = evaluated(late)
    assert found.exit_code == 1
    assert "with 1 days missing" in found.stderr


@pytest.fixture(scope="module")
def log() -> Journal:
    return read(public("transactions.parquet"))


def test_our_inputs_are_the_published_ones_but_for_one_tie(log):
    told = pl.read_parquet(public("published_features.parquet"))
    payments = log.transactions
    frauds = log.labels.filter(pl.col("verdict") == "fraud")["transaction_id"]
    is_fraud = pl.col("transaction_id").is_in(frauds.implode())
    made = inputs(payments.with_columns(is_fraud=is_fraud)).with_columns(
        TRANSACTION_ID=payments["transaction_id"].cast(pl.Int32)
    )
    both = told.join(made, "TRANSACTION_ID", suffix=" made")
    assert both.height == told.height
    off = both.filter(
        pl.any_horizontal(
            (pl.col(name) - pl.col(f"{name} made")).abs() > 1e-6 for name in INPUTS[1:]
        )
    )
    # Two payments of one customer in one second, which the handbook had in the other order.
    assert off.height == 2
    tied = payments.filter(
        pl.col("transaction_id").is_in(off["TRANSACTION_ID"].cast(pl.String).implode())
    )
    assert tied.n_unique(["card_id", "event_timestamp"]) == 1


@pytest.fixture(scope="module")
def handbook(log) -> pl.DataFrame:
    return rows(log)


@pytest.fixture(scope="module")
def chapter_3(handbook) -> HandbookReport:
    return run(handbook, (P1,), ModelPolicy())


def test_the_fold_has_as_many_payments_as_published(handbook):
    found = cut(handbook, CHAPTER_3[0])
    assert (found.learn.height, found.judged.height) == (67_240, 58_264)


def test_the_published_baselines_come_out_as_published(chapter_3):
    assert chapter_3.disproofs == ()


def test_our_model_beats_them_without_a_leak(chapter_3):
    lines = chapter_3.lines["P1"]
    (ours,) = [line.mean for line in lines if line.origin == "ours"]
    best = max(line.mean.average_precision for line in lines if line.origin == "published")
    assert ours.average_precision > best + 0.05
    assert chapter_3.alarms == ()


def test_a_label_among_the_features_raises_the_alarm(handbook):
    leak = pl.col("is_fraud").cast(pl.Float64).alias(challenger.FEATURE_NAMES[0])
    report = run(handbook.with_columns(leak), (Benchmark("P1", CHAPTER_3, ()),), ModelPolicy())
    (alarm,) = report.alarms
    assert alarm.startswith("LEAK: fraud-platform on P1 reaches AP 1.000")


def test_a_file_that_is_not_there_is_named(tmp_path):
    found = evaluated(tmp_path / "nowhere.parquet")
    assert found.exit_code == 1
    assert "nowhere.parquet" in found.stderr
