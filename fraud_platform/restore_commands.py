"""The command `fraud-platform accept-restore`: go on with files older than the audit log."""

import time

import click

from fraud_platform.adapters.accepted_restore import accept_restore
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.notices import Notice, notices_of
from fraud_platform.adapters.operator import operator_of
from fraud_platform.audit_log.acts import shown
from fraud_platform.events import moment_of
from fraud_platform.settings import get_settings


@click.command("accept-restore")
@click.option("--by", help="Who accepts it; default: the operator key's, or the login name.")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
def accept(by: str, reason: str) -> None:
    """Take `models/` and `heal/` as they are, and give up what only the audit log still has."""
    settings = get_settings()
    operator = operator_of(settings, "accept-restore", by)
    mandate = Mandate(by=operator.subject, why=reason, role=operator.role, origin=operator.origin)
    with in_use(settings.home):
        lost = accept_restore(settings, mandate)
    for row in lost:
        at = moment_of(row.at_us).isoformat(timespec="seconds")
        why = f": {row.reason}" if row.reason else ""
        click.echo(
            shown(f"given up: row {row.begun}, {at} {row.action} {row.object} by {row.actor}{why}")
        )
    text = f"{operator.subject} gives up {len(lost)} acts that no file has any more: {reason}"
    now_us = time.time_ns() // 1000
    told = Notice(act_id=f"restore-{now_us}", at_us=now_us, cause="restore", text=text)
    notices_of(settings).page(told)
    click.echo(f"{len(lost)} acts are given up. Open proposals are over; look at the roles:")
    click.echo("fraud-platform models show; where healing lost any: fraud-platform heal resume")
