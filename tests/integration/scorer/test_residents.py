"""Which models are in memory, which decides, and that nothing but a sound bundle ever does."""

import asyncio
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from litestar.testing import TestClient

from fraud_platform.adapters import deployment as deployment_file
from fraud_platform.adapters.deployment import (
    DEPLOYMENT,
    Deployment,
    Pointer,
    read_deployment,
)
from fraud_platform.adapters.model_bundle import manifest_digest
from fraud_platform.adapters.promotion_signature import Depot, keys_of
from fraud_platform.decision import DecisionPolicy
from fraud_platform.errors import UnavailableError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.rollout import CANARY_ARM, CHAMPION_ARM
from serving import residents as residents_module
from serving.app import create_app
from serving.metrics import Metrics
from serving.residents import Residents
from serving.ruling import Ruling
from tests.small_bundles import deploy

ROWS = np.abs(np.random.default_rng(3).normal(size=(40, len(FEATURE_NAMES)))) * 3_000
CARDS = [f"card-{number}" for number in range(40)]
AMOUNTS = [1_000] * 40


class Home:
    """A models folder, and a scorer's residents that look at it when told to."""

    def __init__(self, models_dir: Path, publish: Callable[..., Path]) -> None:
        self.models_dir = models_dir
        self._publish = publish
        self._sequence = 0
        self.now = 0.0
        self.residents = self.fresh()

    def fresh(self) -> Residents:
        """A scorer that starts now."""
        return Residents(
            Depot(self.models_dir, keys_of(self.models_dir)),
            DecisionPolicy(),
            poll_seconds=0.01,
            metrics=Metrics(),
            clock=lambda: self.now,
        )

    def bundle(self, version: str) -> Pointer:
        """The pointer to a version; its bundle is written if it is not there."""
        path = self.models_dir / version
        if not path.exists():
            kept = read_deployment(self.models_dir)
            self._publish(version)
            deploy(self.models_dir, kept)
        return Pointer(version=version, path=version, manifest_digest=manifest_digest(path))

    def deploy(self, share: float = 0.0, **roles: str | None) -> None:
        """Give roles to versions, as the registry does."""
        self._sequence += 1
        pointers = {role: self.bundle(version) for role, version in roles.items() if version}
        found = Deployment(sequence=self._sequence, canary_share=share, **pointers)
        deploy(self.models_dir, found)

    def look(self) -> None:
        asyncio.run(self.residents.look())

    def roles(self) -> tuple[str | None, str | None, str | None]:
        """(champion, challenger, previous) in memory."""
        ruling = self.residents.ruling
        found = (ruling.champion, ruling.challenger, ruling.previous)
        champion, challenger, previous = (None if r is None else r.version for r in found)
        return champion, challenger, previous


@pytest.fixture
def home(settings, publish) -> Home:
    return Home(settings.models_dir, publish)


def damage(home: Home, version: str) -> Callable[[], None]:
    """Flip a bit of a model file; returns what mends it."""
    path = home.models_dir / version / "model.ubj"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return lambda: path.write_bytes(whole) and None


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The versions that were loaded from disk."""
    found: list[str] = []
    honest = residents_module.load_pointed

    def load(models_dir, pointer):
        found.append(pointer.version)
        return honest(models_dir, pointer)

    monkeypatch.setattr(residents_module, "load_pointed", load)
    return found


def test_nothing_deployed_is_rules_only_and_no_error(home):
    home.look()
    assert home.roles() == (None, None, None)
    assert (home.residents.ruling.mode, home.residents.load_errors) == ("rules_only", {})


def test_all_three_roles_come_into_memory(home):
    home.deploy(champion="2", challenger="1", previous="1")
    home.look()
    assert home.roles() == ("2", "1", "1")
    assert (home.residents.ruling.mode, home.residents.ruling.missing) == ("normal", ())
    assert all(r.explainer.fallback is None for r in home.residents.ruling.residents)
    assert [r.version for r in home.residents.ruling.residents] == ["2", "1"]
    assert all(r.scorer.fallback is None for r in home.residents.ruling.residents)


def test_a_roll_back_to_the_previous_champion_reads_no_bundle(home, loads):
    home.deploy(champion="2", previous="1")
    home.look()
    assert loads == ["2", "1"]
    home.deploy(champion="1")
    shutil.rmtree(home.models_dir / "2")
    home.look()
    assert (home.roles(), loads) == (("1", None, None), ["2", "1"])


def test_a_promotion_of_the_challenger_reads_no_bundle(home, loads):
    home.deploy(champion="1", challenger="2")
    home.look()
    home.deploy(champion="2", previous="1")
    home.look()
    assert (home.roles(), loads) == (("2", None, "1"), ["1", "2"])


def test_a_refused_champion_leaves_the_old_one_and_says_so_in_the_mode(home):
    home.deploy(champion="1")
    home.look()
    home.bundle("2")
    mend = damage(home, "2")
    home.deploy(champion="2", previous="1")
    home.look()
    assert home.roles()[0] == "1"
    assert (home.residents.ruling.mode, home.residents.ruling.missing) == (
        "degraded",
        ("champion",),
    )
    assert "model.ubj" in (home.residents.load_error or "")
    mend()
    home.look()
    assert home.roles() == ("2", None, "1")
    assert (home.residents.ruling.mode, home.residents.load_errors) == ("normal", {})


def test_a_start_with_a_refused_champion_falls_back_to_the_previous_one(home):
    home.deploy(champion="2", previous="1")
    damage(home, "2")
    home.look()
    assert home.roles() == ("1", None, "1")
    assert (home.residents.ruling.mode, home.residents.ruling.missing) == (
        "degraded",
        ("champion",),
    )


def test_a_start_with_both_refused_has_no_model(home):
    home.deploy(champion="2", previous="1")
    damage(home, "1")
    damage(home, "2")
    home.look()
    assert home.roles() == (None, None, None)
    assert (home.residents.ruling.mode, home.residents.ruling.missing) == ("rules_only", ())
    assert set(home.residents.load_errors) == {"champion", "previous"}


def test_a_refused_challenger_disturbs_nobody(home):
    home.deploy(champion="1", challenger="2", share=1.0)
    damage(home, "2")
    home.look()
    assert home.roles() == ("1", None, None)
    assert home.residents.ruling.mode == "normal"
    assert home.residents.load_error is None
    assert "challenger" in home.residents.load_errors
    assert home.residents.ruling.shadow(ROWS) == []
    assert {v.arm for v in home.residents.ruling.verdicts(ROWS, CARDS, AMOUNTS)} == {CHAMPION_ARM}


def test_a_refused_bundle_is_read_again_only_when_it_looks_otherwise(home, loads):
    home.deploy(champion="1")
    damage(home, "1")
    for _ in range(5):
        home.look()
        home.now += 1_000
    assert loads == ["1"]
    (home.models_dir / "1" / "note").write_text("touched")
    home.look()
    home.look()
    assert loads == ["1", "1"]


def test_a_disk_that_does_not_answer_is_asked_again_after_longer_and_longer_waits(
    home, monkeypatch
):
    home.deploy(champion="1")
    honest, asked = residents_module.load_pointed, []

    def away(*_):
        asked.append(home.now)
        raise UnavailableError("The disk does not answer.")

    monkeypatch.setattr(residents_module, "load_pointed", away)
    for _ in range(400):
        home.look()
        home.now += 1
    gaps = np.diff(asked).tolist()
    assert gaps[:6] == [1, 2, 4, 8, 16, 32]
    assert set(gaps[6:]) == {60}
    monkeypatch.setattr(residents_module, "load_pointed", honest)
    home.now += 60
    home.look()
    assert home.roles()[0] == "1"


@pytest.mark.parametrize("content", [b"", b"{", b'{"champion": 1}'])
def test_a_damaged_deployment_changes_nothing_and_is_named(home, content):
    home.deploy(champion="1", challenger="2")
    home.look()
    before = home.residents.ruling
    (home.models_dir / DEPLOYMENT).write_bytes(content)
    home.look()
    assert home.residents.ruling is before
    assert "is no deployment" in (home.residents.load_error or "")
    home.deploy(champion="1", challenger="2")
    home.look()
    assert home.residents.load_errors == {}


def test_a_deployment_that_disappears_leaves_the_champion(home):
    home.deploy(champion="1")
    home.look()
    (home.models_dir / DEPLOYMENT).unlink()
    home.look()
    assert (home.roles()[0], home.residents.ruling.mode) == ("1", "normal")


def test_a_pointer_to_another_manifest_than_the_folders_is_refused(home):
    pointer = msgspec.structs.replace(home.bundle("1"), manifest_digest="0" * 64)
    deploy(home.models_dir, Deployment(sequence=1, champion=pointer))
    home.look()
    assert home.roles()[0] is None
    assert "manifest 000000000000" in (home.residents.load_error or "")


def test_a_version_that_has_no_role_any_more_is_let_go(home):
    home.deploy(champion="1", challenger="2")
    home.look()
    home.deploy(champion="1")
    home.look()
    assert [pointer.version for pointer in home.residents._held] == ["1"]


def test_a_defect_while_looking_is_counted_and_the_watch_goes_on(home, monkeypatch):
    home.deploy(champion="1")
    honest, calls = deployment_file.read_deployment, []

    def broken_twice(models_dir):
        calls.append(1)
        if len(calls) <= 2:
            raise ZeroDivisionError
        return honest(models_dir)

    monkeypatch.setattr(residents_module, "read_deployment", broken_twice)
    monkeypatch.setattr(residents_module, "_DEFECT_SECONDS", 0.01)

    async def watch() -> None:
        task = asyncio.create_task(home.residents.run())
        async with asyncio.timeout(60):
            while home.residents.ruling.champion is None and not task.done():
                await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()

    asyncio.run(watch())
    assert (home.roles()[0], home.residents.defects) == ("1", 2)


def test_a_defect_after_a_nudge_leaves_the_loop_to_others(home, monkeypatch):
    async def no_thread(*_):  # at a limit of threads nothing here ever waits
        if home.residents.defects > 5:
            raise asyncio.CancelledError  # or the test would never end either
        raise RuntimeError("can't start new thread")

    async def watch() -> None:
        task = asyncio.create_task(home.residents.run())
        await asyncio.sleep(0.05)
        monkeypatch.setattr(residents_module.asyncio, "to_thread", no_thread)
        home.residents.nudge()
        async with asyncio.timeout(60):
            while not home.residents.defects:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(watch())
    assert home.residents.defects == 1


def test_a_nudge_just_before_the_end_does_not_keep_the_watch_from_ending(home):
    home.residents._poll_seconds = 3_600.0

    async def watch() -> None:
        task = asyncio.create_task(home.residents.run())
        await asyncio.sleep(0.05)
        home.residents.nudge()
        await asyncio.sleep(0)  # whoever waited for the nudge has it, the watch not yet
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=60)
        task.cancel()
        assert not pending

    asyncio.run(watch())


def test_a_nudge_is_heard_at_once(home):
    home.deploy(champion="1")
    home.residents._poll_seconds = 3_600.0

    async def watch() -> float:
        task = asyncio.create_task(home.residents.run())
        await asyncio.sleep(0.05)
        assert home.residents.ruling.champion is None
        started = time.perf_counter()
        home.residents.nudge()
        while home.residents.ruling.champion is None:
            await asyncio.sleep(0.005)
        task.cancel()
        return time.perf_counter() - started

    took = asyncio.run(watch())
    print(f"from the nudge to serving: {took:.3f} s")
    assert took < 60


class Moves:
    """Moves of the registry and of chance, and what is deployed after them."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.champion, self.share = "1", 0.0
        self.challenger: str | None = None
        self.previous: str | None = None
        self.mend: list[Callable[[], None]] = []

    @property
    def other(self) -> str:
        return "2" if self.champion == "1" else "1"

    def promote(self) -> None:
        self.champion, self.previous, self.challenger = self.other, self.champion, None

    def roll_back(self) -> None:
        if self.previous is not None:
            self.champion, self.previous = self.previous, None

    def challenge(self) -> None:
        self.challenger = self.other

    def canary(self) -> None:
        self.share = 0.4

    def damage_other(self) -> None:
        if not self.mend:
            self.home.bundle(self.other)
            self.mend.append(damage(self.home, self.other))

    def restart(self) -> None:
        while self.mend:
            self.mend.pop()()
        self.home.residents = self.home.fresh()

    def deploy(self) -> None:
        roles = {"challenger": self.challenger, "previous": self.previous}
        self.home.deploy(self.share, champion=self.champion, **roles)
        self.home.look()


def require_named_models_decide(ruling: Ruling, told: str) -> set[str]:
    """Every verdict comes from the model it names; returns the versions that decided."""
    verdicts = ruling.verdicts(ROWS, CARDS, AMOUNTS)
    for row, verdict in enumerate(verdicts):
        judge = ruling.challenger if verdict.arm == CANARY_ARM else ruling.champion
        assert judge is not None, told
        assert (verdict.version, verdict.model_digest) == (judge.version, judge.model.digest), told
        assert verdict.score == judge.model.score(ROWS[row : row + 1])[0], told
    return {str(verdict.version) for verdict in verdicts}


@pytest.mark.parametrize("seed", range(3))
def test_fifty_moves_in_any_order_always_rule_by_what_is_deployed(home, seed):
    """Promotions, roll-backs, challengers, canaries, broken bundles and restarts."""
    moves, decided = Moves(home), set()
    acts = [moves.promote, moves.roll_back, moves.challenge, moves.canary, moves.damage_other]
    acts.append(moves.restart)
    moves.deploy()
    for number, act in enumerate(random.Random(seed).choices(acts, k=50)):
        act()
        moves.deploy()
        told = f"seed {seed}, move {number}: {act.__name__}"
        if not moves.mend:
            assert home.roles() == (moves.champion, moves.challenger, moves.previous), told
            assert home.residents.ruling.mode == "normal", told
        decided |= require_named_models_decide(home.residents.ruling, told)
    assert decided == {"1", "2"}


def test_the_roles_in_memory_and_what_was_refused_are_shown(home, settings):
    home.deploy(0.25, champion="1", challenger="2", previous="2")
    with TestClient(create_app(settings)) as client:
        shown = client.get("/v1/models").json()
        assert (shown["champion"], shown["challenger"], shown["previous"]) == ("1", "2", "2")
        assert (shown["canary_share"], shown["load_errors"]) == (0.25, {})
        damage(home, "2")
        pointer = msgspec.structs.replace(home.bundle("2"), manifest_digest="f" * 64)
        found = msgspec.structs.replace(read_deployment(home.models_dir), challenger=pointer)
        deploy(home.models_dir, found)
        deadline = time.monotonic() + 60
        while not (shown := client.get("/v1/models").json())["load_errors"]:
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)
        assert (shown["champion"], shown["challenger"], shown["mode"]) == ("1", None, "normal")
        assert "manifest ffffffffffff" in shown["load_errors"]["challenger"]


def test_a_deployment_that_is_written_again_lets_the_models_be_read_again(home, loads):
    home.deploy(champion="1", previous="2")
    home.look()
    before = home.residents.ruling.champion
    home.look()
    assert sorted(loads) == ["1", "2"], "what is in memory is not read by every look"
    home.deploy(champion="1", previous="2")
    home.look()
    assert sorted(loads) == ["1", "1", "2", "2"]
    after = home.residents.ruling.champion
    assert after.version == "1"
    assert after.scorer is not before.scorer
    home.deploy(champion="1", previous="2")
    damage(home, "1")
    home.look()
    assert home.residents.ruling.champion is after, "a damaged file takes no sound model away"
    home.deploy(0.05, champion="1", previous="2")
    home.look()
    assert len(loads) == 6, "another share of a canary is no reason to read anything"
