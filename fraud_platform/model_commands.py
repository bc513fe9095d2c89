"""The commands `fraud-platform models ...`: which model has which role, since when, and moves.

Roles move through the registry only; a running scorer notices within a poll.
"""

import getpass
import json
from collections.abc import Callable
from datetime import UTC, datetime

import click
import msgspec

from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.model_bundle import list_manifests
from fraud_platform.adapters.model_history import Entry, Mandate, live_at, pending, read_history
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.settings import Settings, get_settings

_BY = click.option("--by", default=getpass.getuser, help="Who wants it; default: the login name.")
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
    proposed = sorted(pending(read_history(settings.models_dir)))
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
    _moved(get_settings(), lambda registry: registry.publish(Mandate(by=by, why=reason)))


@models.command()
@click.argument("version")
@_BY
@_REASON
def approve(version: str, by: str, reason: str) -> None:
    """Promote VERSION, which another proposed."""
    _moved(get_settings(), lambda registry: registry.approve(version, Mandate(by=by, why=reason)))


@models.command()
@click.argument("version")
@_BY
@_REASON
def reject(version: str, by: str, reason: str) -> None:
    """Turn down the proposal of VERSION."""
    _moved(get_settings(), lambda registry: registry.reject(version, Mandate(by=by, why=reason)))


@models.command("roll-back")
@click.option("--from", "version", help="Only if this version is champion; safe to repeat.")
@_BY
@_REASON
def roll_back(version: str | None, by: str, reason: str) -> None:
    """Make the previous champion the champion again."""
    _moved(get_settings(), lambda registry: registry.roll_back(version, Mandate(by=by, why=reason)))


@models.command()
@click.argument("share", type=click.FloatRange(0.0, 1.0))
@_BY
@_REASON
def canary(share: float, by: str, reason: str) -> None:
    """Let the challenger decide on SHARE of the cards, between 0 and 1; 0 ends it."""
    settings, mandate = get_settings(), Mandate(by=by, why=reason)
    asked = settings.promotion.approval_required
    _moved(settings, lambda found: found.set_canary(share, mandate, needs_proposal=asked))


def _moved(settings: Settings, move: Callable[[ModelRegistry], object]) -> None:
    uri = settings.mlflow_uri.get_secret_value() if settings.mlflow_uri else None
    with in_use(settings.home):
        move(ModelRegistry(uri, settings.mlflow_dir, settings.models_dir))
        found = read_deployment(settings.models_dir)
    click.echo(_line(found))


def _line(found: Deployment) -> str:
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
