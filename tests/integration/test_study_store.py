import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.adapters.study_store import StudyStore
from fraud_platform.boosting import XGBoostTrainer
from fraud_platform.errors import UnavailableError
from fraud_platform.model import LIBRARIES, ModelPolicy, fit, study_key
from fraud_platform.search import Trial
from tests.integration.training_process import DIGEST, TRIALS, policy, rows

ROOT = Path(__file__).parents[2]
TRIAL = Trial(
    number=0,
    parameters={"rate": 0.1, "depth": 3, "one": 1.0},
    rounds=12,
    quality=0.1 + 0.2,
    checkpoints=(0.1,),
    is_pruned=False,
    seconds=0.5,
)
both = pytest.mark.parametrize("library", LIBRARIES)


def start(library: str, folder: Path, threads: int = 1) -> subprocess.Popen:
    """A training in a process of its own."""
    program = [sys.executable, "-m", "tests.integration.training_process"]
    return subprocess.Popen(
        [*program, library, str(threads), str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def outcome(process: subprocess.Popen) -> tuple[str, int]:
    """The digest that a training printed, and how many trials it made."""
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    digest, made = told.split()
    return digest, int(made)


@cache
def never_stopped(library: str) -> str:
    return fit(library, rows(), policy(1)).digest


def finished(library: str, folder: Path) -> int:
    """How many trials are on the disk; asks for no lock, as a killed training holds none."""
    path = folder / f"{study_key(library, DIGEST, policy(1))}.json"
    return path.read_bytes().count(b'"number"') if path.exists() else 0


@both
def test_two_processes_with_one_and_two_threads_train_the_same_bytes(library, tmp_path):
    found = [outcome(start(library, tmp_path / str(n), threads=n)) for n in (1, 2)]
    assert found == [(never_stopped(library), TRIALS)] * 2


@both
def test_a_killed_training_goes_on_and_ends_with_the_same_model(library, tmp_path):
    killed = start(library, tmp_path)
    while finished(library, tmp_path) < 3:
        assert killed.poll() is None, "the training ended before it could be killed"
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    done = finished(library, tmp_path)
    assert 3 <= done < TRIALS
    assert outcome(start(library, tmp_path)) == (never_stopped(library), TRIALS - done)


def test_two_trainings_at_once_make_each_trial_once(tmp_path):
    pair = [start("lightgbm", tmp_path) for _ in range(2)]
    digests, made = zip(*map(outcome, pair), strict=True)
    assert set(digests) == {never_stopped("lightgbm")}
    assert sorted(made) == [0, TRIALS]


@both
def test_a_search_that_the_clock_ended_is_one_of_fewer_trials(library, tmp_path):
    with StudyStore(tmp_path).study("s") as study:
        hurried = fit(library, rows(), replace(policy(1), max_seconds=1e-9), study)
        assert len(study.trials()) == 1
    assert hurried == fit(library, rows(), replace(policy(1), trials=1))


def test_a_trial_comes_back_as_it_was_with_whole_numbers_whole(tmp_path):
    with StudyStore(tmp_path).study("s") as study:
        study.add(TRIAL)
        study.add(replace(TRIAL, number=1))
    with StudyStore(tmp_path).study("s") as study:
        assert study.trials() == (TRIAL, replace(TRIAL, number=1))
        assert [type(value) for value in study.trials()[0].parameters.values()] == [
            float,
            int,
            float,
        ]
    with StudyStore(tmp_path).study("another") as study:
        assert study.trials() == ()


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"no digest"], ids=["empty", "bytes", "text"])
def test_a_damaged_study_is_made_again(damage, tmp_path, caplog):
    (tmp_path / "s.json").write_bytes(damage)
    with StudyStore(tmp_path).study("s") as study:
        assert study.trials() == ()
        study.add(TRIAL)
    assert "is damaged" in caplog.text
    whole = (tmp_path / "s.json").read_bytes()
    (tmp_path / "s.json").write_bytes(whole.replace(b'"rounds":12', b'"rounds":13'))
    with StudyStore(tmp_path).study("s") as study:
        assert study.trials() == ()


def test_a_study_of_other_code_is_made_again(tmp_path, caplog):
    content = b'[{"number":0,"params":{}}]'
    (tmp_path / "s.json").write_bytes(f"{sha256(content)}\n".encode() + content)
    with StudyStore(tmp_path).study("s") as study:
        assert study.trials() == ()
    assert "another version" in caplog.text


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "studies").write_text("a file")
    with (
        pytest.raises(UnavailableError, match="cannot be locked"),
        StudyStore(tmp_path / "studies").study("s"),
    ):
        pass


def test_a_full_disk_ends_the_training_and_keeps_what_was_finished(tmp_path):
    with StudyStore(tmp_path).study("s") as study:
        study.add(TRIAL)
        before, limits = (
            (tmp_path / "s.json").read_bytes(),
            resource.getrlimit(resource.RLIMIT_FSIZE),
        )
        kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), limits[1]))
        try:
            with pytest.raises(UnavailableError, match="cannot be written"):
                study.add(replace(TRIAL, number=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, kept)
        assert study.trials() == (TRIAL,)
    with StudyStore(tmp_path).study("s") as study:
        assert study.trials() == (TRIAL,)


def test_a_disk_that_refuses_says_so(tmp_path):
    (tmp_path / "s.json").mkdir()
    with (
        pytest.raises(UnavailableError, match="cannot be read"),
        StudyStore(tmp_path).study("s"),
    ):
        pass


def test_the_search_of_a_training_is_named_after_what_its_trials_depend_on():
    policy = ModelPolicy()
    name = study_key("xgboost", DIGEST, policy)
    for same in ({"trials": 20}, {"threads": 2}, {"max_seconds": 9.0}):
        assert study_key("xgboost", DIGEST, replace(policy, **same)) == name
    for other in ({"seed": 1}, {"max_rounds": 10}, {"full_trials": 2}, {"rising": ("a",)}):
        assert study_key("xgboost", DIGEST, replace(policy, **other)) != name
    assert study_key("lightgbm", DIGEST, policy) != name
    assert study_key("xgboost", "e" * 64, policy) != name


@pytest.mark.parametrize("part", ["proven", "space", "fixed"])
def test_trials_of_other_parameters_in_the_code_do_not_count(part, monkeypatch):
    name = study_key("xgboost", DIGEST, ModelPolicy())
    monkeypatch.setattr(XGBoostTrainer, part, {**getattr(XGBoostTrainer, part), "max_bin": 256})
    assert study_key("xgboost", DIGEST, ModelPolicy()) != name
