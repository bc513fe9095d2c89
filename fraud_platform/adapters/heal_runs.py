"""Runs that are acts of healing: may they still move a model, and what came of the one they made.

What belongs here: what a ledger and a history say of a run. Starting runs is `sensors.healing`.
"""

from collections.abc import Sequence
from pathlib import Path

from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.model_history import Entry
from fraud_platform.approvals import Case, Standing
from fraud_platform.heal.controller import Outcome
from fraud_platform.heal.limits import called_off
from fraud_platform.heal.state import awake

ACT_TAG = "fraud/act"
"""Tag of a run that heals: the act of the heal ledger that it is."""


def why_not_finished(ledger_path: Path, act_id: str | None, now_us: int) -> str | None:
    """Why a run may not do what it was started for, or None when it may.

    A run takes minutes, and a person may have stopped healing since, or its time was over.

    Args:
        ledger_path: of the heal ledger.
        act_id: value of the run's `ACT_TAG`; None: a person or a clock started it.
        now_us: the clock of the wall, microseconds UTC.

    Raises:
        HistoryDamagedError: the ledger was edited.
        UnavailableError: the disk does not answer.
    """
    if act_id is None:
        return None
    why = called_off(awake(HealLedger(ledger_path).state(), now_us), act_id)
    return f"{act_id} was called off: {why}" if why else None


def learnt(
    run_id: str,
    entries: Sequence[Entry],
    cases: Sequence[Case],
    now_us: int,
    *,
    may_follow: bool = True,
) -> Outcome | None:
    """What became of the version that a run made; None while that is open.

    A run that went well has healed nothing if no model of it ever decides. It is open while people
    or a canary decide on the version, and if the gates let it shadow only, for want of evidence:
    then later days may tell, by another training.

    Args:
        run_id: of Dagster; its moves and proposals are told as `dagster run <id>`.
        entries: of the history of models, oldest first.
        cases: of the docket.
        now_us: the clock of the wall, microseconds UTC.
        may_follow: whether another run of the same act may come, with more evidence.
    """
    by = f"dagster run {run_id}"
    asked = [case for case in cases if case.proposal.proposer == by]
    mine = [n for n, e in enumerate(entries) if e.by == by and e.version]
    if not (mine or asked):
        after, why = f"run {run_id}", "the gates let its version not decide; its run says why"
        return None if may_follow else Outcome(is_done=False, after=after, why=why)
    since = entries[min([*mine[:1], *(case.proposal.position for case in asked)]) :]
    version = asked[-1].proposal.version if asked else entries[mine[-1]].version or ""
    wanted = [asked[-1].proposal.why] if asked else [entries[mine[-1]].why]
    if any(entry.aliases.get("champion") == version for entry in since):
        return Outcome(is_done=True, after=version, why=wanted[0])
    now = entries[-1].deployment
    is_canary = now.challenger is not None and now.challenger.version == version
    standing = asked[-1].standing(now_us) if asked else None
    if standing in (Standing.WAITING, Standing.APPROVED) or (is_canary and now.canary_share > 0.0):
        return None
    told = (
        [f"its proposal is {standing}"]
        if asked
        else [entry.why for entry in since if entry.version == version and entry.why]
    )
    why = f"version {version} does not decide: {told[-1] if told else 'nobody said why'}"
    return Outcome(is_done=False, after=version, why=why)
