"""The commands `fraud-platform audit ...`: read, sign, seal, prove and check the audit log.

Thin: a command records who asks, asks the log and prints.
"""

import json
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fraud_platform.audit_log.acts import shown
from fraud_platform.audit_log.rows import Row
from fraud_platform.events import microseconds, moment_of
from fraud_platform.settings import Settings, get_settings

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.group()
def audit() -> None:
    """Read the audit log, take out proofs, and check it."""


@audit.command()
@click.option("--anchor", "anchors", multiple=True, type=_PATH, help="Heads kept elsewhere.")
@click.option("--first-key", type=_PATH, help="The first key of the MACs.")
@click.option("--public", type=_PATH, help="The public key of the heads.")
@click.option("--since-last", is_flag=True, help="Only rows since the last check.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(
    anchors: tuple[Path, ...],
    first_key: Path | None,
    public: Path | None,
    since_last: bool,
    as_json: bool,
) -> None:
    """Check that the audit log, and the event log it seals, are what was written.

    Exit code 1 and the first bad row where they are not.
    """
    from fraud_platform.adapters.audit_check import Wanted, recorded_check
    from fraud_platform.adapters.operator import operator_of

    settings = get_settings()
    wanted = Wanted(anchors=anchors, first_key=first_key, public=public, whole=not since_last)
    check = recorded_check(settings, operator_of(settings, "audit verify").act, wanted)
    outcome = "intact" if check.is_intact else "damaged"
    found = [check.log.finding] if check.log.finding else []
    told = {
        "log": check.log.name,
        "rows": check.log.rows,
        "size": check.log.size,
        "heads": check.log.heads,
        "has_macs": check.log.has_macs,
        "ranges": check.compared,
        "purged_ranges": check.purged,
        "unsettled": list(check.log.unsettled),
        "findings": [{**one._asdict(), "where": "audit log"} for one in found]
        + [{**one._asdict(), "where": "event log"} for one in check.ranges],
        "remarks": list(check.remarks),
    }
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        _say(check.log.rows, check.log.size, check.log.heads, outcome)
        for text in check.findings:
            click.echo(f"- {text}")
        if check.purged:
            click.echo(f"note: {check.purged:,} ranges of the event log were purged by retention")
        for seq in check.log.unsettled:
            click.echo(f"note: the act of row {seq:,} began and was interrupted")
        for text in check.remarks:
            click.echo(f"note: {text}")
    sys.exit(0 if check.is_intact else 1)


@audit.command()
@click.argument("decision_id")
@click.option("--out", type=_PATH, help="Write the proof here instead of printing it.")
def prove(decision_id: str, out: Path | None) -> None:
    """Take out a proof of what was recorded of a payment, for deploy/verify_audit.py.

    DECISION_ID is a decision_id or the transaction_id of a payment.
    """
    from fraud_platform.adapters.decision_proof import decision_proof
    from fraud_platform.adapters.decision_search import audited_name

    settings = get_settings()
    named = audited_name(settings, decision_id)
    _record(settings, "audit prove", "audit.prove", f"transaction:{named}")
    text = json.dumps(decision_proof(settings, decision_id), separators=(",", ":"))
    _hand_out(f"{text}\n", out)


@audit.command("log")
@click.option("--actor", help="Only what this subject did.")
@click.option("--action", help="Only this act; model.* for all that begin so.")
@click.option("--object", "on", help="Only what was done to this; model:* for all that begin so.")
@click.option("--since", help="Only from this day or moment on, UTC.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def log_(
    actor: str | None,
    action: str | None,
    on: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what was recorded, the newest first."""
    from fraud_platform.adapters.audit_log import audit_log_of
    from fraud_platform.adapters.audit_store import RowFilter

    settings = get_settings()
    _record(settings, "audit log", "audit.read", "log")
    which = RowFilter(actor=actor, action=action, object=on, since_us=_since(since))
    rows = audit_log_of(settings).rows(which, limit=limit, newest=True)
    if as_json:
        click.echo(json.dumps([_facts(row) for row in rows], indent=1))
        return
    for row in rows:
        click.echo(_line(row))


@audit.command()
@click.option("--since", type=_PATH, help="A head kept elsewhere: print what leads from it to now.")
@click.option("--out", type=_PATH, help="Write it here instead of printing it.")
def head(since: Path | None, out: Path | None) -> None:
    """Print the signed head of all rows so far, to be kept where nobody here writes.

    With --since, as JSON: the new head, and the hashes that prove that it continues the old one.
    """
    from fraud_platform.adapters.audit_log import audit_log_of
    from fraud_platform.audit_log.heads import parse_heads
    from fraud_platform.audit_log.merkle import consistency
    from fraud_platform.audit_log.rows import leaf

    settings = get_settings()
    _record(settings, "audit head", "audit.head", "log")
    log = audit_log_of(settings)
    newest = log.head()
    if newest is None or since is None:
        _hand_out(newest.note if newest else "", out)
        return
    old = max(parse_heads(since.read_text("utf-8")), key=lambda one: one.size)
    leaves = [leaf(row) for row in log.rows(limit=newest.size)]
    path = b64encode(b"".join(consistency(leaves, old.size))).decode()
    _hand_out(f"{json.dumps({'head': newest.note, 'old_size': old.size, 'path': path})}\n", out)


@audit.command()
def seal() -> None:
    """Seal what the event log has got since the last seal."""
    from fraud_platform.adapters.event_log import EventLog
    from fraud_platform.adapters.log_seals import seals_of

    settings = get_settings()
    if settings.log_path.exists():
        log = EventLog(settings.log_path)
        log.drain()
        log.close()
    click.echo(f"{seals_of(settings).seal():,} positions of the event log sealed")


def _hand_out(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    out.write_text(text, "utf-8")
    click.echo(f"{len(text.encode()):,} bytes: {out}")


def _record(settings: Settings, command: str, action: str, on: str) -> None:
    from fraud_platform.adapters.audit_log import audit_log_of
    from fraud_platform.adapters.operator import operator_of

    act = operator_of(settings, command).act(action, on)
    audit_log_of(settings).record(act)


def _say(rows: int, size: int, heads: int, outcome: str) -> None:
    click.echo(f"{outcome}: {rows:,} of {size:,} rows read, {heads:,} heads")


def _line(row: Row) -> str:
    role = f" ({row.role})" if row.role else ""
    facts = " ".join(f"{name}={value}" for name, value in row.told.items())
    told = " ".join(text for text in (row.reason, facts) if text)
    return shown(
        f"{row.seq:>7} {moment_of(row.at_us):%Y-%m-%d %H:%M:%S}Z {row.actor}{role}  {row.action}"
        f"  {row.object}  {row.outcome}  {row.origin}  {told}".rstrip()
    )


def _facts(row: Row) -> dict[str, Any]:
    told = row._asdict() | {"facts": row.told, "at": moment_of(row.at_us).isoformat()}
    return told | {"chain": row.chain.hex(), "mac": row.mac.hex()}


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"found {text!r}, expected a day such as 2026-01-05") from error
    return microseconds(found if found.tzinfo else found.replace(tzinfo=UTC))
