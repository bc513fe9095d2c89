"""One home under healing: payments for its scorer, ticks, and what the ledger then says."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.live_file import Live, live_path, read_live
from fraud_platform.heal.actions import Action
from fraud_platform.heal.records import Record
from tests.e2e.bent_tick import said
from tests.e2e.scorer_process import Home, Scorer, wait_for
from tests.e2e.traffic import Senders, Traffic

TICK = Path(__file__).with_name("bent_tick.py")


def asked(scorer: Scorer, traffic: Traffic, enough: int) -> None:
    """So many requests; all must be answered."""

    async def flow() -> None:
        senders = Senders(scorer.url, traffic)
        await senders.flow(lambda: senders.answers >= enough)
        await senders.drained()
        assert not senders.lost

    asyncio.run(flow())


def live(home: Home) -> Live:
    """What the scorer of a home says about itself, once it says anything."""
    found: Live = wait_for(lambda: read_live(live_path(home.path)), "the scorer to say how it is")
    return found


def first_decisions(traffic: Traffic) -> list[dict[str, object]]:
    """Answers to payments that were new, in the order of the log."""
    found = [o.answer for o in traffic.history if o.kind == "decision" and o.is_ok and o.is_first]
    return sorted(found, key=lambda answer: answer["seq"])


def newest(scorer: Scorer, traffic: Traffic, count: int = 40) -> list[dict[str, object]]:
    """Answers to so many more payments."""
    before = len(first_decisions(traffic))
    asked(scorer, traffic, count)
    return first_decisions(traffic)[before:]


def tick(home: Home, *how: str) -> subprocess.CompletedProcess[str]:
    """One tick of healing in a process of its own, which goes wrong as `bent_tick` says."""
    return subprocess.run(
        [sys.executable, str(TICK), str(home.path), *how],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def ticked(home: Home, *, later: int = 0) -> list[str]:
    """What a tick in this process says: the cause first.

    Where nothing dies: a process of its own costs some five seconds of imports.

    Args:
        home: what is healed.
        later: seconds that its clock is ahead.
    """
    return said(home.path, later=later)


def records(home: Home) -> tuple[Record, ...]:
    return HealLedger(home.path / "heal" / "ledger.jsonl").records()


def acts(home: Home, action: Action) -> Counter[str]:
    """How often each kind of record names an act of this action, over its one id."""
    found = [r for r in records(home) if r.act and r.act.action is action]
    assert len({record.act.act_id for record in found if record.act}) <= 1, "it was planned twice"
    return Counter(record.kind.value for record in found)
