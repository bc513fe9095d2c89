"""What goes on beside the answers outlives its defects, or its end is said aloud."""

import asyncio
import logging
import os
import time

import pytest
from litestar.testing import TestClient

from fraud_platform.events import microseconds
from serving import children
from serving.app import create_app
from serving.children import Child
from serving.residents import Residents
from serving.stance import StanceWatch
from serving.state_check import StateCheck
from serving.upkeep import Upkeep

LIVES_LONG = ("-c", "import time; time.sleep(600)")


async def run_until(child, condition):
    task = asyncio.create_task(child.run())
    try:
        async with asyncio.timeout(60):
            while not condition() and not task.done():
                await asyncio.sleep(0.01)
        assert not task.done()
    finally:
        pid = child.pid
        task.cancel()
        await asyncio.wait([task], timeout=60)
    return pid


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(children, "_SOON_SECONDS", 0.01)


@pytest.mark.usefixtures("soon")
def test_a_child_that_fails_before_its_program_begins_is_started_again(monkeypatch, caplog):
    honest, tries = children.born_under, []

    def failing_twice():
        tries.append(1)
        return honest() if len(tries) > 2 else lambda: 1 / 0

    monkeypatch.setattr(children, "born_under", failing_twice)
    child = Child("a child", LIVES_LONG)
    pid = asyncio.run(run_until(child, lambda: child.pid))
    assert (len(tries), child.starts) == (3, 1)
    assert "a child ended with no start: Exception occurred in preexec_fn" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.usefixtures("soon")
def test_a_defect_in_keeping_a_child_is_said_and_it_is_started_again(monkeypatch, caplog):
    honest, tries = asyncio.create_subprocess_exec, []

    async def broken_once(*arguments, **more):
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError
        return await honest(*arguments, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", broken_once)
    child = Child("a child", LIVES_LONG)
    asyncio.run(run_until(child, lambda: child.pid))
    assert "keeping a child running met a defect" in caplog.text
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (Residents, "the watch over the models"),
        (StanceWatch, "the watch over the mode"),
        (StateCheck, "the check of the state"),
        (Child, "keeping a child running"),
    ],
)
def test_upkeep_that_ends_is_said_and_the_scorer_is_not_ready(
    part, named, settings, publish, now, monkeypatch, caplog
):
    async def ended(_):
        raise KeyError("c3")  # as if a payment were quoted

    publish("1")
    monkeypatch.setattr(part, "run", ended)
    app = create_app(
        settings, clock=lambda: microseconds(now), children=(Child("a child", LIVES_LONG),)
    )
    with TestClient(app) as client:
        deadline = time.monotonic() + 60
        while (answer := client.get("/health/ready")).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    [problem] = answer.json()["problems"]
    assert problem.startswith(f"{named} ended before the scorer: found KeyError at test_upkeep.py")
    # Only one: what goes on until the orderly stop does not end before the scorer.
    [said] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert problem in said.getMessage()
    assert "c3" not in problem


def test_upkeep_that_ends_without_a_defect_or_is_cancelled_is_said_too():
    async def nothing():
        return

    async def cancelled():
        raise asyncio.CancelledError

    async def story():
        upkeep = Upkeep()
        async with upkeep.lasting([("one", nothing()), ("two", cancelled())]):
            await asyncio.sleep(0.01)
            return upkeep.problems

    assert asyncio.run(story()) == [
        f"{name} ended before the scorer: without a defect" for name in ("one", "two")
    ]
