"""The commands `fraud-platform models ...`: which model has which role, since when, and moves.

Roles move through the registry only; a running scorer notices within a poll.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click
import msgspec

from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.model_bundle import list_manifests
from fraud_platform.adapters.model_history import Entry, Mandate, live_at, read_history
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.model_registry import ModelRegistry, registry_of
from fraud_platform.adapters.notices import Notice, notices_of
from fraud_platform.adapters.operator import operator_of
from fraud_platform.approvals import Standing
from fraud_platform.errors import PermanentError
from fraud_platform.settings import get_settings

_BY = click.option("--by", help="Who wants it; default: the operator key's, or the login name.")
_REASON = click.option("--reason", default="", help="Why; kept in the history.")


@click.group()
def models() -> None:
    """Show the models, their roles and their history, and move the roles."""


@models.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """Print the roles and every version on disk; asks the disk only, not the registry."""
    settings = get_settings()
    deployment = read_deployment(settings.models_dir)
    manifests, damaged = list_manifests(settings.models_dir)
    docket = Docket(settings.models_dir, governance_of(settings))
    proposed = sorted(c.proposal.version for c in docket.standing(Standing.WAITING, "model"))
    if as_json:
        versions = [manifest.version for manifest in manifests]
        told = {"deployment": msgspec.to_builtins(deployment), "versions": versions}
        click.echo(json.dumps({**told, "damaged": damaged, "proposed": proposed}, indent=1))
        return
    click.echo(_roles(deployment))
    for manifest in manifests:
        quality = manifest.report.get("average_precision", float("nan"))
        click.echo(
            f"version {manifest.version}: {manifest.library} {manifest.library_version}, "
            f"{manifest.rounds} trees, trained as of {manifest.trained_as_of[:10]}, "
            f"average precision {quality:.3f}, {manifest.model_digest[:12]}"
            f"{', waits for approval' if manifest.version in proposed else ''}"
        )
    for version in damaged:
        click.echo(f"version {version}: its manifest is damaged")


@models.command()
@click.option(
    "--at",
    "moment",
    type=click.DateTime(("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S")),
    help="Only the roles in force then; UTC unless it names a zone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(moment: datetime | None, as_json: bool) -> None:
    """Print who moved which role when and why; asks the disk only."""
    entries = read_history(get_settings().models_dir)
    if moment is not None:
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        found = live_at(entries, zoned)
        entries = () if found is None else (found,)
    if as_json:
        click.echo(json.dumps([_facts(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        click.echo(_told(entry))
    if moment is not None:
        click.echo(_roles(entries[0].deployment if entries else Deployment()))


@models.command()
@_BY
@_REASON
def publish(by: str, reason: str) -> None:
    """Write the deployment again from the registry's aliases."""
    _moved("models publish", by, reason, lambda registry, told: registry.publish(told))


@models.command()
@click.argument("version")
@click.option(
    "--break-glass", is_flag=True, help="Without approval: another confirms it, or it is undone."
)
@_BY
@_REASON
def promote(version: str, break_glass: bool, by: str, reason: str) -> None:
    """Make VERSION the champion; where approval is required, once it has that."""
    if not break_glass:
        _moved("models promote VERSION", by, reason, lambda r, told: r.promote(version, told))
        return
    settings = get_settings()
    operator = operator_of(settings, "models promote --break-glass", by)
    if not reason.strip():
        raise PermanentError("found no reason, expected one: whoever breaks the glass must say why")
    told = Notice(
        act_id=f"break-glass-{version}",
        at_us=time.time_ns() // 1000,
        cause="break_glass",
        text=f"{operator.subject} promotes version {version} without approval: {reason}",
    )
    notices_of(settings).page(told)  # before the act: nobody promotes so in silence
    found = _moved(
        "models promote --break-glass", by, reason, lambda r, told: r.break_glass(version, told)
    )
    hours = settings.approvals.break_glass_hours
    click.echo(f"to confirm within {hours:g} hours: fraud-platform approve {str(found)[:12]}")


@models.command("roll-back")
@click.option("--from", "version", help="Only if this version is champion; safe to repeat.")
@_BY
@_REASON
def roll_back(version: str | None, by: str, reason: str) -> None:
    """Make the previous champion the champion again."""
    _moved("models roll-back", by, reason, lambda registry, told: registry.roll_back(version, told))


@models.command()
@click.argument("share", type=click.FloatRange(0.0, 1.0))
@_BY
@_REASON
def canary(share: float, by: str, reason: str) -> None:
    """Let the challenger decide on SHARE of the cards, between 0 and 1; 0 ends it.

    Where approval is required, a challenger decides on none before it is approved.
    """
    _moved("models canary", by, reason, lambda registry, told: registry.set_canary(share, told))


def _moved(
    command: str, by: str, reason: str, move: Callable[[ModelRegistry, Mandate], object]
) -> object:
    """Move roles on behalf of whoever runs the command, and print them."""
    settings = get_settings()
    operator = operator_of(settings, command, by)
    mandate = Mandate(by=operator.subject, why=reason, role=operator.role, origin=operator.origin)
    with in_use(settings.home):
        outcome = move(registry_of(settings), mandate)
        found = read_deployment(settings.models_dir)
    click.echo(roles_line(found))
    return outcome


def roles_line(found: Deployment) -> str:
    """Who decides and who scores along, in one line."""
    champion, challenger = found.champion, found.challenger
    told = f"champion: {champion.version if champion else 'none'}"
    if challenger is None:
        return told
    return f"{told}, challenger: {challenger.version} on {found.canary_share:.1%} of the cards"


def _roles(found: Deployment) -> str:
    versions = {
        role: "none" if pointer is None else pointer.version
        for role in ("champion", "challenger", "previous")
        for pointer in (getattr(found, role),)
    }
    shown = versions | {
        "canary": f"{found.canary_share:.1%} of the cards",
        "fallbacks": ", ".join(found.fallbacks) or "none",
    }
    return "\n".join(f"{role:<10}  {version}" for role, version in shown.items())


def _facts(entry: Entry) -> dict[str, object]:
    facts: dict[str, object] = msgspec.to_builtins(entry)
    return {"at": entry.at.isoformat(), **facts}


def _told(entry: Entry) -> str:
    about = "" if entry.version is None else f" {entry.version}"
    why = f": {entry.why}" if entry.why else ""
    return f"{entry.at.isoformat(timespec='seconds')} {entry.act}{about} by {entry.by}{why}"
