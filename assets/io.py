"""How asset values reach the disk and come back: table name = asset name."""

from datetime import timedelta

import dagster as dg
import polars as pl

from assets.recorder import Recorder
from assets.timing import day_of, days_of
from fraud_platform.adapters.tables import Tables


class TableIOManager(dg.IOManager):
    """Frames as one Parquet file per day, anything else as one JSON document per day.

    A frame of several partitions is cut into days by `partition_day`, a column (Date) that the
    asset adds and that is not stored.

    Args:
        tables: where the files live; their witness is the recorder.
        recorder: told whose step reads and writes.
    """

    def __init__(self, tables: Tables, recorder: Recorder) -> None:
        self._tables = tables
        self._recorder = recorder

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Store every partition of one output."""
        with self._recorder.during(context.step_context):
            self._store(context, obj)

    def load_input(self, context: dg.InputContext) -> object:
        """Read the upstream days that the partition mapping asks for."""
        with self._recorder.during(context.step_context):
            return self._load(context)

    def _store(self, context: dg.OutputContext, obj: object) -> None:
        name = context.asset_key.to_user_string()
        days = days_of(list(context.asset_partition_keys))
        if not isinstance(obj, pl.DataFrame):
            (day,) = days
            self._tables.write_document(name, day, obj)
            return
        for day in days:
            rows = obj.filter(pl.col("partition_day") == day).drop("partition_day")
            self._tables.write(name, day, rows)

    def _load(self, context: dg.InputContext) -> object:
        name = context.asset_key.to_user_string()
        days = days_of(list(context.asset_partition_keys))
        kind = context.dagster_type.typing_type
        if kind is not pl.DataFrame:
            return self._tables.read_document(name, day_of(context.asset_partition_key), kind)
        return self._tables.read(name, days)


def by_day(frame: pl.DataFrame, time: str, *, lag_days: int = 0) -> pl.DataFrame:
    """Mark each row with the partition it belongs to.

    Args:
        frame: rows with the time column.
        time: a UTC time column.
        lag_days: partitions lie this many days after the row's own day.
    """
    day = pl.col(time).dt.date() + timedelta(days=lag_days)
    return frame.with_columns(partition_day=day)
