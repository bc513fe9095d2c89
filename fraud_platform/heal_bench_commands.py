"""The command `fraud-platform heal bench`: injected faults, our healing, and two others beside it.

Thin: it chooses units, lets processes run them, prints and writes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraud_platform.errors import PermanentError

if TYPE_CHECKING:
    from fraud_platform.heal_bench.report import BenchReport

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the command was asked for; the options' help says what each is."""

    fast: bool
    as_json: bool
    seeds: str
    scenarios: str
    processes: int
    out: Path | None
    readme: Path | None


@click.command()
@click.option("--fast", is_flag=True, help="One scenario of each kind, under one seed: minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print every run as JSON.")
@click.option("--seeds", default="", help="Such as 101,102; default: the held-out ones.")
@click.option("--scenarios", default="", help="Their names, with commas; default: all of the form.")
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--out", type=_PATH, help="Folder for healing.json and the page healing.html.")
@click.option("--readme", type=_PATH, help="Page that gets the headline between its markers.")
def bench(**options: object) -> None:
    """Inject faults into simulated worlds, and measure who heals them: we, or two simpler ways.

    Each scenario runs under each seed four times on the same payments: healing by diagnosis, a
    retraining on every drift, nothing at all, and an oracle as the end of the scale. Monitors,
    diagnosis, controller and governor are the real ones. Goals that are missed are printed as
    missed; the exit code stays 0.
    """
    asked = _Asked(**options)  # type: ignore[arg-type]  # click made each option what it says
    report = _run(asked)
    if asked.out is not None or asked.readme is not None:
        _write(asked, report)
    if asked.as_json:
        import msgspec

        click.echo(json.dumps(msgspec.to_builtins(report), indent=1))
        return
    _tell(report)


def _run(asked: _Asked) -> "BenchReport":
    from fraud_platform.adapters.heal_bench_run import run_bench

    return run_bench(
        is_fast=asked.fast,
        seeds=_numbers(asked.seeds),
        scenarios=tuple(filter(None, asked.scenarios.split(","))),
        processes=asked.processes,
        told=lambda line: click.echo(line, err=True),
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError as error:
        raise PermanentError(f"found seeds {text!r}, expected numbers such as 101,102") from error


def _write(asked: _Asked, report: "BenchReport") -> None:
    from fraud_platform.adapters.heal_bench_run import write_readme, write_report

    if asked.out is not None:
        click.echo(f"page: {write_report(asked.out, report)}", err=True)
    if asked.readme is not None:
        write_readme(asked.readme, report)


def _tell(report: "BenchReport") -> None:
    from fraud_platform.heal_bench.report import by_scenario, confusion, headline

    click.echo(report.premises())
    for title, note, header, rows in (headline(report), confusion(report), by_scenario(report)):
        click.echo(f"\n{title}. {note}\n")
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            click.echo("  ".join(cells).rstrip())
