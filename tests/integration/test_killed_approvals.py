"""T-KILL-5: kill -9 in the middle of a vote or a move; history, deployment and audit log agree."""

import itertools
import json
import os
import random
import signal
import sys
from functools import partial

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.hash_chain import Chain
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import DOCKET, Line
from tests.apart import APART
from tests.governed_home import FileRoles, settings_of, with_champion

KILLS = 20
LASTING = {"execute", "write", "fsync", "ftruncate"}
"""Of SQLite, of files, and of the system."""


def acting(settings, turn):
    """What is killed: propose the other version, approve it, promote it."""
    roles = FileRoles(settings)
    now = read_deployment(settings.models_dir).champion.version
    other = {"1": "2", "2": "3", "3": "2"}[now]
    roles.propose(other, Mandate(by="anna", why=f"turn {turn}", evidence=f"{turn:064d}"))
    roles.docket.vote(other, "approve", Mandate(by="bert"))
    roles.promote(other, Mandate(by="bert"))


def noted(act, note):
    """Let something happen, and hear of each call that puts something on a disk, before it does."""

    def hear(frame, event, called):
        if event == "c_call" and (called is os.replace or called.__name__ in LASTING):
            note()

    sys.setprofile(hear)
    try:
        act()
    finally:
        sys.setprofile(None)


def dying(settings, turn, at):
    """Act, and be killed before the call of this number."""
    numbers = itertools.count(1)
    killed = partial(os.kill, os.getpid(), signal.SIGKILL)
    noted(partial(acting, settings, turn), lambda: next(numbers) < at or killed())


def is_killed(settings, turn, at):
    """Whether a process that acts is killed before it is done."""
    child = APART.Process(target=dying, args=(settings, turn, at), daemon=True)
    child.start()
    child.join(60)
    return child.exitcode == -signal.SIGKILL


def settled(rows):
    ended = [row.begun for row in rows if row.begun]
    assert len(ended) == len(set(ended)), "an act has one end"
    assert {row.seq for row in rows if row.outcome == "begun"} == set(ended), "and every act has it"
    return {row.begun for row in rows if row.begun and row.outcome == "done"}


def test_a_killed_vote_or_move_is_wholly_done_or_not_at_all(tmp_path):
    with_champion(tmp_path)
    settings = settings_of(tmp_path)
    calls = []
    acting(settings, 0)  # the first makes tables, too
    noted(partial(acting, settings, 1), lambda: calls.append(None))
    seed = 20_261_123
    chance, killed, interrupted = random.Random(seed), 0, 0
    for turn in range(2, KILLS + 2):
        killed += is_killed(settings, turn, chance.randint(1, len(calls)))
        interrupted += agree(settings)
    assert killed >= 0.9 * KILLS, "but for a few whose way is shorter than the first"
    assert interrupted >= KILLS // 4
    facts = {"kills": killed, "interrupted": interrupted, "seed": seed, "disagreements": 0}
    print(json.dumps({"test": "T-KILL-5", **facts}))


def agree(settings):
    """What the next act finds and settles; whether anything was interrupted."""
    audit = audit_log_of(settings)
    before = list(audit.rows(RowFilter()))
    open_rows = sum(row.outcome == "begun" for row in before) - sum(bool(r.begun) for r in before)
    roles = FileRoles(settings)
    roles.publish(Mandate(by="carl"))
    rows = list(audit.rows(RowFilter()))
    done = settled([row for row in rows if row.action.startswith(("model.", "proposal."))])
    history = roles.history()
    assert history[-1].deployment == read_deployment(settings.models_dir)
    assert dict(roles._client.get_registered_model("fraud").aliases) == history[-1].aliases
    lines = Chain(settings.models_dir / DOCKET, Line).since()[0]
    told = {line.audit for line in lines} | {entry.audit for entry in history}
    assert done == told - {0}, "what the audit log has as done is what came to pass"
    audit.close()
    return open_rows > 0
