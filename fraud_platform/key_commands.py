"""The commands `fraud-platform keys ...`: who may ask the scorer, and for what.

A key is shown once, when it is made; the home keeps its SHA-256 only. A running scorer notices
every change within seconds.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import click

from fraud_platform.access import (
    DAY_US,
    SCOPES,
    ApiKey,
    Scope,
    digest_of,
    id_of,
    named_id,
)
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.errors import PermanentError
from fraud_platform.events import microseconds, moment_of
from fraud_platform.settings import Settings, get_settings

_HOUR_US = 3_600_000_000
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DAYS = click.IntRange(min=0, max=3_650)


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke the API keys of the scorer."""


@keys.command()
@click.option("--subject", required=True, help="Whom the key is for: a person or a system.")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    type=click.Choice(SCOPES),
    help="What it allows; give the option once per scope.",
)
@click.option(
    "--expires-days", type=_DAYS, default=365, show_default=True, help="0: it never expires."
)
@click.option("--rate", type=float, help="Requests per second of this key.  [default: setting]")
@click.option("--burst", type=int, help="Requests at once of this key.  [default: setting]")
@_AS_JSON
def create(
    subject: str,
    scopes: tuple[Scope, ...],
    expires_days: int,
    rate: float | None,
    burst: int | None,
    as_json: bool,
) -> None:
    """Make a key and print it: the only time that anybody sees it."""
    settings, now_us = get_settings(), _now_us()

    def make(text: str) -> ApiKey:
        return ApiKey(
            id=id_of(text),
            environment=settings.access.environment,
            digest=digest_of(text),
            subject=subject,
            scopes=tuple(dict.fromkeys(scopes)),
            created_us=now_us,
            expires_us=now_us + expires_days * DAY_US if expires_days else None,
            requests_per_second=rate,
            burst=burst,
        )

    with in_use(settings.home):
        try:
            text, made = _store(settings).create(make, environment=settings.access.environment)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    _show_new(text, made, now_us, as_json)


@keys.command("list")
@_AS_JSON
def list_(as_json: bool) -> None:
    """List the keys without their secrets: whose, for what, until when, last used when."""
    store, now_us = _store(get_settings()), _now_us()
    used = store.last_used()
    rows = [_facts(key, now_us, used.get(key.id)) for key in store.read().keys.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif rows:
        click.echo(_table(rows))
    else:
        click.echo("There are no keys: fraud-platform keys create --subject NAME --scope score")


@keys.command()
@click.argument("key")
@_AS_JSON
def revoke(key: str, as_json: bool) -> None:
    """Take back the key with the id KEY: scorers refuse it within 5 seconds, for good."""
    settings, now_us = get_settings(), _now_us()

    def end(known: ApiKey) -> ApiKey:
        return known if known.revoked_us is not None else replace(known, revoked_us=now_us)

    with in_use(settings.home):
        revoked = _store(settings).change(named_id(key), end)
    if as_json:
        click.echo(json.dumps(_facts(revoked, now_us, None), indent=1))
    else:
        click.echo(f"{revoked.id} of {revoked.subject} was revoked at {_time(revoked.revoked_us)}")


@keys.command()
@click.argument("key")
@click.option(
    "--overlap-hours",
    type=click.FloatRange(min=0, max=24 * 90),
    default=24.0,
    show_default=True,
    help="How long the old key still counts.",
)
@_AS_JSON
def rotate(key: str, overlap_hours: float, as_json: bool) -> None:
    """Make a key in the place of the one with the id KEY, which ends after the overlap."""
    settings, now_us = get_settings(), _now_us()
    end_us = now_us + round(overlap_hours * _HOUR_US)

    def retire(old: ApiKey) -> ApiKey:
        if (state := old.state(now_us)) != "active":
            raise PermanentError(
                f"found that the key {old.id} is {state}, expected one that counts",
                hint="fraud-platform keys create makes a key without a predecessor",
            )
        expires_us = end_us if old.expires_us is None else min(end_us, old.expires_us)
        return replace(old, expires_us=expires_us)

    def renew(old: ApiKey) -> ApiKey:
        if problem := old.limit_problem:
            raise PermanentError(problem, hint="fraud-platform keys create, then keys revoke")
        lifetime = None if old.expires_us is None else old.expires_us - old.created_us
        expires_us = None if lifetime is None else now_us + lifetime
        return replace(old, created_us=now_us, expires_us=expires_us, replaces=old.id)

    with in_use(settings.home):
        text, new, old = _store(settings).rotate(named_id(key), retire, renew)
    _show_new(text, new, now_us, as_json)
    if not as_json:
        click.echo(f"The old key {old.id} counts until {_time(old.expires_us)}", err=True)


def _store(settings: Settings) -> KeyStore:
    return KeyStore(settings.access_dir)


def _now_us() -> int:
    return microseconds(datetime.now(UTC))  # noqa: TID251 -- an entry point reads the clock


def _show_new(text: str, key: ApiKey, now_us: int, as_json: bool) -> None:
    """The key alone on the standard output, so that a script can take it from there."""
    if as_json:
        click.echo(json.dumps({"key": text, **_facts(key, now_us, None)}, indent=1))
        return
    click.echo(text)
    until = "never expires" if key.expires_us is None else f"counts until {_time(key.expires_us)}"
    click.echo(
        f"Key {key.id} of {key.subject} for {', '.join(key.scopes)} {until}."
        " It is not shown again: keep it where secrets are kept.",
        err=True,
    )


def _facts(key: ApiKey, now_us: int, used_us: int | None) -> dict[str, object]:
    """What may be shown of a key: everything but its digest."""
    return {
        "id": key.id,
        "environment": key.environment,
        "subject": key.subject,
        "scopes": list(key.scopes),
        "state": key.state(now_us),
        "created": _time(key.created_us),
        "expires": _time(key.expires_us),
        "last_used_hour": _time(used_us),
        "revoked": _time(key.revoked_us),
        "requests_per_second": key.requests_per_second,
        "burst": key.burst,
        "replaces": key.replaces,
    }


def _table(rows: Sequence[dict[str, object]]) -> str:
    names = ("id", "subject", "scopes", "state", "created", "expires", "last_used_hour")
    heads = ("ID", "SUBJECT", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED")
    lines = [heads, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _cell(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else "-" if value is None else str(value)


def _time(moment_us: int | None) -> str | None:
    return None if moment_us is None else moment_of(moment_us).strftime("%Y-%m-%dT%H:%M:%SZ")
