"""The command `fraud-platform`: what a person or a script can ask of the platform.

Thin: each command reads the settings, calls one thing and prints. Errors of the platform end with
their message and exit code 1.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import click

from fraud_platform import audit_decision_commands
from fraud_platform.adapters.file_acts import recorded_file
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.operator import operator_of
from fraud_platform.approval_commands import approve, proposals, propose, reject
from fraud_platform.audit_commands import audit
from fraud_platform.audit_queue_commands import audits
from fraud_platform.backtest_commands import backtest
from fraud_platform.card_commands import scan
from fraud_platform.command_access import admit_all
from fraud_platform.decision_commands import decisions
from fraud_platform.errors import FraudPlatformError
from fraud_platform.evaluate_commands import evaluate
from fraud_platform.events import microseconds
from fraud_platform.feature_commands import features
from fraud_platform.heal_bench_commands import bench
from fraud_platform.heal_commands import heal
from fraud_platform.journal_commands import journal
from fraud_platform.key_commands import keys
from fraud_platform.load_commands import load
from fraud_platform.mirror_commands import mirror
from fraud_platform.model_commands import models
from fraud_platform.model_record_commands import card, reproduce
from fraud_platform.restore_commands import accept as accept_restore
from fraud_platform.retention_commands import retention
from fraud_platform.settings import Settings, get_settings, settings_table

Progress = Callable[[str, int, int], None]
_PATH = click.Path(path_type=Path)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except FraudPlatformError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A self-healing fraud-detection data platform."""


@main.command()
@click.argument("out", type=_PATH)
@click.option("--seed", default=20_260_105, show_default=True, help="Same seed, same bytes.")
@click.option("--start", default="2026-01-05", show_default=True, help="First day, UTC.")
@click.option("--days", default=75, show_default=True)
@click.option("--customers", default=1_000, show_default=True)
@click.option("--terminals", default=600, show_default=True)
@click.option("--scenario", help="Disturb the world: see --list-scenarios.")
@click.option("--since", help="First disturbed day, UTC; needed with --scenario.")
@click.option("--strength", default=1.0, show_default=True, help="Of the scenario.")
@click.option(
    "--list-scenarios",
    is_flag=True,
    is_eager=True,
    callback=lambda *a: _scenarios(*a),
    help="Print their names.",
)
def simulate(  # noqa: PLR0913 -- one argument per option
    out: Path,
    seed: int,
    start: str,
    days: int,
    customers: int,
    terminals: int,
    scenario: str | None,
    since: str | None,
    strength: float,
    list_scenarios: bool,
) -> None:
    """Write a simulated world of card payments to OUT (Parquet), and its mapping beside it."""
    from fraud_platform.adapters.world_file import write_world
    from fraud_platform.simulation.scenarios import Scenario, inject
    from fraud_platform.simulation.world import World
    from fraud_platform.simulation.world import simulate as run

    world = World(
        seed=seed, start=_midnight(start), days=days, customers=customers, terminals=terminals
    )
    frame = run(world)
    if scenario is not None:
        if since is None:
            raise click.UsageError("--scenario needs --since")
        frame = inject(
            frame, Scenario(scenario), since=_midnight(since), seed=seed, strength=strength
        )
    mapping = write_world(frame, out)
    click.echo(f"{frame.height:,} transactions, {frame['is_fraud'].sum():,} frauds: {out}")
    click.echo(f"mapping: {mapping}")


@main.command()
@click.argument("path", type=_PATH)
@click.option("--mapping", "mapping_path", required=True, type=_PATH, help="What columns mean.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def ingest(path: Path, mapping_path: Path, as_json: bool) -> None:
    """Take a CSV or Parquet file of transactions into the event log."""
    from fraud_platform.adapters import ingest as door
    from fraud_platform.adapters.event_log import EventLog
    from fraud_platform.adapters.home import in_use
    from fraud_platform.adapters.log_seals import seals_of

    settings = get_settings()
    operator = operator_of(settings, "ingest")
    with (
        in_use(settings.home),
        recorded_file("log.ingest", path, operator, settings) as counts,
        _progress(quiet=as_json) as progress,
    ):
        summary = door.ingest(
            path,
            door.read_mapping(mapping_path),
            log=EventLog(settings.log_path),
            policy=settings.validation,
            received=datetime.now(UTC),
            token_key=_token_key(settings),
            progress=progress,
        )
        counts.update(summary.to_dict())
    seals_of(settings).seal()
    click.echo(json.dumps(summary.to_dict(), indent=1) if as_json else summary.to_text())


@main.command()
@click.option("--host", help="Address to listen on.  [FRAUD_SCORER_HOST, or 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port; 0 takes a free one and prints it.  [FRAUD_SCORER_PORT, or 8080]",
)
@click.option(
    "--fronts",
    type=click.IntRange(0, 64),
    help="HTTP processes in front of the one that decides.  [FRAUD_SCORER_FRONTS, or 0]",
)
def serve(host: str | None, port: int | None, fronts: int | None) -> None:
    """Run the scorer: answer payments over HTTP until SIGTERM or Ctrl-C.

    It decides with the champion of this home (FRAUD_HOME), takes over the next one by itself, and
    sends payments to review while there is none. Every decision is on disk before it is answered.

    Anybody on this machine may ask until there is a key. From elsewhere a key is needed, for
    example: fraud-platform keys create --subject checkout --scope score

    One process decides, since a payment's windows must see all others. Where it is busy most of
    the time, --fronts 2 takes HTTP off its hands.

    The page at / describes the API. /health/ready says whether payments are decided, /metrics is
    for Prometheus. On SIGTERM it stops accepting, answers what is under way and ends.
    FRAUD_LOG_FORMAT=json writes the log as JSON; FRAUD_SANDBOX=true answers test cards. All
    settings: fraud-platform settings.
    """
    from serving.__main__ import run

    told = {"scorer_host": host, "scorer_port": port, "scorer_fronts": fronts}
    changes = {name: value for name, value in told.items() if value is not None}
    run(get_settings().model_copy(update=changes))


@main.command()
@click.argument("order", required=False, type=click.Choice(["normal", "rules_only", "closed"]))
@click.option("--reason", help="Why; needed unless the order is normal.")
@click.option("--by", help="Who orders it; default: the operator key's, or the login name.")
def mode(order: str | None, reason: str | None, by: str) -> None:
    """Show or order the best mode that the scorers of this home may answer in."""
    from fraud_platform.adapters.mode_order import ModeOrder, read_order, write_order
    from fraud_platform.modes import Mode

    path = get_settings().mode_path
    if order is not None:
        operator = operator_of(get_settings(), "mode ORDER", by)
        if order != Mode.NORMAL and not reason:
            raise click.UsageError("found no --reason, expected one: others will ask why")
        now_us = microseconds(datetime.now(UTC))
        told = ModeOrder(mode=Mode(order), reason=reason or "", ordered_by=by, ordered_us=now_us)
        by_whom = {"role": operator.role, "origin": operator.origin}
        write_order(path, told, governance_of(get_settings()), **by_whom)
    found = read_order(path)
    click.echo(f"{found.mode} {found.ordered_by} {found.reason}".strip())


@main.command()
@click.option("--dagster-port", default=3000, show_default=True)
@click.option("--mlflow-port", default=5000, show_default=True)
def up(dagster_port: int, mlflow_port: int) -> None:
    """Run Dagster's UI and daemon, the scorer and MLflow's UI until Ctrl-C."""
    from fraud_platform.up import run_until_interrupted

    run_until_interrupted(
        get_settings(), dagster_port=dagster_port, mlflow_port=mlflow_port, say=click.echo
    )


@main.command()
@click.option("--data", type=_PATH, help="Your own CSV or Parquet file instead of a simulation.")
@click.option("--mapping", "mapping_path", type=_PATH, help="What its columns mean.")
@click.option("--days", default=None, type=int, help="Use the first DAYS days of the data.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def demo(data: Path | None, mapping_path: Path | None, days: int | None, as_json: bool) -> None:
    """Run the whole loop once: train, serve, drift, notice, retrain, swap."""
    from fraud_platform.demo.story import run_demo

    if (data is None) != (mapping_path is None):
        raise click.UsageError("--data and --mapping go together")
    closed = run_demo(
        home=get_settings().home, data=data, mapping_path=mapping_path, days=days, as_json=as_json
    )
    sys.exit(0 if closed else 1)


@main.command("settings")
def settings_() -> None:
    """Print every setting, its default and its meaning, as a Markdown table."""
    click.echo(settings_table())


models.add_command(reproduce)
models.add_command(card)
main.add_command(features)
main.add_command(journal)
main.add_command(decisions)
main.add_command(mirror)
main.add_command(keys)
main.add_command(load)
main.add_command(evaluate)
audit_decision_commands.join(audit)
main.add_command(audit)
main.add_command(audits)
main.add_command(scan)
main.add_command(retention)
main.add_command(backtest)
main.add_command(models)
for command in (proposals, propose, approve, reject, accept_restore):
    main.add_command(command)
heal.add_command(bench)
main.add_command(heal)
admit_all(main)  # last: what is added behind it would have no door


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar for people; nothing when a program reads the output."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, object] = {}

        def show(what: str, done: int, total: int) -> None:
            task = tasks.setdefault(what, bar.add_task(what, total=total))
            bar.update(task, completed=done, total=total)  # type: ignore[arg-type]  # rich's id

        yield show


def _token_key(settings: Settings) -> bytes | None:
    return settings.token_key.get_secret_value().encode() if settings.token_key else None


def _midnight(day: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    except ValueError as error:
        raise click.UsageError(f"found {day!r}, expected a day such as 2026-01-05") from error


def _scenarios(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from fraud_platform.simulation.scenarios import Scenario

        click.echo("\n".join(scenario.value for scenario in Scenario))
        ctx.exit()


if __name__ == "__main__":
    main()
