"""The way out of a partial restore: what the audit log has, and restored files lack, is given up.

What belongs here: finding what is lost, and beginning anew behind it. A home whose files are older
than its audit log moves nothing (`governance.Governance.require_kept`) until a person accepts that.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from fraud_platform.adapters.governance import Governance, governance_of
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.lock_file import locked
from fraud_platform.adapters.model_history import Mandate, read_history
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import PermanentError
from fraud_platform.settings import Settings

RESTORED = "restore.accept"
"""The act by which files older than the audit log are believed."""
_HEALING = "heal."
_RULES = "proposal.adopt_rules"


def accept_restore(settings: Settings, mandate: Mandate) -> tuple[Row, ...]:
    """Take the files as they are for the beginning, and record what that gives up.

    Proposals that were open are over: a vote against one may be among what is lost. Healing is
    paused where its ledger lacks anything: what stopped it may be among that, too.

    Args:
        settings: of the home.
        mandate: on whose behalf, and why.

    Returns:
        The last rows of the acts that are given up, oldest first.

    Raises:
        PermanentError: nothing is lost, no reason is given, or the settings ask for other rules of
            approval than the lost ones.
        AuditUnavailableError: it cannot be recorded: nothing changed.
    """
    governance, path = governance_of(settings), settings.heal_ledger_path
    docket, healing = Docket(settings.models_dir, governance), HealLedger(path, governance)
    with ExitStack() as alone:
        alone.enter_context(locked(settings.models_dir / ".registry.lock"))
        alone.enter_context(locked(docket.lock_path))
        alone.enter_context(locked(path.with_suffix(".lock")))
        said, healed = docket.told(), healing.told()
        governance.settle(RESTORED, lambda row: row.seq in said | healed)
        moves = {entry.audit for entry in read_history(settings.models_dir)}
        lost = sorted(
            (
                *governance.lost("model.*", moves | said),
                *governance.lost("proposal.*", said),
                *governance.lost("heal.*", healed),
            ),
            key=lambda row: row.begun,
        )
        act = _act(mandate, lost)
        _require_sense(governance, act, lost)
        _require_rules(governance, act, lost, docket)
        heals = [row.begun for row in lost if row.action.startswith(_HEALING)]
        others = [row.begun for row in lost if not row.action.startswith(_HEALING)]
        with governance.recording(act) as number:
            if others:
                docket.begin_anew(mandate, number, others)
            if heals:
                healing.begin_anew(mandate.by, mandate.why, number, heals)
    docket.adopt()
    return tuple(lost)


def _require_sense(governance: Governance, act: Act, lost: Sequence[Row]) -> None:
    if not lost:
        raise PermanentError("Found every act of the audit log in its file; nothing is lost.")
    if not act.reason.strip():
        governance.refuse(act, "whoever gives up what was done must say why")


def _require_rules(governance: Governance, act: Act, lost: Sequence[Row], docket: Docket) -> None:
    """Nobody gets looser rules of approval by losing the file that had them."""
    adopted = [row for row in lost if row.action == _RULES]
    if adopted and adopted[-1].after != docket.rules().digest:
        were = adopted[-1].told.get("rules", f"those of row {adopted[-1].begun}")
        why = f"the lost rules of approval must be set first, and others approved then: {were}"
        governance.refuse(act, why)


def _act(mandate: Mandate, lost: Sequence[Row]) -> Act:
    numbers = [row.begun for row in lost] or [0]
    facts = {"lost": str(len(lost)), "first": str(numbers[0]), "last": str(numbers[-1])}
    return mandate.act(RESTORED, "home:files", facts=facts)
