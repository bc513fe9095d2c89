"""Models change under load, sound and broken ones: nobody is refused, everybody is told the truth.

`FRAUD_SWAPS=50` is the nightly form; a fifth as many broken bundles come between the sound ones.
"""

import asyncio
import os
import random
import signal
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fraud_platform.adapters.deployment import Deployment, Pointer
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.model_bundle import MANIFEST, load_bundle
from fraud_platform.events import Decision
from tests.e2e.history import faults
from tests.e2e.scorer_process import Home, Scorer, home_at, kept, tell
from tests.e2e.traffic import Senders, Traffic, told
from tests.integration import test_hostile_bundles as hostile
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

SWAPS = int(os.environ.get("FRAUD_SWAPS", "15"))
BROKEN_EVERY = 5 if SWAPS >= 50 else 3
SEED = int(os.environ.get("FRAUD_SEED", "1"))
RATE = 150.0
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
MODEL = hostile.FILES["xgboost"]


def flipped(bundle: Path, number: int) -> None:
    hostile.flip(bundle, MODEL, np.random.default_rng(number))


def cut(bundle: Path, number: int) -> None:
    hostile.cut(bundle, MODEL, np.random.default_rng(number))


def incomplete(bundle: Path, number: int) -> None:
    hostile.missing(bundle, [MODEL, "golden.npz", MANIFEST][number % 3], np.random.default_rng(0))


def forged(bundle: Path, number: int) -> None:
    hostile.other_code(bundle, MODEL, np.random.default_rng(number))


def deadly(bundle: Path, number: int) -> None:
    (bundle / MODEL).write_bytes(hostile.killers("xgboost", 2)[number % 2])
    hostile.sealed_again(bundle)


BROKEN = (flipped, cut, incomplete, forged, deadly)


def broken_bundle(models_dir: Path, number: int) -> tuple[Pointer, str]:
    """A pointer that fits to a bundle that must not be loaded, and what is wrong with it."""
    bundle = hostile.written(models_dir, hostile.trained("xgboost"), f"broken-{number}")
    published, breaking = pointer_to(bundle), BROKEN[number % len(BROKEN)]
    breaking(bundle, number)
    is_resealed = breaking in (forged, deadly)  # who forges a manifest may forge its pointer
    return pointer_to(bundle) if is_resealed else published, breaking.__name__


@dataclass
class Moves:
    """What is done to the deployment of one scorer under load, and what became of it."""

    home: Home
    scorer: Scorer
    traffic: Traffic
    senders: Senders
    current: Pointer
    previous: Pointer | None = None
    sequence: int = 1
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)

    async def promote(self, number: int) -> None:
        """A new bundle decides."""
        bundle = write_small_bundle(self.home.models_dir, f"v{number}", trained(number))
        await self._swap("promote", pointer_to(bundle))

    async def roll_back(self) -> None:
        """The champion before decides again."""
        assert self.previous is not None
        await self._swap("roll back", self.previous)

    async def offer_broken(self, number: int) -> None:
        """A bundle that must not decide is deployed, and taken back."""
        pointer, what = await asyncio.to_thread(broken_bundle, self.home.models_dir, number)
        before = await self._load_errors()
        self._deploy(pointer, self.current)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while await self._load_errors() == before:
            assert time.monotonic() < deadline, f"{what}: nobody refused it"
            await asyncio.sleep(0.1)
        await self._answers(30)
        assert self._deciding() == self.current.version, f"{what} changed who decides"
        self.refused[what] += 1
        self._deploy(self.current, self.previous)

    async def _swap(self, way: str, pointer: Pointer) -> None:
        began = time.monotonic_ns()
        self._deploy(pointer, self.current)
        self.current, self.previous = pointer, self.current
        await self._until(lambda: self._deciding() == pointer.version)
        first = next(
            one.ended
            for one in self.traffic.history
            if one.ended
            and one.ended > began
            and one.answer.get("model_version") == pointer.version
            and one.is_first
        )
        self.seconds[way].append((first - began) / 1e9)
        await self._answers(15)

    def _deploy(self, champion: Pointer, previous: Pointer | None) -> None:
        self.sequence += 1
        found = Deployment(sequence=self.sequence, champion=champion, previous=previous)
        deploy(self.home.models_dir, found)

    def _deciding(self) -> str | None:
        """The version that the newest decision names."""
        newest = (o for o in reversed(self.traffic.history) if o.kind == "decision" and o.is_ok)
        return next((one.answer["model_version"] for one in newest if one.is_first), None)

    async def _load_errors(self) -> float:
        return await asyncio.to_thread(self.scorer.metric, "fraud_model_load_errors_total")

    async def _answers(self, count: int) -> None:
        enough = self.senders.answers + count
        await self._until(lambda: self.senders.answers >= enough)

    async def _until(self, condition) -> None:
        await self.senders.resumed(condition, seconds=PATIENCE_SECONDS)
        assert not self.senders.lost, "a connection ended"


async def _moved(home: Home, scorer: Scorer, traffic: Traffic, first: Pointer) -> Moves:
    chance = random.Random(SEED)
    senders = Senders(scorer.url, traffic, connections=16, rate=RATE)
    moves = Moves(home, scorer, traffic, senders, first)
    await senders.flow(lambda: senders.answers >= 30)
    for number in range(SWAPS):
        # Whoever writes a pointer does not know when it is looked at.
        await asyncio.sleep(chance.uniform(0, POLL_SECONDS))
        if number % BROKEN_EVERY == 1:
            await moves.offer_broken(number // BROKEN_EVERY)
        await (moves.roll_back() if number % 3 == 2 else moves.promote(number + 2))
    await senders.drained()
    return moves


def by_another_model(home: Home) -> list[str]:
    """Decisions whose score is not, to the bit, what the model says that they name."""
    log = EventLog(home.log_path)
    named: dict[str, list[Decision]] = defaultdict(list)
    for record in kept(home.log_path):
        if record.kind == "decision" and (decision := log.decision(str(record.key))):
            named[str(decision.model_version)].append(decision)
    log.close()
    wrong = []
    for version, decisions in named.items():
        bundle = load_bundle(home.models_dir / version)
        rows = np.array([decision.features for decision in decisions], dtype=np.float64)
        scores = bundle.model.score(rows).tolist()
        wrong += [
            decision.transaction_id
            for decision, score in zip(decisions, scores, strict=True)
            if (score, bundle.model.digest) != (decision.score, decision.model_digest)
        ]
    return wrong


def test_models_change_under_load_and_every_decision_names_its_own(tmp_path):
    with home_at(tmp_path / "home", FRAUD_CHAMPION_POLL_SECONDS=str(POLL_SECONDS)) as home:
        [bundle] = home.deploy(1)
        scorer, traffic = home.start(), Traffic(SEED)
        moves = asyncio.run(_moved(home, scorer, traffic, pointer_to(bundle)))
        swaps = scorer.metric("fraud_model_swaps_total")
        assert scorer.terminate() in {0, -signal.SIGTERM}
        wrong, found = by_another_model(home), faults(traffic.history, kept(home.log_path))
        everything = sorted(second for seconds in moves.seconds.values() for second in seconds)
        tell(
            "swap under load",
            **{"swaps": len(everything), "broken": moves.refused, **told(traffic.history)},
            by_another_model=len(wrong),
            faults=len(found),
            requests_per_second=RATE,
            poll_seconds=POLL_SECONDS,
            seconds_to_first_decision={
                way: {
                    "p50": round(statistics.median(seconds), 3),
                    "max": round(max(seconds), 3),
                }
                for way, seconds in [*moves.seconds.items(), ("all", everything)]
            },
        )
        assert not traffic.refusals, traffic.refusals[:5]
        assert all(one.is_ok for one in traffic.history)
        assert len(everything) == SWAPS
        assert swaps == SWAPS + 1, "the first model, and each swap, once"
        assert wrong == []
        assert found == []
        assert moves.refused.total() == len(range(1, SWAPS, BROKEN_EVERY))
