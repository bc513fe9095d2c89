"""The fifteen inputs of the handbook's own models, by binary search in sorted arrays.

They differ from the platform's features at the edges: windows hold the payment itself and reach
from just after their old edge to their new one, and payments of the same second see each other in
the order of the file. Names and meanings are the handbook's; its code is not used.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_DAY_US = 86_400_000_000
_DAYS = (1, 7, 30)
_DELAY_US = 7 * _DAY_US

INPUTS = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    *(f"CUSTOMER_ID_{what}_{days}DAY_WINDOW" for days in _DAYS for what in ("NB_TX", "AVG_AMOUNT")),
    *(f"TERMINAL_ID_{what}_{days}DAY_WINDOW" for days in _DAYS for what in ("NB_TX", "RISK")),
)
"""Names, in the handbook's order, which its random forest depends on."""


def inputs(rows: pl.DataFrame) -> pl.DataFrame:
    """The fifteen inputs of every payment.

    Amounts are in major units (`TX_AMOUNT`, mean over (t - N d, t] of the customer's payments up
    to this one); a terminal's count and share of frauds are those of (t - 7 d - N d, t - 7 d], the
    share 0.0 without payments. Weekend is Saturday and Sunday, night the hours 0 to 6, UTC.

    Args:
        rows: `event_timestamp`, `card_id`, `terminal_id`, `amount_minor`, `is_fraud`, in the order
            of time; it must reach 37 days further back than the first row of interest.

    Returns:
        `INPUTS` as Float64, row by row.
    """
    time = pl.col("event_timestamp")
    plain = rows.select(
        TX_AMOUNT=pl.col("amount_minor") / 100,
        TX_DURING_WEEKEND=(time.dt.weekday() >= 6).cast(pl.Float64),
        TX_DURING_NIGHT=(time.dt.hour() <= 6).cast(pl.Float64),
    )
    columns = _of_customers(rows) | _of_terminals(rows)
    return plain.with_columns(**columns).select(INPUTS)


class _Lines:
    """The payments of every card or terminal, one behind the other."""

    def __init__(self, rows: pl.DataFrame, entity: str) -> None:
        codes = rows[entity].rank("dense").to_numpy().astype(np.int64)
        times = rows["event_timestamp"].dt.epoch("us").to_numpy()
        self.order = np.lexsort((times, codes))
        # Entity and time as one ascending number; no window reaches another entity's payments.
        self._span = int(times.max() - times.min()) + (max(_DAYS) + 8) * _DAY_US
        self.keys = codes[self.order] * self._span + (times - times.min())[self.order]

    def sums(self, values: Ints) -> Ints:
        """Running sums of a column along the lines, from 0."""
        return np.concatenate([[0], np.cumsum(values[self.order])])

    def until(self, age_us: int) -> Ints:
        """How many payments stand before each payment's moment minus `age_us`, that included."""
        found: Ints = np.searchsorted(self.keys, self.keys - age_us, side="right")
        return found

    def back(self, values: Ints | Floats) -> Floats:
        """Values along the lines, in the order of the rows."""
        found = np.empty(len(values))
        found[self.order] = values
        return found


def _of_customers(rows: pl.DataFrame) -> dict[str, Floats]:
    lines, found = _Lines(rows, "card_id"), {}
    amounts = lines.sums(rows["amount_minor"].to_numpy())
    end = np.arange(1, rows.height + 1)  # the payment itself is the newest
    for days in _DAYS:
        start = lines.until(days * _DAY_US)
        mean = (amounts[end] - amounts[start]) / (end - start) / 100
        found[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = lines.back(end - start)
        found[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = lines.back(mean)
    return found


def _of_terminals(rows: pl.DataFrame) -> dict[str, Floats]:
    lines, found = _Lines(rows, "terminal_id"), {}
    frauds = lines.sums(rows["is_fraud"].to_numpy().astype(np.int64))
    end = lines.until(_DELAY_US)
    for days in _DAYS:
        start = lines.until(_DELAY_US + days * _DAY_US)
        share = (frauds[end] - frauds[start]) / np.maximum(end - start, 1)
        found[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"] = lines.back(end - start)
        found[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"] = lines.back(share)
    return found
