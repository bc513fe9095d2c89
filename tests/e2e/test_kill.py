"""Kill the scorer, its drain, or both, under load, again and again: nothing told is untrue after.

`FRAUD_KILLS=200` is the nightly form. What was asked and told is judged by `history`.
"""

import asyncio
import os
import random
import signal
import statistics
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from fraud_platform.features.rings import SHARDS
from tests.e2e.history import faults, unresolved
from tests.e2e.scorer_process import (
    Home,
    Scorer,
    features_unlike_a_fold,
    home_at,
    kept,
    tell,
    wait_for,
)
from tests.e2e.traffic import Senders, Traffic, told

KILLS = int(os.environ.get("FRAUD_KILLS", "20"))
SEED = int(os.environ.get("FRAUD_SEED", "1"))
WRITTEN = max(2, KILLS // 5)
"""Kills in journal mode `written`."""
ACKNOWLEDGED = 250
"""About so many answers come between two kills."""
PROGRESS = 25
"""Kills between two lines of figures."""
WAYS = ("scorer", "scorer", "scorer", "both", "scorer", "drain first", "term")
"""What is ended, in turn."""


@dataclass
class Lives:
    """One home, and the lives of the scorers on it."""

    home: Home
    seed: int
    traffic: Traffic = field(init=False)
    starts: list[float] = field(default_factory=list)
    ways: Counter[str] = field(default_factory=Counter)
    rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.traffic = Traffic(self.seed)
        self._chance = random.Random(self.seed)

    def live(self, way: str) -> None:
        """Start a scorer, ask it, and end it."""
        scorer = self.home.start()
        self.starts.append(scorer.start_seconds)
        self.traffic.ask_again()
        self.ways[way] += 1
        asyncio.run(self._flow(scorer, way))
        assert not self.traffic.refusals, self.traffic.refusals[:5]

    async def _flow(self, scorer: Scorer, way: str) -> None:
        senders = Senders(scorer.url, self.traffic)
        enough = self._chance.randint(ACKNOWLEDGED // 2, ACKNOWLEDGED * 3 // 2)
        began = time.monotonic()
        await senders.flow(lambda: senders.acknowledged >= enough)
        self.rates.append(senders.acknowledged / (time.monotonic() - began))
        assert not senders.lost, "a connection ended before anything was killed"
        if way == "drain first":
            _kill(scorer.child("drain_loop"))
            more = senders.acknowledged + 100
            await senders.resumed(lambda: senders.acknowledged >= more)
            assert not senders.lost, "the scorer did not outlive its drain"
        await asyncio.sleep(self._chance.uniform(0, 0.02))
        if way == "both":
            _kill(scorer.child("drain_loop"))
        if way == "term":
            await self._terminate(scorer, senders)
        else:
            scorer.kill()
        await senders.close()

    async def _terminate(self, scorer: Scorer, senders: Senders) -> None:
        """In order: what was begun is answered, and what was not leaves no trace."""
        scorer.popen.send_signal(signal.SIGTERM)
        await senders.resumed(lambda: scorer.popen.poll() is not None)
        code = await asyncio.to_thread(scorer.popen.wait, 60)
        assert code in {0, -signal.SIGTERM}
        recorded = {(one.kind, one.key): one.seq for one in kept(self.home.log_path)}
        lost = {id(one) for one in senders.lost}
        before = {(one.kind, one.key) for one in self.traffic.history if id(one) not in lost}
        begun = [one.key for one in senders.lost if (one.kind, one.key) in recorded.keys() - before]
        assert not begun, f"recorded, and its sender was not told: {begun[:5]}"

    def settle(self) -> Scorer:
        """One more scorer, which is asked about everything that is still unknown."""
        scorer = self.home.start(FRAUD_STATE_CHECK_SECONDS="2")
        while unresolved(self.traffic.history):
            self.traffic.ask_again()
            asyncio.run(self._settle(scorer.url, len(unresolved(self.traffic.history)) + 50))
        return scorer

    async def _settle(self, url: str, count: int) -> None:
        senders = Senders(url, self.traffic)
        await senders.flow(lambda: senders.answers >= count)
        await senders.drained()
        assert not senders.lost


def _kill(process: int | None) -> None:
    """The drain may be between two lives of its own."""
    if process is not None:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _is_checked(scorer: Scorer) -> bool:
    return scorer.metric("fraud_state_shards_checked_total") >= SHARDS


@pytest.mark.parametrize(("mode", "kills"), [("durable", KILLS), ("written", WRITTEN)])
def test_what_a_killed_scorer_has_told_holds_for_ever(tmp_path, mode, kills):
    began = time.monotonic()
    with home_at(tmp_path / "home", FRAUD_JOURNAL_MODE=mode) as home:
        home.deploy(1)
        lives = Lives(home, SEED if mode == "durable" else SEED + 1)
        for number in range(kills):
            lives.live(WAYS[number % len(WAYS)])
            if number % PROGRESS == PROGRESS - 1:
                tell(f"kill -9 ({mode}), so far", kills=number + 1, **told(lives.traffic.history))
        scorer = lives.settle()
        # Another process folds the log alone and compares all of this one's memory with it.
        wait_for(lambda: _is_checked(scorer), "the state to be compared with the log")
        assert scorer.metric("fraud_state_shards_differing_total") == 0
        assert scorer.metric("fraud_state_checks_failed_total") == 0
        assert scorer.terminate() in {0, -signal.SIGTERM}
        history, log = lives.traffic.history, kept(home.log_path)
        found = faults(history, log)
        unlike = features_unlike_a_fold(home.log_path)
        tell(
            f"kill -9 ({mode})",
            **{"kills": kills, "ways": lives.ways, "seed": lives.seed, **told(history)},
            faults=len(found),
            unlike_a_fold=len(unlike),
            records=len(log),
            shards_compared=SHARDS,
            start_seconds={
                "p50": round(statistics.median(lives.starts), 2),
                "max": round(max(lives.starts), 2),
            },
            requests_per_second=round(statistics.median(lives.rates)),
            seconds=round(time.monotonic() - began, 1),
        )
        assert found == [], f"seed {lives.seed}"
        assert unlike == [], f"seed {lives.seed}"
