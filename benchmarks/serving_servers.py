"""Servers as processes, asked in turns: how much CPU each request costs.

Server and asking side get a processor each, where there are two. Cost is the processor time of all
threads and children that the kernel counted for the server, so it does not matter how much of its
processor other programs took. One answer that is no 2xx ends the run: a server that refuses is
fast.
"""

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvloop

from fraud_platform.adapters.processor_time import Usage, usage, waiting
from fraud_platform.errors import UnavailableError
from fraud_platform.load.client import Target
from fraud_platform.load.loops import Source, Tally, closed_loop
from fraud_platform.processes import Child, running

CONNECTIONS = 64
_SETTLE_SECONDS = 0.3
"""After each round, so that what a server puts off is counted, too."""
_WARM_UP_SECONDS = 0.5
_PATIENCE_SECONDS = 180
_LOOK_SECONDS = 0.1


class Same:
    """The same few requests over and over, for servers without memory."""

    def __init__(self, bodies: list[bytes]) -> None:
        self._bodies = itertools.cycle(bodies)

    def next(self) -> tuple[bytes, None]:
        """The next of them."""
        return next(self._bodies), None

    def answered(self, token: None, status: int, body: bytes) -> None:
        """Nothing to remember."""


@dataclass(frozen=True)
class Round:
    """What one round took.

    Attributes:
        requests: answered.
        seconds: by the clock on the wall.
        used: CPU of the process and of its children.
        run_queue_share: see `Waiting.share_since`.
    """

    requests: int
    seconds: float
    used: Usage
    run_queue_share: float


@dataclass
class Server:
    """One server under measurement.

    Attributes:
        name: in the table.
        process: its program.
        target: where it takes requests.
        source: what it is asked.
        answers_alone: whether its children work off the answer path, after the answers.
        rounds: those that count.
    """

    name: str
    process: Child
    target: Target
    source: Source[Any]
    answers_alone: bool = False
    rounds: list[Round] = field(default_factory=list)
    _before: Usage | None = None
    _asked: int = 0

    def warm_up(self) -> None:
        """Ask for a while; only the work off the answer path counts from here."""
        self._before = usage(self.process.pid)
        self.ask(_WARM_UP_SECONDS)
        self.rounds.clear()

    def ask(self, seconds: float) -> None:
        """One round of a closed loop.

        Raises:
            UnavailableError: an answer was no 2xx.
        """
        number = self.process.pid
        before, queue = usage(number), waiting(number)
        tally = run(closed_loop(self.target, self.source, seconds=seconds, connections=CONNECTIONS))
        must_be_sound(tally, self.name)
        time.sleep(_SETTLE_SECONDS)
        used, share = usage(number).since(before), waiting(number).share_since(queue)
        self._asked += tally.answered
        self.rounds.append(Round(tally.answered, tally.seconds, used, share))

    @property
    def aside_us(self) -> float:
        """CPU off the answer path per request, us: over all rounds and the pauses between them."""
        if not self.answers_alone or self._before is None:
            return 0.0
        return usage(self.process.pid).since(self._before).below / self._asked * 1e6

    @property
    def answering_us(self) -> float:
        """CPU on the answer path per request, us: the median round."""
        return statistics.median(
            (one.used.own + (0.0 if self.answers_alone else one.used.below)) / one.requests * 1e6
            for one in self.rounds
        )

    @property
    def cost_us(self) -> float:
        """All CPU per request, us."""
        return self.answering_us + self.aside_us

    def told(self) -> str:
        """The figures behind the cost."""
        rate = statistics.median(one.requests / one.seconds for one in self.rounds)
        queue = statistics.median(one.run_queue_share for one in self.rounds)
        aside = f", of it {self.aside_us:,.0f} us off the answer path" if self.answers_alone else ""
        return f"{1e6 / self.cost_us:,.0f} per CPU-s, {rate:,.0f}/s (run queue {queue:.0%}){aside}"


def run(work: Coroutine[Any, Any, Tally]) -> Tally:
    """Run a loop on a processor that no server is on."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(mine)})
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        os.sched_setaffinity(0, mine)


def must_be_sound(tally: Tally, name: str) -> None:
    """Refuse figures of a server that refused.

    Raises:
        UnavailableError: an answer was no 2xx, or there was none.
    """
    if tally.failures or not tally.answered:
        raise UnavailableError(
            f"found answers of {name} that are none: {'; '.join(tally.first_failures)}",
            hint="a benchmark of refusals means nothing; see the server's log",
        )


@contextmanager
def started(
    command: list[str], log: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """A program on the first processor, with the settings given and no others."""
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 -- children need PATH and the like
        if not name.startswith("FRAUD_")
    }
    fixed = {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    with running(command, {**inherited, **fixed, **(settings or {})}, log) as child:
        # What it starts later inherits this; it has hardly begun to import anything.
        os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        yield child


def first_answer(child: Child, ask: Callable[[], httpx.Response], log: Path) -> httpx.Response:
    """Ask until there is an answer, and return it.

    Raises:
        UnavailableError: the program ended, refuses, or takes too long.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = ask()
            if answer.is_success:
                return answer
        time.sleep(_LOOK_SECONDS)
    said = log.read_text("utf-8", "replace").splitlines()[-3:]
    raise UnavailableError(
        f"found no answer of a server within {_PATIENCE_SECONDS} s: {' | '.join(said)}"
    )
