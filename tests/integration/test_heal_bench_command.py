"""The command of the scenario benchmark: what it prints and writes; the runs are real elsewhere."""

import json

import pytest
from click.testing import CliRunner

from fraud_platform.adapters import heal_bench_run
from fraud_platform.adapters.heal_bench_run import read_report, shown_in
from fraud_platform.cli import main
from fraud_platform.heal_bench.report import readme_block
from tests.bench_results import bench_report


@pytest.fixture
def made(monkeypatch):
    """The report of a benchmark that was run by hand."""
    report = bench_report()
    monkeypatch.setattr(heal_bench_run, "run_bench", lambda **_: report)
    return report


def bench(*words: str) -> str:
    done = CliRunner().invoke(main, ["heal", "bench", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_tables_say_what_is_met_and_what_cannot_be_judged(made):
    told = bench()
    assert told.startswith(made.premises())
    for title in ("Promises and figures", "Named causes", "By scenario"):
        assert title in told
    assert "cannot judge" in told


def test_json_is_the_whole_report(made):
    assert len(json.loads(bench("--json"))["results"]) == len(made.results)


def test_a_folder_gets_the_file_and_the_page_and_a_readme_its_headline(made, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- heal bench -->\n\n<!-- /heal bench -->\n")
    bench("--out", str(tmp_path / "new"), "--readme", str(readme))
    assert read_report(tmp_path / "new" / "healing.json") == made
    assert (tmp_path / "new" / "healing.html").stat().st_size > 5_000
    assert shown_in(readme) == readme_block(made)


@pytest.mark.parametrize("words", [("--seeds", "one"), ("--scenarios", "incident,none_such")])
def test_what_cannot_be_run_is_refused_before_anything_runs(words):
    done = CliRunner().invoke(main, ["heal", "bench", *words])
    assert done.exit_code == 1
    assert words[1].rpartition(",")[2] in done.output


def test_innocent_canaries_are_a_scenario_of_their_own():
    told = json.loads(bench("--fast", "--json", "--scenarios", "canary_ramp", "--processes", "1"))
    (run,) = told["results"]
    assert (run["scenario"], run["canaries"], run["canaries_rolled_back"]) == ("canary_ramp", 40, 0)
