"""`fraud-platform features verify` as people run it: on a file, on a home, on a broken engine."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import redis
from click.testing import CliRunner, Result

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.ingest import ingest, read_mapping
from fraud_platform.adapters.replay_source import read_file, read_log
from fraud_platform.adapters.world_file import write_world
from fraud_platform.cli import main
from fraud_platform.features import batch
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.settings import get_settings
from fraud_platform.simulation.world import World, simulate
from fraud_platform.validation import ValidationPolicy

FRAUD_PLATFORM = Path(sys.executable).with_name("fraud-platform")
NOW = datetime(2027, 1, 1, tzinfo=UTC)
DOOR = {"policy": ValidationPolicy(), "received": NOW, "token_key": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A small world as a file; its last row breaks a rule, its last but one is there twice."""
    frame = simulate(World(days=40, customers=40, terminals=20, fraud_rate=0.05))
    broken = frame.tail(1).with_columns(
        transaction_id=pl.lit("refused"), amount_minor=pl.lit(-100, pl.Int64)
    )
    path = tmp_path_factory.mktemp("data") / "world.parquet"
    mapping = write_world(pl.concat([frame, frame.tail(1), broken]), path)
    return ("--data", str(path), "--mapping", str(mapping))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


def verify(*options: str) -> Result:
    return CliRunner().invoke(main, ["features", "verify", *options])


def test_a_file_is_proved_to_the_bit_by_the_real_command(data):
    words = [str(FRAUD_PLATFORM), "features", "verify", *data, "--late", "0.02"]
    words += ["--duplicates", "0.01", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["mismatches"] == told["missing"] == told["extra"] == 0
    assert told["decisions_compared"] == told["transactions"] > 1_000
    assert told["values_compared"] == told["transactions"] * len(FEATURE_NAMES)
    assert told["events"] == told["transactions"] + told["labels"]
    assert told["labels"] > 0
    assert told["late_rows"] > 10
    assert told["duplicates_delivered"] > 5
    assert (told["rows_refused"], told["rows_repeated"]) == (1, 1)
    assert (told["backend"], told["engine"]) == ("memory", "polars")
    assert told["feature_spec_digest"] == spec_digest()
    assert told["mismatches_by_feature"] == {}
    assert told["seconds"] > 0


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_a_state_in_a_file_and_on_a_server_is_proved_and_leaves_nothing(
    data, backend, redis_url, monkeypatch
):
    monkeypatch.setenv("FRAUD_REDIS_URL", redis_url)
    get_settings.cache_clear()
    options = ("--backend", backend, "--late", "0.02", "--duplicates", "0.01", "--every", "4")
    done = verify(*data, *options, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["backend"], told["mismatches"]) == (backend, 0)
    assert told["values_compared"] > 1_000 * len(FEATURE_NAMES) / 4
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_the_homes_own_log_is_proved_without_data(data, home):
    log = EventLog(home / "log" / "events.db")
    ingest(Path(data[1]), read_mapping(Path(data[3])), log=log, **DOOR)
    log.close()
    done = verify("--json")
    assert done.exit_code == 0, done.output
    of_home, of_file = json.loads(done.output), json.loads(verify(*data, "--json").output)
    for name in ("transactions", "labels", "values_compared", "late_rows"):
        assert of_home[name] == of_file[name]


def test_a_file_is_read_as_the_log_that_its_ingest_makes(data, home):
    path, mapping = Path(data[1]), read_mapping(Path(data[3]))
    log = EventLog(home / "log" / "events.db")
    ingest(path, mapping, log=log, **DOOR)
    stored, read = read_log(log).log, read_file(path, mapping, **DOOR).log
    log.close()
    ours = pl.exclude("received_timestamp", "source", "label_source", "reason", "reported_by")
    assert read.transactions.select(ours).equals(stored.transactions.select(ours))
    assert read.labels.select(ours).equals(stored.labels.select(ours))


def test_people_read_lines_and_the_sample_has_fewer_payments(data):
    done = verify(*data, "--every", "3", "--restart-every", "500")
    assert done.exit_code == 0, done.output
    told = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert told["mismatches"] == "0"
    assert int(told["restarts"]) > 0
    whole = json.loads(verify(*data, "--json").output)["transactions"]
    assert 0 < int(told["transactions"].replace(",", "")) < 0.6 * whole


@pytest.mark.parametrize("backend", ["memory", "sqlite", "redis"])
def test_every_backend_is_exact_with_late_rows_duplicates_and_restarts(
    data, backend, request, monkeypatch
):
    if backend == "redis":
        monkeypatch.setenv("FRAUD_REDIS_URL", request.getfixturevalue("redis_url"))
        get_settings.cache_clear()
    strain = ("--late", "0.1", "--duplicates", "0.1", "--restart-every", "50")
    done = verify(*data, "--backend", backend, "--every", "5", *strain, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["backend"] == backend
    assert told["values_compared"] > 1_000
    assert told["mismatches"] == 0
    assert min(told["late_rows"], told["duplicates_delivered"], told["restarts"]) > 5
    if backend == "redis":
        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as client:
            assert client.dbsize() == 0, "it leaves nothing behind"


def test_the_compiled_engine_is_proved_too(data):
    done = verify(*data, "--engine", "kernel", "--late", "0.1", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["engine"], told["mismatches"]) == ("kernel", 0)
    assert told["values_compared"] > 50_000


def test_without_numba_the_compiled_engine_says_what_to_install(data):
    without = "import sys; sys.modules['numba'] = None; from fraud_platform.cli import main; main()"
    words = [sys.executable, "-c", without, "features", "verify", *data, "--engine", "kernel"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 1
    assert "fraud-platform[kernel]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_planted_mismatch_ends_with_exit_code_1_and_names_the_feature(data, monkeypatch):
    name, compute = FEATURE_NAMES[-1], batch.compute

    def off_by_a_bit(*tables: pl.DataFrame) -> pl.DataFrame:
        return compute(*tables).with_columns(pl.col(name).fill_null(0.0) + 2**-52)

    monkeypatch.setattr(batch, "compute", off_by_a_bit)
    done = verify(*data, "--json")
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert set(told["mismatches_by_feature"]) == {name}
    assert told["mismatches"] == told["mismatches_by_feature"][name] > 0
    assert told["first_mismatches"][0]["feature"] == name
    assert name in verify(*data).output


def test_an_empty_home_proves_nothing_and_says_so_by_its_exit_code():
    done = verify("--json")
    assert done.exit_code == 1
    assert json.loads(done.output)["values_compared"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "x.csv"), "go together"),
        (("--late", "2"), "range"),
        (("--data", "no.csv", "--mapping", "no.yaml"), "no.yaml"),
        (("--backend", "redis"), "FRAUD_REDIS_URL"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_read(options, said):
    done = verify(*options)
    assert done.exit_code != 0
    assert said in done.output
    assert "Traceback" not in done.output
