"""The commands `fraud-platform features ...`: proofs about the features, on any log.

Thin: a command puts a log, an engine and a backend together, runs `features.replay` and prints.
"""

import json
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from fraud_platform.errors import PermanentError, UnavailableError
from fraud_platform.features.engines import Engine, compute_by
from fraud_platform.features.journal import Journal, Repeats
from fraud_platform.features.replay import Report, Restarting, replay
from fraud_platform.features.state import FeatureState
from fraud_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from fraud_platform.adapters.sharded_features import Runner

_PATH = click.Path(path_type=Path)
_SHARE = click.FloatRange(0, 1)
_SEED = 20_260_105


@click.group()
def features() -> None:
    """Compute the features, and prove that they are the same offline and online."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What `verify` was asked for; the options' help says what each is."""

    data: Path | None
    mapping_path: Path | None
    backend: str
    engine: str
    late: float
    duplicates: float
    restart_every: int
    seed: int
    every: int


@features.command()
@click.option("--data", type=_PATH, help="A CSV or Parquet file; without it: the home's event log.")
@click.option("--mapping", "mapping_path", type=_PATH, help="What the file's columns mean.")
@click.option(
    "--backend",
    type=click.Choice(["memory", "sqlite", "redis"]),
    default="memory",
    show_default=True,
    help="Where the online side keeps its state.",
)
@click.option(
    "--engine",
    type=click.Choice(["polars", "kernel"]),
    default="polars",
    show_default=True,
    help="What computes the batch side.",
)
@click.option("--late", type=_SHARE, default=0.0, help="Share of events that arrive late.")
@click.option("--duplicates", type=_SHARE, default=0.0, help="Share of events delivered twice.")
@click.option(
    "--restart-every",
    type=click.IntRange(min=0),
    default=0,
    help="Start again from the snapshot, file or server after every so many deliveries.",
)
@click.option("--seed", default=_SEED, show_default=True, help="Same seed, same disturbance.")
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Take about each N-th card, by a hash of its id, as if there were no others.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(as_json: bool, **options: object) -> None:
    """Replay a whole log through the online path; compare every value with the batch table.

    Exit code 0 if values were compared and every one was equal, bit for bit; else 1.
    """
    run = _Run(**options)  # type: ignore[arg-type]  # click made each option what _Run says
    if (run.data is None) != (run.mapping_path is None):
        raise click.UsageError("--data and --mapping go together")
    found, facts = _verify(run, get_settings())
    told = facts | found.to_dict()
    click.echo(json.dumps(told, indent=1) if as_json else _text(told))
    sys.exit(0 if found.is_exact else 1)


def _verify(run: _Run, settings: Settings) -> tuple[Report, dict[str, object]]:
    """The report, and what is worth telling beside it."""
    started = time.perf_counter()
    compute = compute_by(Engine(run.engine))  # first: a long run must not end at a missing library
    with _backend(run.backend, settings) as (state, restarted):
        log, refused = _log(run, settings)
        read = time.perf_counter()
        batch = compute(log.transactions, log.labels)
        computed = time.perf_counter()
        if run.restart_every:
            state = Restarting(state, run.restart_every, restarted)
        with _bar(log.events) as progress:
            repeats = Repeats(run.duplicates, run.seed)
            found = replay(log, batch, state, repeats=repeats, progress=progress)
        done = time.perf_counter()
    seconds = {
        "seconds": round(done - started, 1),
        "seconds_to_read": round(read - started, 1),
        "seconds_in_batch": round(computed - read, 1),
        "seconds_online": round(done - computed, 1),
    }
    asked = {"backend": run.backend, "engine": run.engine, "every": run.every, "seed": run.seed}
    restarts = {"restarts": state.restarts if isinstance(state, Restarting) else 0}
    return found, asked | refused | seconds | restarts


def _log(run: _Run, settings: Settings) -> tuple[Journal, dict[str, object]]:
    """The log to replay, disturbed as asked, and the rows of a file that are not in it."""
    from fraud_platform.adapters import replay_source
    from fraud_platform.adapters.event_log import EventLog
    from fraud_platform.adapters.home import in_use
    from fraud_platform.adapters.ingest import read_mapping

    if run.data is None or run.mapping_path is None:
        with in_use(settings.home):
            source = replay_source.read_log(EventLog(settings.log_path))
    else:
        key = settings.token_key
        source = replay_source.read_file(
            run.data,
            read_mapping(run.mapping_path),
            policy=settings.validation,
            received=datetime.now(UTC),  # noqa: TID251 -- an entry point reads the clock
            token_key=key.get_secret_value().encode() if key else None,
        )
    log = source.log.of_cards(1 / run.every) if run.every > 1 else source.log
    if run.late:
        log = log.disturbed(late=run.late, seed=run.seed)
    told: dict[str, object] = {
        "rows_refused": source.rows_refused,
        "rows_repeated": source.rows_repeated,
        "purged_positions": source.purged_positions,
    }
    return log, told


@contextmanager
def _backend(name: str, settings: Settings) -> Iterator[tuple[FeatureState, "_Restarted"]]:
    """An empty state that nothing else uses, and what goes on where a state stopped."""
    if name == "memory":
        from fraud_platform.features.rings import FeatureRings

        yield FeatureRings(), _from_snapshot
    elif name == "sqlite":
        from fraud_platform.adapters.sqlite_state import SqliteState

        with (
            tempfile.TemporaryDirectory() as folder,
            closing(_Stored(lambda: SqliteState(Path(folder) / "state.db"))) as stored,
        ):
            yield stored.state, stored.again
    else:
        with _redis(settings) as stored:
            yield stored.state, stored.again


@contextmanager
def _redis(settings: Settings) -> Iterator["_Stored"]:
    """A state on the Redis of the settings, under keys of its own that are removed in the end."""
    if settings.redis_url is None:
        raise PermanentError(
            "found no Redis to use, expected its address in FRAUD_REDIS_URL",
            hint="FRAUD_REDIS_URL=redis://127.0.0.1:6379/0 fraud-platform features verify ...",
        )
    from fraud_platform.adapters.redis_state import RedisState

    url, space = settings.redis_url.get_secret_value(), f"fraud-verify-{uuid.uuid4().hex}"
    with closing(_Stored(lambda: RedisState(url, space=space))) as stored:
        try:
            yield stored
        finally:
            with RedisState(url, space=space) as state:
                state.clear()


_Restarted = Callable[[FeatureState], FeatureState]


class _Closable(FeatureState, Protocol):
    def close(self) -> None: ...


class _Stored:
    """A state that outlives its client: closed and opened again, it goes on."""

    def __init__(self, opened: Callable[[], _Closable]) -> None:
        self._opened = opened
        self.state = opened()

    def again(self, _: FeatureState) -> FeatureState:
        """A new client instead of the old one."""
        self.close()
        self.state = self._opened()
        return self.state

    def close(self) -> None:
        self.state.close()


def _from_snapshot(state: FeatureState) -> FeatureState:
    from fraud_platform.features.rings import FeatureRings

    if not isinstance(state, FeatureRings):
        raise TypeError(f"a {type(state).__name__} has no snapshot")
    return FeatureRings.restore(state.snapshot())


@contextmanager
def _bar(events: int) -> Iterator[Callable[[int], None] | None]:
    """A progress bar for people, on stderr; none where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=events, label="replay", file=sys.stderr) as bar:
        yield lambda done: bar.update(max(0, min(done, events) - bar.pos))


def _text(told: dict[str, object]) -> str:
    """Aligned lines for people: numbers first, then what differs, if anything does."""
    by_feature, first = told.pop("mismatches_by_feature"), told.pop("first_mismatches")
    width = max(len(name) for name in told)
    lines = [
        f"{name.replace('_', ' '):<{width}}  {value:>14,}"
        if isinstance(value, int)
        else f"{name.replace('_', ' '):<{width}}  {value!s:>14}"
        for name, value in told.items()
    ]
    if isinstance(by_feature, dict):
        lines += [f"  {name}: {count:,}" for name, count in by_feature.items()]
    if isinstance(first, list):
        lines += [f"  {mismatch}" for mismatch in first]
    return "\n".join(lines)


@features.command()
@click.option("--transactions", required=True, type=_PATH, help="Parquet file, or folder of them.")
@click.option("--labels", required=True, type=_PATH, help="The same, of verdicts.")
@click.option("--out", required=True, type=_PATH, help="Folder to write; it must not exist.")
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Cards and terminals are split into so many; more need less memory.",
)
@click.option("--dask", "address", help="Scheduler of a Dask cluster that sees the same folders.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def compute(**options: object) -> None:
    """Compute the whole feature table from Parquet into Parquet, shard by shard, out of core.

    The input has the columns of the event log's tables. Prints a digest that does not depend on
    the number of shards or processes, and the largest memory of any process that took part.
    """
    from fraud_platform.adapters.sharded_features import compute_out_of_core

    asked = _Computation(**options)  # type: ignore[arg-type]  # click made each option what it says
    with _runner(asked.address) as run:
        report = compute_out_of_core(
            asked.transactions, asked.labels, asked.out, shards=asked.shards, run=run
        )
    click.echo(json.dumps(report.to_dict(), indent=1) if asked.as_json else report.to_text())


@dataclass(frozen=True, kw_only=True)
class _Computation:
    """What `compute` was asked for; the options' help says what each is."""

    transactions: Path
    labels: Path
    out: Path
    shards: int
    address: str | None
    as_json: bool


@contextmanager
def _runner(address: str | None) -> "Iterator[Runner]":
    """How shards are computed: in this process, or on the cluster at an address."""
    from fraud_platform.adapters.sharded_features import on_dask, one_after_the_other

    if address is None:
        yield one_after_the_other
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise PermanentError(
            f"found no {error.name}, which talks to Dask clusters",
            hint="pip install 'fraud-platform[scale]', or leave --dask away",
        ) from error
    try:
        client = Client(address)  # type: ignore[no-untyped-call]  # Dask types only some functions
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"found no Dask scheduler at {address}: {error}", hint="check the address of --dask"
        ) from error
    with client:
        yield on_dask(client)
