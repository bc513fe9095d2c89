"""The commands `fraud-platform proposals|propose|approve|reject`: what waits for people.

A vote needs no registry: it is kept at once, and what is approved is carried out as soon as the
registry answers, by this command or by the sensor `approvals`.
"""

import json
import time

import click
import msgspec

from fraud_platform.adapters.approved_moves import carry_out
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.heal_policy_file import policy_in_force
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.model_registry import registry_of
from fraud_platform.adapters.operator import Operator, operator_of
from fraud_platform.adapters.orders_file import why_frozen
from fraud_platform.approvals import Answer, Case, Standing
from fraud_platform.audit_log.acts import shown
from fraud_platform.errors import NotReadyError, UnavailableError
from fraud_platform.events import moment_of
from fraud_platform.model_commands import roles_line
from fraud_platform.settings import Settings, get_settings

_BY = click.option("--by", help="Who says it; default: the operator key's, or the login name.")
_REASON = click.option("--reason", required=True, help="Why; kept with the vote.")
_SHOWN = 12


@click.command()
@click.option("--all", "every", is_flag=True, help="Also those that are over.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def proposals(every: bool, as_json: bool) -> None:
    """Print what waits for approval, who said what to it, and how many must still agree."""
    cases, now_us = _docket(get_settings()).cases().values(), _now_us()
    is_open = (Standing.WAITING, Standing.APPROVED)
    found = [case for case in cases if every or case.standing(now_us) in is_open]
    if as_json:
        click.echo(json.dumps([_facts(case, now_us) for case in found], indent=1))
        return
    for case in found:
        click.echo(_told(case, now_us))
    if not found:
        click.echo("Nothing waits for approval.")


@click.command()
@click.argument("what")
@_BY
@_REASON
def propose(what: str, by: str, reason: str) -> None:
    """Ask for approval of version WHAT; as `policy`, of looser rules; or of the `heal-policy`.

    Somebody else must approve it.
    """
    settings = get_settings()
    mandate = _mandate(operator_of(settings, "propose", by), reason)
    with in_use(settings.home):
        if what == "policy":
            digest = _docket(settings).propose_rules(mandate).proposal.digest
        elif what == "heal-policy":
            wanted = policy_in_force(settings.heal_dir).digest
            digest = _docket(settings).propose_heal_policy(wanted, mandate).proposal.digest
        else:
            digest = registry_of(settings).propose(what, mandate) or ""
    click.echo(digest or f"version {what} is the champion already")


@click.command()
@click.argument("proposal")
@_BY
@_REASON
def approve(proposal: str, by: str, reason: str) -> None:
    """Approve PROPOSAL, a digest or a version, which another proposed; promotes it if it may."""
    settings = get_settings()
    case = _voted(settings, "approve", proposal, by, reason)
    click.echo(_told(case, _now_us()))
    if case.proposal.kind == "model" and case.standing(_now_us()) is Standing.APPROVED:
        _carry_out(settings, case)


@click.command()
@click.argument("proposal")
@_BY
@_REASON
def reject(proposal: str, by: str, reason: str) -> None:
    """Turn PROPOSAL down, a digest or a version: it is over."""
    settings = get_settings()
    click.echo(_told(_voted(settings, "reject", proposal, by, reason), _now_us()))


def _voted(settings: Settings, answer: Answer, name: str, by: str, reason: str) -> Case:
    mandate = _mandate(operator_of(settings, answer, by), reason)
    with in_use(settings.home):
        return _docket(settings).vote(name, answer, mandate)


def _carry_out(settings: Settings, case: Case) -> None:
    """Do what is approved; while that cannot be, or learning is frozen, the sensor does, later."""
    try:
        with in_use(settings.home):
            if frozen := why_frozen(settings.orders_path):
                raise NotReadyError(frozen)
            carry_out(registry_of(settings), case, settings.rollout)
    except (UnavailableError, NotReadyError) as error:
        click.echo(f"The vote counts; the promotion waits: {error.message}")
        return
    click.echo(roles_line(read_deployment(settings.models_dir)))


def _docket(settings: Settings) -> Docket:
    return Docket(settings.models_dir, governance_of(settings))


def _mandate(operator: Operator, reason: str) -> Mandate:
    return Mandate(by=operator.subject, why=reason, role=operator.role, origin=operator.origin)


def _now_us() -> int:
    return time.time_ns() // 1000


def _facts(case: Case, now_us: int) -> dict[str, object]:
    asked = case.proposal
    votes = [{**msgspec.to_builtins(vote), "counts": vote in case.counted} for vote in case.votes]
    return {
        **msgspec.to_builtins(asked),
        "digest": asked.digest,
        "standing": str(case.standing(now_us)),
        "expires": moment_of(asked.expires_us).isoformat(),
        "votes": votes,
    }


def _told(case: Case, now_us: int) -> str:
    asked, answers = case.proposal, case.counted
    said = ", ".join(f"{vote.answer} by {vote.subject}" for vote in answers) or "no votes"
    until = moment_of(asked.expires_us).isoformat(timespec="minutes")
    return shown(
        f"{asked.digest[:_SHOWN]} {asked.object} ({asked.kind}, {asked.tier}) by {asked.proposer}: "
        f"{case.standing(now_us)}, {said} of {case.needed}, until {until}"
        f"{': ' + asked.why if asked.why else ''}"
    )
