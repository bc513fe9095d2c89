"""What the demonstration plays: the data, cut into history, a healthy stretch and an incident.

Pure but for reading the user's file. Playing it is `story`.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from fraud_platform.adapters.ingest import read_mapping
from fraud_platform.adapters.source_files import read_batches
from fraud_platform.adapters.world_file import write_world
from fraud_platform.errors import PermanentError
from fraud_platform.mapping import Mapping
from fraud_platform.schemas import PAYLOAD_COLUMNS
from fraud_platform.simulation.fraud import ChargebackDelay
from fraud_platform.simulation.scenarios import Scenario, inject
from fraud_platform.simulation.world import World, simulate

SEED = 20_260_105
HEALTHY_DAYS = 3
_SIMULATED_DAYS = 62
_LEARNT_DAYS = 6  # days of a harm in the train slice before a retraining is worth it
_TRAIN_DAYS = 14
_MIN_HISTORY_DAYS = 7
_INCIDENT = {
    Scenario.AMOUNT_INFLATION: 0.375,  # everything costs 30 % more,
    Scenario.PAYMENT_MIX_SHIFT: 0.75,  # 45 % of the payments move to the web and to wallets,
    Scenario.GEOGRAPHY_SHIFT: 0.47,  # and 28 % happen where nobody paid before
}
_INCIDENT_DAYS = 12  # to notice, to know a whole day of it, and to verify what was done
BROKEN_DAYS = 3  # the broken feed at the end
_CENTS = 100


@dataclass(frozen=True)
class Plan:
    """The days of the demonstration and the data of each.

    Attributes:
        payments: PAYLOAD_COLUMNS, is_fraud, label_timestamp and fraud_type: all days from the first
            streamed one on, the incident injected, in time order.
        history: file with everything before, in the source's own columns.
        mapping: what the columns of `history` mean.
        first_day: the data's first day.
        stream_from: the first day that is sent to the scorer.
        drift_from: the first day of the incident.
        last_day: the last day.
        maturity_days: days until silence counts as genuine.
    """

    payments: pl.DataFrame
    history: Path
    mapping: Mapping
    first_day: date
    stream_from: date
    drift_from: date
    last_day: date
    maturity_days: int

    def settings(self) -> dict[str, object]:
        """The settings of the demonstration's home: shorter windows, quicker sensors."""
        slices = {"delay_days": self.maturity_days, "test_days": self.maturity_days}
        return {
            "first_day": self.first_day.isoformat(),
            "sensor_seconds": 5,
            "champion_poll_seconds": 0.5,
            "labels": {"maturity_days": self.maturity_days},
            "training": {"train_days": _TRAIN_DAYS, **slices},
            "model": {"trials": 3, "validation_days": 4, "validation_gap_days": 2},
            # The machine is busy training beside the scorer; slow answers are not this story.
            "harm": {"slow_ms": 5_000.0},
            # Only harm may call for a retraining here, so that the story has one cause.
            "retraining": {
                "learn_after_days": _learn_after(self.maturity_days),
                "retrain_new_frauds": 1_000_000,
            },
        }

    def of(self, day: date) -> pl.DataFrame:
        """The payments of one day."""
        return self.payments.filter(pl.col("event_timestamp").dt.date() == day)


def make_plan(
    home: Path,
    data: Path | None,
    mapping_path: Path | None,
    days: int | None,
    token_key: bytes | None,
) -> Plan:
    """Simulate a world, or read the user's file, and cut it.

    Args:
        home: where the history file is written.
        data: the user's file, or None for a simulation.
        mapping_path: what its columns mean; given with `data`.
        days: use only the first so many days.
        token_key: the secret for mappings with `tokenize`.

    Raises:
        PermanentError: the data are too short for the story.
    """
    if data is None or mapping_path is None:
        world = World(
            seed=SEED,
            days=days or _SIMULATED_DAYS,
            chargeback=ChargebackDelay(median_days=1.5, sigma=0.5, max_days=20.0),
        )
        path = home / "demo" / "world.parquet"
        mapping_path = write_world(simulate(world), path)
        data = path
    mapping = read_mapping(mapping_path)
    source = _read(data, mapping, token_key)
    return _cut(source, mapping, days, home / "demo" / "history.parquet")


@dataclass(frozen=True)
class _Source:
    """A file as it is, and as labelled payments with row_number.

    Attributes:
        raw: the rows in the file's own columns.
        numbers: their row numbers.
        payments: PAYLOAD_COLUMNS, is_fraud, label_timestamp and row_number.
    """

    raw: pl.DataFrame
    numbers: pl.Series
    payments: pl.DataFrame


def _read(path: Path, mapping: Mapping, token_key: bytes | None) -> _Source:
    batches = list(read_batches(path, mapping))
    raw = pl.concat([batch.rows for batch in batches])
    numbers = pl.concat([batch.numbers for batch in batches])
    mapped = mapping.apply(raw, token_key=token_key, row_numbers=numbers)
    verdicts = mapped.labels.select("row_number", "verdict", "label_timestamp")
    known = mapped.transactions.join(verdicts, on="row_number", how="left", maintain_order="left")
    fraud = (pl.col("verdict") == "fraud").fill_null(value=False)
    payments = known.with_columns(
        is_fraud=fraud, label_timestamp=pl.when(fraud).then("label_timestamp")
    ).drop("verdict")
    return _Source(raw, numbers, payments)


def _cut(source: _Source, mapping: Mapping, days: int | None, history: Path) -> Plan:
    payments = source.payments
    first = payments.select(pl.col("event_timestamp").min().dt.date()).item()
    last = payments.select(pl.col("event_timestamp").max().dt.date()).item()
    if days is not None:
        last = min(last, first + timedelta(days=days - 1))
    maturity = _maturity(payments)
    stream_from = last - timedelta(days=_tail() - 1)
    needed = _TRAIN_DAYS + 3 * maturity + _MIN_HISTORY_DAYS + _tail()
    if (stream_from - first).days < _TRAIN_DAYS + 3 * maturity + _MIN_HISTORY_DAYS:
        raise PermanentError(
            f"found {(last - first).days + 1} days of data, expected at least {needed}: the story"
            " needs a history to learn from and a drift to learn",
            hint="use more days (--days), or data whose labels become known sooner",
        )
    drift_from = stream_from + timedelta(days=HEALTHY_DAYS)
    day = pl.col("event_timestamp").dt.date()
    later = payments.filter(day >= stream_from)["row_number"]
    history.parent.mkdir(parents=True, exist_ok=True)
    source.raw.filter(~source.numbers.is_in(later.implode())).write_parquet(history)
    return Plan(
        payments=_disturbed(payments.filter(day <= last), stream_from, drift_from),
        history=history,
        mapping=mapping,
        first_day=first,
        stream_from=stream_from,
        drift_from=drift_from,
        last_day=last,
        maturity_days=maturity,
    )


def in_cents(payments: pl.DataFrame) -> pl.DataFrame:
    """The same payments from a sender who multiplies what was in cents already."""
    return payments.with_columns(pl.col("amount_minor") * _CENTS)


def _disturbed(payments: pl.DataFrame, stream_from: date, drift_from: date) -> pl.DataFrame:
    """Customers change their ways, all at once."""
    since = datetime(drift_from.year, drift_from.month, drift_from.day, tzinfo=UTC)
    frame = payments.select(
        *PAYLOAD_COLUMNS, "is_fraud", "label_timestamp", fraud_type=pl.lit(None, pl.String)
    )
    for scenario, strength in _INCIDENT.items():
        frame = inject(frame, scenario, since=since, seed=SEED, strength=strength)
    return frame.filter(pl.col("event_timestamp").dt.date() >= stream_from)


def _maturity(payments: pl.DataFrame) -> int:
    """Whole days after which 19 of 20 frauds are known, 4 to 14."""
    delay = payments.filter("is_fraud").select(
        (pl.col("label_timestamp") - pl.col("event_timestamp"))
        .dt.total_microseconds()
        .quantile(0.95)
    )
    found: float | None = delay.item()
    if found is None:
        raise PermanentError(
            "found no fraud in the data, expected labels to learn from",
            hint="name the label column in the mapping: labels: {column: ..., fraud: ...}",
        )
    return min(14, max(4, math.ceil(found / 86_400_000_000 - 1e-9)))


def _learn_after(maturity: int) -> int:
    """Days from the first sign of a harm until the train slice holds enough of it.

    A sign shows `maturity` days and about two more after the drift; the train slice ends
    `maturity` + delay + test days ago, and delay and test are as long as the maturity here.
    """
    return 2 * maturity + _LEARNT_DAYS - 2


def _tail() -> int:
    """Days to stream."""
    return HEALTHY_DAYS + _INCIDENT_DAYS + BROKEN_DAYS
