"""What a person sees of the demonstration."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fraud_platform.adapters.ingest import Progress as Report


class Screen:
    """Lines with the time, bars on long steps, a table at the end.

    Args:
        quiet: a program reads standard output; everything for people goes to standard error.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._people = Console(stderr=quiet, highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, line: str) -> None:
        """One line with the time."""
        self._people.print(f"[dim]{self.elapsed():6.1f} s[/dim]  {line}")

    def print(self, text: str) -> None:
        """The result, as it is, on standard output."""
        sys.stdout.write(text + "\n")

    @contextmanager
    def bar(self, what: str) -> Iterator[Report | None]:
        """A progress bar on a terminal; nothing elsewhere."""
        if not self._people.is_terminal:
            yield None
            return
        columns = TextColumn("          {task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._people, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda step, done, total: progress.update(
                task, description=f"{what}: {step}", completed=done, total=total
            )

    def table(self, facts: Mapping[str, object]) -> None:
        """The story in a few rows, and where to look next."""
        closed = facts["loop_closed"]
        title = "The loop closed" if closed else "The loop did NOT close"
        table = Table(title=title, title_justify="left", show_header=True)
        table.add_column("what")
        table.add_column("figures")
        for what, figures in _rows(facts):
            table.add_row(what, figures)
        self._people.print(table)
        self._people.print("Look around: [bold]make up[/bold] starts the UIs on this home.")


def _rows(facts: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    found: dict = dict(facts)  # type: ignore[type-arg]  # plain JSON values
    history, first, second = found["history"], found["first_champion"], found["second_champion"]
    yield (
        "history",
        f"{history['rows_in']:,} rows in, {history['accepted']:,} accepted,"
        f" {sum(history['quarantined'].values()):,} quarantined",
    )
    yield "first champion", model_line(first)
    for change in found["health"]:
        yield f"health from {change['from']}", change["cause"]
    for line in found["ledger"]:
        words = " ".join(filter(None, (line["kind"], line["cause"], line["act"])))
        yield f"healing, {line['at']}", words
    share = found["held"]
    yield (
        "genuine payments disturbed in the incident",
        f"{share['models_alone']:.1%} by the models alone, {share['with_governor']:.1%} held",
    )
    feed = found["broken_feed"]
    yield (
        "amounts in a wrong unit",
        f"decided without {', '.join(feed['quarantined'])}: {_percent(feed['disturbed'])} disturbed"
        f" ({_percent(feed['champion_would_disturb'])} by the champion), nothing learnt",
    )
    yield "champion after healing", model_line(second)
    before, after = found["before_and_after"]["before"], found["before_and_after"]["after"]
    rows = found["before_and_after"]
    yield (
        f"the two models alone, {rows['first_day']} to {rows['last_day']}",
        f"{before['alert_rate']:.1%} disturbed before, {after['alert_rate']:.1%} after"
        f" (fraud caught {before['recall']:.0%}, {after['recall']:.0%})",
    )
    versions = ", ".join(f"{n:,} by v{v}" for v, n in found["answered_by_version"].items())
    yield (
        "requests",
        f"{found['requests_answered']:,} answered ({versions}), {found['requests_failed']} failed",
    )
    served = found["served_features"]
    yield (
        "served features recomputed",
        f"{served['values_compared']:,} values, {served['mismatches']} different",
    )
    yield "time", f"{found['seconds']} s"


def model_line(card: Mapping[str, object]) -> str:
    """A model's version and what it promised, on one line."""
    return (
        f"v{card['version']}, {card['library']}: average precision {card['average_precision']:.3f},"
        f" recall {card['recall']:.0%} at {card['alert_rate']:.1%} alerts"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
