"""A home on a real disk: who may use it, and what a demonstration may never delete."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraud_platform.adapters.home import in_use, occupied, start_demo_home
from fraud_platform.cli import main
from fraud_platform.errors import PermanentError
from fraud_platform.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def fill(home: Path, *names: str) -> None:
    for name in names:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{name}\n".encode())


def contents(home: Path) -> dict[str, bytes]:
    locks = {".lock", ".users"}
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path.name not in locks
    }


@pytest.mark.parametrize(
    "names",
    [
        ("letter.txt",),
        (".bashrc", "pictures/cat.png"),
        ("log/events.db",),
        ("settings.json", "dagster/dagster.yaml"),
    ],
)
def test_a_folder_that_no_demonstration_made_is_left_alone_byte_for_byte(home, names):
    fill(home, *names)
    before = contents(home)
    with pytest.raises(PermanentError, match="Hint: name another home"):
        start_demo_home(home)
    assert contents(home) == before


def test_a_refusal_names_the_first_five_entries_and_counts_the_rest(home):
    fill(home, *(f"file{number}" for number in range(7)))
    with pytest.raises(PermanentError, match="found file0, file1, file2, file3, file4 and 2 more"):
        start_demo_home(home)


@pytest.mark.parametrize("names", [(), ("dagster/dagster.yaml",), ("logs/a.log", "dagster/b")])
def test_a_folder_with_nothing_but_what_dagster_left_is_taken(home, names):
    fill(home, *names)
    with occupied(home):
        start_demo_home(home)
    assert list(contents(home)) == ["demo.json"]


def test_a_demonstration_that_was_killed_is_replaced(home):
    start_demo_home(home)
    fill(home, "log/events.db", "settings.json", "stray")
    start_demo_home(home)
    assert list(contents(home)) == ["demo.json"]


def test_a_link_in_a_demo_home_goes_and_what_it_points_to_stays(home, tmp_path):
    start_demo_home(home)
    fill(tmp_path, "elsewhere/letter.txt")
    (home / "link").symlink_to(tmp_path / "elsewhere")
    start_demo_home(home)
    assert not (home / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "letter.txt").exists()


def test_a_home_has_one_occupant(home):
    first = occupied(home)
    with first, pytest.raises(PermanentError, match="in use by another"), occupied(home):
        pass
    with occupied(home):
        assert (home / ".lock").exists()


def test_a_demonstration_does_not_empty_a_home_that_somebody_uses(home):
    start_demo_home(home)
    fill(home, "log/events.db")
    with in_use(home), in_use(home):
        with pytest.raises(PermanentError, match="in use by a `fraud-platform serve`"):
            start_demo_home(home)
        assert "log/events.db" in contents(home)
    start_demo_home(home)
    assert "log/events.db" not in contents(home)


def test_a_demonstrations_own_scorer_may_use_the_home_that_it_occupies(home):
    with occupied(home):
        start_demo_home(home)
        with in_use(home):
            assert (home / "demo.json").exists()


def test_the_command_ingest_uses_the_home(home, tmp_path, monkeypatch):
    monkeypatch.setattr("fraud_platform.cli.get_settings", lambda: Settings(home=home))
    (tmp_path / "in.csv").touch()  # its digest is recorded before anything is read
    tried = []

    def while_it_reads_the_mapping(path: Path) -> None:
        with pytest.raises(PermanentError, match="in use"):
            start_demo_home(home)
        tried.append(path)
        raise PermanentError("enough")

    monkeypatch.setattr("fraud_platform.adapters.ingest.read_mapping", while_it_reads_the_mapping)
    CliRunner().invoke(main, ["ingest", str(tmp_path / "in.csv"), "--mapping", "m.yaml"])
    assert tried == [Path("m.yaml")]


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path):
    fill(tmp_path, "file")
    with pytest.raises(PermanentError, match="Hint"), in_use(tmp_path / "file"):
        pass


def test_a_running_scorer_uses_the_home(home):
    environment = os.environ | {"FRAUD_HOME": str(home), "FRAUD_SCORER_PORT": "0"}
    command = [sys.executable, "-m", "serving"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as scorer:
        try:
            assert "listening" in scorer.stdout.readline()
            with pytest.raises(PermanentError, match="in use by a `fraud-platform serve`"):
                start_demo_home(home)
        finally:
            scorer.terminate()
