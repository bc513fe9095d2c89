"""The command `fraud-platform load`: stream payments to a scorer, and measure its answers.

Thin: finds payments, a target and the scorer's process, runs `load.loops` and prints.
"""

import asyncio
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from fraud_platform.errors import PermanentError
from fraud_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    import polars as pl

    from fraud_platform.load.client import Target
    from fraud_platform.load.loops import Tally
    from fraud_platform.load.payments import Payments
    from fraud_platform.load.report import Report

_PATH = click.Path(path_type=Path)
_DAYS = 2
"""Length of the simulated world: its payments are never late for a state that is up to date."""
_LARGEST_WORLD = 100_000
"""Payments that are simulated; a longer run begins again with them, under new ids."""
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+")


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """What `load` was asked for; the options' help says what each is."""

    url: str | None
    rate: float
    seconds: float
    connections: int
    arrivals: str
    repeat_share: float
    data: Path | None
    mapping_path: Path | None
    seed: int

    @property
    def requests(self) -> int:
        """About how many requests it takes, and some more, because chance may want them."""
        return int(self.rate * self.seconds * 1.1) + 100


@click.command()
@click.argument("url", required=False)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Payments per second, whether or not the earlier ones are answered.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long to send.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="So many may be under way at once; the others wait, and their clock runs.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "steady"]),
    default="poisson",
    show_default=True,
    help="By chance as of independent senders, or at one distance.",
)
@click.option(
    "--repeat-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of requests that send an answered payment again; it must get the same decision.",
)
@click.option("--data", type=_PATH, help="A CSV or Parquet file; without it: a simulation.")
@click.option("--mapping", "mapping_path", type=_PATH, help="What the file's columns mean.")
@click.option("--seed", default=20_260_105, show_default=True, help="Of payments and moments.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def load(as_json: bool, **options: object) -> None:
    """Stream payments to the scorer at URL and measure how long its decisions take.

    URL is the scorer of the settings when left out. Latency counts from the moment a payment
    should have been sent, so a scorer that pauses is charged for everyone who would have come
    meanwhile. Payments are moved to now, under ids of their own. The key, if the scorer needs one,
    is read from FRAUD_API_KEY.

    The decisions are real: they enter the scorer's log. Exit code 0 if every payment got a
    decision, and every repeat the same one; else 1.
    """
    run = msgspec.convert(options, _Run)
    if (run.data is None) != (run.mapping_path is None):
        raise click.UsageError("--data and --mapping go together")
    report = _measure(run, get_settings())
    click.echo(json.dumps(report.to_dict(), indent=1) if as_json else report.to_text())
    sys.exit(0 if report.is_sound else 1)


def _measure(run: _Run, settings: Settings) -> "Report":
    from fraud_platform.adapters.processor_time import listener, waiting
    from fraud_platform.load.payments import Payments
    from fraud_platform.load.report import Report

    target = _target(run, settings)
    payments = Payments(
        _payments(run, settings),
        requests=run.requests,
        newest=datetime.now(UTC),  # noqa: TID251 -- an entry point reads the clock
        repeat_share=run.repeat_share,
        seed=run.seed,
    )
    scorer = listener(target.host, target.port)
    before = None if scorer is None else waiting(scorer)
    tally = _streamed(run, target, payments)
    return Report(
        tally=tally,
        rate=run.rate,
        seconds=run.seconds,
        repeated=payments.repeated,
        different=payments.different,
        run_queue_share=None
        if scorer is None or before is None
        else waiting(scorer).share_since(before),
    )


def _streamed(run: _Run, target: "Target", payments: "Payments") -> "Tally":
    import uvloop

    from fraud_platform.load.loops import open_loop, poisson, steady

    arrivals = poisson(run.rate, run.seed) if run.arrivals == "poisson" else steady(run.rate)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            open_loop(target, payments, arrivals, seconds=run.seconds, connections=run.connections)
        )


def _target(run: _Run, settings: Settings) -> "Target":
    from fraud_platform.load.client import Target
    from fraud_platform.load.payments import ROUTE

    headers = {}
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        if not _HEADER_TEXT.fullmatch(key):
            raise PermanentError(
                "found a key with blanks or other signs that no key has, expected one word",
                hint="check FRAUD_API_KEY",
            )
        headers["authorization"] = f"Bearer {key}"
    default = f"http://{settings.scorer_host}:{settings.scorer_port}"
    return Target.of(run.url or default, ROUTE, headers)


def _payments(run: _Run, settings: Settings) -> "pl.DataFrame":
    """The payments to send, oldest first."""
    if run.data is None or run.mapping_path is None:
        return _simulated(run)
    from fraud_platform.adapters import replay_source
    from fraud_platform.adapters.ingest import read_mapping

    key = settings.token_key
    source = replay_source.read_file(
        run.data,
        read_mapping(run.mapping_path),
        policy=settings.validation,
        received=datetime.now(UTC),  # noqa: TID251 -- an entry point reads the clock
        token_key=key.get_secret_value().encode() if key else None,
    )
    return source.log.transactions.head(run.requests)


def _simulated(run: _Run) -> "pl.DataFrame":
    from fraud_platform.simulation.world import World, simulate

    payments = min(run.requests, _LARGEST_WORLD)
    # about two payments per customer and day
    customers = max(payments // (2 * _DAYS), 50)
    world = World(
        seed=run.seed, days=_DAYS, customers=customers, terminals=max(customers * 3 // 5, 20)
    )
    return simulate(world).head(payments)
