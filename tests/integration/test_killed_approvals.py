"""T-KILL-5: kill -9 in the middle of a vote or a move; history, deployment and audit log agree."""

import json
import random
import signal
import time

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.hash_chain import Chain
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import DOCKET, Line
from tests.apart import APART
from tests.governed_home import FileRoles, settings_of, with_champion

KILLS = 20


def acting(settings, turn):
    """What is killed: propose the other version, approve it, promote it."""
    roles = FileRoles(settings)
    now = read_deployment(settings.models_dir).champion.version
    other = {"1": "2", "2": "3", "3": "2"}[now]
    roles.propose(other, Mandate(by="anna", why=f"turn {turn}", evidence=f"{turn:064d}"))
    roles.docket.vote(other, "approve", Mandate(by="bert"))
    roles.promote(other, Mandate(by="bert"))


def acting_apart(begun, settings, turn):
    begun.wait(60)
    acting(settings, turn)


def killed_after(seconds, settings, turn):
    """Let a process act, and kill it; whether it was killed before it was done."""
    begun = APART.Barrier(2)
    child = APART.Process(target=acting_apart, args=(begun, settings, turn), daemon=True)
    child.start()
    begun.wait(60)
    time.sleep(seconds)
    child.kill()
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
    began = time.perf_counter()
    acting(settings, 0)
    longest = time.perf_counter() - began
    seed = 20_261_123
    chance, killed, interrupted = random.Random(seed), 0, 0
    for turn in range(1, KILLS + 1):
        killed += killed_after(chance.uniform(0, 1.2) * longest, settings, turn)
        interrupted += agree(settings)
    assert killed >= KILLS // 2
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
