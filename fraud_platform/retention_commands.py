"""The commands `fraud-platform retention ...`: how long data are kept, and what goes.

Thin: a command asks the purge, records and prints.
"""

import json
import time

import click

from fraud_platform.settings import get_settings


@click.group()
def retention() -> None:
    """Keep data as long as they are needed, and prove what was purged."""


@retention.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(as_json: bool) -> None:
    """Say of each class of data how long it is kept, how old it is and what is due."""
    from fraud_platform.adapters.retention_run import status_of

    found = status_of(get_settings(), _now_us())
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1, default=str))
        return
    for one in found.classes:
        limit = "for ever" if one.days is None else f"{one.days} days"
        oldest = "nothing there" if one.oldest is None else f"oldest {one.oldest:%Y-%m-%d}"
        click.echo(f"{one.name:<8} kept {limit:<10} {oldest:<18} due {one.due:,} {one.unit}")
    for row in found.unsettled:
        click.echo(f"note: the purge of row {row:,} was interrupted; the next one carries it out")
    if found.mirror:
        click.echo("note: the mirror in PostgreSQL is purged with the log")
    if found.hold:
        click.echo(f"HOLD: nothing is purged: {found.hold}")


@retention.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def purge(dry_run: bool, as_json: bool) -> None:
    """Delete what is past its limit and not needed any more.

    The audit log has it, before and after. Under a hold nothing goes, and the exit code is 1.
    """
    from fraud_platform.adapters.operator import operator_of
    from fraud_platform.adapters.retention_run import planned
    from fraud_platform.adapters.retention_run import purge as run

    settings = get_settings()
    if dry_run:
        report = planned(settings, _now_us())
    else:
        report = run(settings, operator_of(settings, "retention purge").act, _now_us())
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        for one in report.purged:
            told = f"purged (row {one.audit_row:,} of the audit log)" if one.audit_row else "due"
            click.echo(f"{one.name}: {one.count:,} {one.unit} {told}")
        for row in report.settled:
            click.echo(f"the interrupted purge of row {row:,} was carried out")
        if not (report.purged or report.settled or report.hold):
            click.echo("nothing is due")
        if report.hold:
            click.echo(f"HOLD: nothing is purged: {report.hold}")
    if report.hold:
        raise SystemExit(1)


@retention.command()
@click.argument("reason")
def hold(reason: str) -> None:
    """Stop all purges, for REASON, until a release."""
    from fraud_platform.adapters.operator import operator_of
    from fraud_platform.adapters.retention_run import hold as run

    settings = get_settings()
    row = run(settings, operator_of(settings, "retention hold").act, reason)
    click.echo(f"nothing is purged from now on (row {row:,} of the audit log)")


@retention.command()
@click.argument("reason")
def release(reason: str) -> None:
    """Let purges go on, for REASON."""
    from fraud_platform.adapters.operator import operator_of
    from fraud_platform.adapters.retention_run import release as run

    settings = get_settings()
    row = run(settings, operator_of(settings, "retention release").act, reason)
    click.echo(f"purges go on (row {row:,} of the audit log)")


def _now_us() -> int:
    return time.time_ns() // 1_000
