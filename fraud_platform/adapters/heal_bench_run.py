"""The scenario benchmark over processes, and its file.

What belongs here: which unit runs where, and where its results are kept. What a unit does is
`heal_bench`; what the results mean is `heal_bench.report`.
"""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import msgspec

from fraud_platform.adapters.heal_bench_page import bench_page
from fraud_platform.errors import PermanentError
from fraud_platform.heal_bench.report import BenchReport, readme_block
from fraud_platform.heal_bench.results import RunResult

Unit = TypeVar("Unit")

REPORT, PAGE = "healing.json", "healing.html"
"""What a benchmark leaves in its folder."""

_CANARIES = 400
"""Of each seed."""

_SMALL = "12,500 payments a day."
_INCIDENT = (
    "incident, incident_ramp and credential_stuffing_full have the incident's own 50,000 payments "
    "a day, all else a quarter of it."
)

_BEGIN, _END = "<!-- heal bench -->\n", "\n<!-- /heal bench -->"


def run_bench(
    *,
    is_fast: bool,
    seeds: Sequence[int],
    scenarios: Sequence[str],
    processes: int,
    told: Callable[[str], None],
) -> BenchReport:
    """The benchmark, or a part of it.

    Args:
        is_fast: one scenario of each kind, and fewer canaries.
        seeds: of the worlds; none given: the held-out ones, of the fast form the first.
        scenarios: names; none given: all of the form, and innocent canaries.
        processes: at a time.
        told: gets a line per finished unit.

    Raises:
        PermanentError: a scenario does not exist.
    """
    # The engine needs the boosters: not before it is asked for.
    from fraud_platform.heal_bench.bench import HELD_OUT_SEEDS, TUNING_SEEDS, units
    from fraud_platform.heal_bench.canaries import SCENARIO
    from fraud_platform.heal_bench.faults import SCENARIOS

    if unknown := sorted({*scenarios} - {*SCENARIOS, SCENARIO}):
        raise PermanentError(
            f"found scenarios {', '.join(unknown)}, expected some of {', '.join(SCENARIOS)}"
        )
    chosen = seeds or (HELD_OUT_SEEDS[:1] if is_fast else HELD_OUT_SEEDS)
    names = scenarios or (
        *dict.fromkeys(u.scenario for u in units((0,), is_fast=is_fast)),
        SCENARIO,
    )
    todo = [(seed, name, is_fast) for seed in chosen for name in names]
    results = run_units(todo, _work, processes=processes, told=told)
    note = (
        f"Constants were chosen on seeds {', '.join(map(str, TUNING_SEEDS))}. Nothing is reviewed: "
        "all that is disturbed is declined, and audits are drawn from all of it. "
        f"{_SMALL if is_fast else _INCIDENT}"
    )
    return BenchReport(
        commit=code_commit(Path(__file__).parents[2]),
        form="fast" if is_fast else "full",
        note=note,
        results=results,
    )


def _work(unit: tuple[int, str, bool]) -> Sequence[RunResult]:
    from fraud_platform.heal_bench.bench import Unit, run_unit
    from fraud_platform.heal_bench.canaries import SCENARIO, innocent

    seed, name, is_fast = unit
    if name == SCENARIO:
        return [innocent(seed, _CANARIES // 10 if is_fast else _CANARIES)]
    return run_unit(Unit(seed, name, is_fast))


def run_units(
    units: Sequence[Unit],
    work: Callable[[Unit], Sequence[RunResult]],
    *,
    processes: int,
    told: Callable[[str], None],
) -> tuple[RunResult, ...]:
    """Every unit's results, in the order of the units, whatever process took them.

    Args:
        units: what `work` is called with; small values.
        work: a function of a module, so that another process can import it.
        processes: at a time; 1 works in this one.
        told: gets a line per finished unit.
    """
    found: list[RunResult] = []
    for number, (unit, results) in enumerate(_done(units, work, processes), 1):
        found += results
        told(f"{number} of {len(units)}: {unit}")
    return tuple(found)


def _done(
    units: Sequence[Unit], work: Callable[[Unit], Sequence[RunResult]], processes: int
) -> Iterator[tuple[Unit, Sequence[RunResult]]]:
    results: Iterable[Sequence[RunResult]]
    if processes == 1:
        yield from zip(units, map(work, units), strict=True)
        return
    # Spawned, not forked: Polars and the boosters have threads that a fork would lose.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        results = pool.map(work, units)
        yield from zip(units, results, strict=True)


def code_commit(root: Path) -> str:
    """The commit of a source tree, `+` behind it where files differ; `unknown` without one.

    Args:
        root: folder of the tree.
    """

    def git(*words: str) -> str:
        return subprocess.run(  # noqa: S603 -- fixed words
            ["git", "-C", str(root), *words],  # noqa: S607 -- the user's own git
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.yaml")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


def write_report(folder: Path, report: BenchReport) -> Path:
    """Keep a report as JSON, one run per line so that files compare, and as a page; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE
    page.write_text(bench_page(report), "utf-8")
    head = msgspec.to_builtins(msgspec.structs.replace(report, results=()))
    del head["results"]
    lines = ",\n".join(msgspec.json.encode(run).decode() for run in report.results)
    opened = msgspec.json.encode(head).decode().removesuffix("}")
    (folder / REPORT).write_text(f'{opened},"results":[\n{lines}\n]}}\n', "utf-8")
    return page


def read_report(path: Path) -> BenchReport:
    """Read what `write_report` wrote.

    Raises:
        PermanentError: there is no such file, or it is none of ours.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchReport)
    except (OSError, msgspec.DecodeError) as error:
        raise PermanentError(
            f"found no readable benchmark in {path}: {error}",
            hint="write one: fraud-platform heal bench --out FOLDER",
        ) from error


def write_readme(readme: Path, report: BenchReport) -> None:
    """Put a report's headline between the README's markers.

    Raises:
        PermanentError: the page has no such markers.
    """
    before, begin, rest = readme.read_text("utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise PermanentError(f"found no {_BEGIN.strip()} and {_END.strip()} in {readme}")
    readme.write_text(f"{before}{begin}{readme_block(report)}{end}{after}", "utf-8")


def shown_in(readme: Path) -> str:
    """What stands between the README's markers."""
    return readme.read_text("utf-8").partition(_BEGIN)[2].partition(_END)[0]
