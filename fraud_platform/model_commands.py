"""The commands `fraud-platform models ...`: which model has which role, and moving roles.

Roles move through the registry only; a running scorer notices within a poll.
"""

import json
from collections.abc import Callable

import click
import msgspec

from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.model_bundle import list_manifests
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.settings import Settings, get_settings


@click.group()
def models() -> None:
    """Show the models and their roles, roll back, and try a challenger on some cards."""


@models.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """Print the roles and every version on disk; asks the disk only, not the registry."""
    settings = get_settings()
    deployment = read_deployment(settings.models_dir)
    manifests, damaged = list_manifests(settings.models_dir)
    if as_json:
        versions = [manifest.version for manifest in manifests]
        told = {"deployment": msgspec.to_builtins(deployment), "versions": versions}
        click.echo(json.dumps({**told, "damaged": damaged}, indent=1))
        return
    for role in ("champion", "challenger", "previous"):
        pointer = getattr(deployment, role)
        click.echo(f"{role:<10}  {'none' if pointer is None else pointer.version}")
    click.echo(f"{'canary':<10}  {deployment.canary_share:.1%} of the cards")
    for manifest in manifests:
        quality = manifest.report.get("average_precision", float("nan"))
        click.echo(
            f"version {manifest.version}: {manifest.library} {manifest.library_version}, "
            f"{manifest.rounds} trees, trained as of {manifest.trained_as_of[:10]}, "
            f"average precision {quality:.3f}, {manifest.model_digest[:12]}"
        )
    for version in damaged:
        click.echo(f"version {version}: its manifest is damaged")


@models.command()
def publish() -> None:
    """Write the deployment again from the registry's aliases."""
    _moved(get_settings(), lambda registry: registry.publish())


@models.command("roll-back")
@click.option("--from", "version", help="Only if this version is champion; safe to repeat.")
def roll_back(version: str | None) -> None:
    """Make the previous champion the champion again."""
    _moved(get_settings(), lambda registry: registry.roll_back(version))


@models.command()
@click.argument("share", type=click.FloatRange(0.0, 1.0))
def canary(share: float) -> None:
    """Let the challenger decide on SHARE of the cards, between 0 and 1; 0 ends it."""
    _moved(get_settings(), lambda registry: registry.set_canary(share))


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
