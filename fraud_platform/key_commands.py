"""The commands `fraud-platform keys ...`: who may ask the scorer, and for what.

A key is shown once, when it is made; the home keeps its SHA-256 only. A running scorer notices
every change within seconds.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
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
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.key_store import KeyStore, state_digest
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.operator import Operator, operator_of
from fraud_platform.errors import PermanentError
from fraud_platform.events import microseconds, moment_of
from fraud_platform.roles import RECOVERY, ROLE_NAMES, Role, require_apart, role_of, scopes_of
from fraud_platform.settings import Settings, get_settings

_HOUR_US = 3_600_000_000
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke the API keys of the scorer."""


@keys.command()
@click.option("--subject", required=True, help="Whom the key is for: a person or a system.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(ROLE_NAMES),
    help="What its holder is: stands for the role's scopes.",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What it allows; give the option once per scope.",
)
@click.option(
    "--expires-days",
    type=click.IntRange(min=1),
    help="How long it counts.  [FRAUD_ACCESS__KEY_DAYS]",
)
@click.option("--rate", type=float, help="Requests per second of this key.  [default: setting]")
@click.option("--burst", type=int, help="Requests at once of this key.  [default: setting]")
@_AS_JSON
def create(  # noqa: PLR0913 -- one argument per option
    subject: str,
    roles: tuple[Role, ...],
    scopes: tuple[Scope, ...],
    expires_days: int | None,
    rate: float | None,
    burst: int | None,
    as_json: bool,
) -> None:
    """Make a key and print it: the only time that anybody sees it."""
    settings, now_us = get_settings(), _now_us()
    operator = operator_of(settings, "keys create")
    allowed = {*scopes, *scopes_of(roles)}
    if not allowed:
        raise click.UsageError("found neither --role nor --scope, expected one of them")
    require_apart(allowed, "one key")
    if operator.role == RECOVERY and allowed != {"admin"}:
        raise PermanentError(
            "found that no admin's key counts any more, expected one to be made first",
            hint="fraud-platform keys create --subject NAME --role admin",
        )
    expires_us = now_us + _lifetime_us(settings, expires_days)

    with in_use(settings.home), ExitStack() as audited:

        def make(text: str) -> ApiKey:
            key = ApiKey(
                id=id_of(text),
                environment=settings.access.environment,
                digest=digest_of(text),
                subject=subject,
                scopes=tuple(scope for scope in SCOPES if scope in allowed),
                created_us=now_us,
                expires_us=expires_us,
                requests_per_second=rate,
                burst=burst,
            )
            audited.enter_context(_recording(settings, operator, "key.create", None, key))
            return key

        try:
            text, made = _giving(settings).create(make, environment=settings.access.environment)
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
        click.echo("There are no keys: fraud-platform keys create --subject NAME --role scorer")


@keys.command()
@click.argument("key")
@_AS_JSON
def revoke(key: str, as_json: bool) -> None:
    """Take back the key with the id KEY: scorers refuse it within 5 seconds, for good."""
    settings, now_us = get_settings(), _now_us()
    operator = operator_of(settings, "keys revoke")

    with in_use(settings.home), ExitStack() as audited:

        def end(known: ApiKey) -> ApiKey:
            ended = replace(known, revoked_us=known.revoked_us or now_us)
            audited.enter_context(_recording(settings, operator, "key.revoke", known, ended))
            return ended

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
    operator = operator_of(settings, "keys rotate")
    end_us = now_us + round(overlap_hours * _HOUR_US)

    def retire(old: ApiKey) -> ApiKey:
        if (state := old.state(now_us)) != "active":
            raise PermanentError(
                f"found that the key {old.id} is {state}, expected one that counts",
                hint="fraud-platform keys create makes a key without a predecessor",
            )
        expires_us = end_us if old.expires_us is None else min(end_us, old.expires_us)
        return replace(old, expires_us=expires_us)

    with in_use(settings.home), ExitStack() as audited:

        def renew(old: ApiKey, text: str) -> ApiKey:
            if problem := old.limit_problem:
                raise PermanentError(problem, hint="fraud-platform keys create, then keys revoke")
            new = replace(
                old,
                id=id_of(text),
                digest=digest_of(text),
                created_us=now_us,
                expires_us=now_us + _renewed_us(settings, old),
                replaces=old.id,
            )
            audited.enter_context(_recording(settings, operator, "key.rotate", old, new))
            return new

        text, new, old = _giving(settings).rotate(named_id(key), retire, renew)
    _show_new(text, new, now_us, as_json)
    if not as_json:
        click.echo(f"The old key {old.id} counts until {_time(old.expires_us)}", err=True)


def _recording(
    settings: Settings, operator: Operator, action: str, was: ApiKey | None, becomes: ApiKey
) -> AbstractContextManager[object]:
    """Around one change of a key: what it becomes is in the audit log before it is."""
    act = operator.act(
        action,
        f"key:{becomes.id if was is None else was.id}",
        before="" if was is None else state_digest(was),
        after=state_digest(becomes),
        facts={
            "subject": becomes.subject,
            "scopes": " ".join(becomes.scopes),
            "expires": _time(becomes.expires_us) or "never",
            **({"new": becomes.id} if was is not None and was.id != becomes.id else {}),
        },
    )
    return audit_log_of(settings).recording(act)


def _lifetime_us(settings: Settings, days: int | None) -> int:
    policy = settings.access
    if days is not None and days > policy.longest_key_days:
        raise click.UsageError(
            f"found --expires-days {days}, expected at most {policy.longest_key_days}"
            " (FRAUD_ACCESS__LONGEST_KEY_DAYS)"
        )
    return (policy.key_days if days is None else days) * DAY_US


def _renewed_us(settings: Settings, old: ApiKey) -> int:
    """How long the successor of a key counts: as long as it did, but not without an end."""
    if old.expires_us is None:
        return _lifetime_us(settings, None)
    return min(old.expires_us - old.created_us, settings.access.longest_key_days * DAY_US)


def _giving(settings: Settings) -> KeyStore:
    """The store for who makes keys: it knows the further names of people that are in force."""
    rules = Docket(settings.models_dir, governance_of(settings)).rules()
    return KeyStore(settings.access_dir, rules.policy.person)


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
        "role": role_of(key.scopes),
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
    names = ("id", "subject", "role", "state", "created", "expires", "last_used_hour")
    heads = ("ID", "SUBJECT", "ROLE", "STATE", "CREATED", "EXPIRES", "LAST USED")
    lines = [heads, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _cell(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else "-" if value is None else str(value)


def _time(moment_us: int | None) -> str | None:
    return None if moment_us is None else moment_of(moment_us).strftime("%Y-%m-%dT%H:%M:%SZ")
