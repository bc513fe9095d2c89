"""Doing what people approved, and undoing what nobody confirmed, or somebody turned down.

What belongs here: which moves follow from the docket and the history. Moving is `model_roles`; each
of these moves may be asked for again, and is done once.
"""

from dataclasses import replace

from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_bundle import manifest_digest
from fraud_platform.adapters.model_history import Entry, Mandate
from fraud_platform.adapters.model_pointers import fallbacks_of
from fraud_platform.adapters.model_roles import ModelRoles
from fraud_platform.approval_rules import Tier
from fraud_platform.approvals import Case, Standing
from fraud_platform.errors import NotReadyError, PermanentError
from fraud_platform.rollout import RolloutPolicy

APPROVALS = "approvals"
"""Who moves what is approved, as the history of models names it."""
_GLASS = "break_glass"
_MAKE_CHAMPIONS = ("promote", "approve", _GLASS, "roll_back")


def carry_out(roles: ModelRoles, case: Case, rollout: RolloutPolicy) -> bool:
    """Promote what is approved, or give it its first cards where a rollout is wanted.

    Args:
        roles: of the home.
        case: an approved proposal of a version.
        rollout: whether a champion is replaced step by step.

    Returns:
        Whether anything moved: a canary that is under way goes on by itself.

    Raises:
        NotReadyError: the canary of another version is under way: it is not driven out.
        PermanentError: the bundle is no longer what was proposed.
    """
    asked, now = case.proposal, read_deployment(roles.models_dir)
    voters = ", ".join(vote.subject for vote in case.counted)
    mandate = Mandate(by=APPROVALS, why=f"approved by {voters}: {asked.why}")
    canary = now.challenger if now.canary_share else None
    if canary is not None and canary.version == asked.version:
        return False
    if canary is not None and not asked.is_renewal:
        raise NotReadyError(
            f"Version {asked.version} waits for the end of the canary of version {canary.version}.",
            hint="`fraud-platform models canary 0` ends it.",
        )
    if manifest_digest(roles.models_dir / asked.version) != asked.content:
        raise PermanentError(f"Version {asked.version} is no longer what was proposed.")
    if not rollout.is_on or asked.replacing is None or asked.is_renewal:
        roles.promote(asked.version, mandate, replacing=asked.replacing)
        return True
    roles.set_challenger(asked.version, mandate)
    roles.set_canary(rollout.steps[0], mandate)
    return True


def propose_fallbacks(roles: ModelRoles, version: str, mandate: Mandate) -> str | None:
    """Ask anew for what was asked under the same name, or for the champion, with its fallbacks.

    Args:
        roles: of the home.
        version: whose fallbacks were trained only now.
        mandate: on whose behalf.

    Returns:
        The digest of the proposal; None: nobody waits for the version, or it is all approved.
    """
    waiting = (*roles.docket.standing(Standing.WAITING, "model"), *approved(roles))
    asked = next((c.proposal for c in waiting if c.proposal.version == version), None)
    champion = read_deployment(roles.models_dir).champion
    if asked is None:
        is_champion = champion is not None and champion.version == version
        return roles.propose(version, mandate) if is_champion else None
    if asked.proposer != mandate.by:
        return None
    told = replace(mandate, why=asked.why, evidence=asked.evidence, trainer=asked.trainer)
    is_wider = asked.tier is not Tier.REFRESH
    return roles.propose(version, told, replacing=asked.replacing, is_wider=is_wider)


def unasked(roles: ModelRoles) -> tuple[str, ...]:
    """What those fallbacks of the champion do without that nobody approved, nor was asked to."""
    if (champion := read_deployment(roles.models_dir).champion) is None:
        return ()
    waiting = (*roles.docket.standing(Standing.WAITING, "model"), *approved(roles))
    asked = {digest for case in waiting for digest in case.proposal.fallbacks.values()}
    found = fallbacks_of(roles.models_dir, champion.version).items()
    rest = [(name, one) for name, one in found if one.manifest_digest not in asked]
    return tuple(name for name, one in rest if not roles.clearance.may_stand_in(one))


def approved(roles: ModelRoles) -> tuple[Case, ...]:
    """The versions that have their approvals and wait to be promoted."""
    return roles.docket.standing(Standing.APPROVED, "model")


def unconfirmed(roles: ModelRoles) -> Entry | None:
    """The promotion without approval by which the champion decides although nobody confirmed it.

    Its time is over, somebody turned it down, or its proposal was lost: nobody can confirm it.
    """
    champion = read_deployment(roles.models_dir).champion
    made = [entry for entry in roles.history() if entry.act in _MAKE_CHAMPIONS]
    if champion is None or not made:
        return None
    newest = made[-1]  # whoever was approved since is not undone for what was said before
    if newest.act != _GLASS or newest.proposal is None or newest.version != champion.version:
        return None
    over = (Standing.EXPIRED, Standing.REJECTED)
    cases = (case for standing in over for case in roles.docket.standing(standing, _GLASS))
    is_lost = newest.proposal not in roles.docket.cases()
    is_over = newest.proposal in {case.proposal.digest for case in cases}
    return newest if is_lost or is_over else None


def uncleared(roles: ModelRoles) -> str | None:
    """The version of a canary that goes on deciding although it may not, or None."""
    now = read_deployment(roles.models_dir)
    canary = now.challenger if now.canary_share else None
    is_cleared = canary is None or roles.clearance.may_keep_cards(canary)
    return None if canary is None or is_cleared else canary.version


def take_cards(roles: ModelRoles) -> None:
    """Let the canary decide on no cards; the challenger goes on to score along."""
    why = "its proposal is over, or there was none"
    roles.set_canary(0.0, Mandate(by=APPROVALS, why=why))


def is_interrupted(roles: ModelRoles) -> bool:
    """Whether the history is ahead of what scorers read: whoever moved died, or moves right now."""
    entries, now = roles.history(), read_deployment(roles.models_dir)
    return bool(entries) and entries[-1].deployment.sequence > now.sequence


def finish(roles: ModelRoles) -> None:
    """Finish a move that was interrupted; nothing, if it was done meanwhile."""
    roles.publish(Mandate(by=APPROVALS, why="a move was interrupted"))


def undo(roles: ModelRoles, made: Entry) -> str:
    """Make the champion before the champion again; gives its version.

    Args:
        roles: of the home.
        made: how the champion was made.

    Raises:
        NoChampionError: none is left to return to.
    """
    why = f"nobody confirmed what {made.by} promoted without approval"
    return roles.roll_back(made.version, Mandate(by=APPROVALS, why=why))
