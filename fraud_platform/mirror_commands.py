"""The commands `fraud-platform mirror ...`: the event log in PostgreSQL.

Thin: a command reads the settings, runs the mirror or reads its status, and prints.
"""

import json
import logging
import signal
import sys
import threading
import time
from dataclasses import asdict

import click

from fraud_platform.adapters.mirror_status import is_away, read_status, status_path
from fraud_platform.settings import get_settings

_CONFLICTS = 3
"""Exit code when PostgreSQL holds a row otherwise than the log."""


@click.group(invoke_without_command=True)
@click.option("--once", is_flag=True, help="Bring over what the log holds now, then end.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def mirror(ctx: click.Context, once: bool, as_json: bool) -> None:
    """Bring the event log into PostgreSQL (FRAUD_POSTGRES_URL), exactly once, until stopped.

    The schema is made and upgraded at the start. PostgreSQL may go away and come back. SIGTERM and
    Ctrl-C end it between two batches.

    Exit code 0 when stopped or done, 1 for an error, 3 when PostgreSQL holds a row otherwise than
    the log: see its table `conflicts`.
    """
    if ctx.invoked_subcommand is not None:
        return
    from fraud_platform.adapters import postgres_mirror
    from fraud_platform.adapters.home import in_use

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings, stop = get_settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with in_use(settings.home):
        if not once:
            postgres_mirror.run(settings, stop)
            return
        done = asdict(postgres_mirror.run_once(settings, stop))
    click.echo(
        json.dumps(done, indent=1)
        if as_json
        else f"{done['rows']:,} rows in {done['seconds']:.1f} s, up to {done['seq']:,};"
        f" {done['behind_rows']:,} behind, {done['conflicts']:,} conflicts"
    )
    sys.exit(_CONFLICTS if done["conflicts"] else 0)


@mirror.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(as_json: bool) -> None:
    """Say how far behind PostgreSQL is, from what the mirror wrote last.

    Exit code 0 when PostgreSQL answered lately, 1 when it is away or no mirror runs, 3 when there
    are conflicts.
    """
    settings, now = get_settings(), time.time()
    found = read_status(status_path(settings.log_path))
    away = is_away(found, now=now, since=0.0, after=settings.mirror_away_seconds)
    told: dict[str, object] = {"away": away, **(asdict(found) if found else {"state": "never ran"})}
    click.echo(
        json.dumps(told, indent=1)
        if as_json
        else "\n".join(f"{name:16}{'' if value is None else value}" for name, value in told.items())
    )
    sys.exit(1 if away else _CONFLICTS if found and found.conflicts else 0)
