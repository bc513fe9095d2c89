"""The twelve features of `peers` in pandas, in two ways, both with windows that end before the row.

Written from the description of the method; an empty window counts 0 and has no mean and no share.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

_DAYS = (1, 7, 30)
_DELAYS = {"card": 0, "terminal": 7}
_VALUES = {"card": ("amount", "mean"), "terminal": ("is_fraud", "risk")}


def prepared(payments: pl.DataFrame) -> Any:
    """The payments as pandas likes them best: floats, categories, in order of time."""
    in_order = payments.sort("event_timestamp", "seq").with_columns(
        pl.col("amount", "is_fraud").cast(pl.Float64)
    )
    return in_order.to_pandas().astype({"card_id": "category", "terminal_id": "category"})


def entity_by_entity(frame: Any) -> pl.DataFrame:
    """The handbook's way: a function of one customer's, then of one terminal's payments, applied.

    Inside it, each window is a rolling sum and a rolling count over the time index.
    """
    for entity in _VALUES:
        frame = frame.groupby(f"{entity}_id", observed=True, group_keys=False)[frame.columns].apply(
            _with_windows, entity=entity
        )
    names = [name for name in frame.columns if name.rsplit("_", 1)[-1].isdigit()]
    return pl.DataFrame({name: frame[name].to_numpy() for name in ("seq", *names)})


def _with_windows(payments: Any, entity: str) -> Any:
    value, quotient = _VALUES[entity]
    values = payments.set_index("event_timestamp")[value]

    def rolled(days: int) -> tuple[Any, Any]:
        windows = values.rolling(f"{days}D", closed="left")
        return np.nan_to_num(windows.count()), np.nan_to_num(windows.sum())

    columns = {
        f"{entity}_{quantity}_{days}": column
        for days, count, total in _behind(_DELAYS[entity], rolled)
        for quantity, column in (("count", count), (quotient, _share(total, count)))
    }
    return payments.assign(**columns)


def window_by_window(frame: Any) -> pl.DataFrame:
    """What pandas does best: one call per window for all cards (terminals) at once."""
    columns: dict[str, Any] = {"seq": frame["seq"].to_numpy()}
    for entity, (value, quotient) in _VALUES.items():
        order = np.argsort(frame[f"{entity}_id"].cat.codes.to_numpy(), kind="stable")
        groups = frame.set_index("event_timestamp").groupby(f"{entity}_id", observed=True)[value]

        def rolled(days: int, groups: Any = groups, order: Any = order) -> tuple[Any, Any]:
            windows = groups.rolling(f"{days}D", closed="left")
            count, total = np.empty(len(order)), np.empty(len(order))
            count[order], total[order] = windows.count(), windows.sum()
            return np.nan_to_num(count), np.nan_to_num(total)

        for days, count, total in _behind(_DELAYS[entity], rolled):
            columns[f"{entity}_count_{days}"] = count
            columns[f"{entity}_{quotient}_{days}"] = _share(total, count)
    return pl.DataFrame(columns)


def _behind(delay: int, rolled: Any) -> Iterator[tuple[int, Any, Any]]:
    """Count and sum of each window behind a delay: the long window without the young one."""
    young = rolled(delay) if delay else (0.0, 0.0)
    for days in _DAYS:
        count, total = rolled(delay + days)
        yield days, count - young[0], total - young[1]


def _share(total: Any, count: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return total / count
