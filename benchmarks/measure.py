"""What a benchmark says: a cost, and a row of the table with its goal.

CPU seconds (user and system, all threads of this process) are the honest unit on a machine that
others use too; wall time is told beside them.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Cost:
    """What some work took.

    Attributes:
        cpu: seconds, user and system, of all threads.
        wall: seconds.
    """

    cpu: float
    wall: float

    def __str__(self) -> str:
        return f"{self.cpu:.2f} CPU-s ({self.wall:.2f} s)"


def measured(work: Callable[[], Answer], times: int = 1) -> tuple[Answer, Cost]:
    """The answer of some work, and the least it cost.

    Args:
        work: what to measure.
        times: how often it is done; the cheapest of them counts, because noise only adds.
    """
    costs = []
    for _ in range(times):
        cpu, wall = time.process_time(), time.perf_counter()
        answer = work()
        costs.append(Cost(time.process_time() - cpu, time.perf_counter() - wall))
    return answer, min(costs, key=lambda cost: cost.cpu)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        measure: what was measured, against what.
        value: the figure; None where nothing could be measured.
        unit: of the value; "x" is a ratio.
        at_most: the goal, where less is better.
        at_least: the goal, where more is better.
        note: the figures behind a ratio, or why there is none.
    """

    measure: str
    value: float | None = None
    unit: str = "x"
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Met or missed; absent without a value, and "-" without a goal."""
        if self.value is None:
            return "absent"
        if self.at_most is not None:
            return "met" if self.value <= self.at_most else "missed"
        if self.at_least is not None:
            return "met" if self.value >= self.at_least else "missed"
        return "-"

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    def of(self, over: Cost, under: Cost) -> "Row":
        """This row with CPU of one work over CPU of another."""
        value = over.cpu / under.cpu if under.cpu else None
        return replace(self, value=value, note=f"{over} / {under}")

    def to_dict(self) -> dict[str, float | str | None]:
        """The fields by name, and the verdict."""
        return asdict(self) | {"verdict": self.verdict}

    def to_text(self) -> str:
        """One line for people."""
        value = "-" if self.value is None else f"{self.value:,.2f} {self.unit}"
        return f"{self.measure:<68} {value:>16}  {self.goal:>9}  {self.verdict:<7} {self.note}"


HEADER = f"{'measure':<68} {'value':>16}  {'goal':>9}  {'':<7} behind it"


def found(name: str) -> tuple[Any, str]:
    """A module by its name, or None and why it cannot be used."""
    try:
        return import_module(name), ""
    except ModuleNotFoundError as error:
        return None, f"not installed: no module {error.name}"


def without(why: str, *rows: Row) -> list[Row]:
    """The same rows without a value, and why."""
    return [replace(row, value=None, note=why) for row in rows]


@dataclass
class Table:
    """Rows so far; people see each as soon as it is measured."""

    as_json: bool
    rows: list[Row] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a line, unless a program reads the output."""
        if not self.as_json:
            print(text, flush=True)  # noqa: T201 -- a program's output

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows, and say each."""
        for row in rows:
            self.rows.append(row)
            self.say(row.to_text())
