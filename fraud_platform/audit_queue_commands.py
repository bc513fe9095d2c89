"""The commands `fraud-platform audits ...`: what waits for somebody to find out what it was.

Thin: a command drains the journal, asks the queue and prints.
"""

import json
from contextlib import closing

import click

from fraud_platform.events import moment_of
from fraud_platform.settings import get_settings


@click.group()
def audits() -> None:
    """See which payments were drawn for an audit."""


@audits.command("list")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest first.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_audits(limit: int | None, as_json: bool) -> None:
    """List the payments that were drawn for an audit and have no audit's verdict yet.

    A label with source `audit` closes an entry (POST /v1/labels, or a file of labels); one that
    withdraws it opens the entry again. Cards are not named.
    """
    from fraud_platform.adapters.audit_queue import open_audits
    from fraud_platform.adapters.event_log import EventLog

    path = get_settings().log_path
    if path.exists():
        with closing(EventLog(path)) as log:
            log.drain()
    found = open_audits(path, limit=-1 if limit is None else limit)
    if as_json:
        click.echo(json.dumps([_facts(one._asdict()) for one in found], indent=1))
        return
    for one in found:
        click.echo(
            f"{one.transaction_id}  {moment_of(one.event_us):%Y-%m-%d %H:%M:%S}Z  "
            f"{one.amount_minor / 100:,.2f} {one.currency}  {one.terminal_id}  {one.decision}  "
            f"{_number(one.score)}  {' '.join(one.reasons) or '-'}  1 in "
            f"{1 / one.audit_propensity:,.0f}"
        )
    click.echo(f"{len(found)} payments wait for an audit")


def _facts(told: dict[str, object]) -> dict[str, object]:
    times = {"event_us": "event_timestamp", "decided_us": "decided_timestamp"}
    return {
        times.get(name, name): moment_of(value).isoformat() if name in times else value  # type: ignore[arg-type]  # times are integers
        for name, value in told.items()
    }


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
