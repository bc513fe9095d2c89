"""Units over any number of processes give the same results; the file and the README hold them."""

import subprocess
from functools import partial
from pathlib import Path

import pytest

from fraud_platform.adapters.heal_bench_run import (
    REPORT,
    code_commit,
    read_report,
    run_units,
    shown_in,
    write_readme,
    write_report,
)
from fraud_platform.errors import PermanentError
from fraud_platform.heal_bench.report import readme_block
from tests.bench_results import bench_report, bench_runs

ROOT = Path(__file__).parents[2]


def one_seed(seed, *, count=3):
    return bench_runs([seed])[:count]


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_units_with_a_word_for_each(processes):
    told = []
    found = run_units([103, 101], partial(one_seed, count=4), processes=processes, told=told.append)
    assert found == (*bench_runs([103])[:4], *bench_runs([101])[:4])
    assert told == ["1 of 2: 103", "2 of 2: 101"]


def test_a_report_is_read_as_it_was_written_one_run_per_line(tmp_path):
    report = bench_report()
    page = write_report(tmp_path / "new", report)
    path = tmp_path / "new" / REPORT
    assert read_report(path) == report
    assert len(path.read_text().splitlines()) == len(report.results) + 2
    assert page.read_text().startswith("<!doctype html>")


def test_a_file_that_is_no_report_is_refused_with_what_writes_one(tmp_path):
    (tmp_path / "x.json").write_text('{"commit": 1}')
    for name in ("x.json", "missing.json"):
        with pytest.raises(PermanentError, match="no readable benchmark"):
            read_report(tmp_path / name)


def test_the_readme_gets_the_headline_between_its_markers_and_keeps_the_rest(tmp_path):
    readme, report = tmp_path / "README.md", bench_report()
    readme.write_text("a\n<!-- heal bench -->\nold\n<!-- /heal bench -->\nb\n")
    write_readme(readme, report)
    assert shown_in(readme) == readme_block(report)
    assert readme.read_text().startswith("a\n<!-- heal bench -->\n| measure")
    assert readme.read_text().endswith("\n<!-- /heal bench -->\nb\n")
    readme.write_text("no markers")
    with pytest.raises(PermanentError, match="no <!-- heal bench -->"):
        write_readme(readme, report)


def test_the_commit_says_when_files_differ_and_nobody_guesses_one(tmp_path):
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True)
    assert code_commit(tmp_path) == "unknown"
    (tmp_path / "a.py").write_text("1")
    git(["git", "init", "-q"])
    git(["git", "add", "."])
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    git(["git", *who, "commit", "-qm", "one"])
    clean = code_commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "a.py").write_text("2")
    assert code_commit(tmp_path) == f"{clean}+"


def test_the_readme_tells_what_the_committed_run_found_and_nothing_else():
    committed = ROOT / "docs" / "benchmarks" / REPORT
    told = "No full run is committed yet: `make heal-bench`."
    if committed.exists():
        told = readme_block(read_report(committed))
    assert shown_in(ROOT / "README.md") == told, "make heal-bench writes both"
