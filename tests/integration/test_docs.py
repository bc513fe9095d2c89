"""The documentation against the code: commands, settings, names, links and promises.

A command in a `sh` block, or after `$ ` in a `console` block, must have a checker here that looks
at the program it names. A new program without one fails and says what to do.
"""

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import click
import httpx
import pytest
from click.testing import CliRunner

from fraud_platform.cli import main
from fraud_platform.processes import free_port
from fraud_platform.settings import Settings, settings_table
from fraud_platform.simulation.scenarios import Scenario

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
HERE = "tests/integration/test_docs.py"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

OTHER_VARIABLES = {"DAGSTER_HOME", "OMP_NUM_THREADS", "MLFLOW_DISABLE_TELEMETRY"}
"""Variables of other programs that the pages set."""

RUN_BY = {
    "make demo": "tests/e2e/test_demo.py",
    "make bench": "tests/integration/test_benchmarks.py",
    "make bench-features": "tests/integration/test_benchmarks.py",
    "make bench-healing": "tests/integration/test_healing_benchmark.py",
    "make bench-learning": "tests/integration/test_learning_benchmark.py",
    "make bench-promotion": "tests/integration/test_promotion_benchmark.py",
    "make bench-serving": "tests/integration/test_benchmarks.py",
    "make heal-bench": "tests/integration/test_heal_bench_command.py",
    "make test": ".ci/run",
    "make up": HERE,
    "fraud-platform backtest": "tests/integration/test_backtest_command.py",
    "fraud-platform audit": "tests/integration/test_lineage.py",
    "fraud-platform audits": "tests/integration/scorer/test_exploring_scorer.py",
    "fraud-platform decisions": "tests/integration/scorer/test_decision_commands.py",
    "fraud-platform demo": "tests/e2e/test_demo.py",
    "fraud-platform evaluate": "tests/integration/test_evaluate_command.py",
    "fraud-platform features": "tests/integration/test_feature_commands.py",
    "fraud-platform heal": "tests/integration/test_heal_commands.py",
    "fraud-platform ingest": HERE,
    "fraud-platform journal": "tests/integration/test_journal_files.py",
    "fraud-platform keys": "tests/integration/test_keys.py",
    "fraud-platform load": "tests/integration/test_load.py",
    "fraud-platform mirror": "tests/integration/test_postgres_mirror.py",
    "fraud-platform mode": "tests/integration/test_mode_order.py",
    "fraud-platform models": "tests/integration/test_model_registry.py",
    "fraud-platform proposals": "tests/integration/test_approval_commands.py",
    "fraud-platform accept-restore": "tests/integration/test_accepted_restore.py",
    "fraud-platform propose": "tests/integration/test_approval_commands.py",
    "fraud-platform approve": "tests/integration/test_approval_commands.py",
    "fraud-platform reject": "tests/integration/test_approval_commands.py",
    "fraud-platform retention": "tests/integration/test_retention.py",
    "fraud-platform scan": "tests/integration/test_card_scan.py",
    "fraud-platform serve": "tests/integration/scorer/test_scorer_process.py",
    "fraud-platform settings": HERE,
    "fraud-platform simulate": HERE,
    "fraud-platform up": HERE,
    "dagster-daemon": "tests/integration/test_postgres.py",
    "dagster-webserver": HERE,
    "mlflow": HERE,
    "curl": "tests/integration/scorer/test_scorer.py",
    "python": HERE,
    "pytest": ".ci/run",
}
"""What runs each command of the docs, beyond looking whether it exists."""


def commands_of(page: Path) -> list[str]:
    """Every command of a page, one string each; a quoted text may span lines."""
    found: list[str] = []
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        if language == "console":
            found += [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        elif language == "sh":
            found += joined(block)
    return found


def joined(block: str) -> list[str]:
    """Lines of a shell block as commands: comments dropped, open quotes and `\\` continued."""
    found, part = [], ""
    for line in block.splitlines():
        part = f"{part}\n{line}" if part else line
        if part.endswith("\\"):
            continue
        try:
            words = shlex.split(part, comments=True)
        except ValueError:  # a quote is still open
            continue
        if words:
            found.append(part)
        part = ""
    assert not part, f"a quote is not closed in: {part}"
    return found


COMMANDS = [
    pytest.param(command, id=f"{page.name}: {command.splitlines()[0]}")
    for page in PAGES
    for command in dict.fromkeys(commands_of(page))
]


# --- one checker per program -----------------------------------------------------------------


def parse(command: click.Command, words: list[str]) -> None:
    """Let click itself read the words; nothing is run."""
    try:
        context = command.make_context(command.name or "", list(words))
    except click.exceptions.Exit:  # an option such as --list-scenarios that answers and leaves
        return
    except click.UsageError as error:
        pytest.fail(f"`{shlex.join(words)}` of the docs is refused: {error.format_message()}")
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if command.invoke_without_command and not rest:
            return
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"{command.name} has no command {rest[0]!r}"
        parse(inner, rest[1:])


def check_make(words: list[str]) -> None:
    # PYTHON is never run by a dry run.
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"the Makefile cannot do it: {done.stderr}"


def check_dagster_daemon(words: list[str]) -> None:
    from dagster._daemon.cli import create_dagster_daemon_cli

    parse(create_dagster_daemon_cli(), words)


def check_dagster_webserver(words: list[str]) -> None:
    from dagster_webserver.cli import create_dagster_webserver_cli

    parse(create_dagster_webserver_cli(), words)


def check_mlflow(words: list[str]) -> None:
    from mlflow.cli import cli

    parse(cli, words)


def check_pytest(words: list[str]) -> None:
    for word in words:
        assert word.startswith("-") or (ROOT / word).exists(), f"there is no {word}"


def check_export(words: list[str]) -> None:
    name = words[0].partition("=")[0]
    known = set(re.findall(r"`(FRAUD_\w+)`", settings_table())) | OTHER_VARIABLES
    assert name in known, f"{name} is no setting; see `fraud-platform settings`"


def check_curl(words: list[str]) -> None:
    from serving.app import create_app

    (address,) = [word for word in words if word.startswith("http")]
    routes = [route.path for route in create_app(Settings()).routes]
    patterns = [re.sub(r"\{[^}]*\}", "[^/]+", path) for path in routes]
    path = urlsplit(address).path
    assert any(re.fullmatch(p, path) for p in patterns), f"the scorer has no route {path}"


def check_script(words: list[str]) -> None:
    """A Python program: `-c` is run by a test of its own below, a file must exist."""
    if words[0] == "-c":
        assert any(words[1] in test for test in SNIPPETS), "give this snippet a test of its own"
    else:
        assert (ROOT / words[0]).exists(), f"there is no {words[0]}"


SHELL = ("export", "git", "cd", "cat", "rm")
"""What needs no test of ours."""

CHECKERS = {
    "fraud-platform": lambda words: parse(main, words),
    "make": check_make,
    "dagster-daemon": check_dagster_daemon,
    "dagster-webserver": check_dagster_webserver,
    "mlflow": check_mlflow,
    "pytest": check_pytest,
    "export": check_export,
    "curl": check_curl,
    "python": check_script,
    "git": list,
    "cd": list,
    "cat": list,
    "rm": list,
}

SERVERS = (ROOT / "docs" / "how-to" / "run-on-servers.md").read_text("utf-8")
SNIPPETS = re.findall(r"python -c '(.*?)'", SERVERS, re.DOTALL)
"""Small programs in the page about servers: prepare Dagster's home, back up the log."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_docs_is_one_that_exists(command):
    words = shlex.split(command, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):  # VARIABLE=value in front of a command
        check_export(words[:1])
        words = words[1:]
    program = Path(words[0]).name
    assert program in CHECKERS, (
        f"the docs use {program!r} and nothing checks it: add a function to CHECKERS in "
        f"{HERE}, and a test that runs the command for real"
    )
    CHECKERS[program](words[1:])
    ran = [key for key in RUN_BY if key in (program, " ".join([program, *words[1:2]]))]
    assert ran or program in SHELL, f"name in RUN_BY of {HERE} what runs {command!r}"


def test_the_pages_have_commands_to_check():
    assert len(COMMANDS) >= 15, "the reader of code blocks finds too few; is it broken?"


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_of_the_program_explains_itself_and_is_in_the_docs(name):
    command = main.commands[name]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help or option.show_default, f"{name} {option.opts[0]} says nothing"
    pages = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert f"fraud-platform {name}" in pages, f"describe `fraud-platform {name}` in the README"


@pytest.mark.parametrize("path", sorted(set(RUN_BY.values())))
def test_the_tests_that_run_the_commands_are_there(path):
    assert (ROOT / path).exists()


# --- commands that are run here --------------------------------------------------------------


def test_the_snippet_for_dagsters_home_writes_an_instance_file_and_prints_its_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SNIPPETS[0]],
        env={**os.environ, "FRAUD_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (Path(done.stdout.strip()) / "dagster.yaml").is_file()


def test_the_snippet_for_a_backup_copies_what_is_committed_while_another_writes(tmp_path):
    log, copy = tmp_path / "events.db", tmp_path / "copy.db"
    writer = sqlite3.connect(log)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    writer.execute("INSERT INTO t VALUES (2)")  # not committed
    subprocess.run([sys.executable, "-c", SNIPPETS[1], str(log), str(copy)], check=True)
    reader = sqlite3.connect(copy)
    assert reader.execute("SELECT x FROM t").fetchall() == [(1,)]
    reader.close()
    writer.close()


def test_a_simulated_world_is_written_with_its_mapping_and_goes_through_ingest(
    tmp_path, monkeypatch
):
    world = tmp_path / "world.parquet"
    small = ["--days", "3", "--customers", "20", "--terminals", "10"]
    asked = [*small, "--scenario", "amount_inflation", "--since", "2026-01-06"]
    done = CliRunner().invoke(main, ["simulate", str(world), *asked])
    assert done.exit_code == 0, done.output
    told, mapping = re.fullmatch(
        r"([\d,]+) transactions, [\d,]+ frauds: .*\nmapping: (.*)\n", done.output
    ).groups()
    monkeypatch.setattr("fraud_platform.cli.get_settings", lambda: Settings(home=tmp_path / "home"))
    done = CliRunner().invoke(main, ["ingest", str(world), "--mapping", mapping, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["accepted"] == int(told.replace(",", "")) > 0


def test_the_scenarios_are_listed():
    done = CliRunner().invoke(main, ["simulate", "--list-scenarios"])
    assert done.exit_code == 0
    assert done.output.split() == [scenario.value for scenario in Scenario]


def ignore_ctrl_c() -> None:
    """What a shell does to programs in the background; `up` must take it back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ended(process: subprocess.Popen[str]) -> str:
    """What a program that was told to stop still says; one that does not stop is killed."""
    try:
        return process.communicate(timeout=90)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.xdist_group("up")
def test_up_prints_three_addresses_that_answer_and_ctrl_c_stops_all_of_it(tmp_path):
    ports = {"--dagster-port": str(free_port()), "--mlflow-port": str(free_port())}
    home = {"FRAUD_HOME": str(tmp_path / "home"), "FRAUD_SCORER_PORT": str(free_port())}
    with subprocess.Popen(
        [Path(sys.executable).with_name("fraud-platform"), "up", *chain(*ports.items())],
        env=os.environ | home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=ignore_ctrl_c,
    ) as process:
        assert process.stdout is not None
        try:
            told = [process.stdout.readline() for _ in range(5)]
            addresses = dict(line.split() for line in told[1:4])
            pages = {name: httpx.get(addresses[name], follow_redirects=True) for name in addresses}
        finally:
            process.send_signal(signal.SIGINT)
            try:
                rest = process.communicate(timeout=90)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert told[-1] == "Ctrl-C stops all of them\n", "".join(told) + rest
    assert (rest, process.returncode) == ("stopping\n", 0)
    assert list(addresses) == ["dagster", "scorer", "mlflow"]
    for name, address in addresses.items():
        assert pages[name].is_success
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
        assert (tmp_path / "home" / "logs" / f"{name}.log").stat().st_size


# --- what the README must name ---------------------------------------------------------------


def test_the_settings_table_of_the_readme_is_the_generated_one():
    found = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", readme(), re.DOTALL)
    assert found, "the README lost its <!-- settings --> markers"
    assert found[1] == settings_table(), (
        "paste the output of `fraud-platform settings` between the markers in README.md"
    )


def test_the_readme_names_every_folder_of_the_top_level():
    folders = [p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._"]
    missing = [name for name in folders if f"`{name}/`" not in readme()]
    assert not missing, f"say in the README's map what is in {missing}"


def test_the_readme_names_every_asset():
    graph = json.loads((ROOT / "tests/golden/asset_graph.json").read_text("utf-8"))
    missing = [name for name in graph["assets"] if name not in readme()]
    assert not missing, f"say in the README where {missing} belong"


def test_every_invariant_names_tests_that_exist():
    """An invariant without a test is a wish."""
    lines = [line for line in paragraphs(readme()) if line.startswith("* **Invariant:**")]
    assert len(lines) >= 10
    tests = {
        (path.name, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    for line in lines:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", line)
        assert named, f"name the test that holds: {line}"
        assert not set(named) - tests, f"no such test: {set(named) - tests}"


def test_every_rule_of_the_semantics_names_tests_that_exist():
    page = (ROOT / "docs/semantics.md").read_text("utf-8")
    rules = re.findall(r"^\| (\d\.\d+) (.*) \| (.*) \|$", page, re.MULTILINE)
    assert len(rules) >= 40
    assert len({number for number, _, _ in rules}) == len(rules)
    tests = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    for number, _, named in rules:
        found = re.findall(r"`(test_\w+)`", named)
        assert found, f"name the test that fails when rule {number} is broken"
        assert not set(found) - tests, f"no such test: {set(found) - tests}"


def test_the_records_of_decisions_are_all_listed():
    index = (ROOT / "docs/adr/README.md").read_text("utf-8")
    for record in (ROOT / "docs/adr").glob("0*.md"):
        assert f"]({record.name})" in index
        text = record.read_text("utf-8")
        for part in ("Status:", "Date:", "## Context", "## Decision", "## Consequences"):
            assert part in text, f"{record.name} has no {part}"
        assert "## What would change our mind" in text


# --- every page ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_page_mentions_a_path_of_the_authors_own_machine(page):
    private = re.findall(r"(?:/root|/work|/home/\w+|/tmp/\w+|\.\./shared)\b\S*", page.read_text())
    assert not private


@pytest.mark.parametrize("picture", sorted((ROOT / "docs/images").glob("*.png")), ids=str)
def test_pictures_are_small_and_shown(picture):
    assert picture.stat().st_size < 300_000
    assert f"docs/images/{picture.name}" in readme()


def readme() -> str:
    return README.read_text("utf-8")


def paragraphs(text: str) -> list[str]:
    """List items and paragraphs on one line each."""
    return [" ".join(part.split()) for part in re.split(r"\n(?=\* )|\n\n", text)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
