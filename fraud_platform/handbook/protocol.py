"""The handbook's two protocols: which weeks teach, which are judged, and who is left out of them.

A fold learns from one week, waits a week for its labels and is judged on the week behind that. A
card that was known to be compromised would have been blocked, so it is left out of the judged
week from the moment its fraud was known. The published figures only come out with all of it.

Source: Le Borgne, Siblini, Lebichot, Bontempi, Reproducible Machine Learning for Credit Card Fraud
Detection, chapters 3 and 5; implemented anew from their description.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from fraud_platform.errors import DataContractError

WEEK = timedelta(days=7)
CARDS_PER_DAY = 100
"""Cards that are checked per day: the k of card precision@k."""
ROW_COLUMNS = ("event_timestamp", "card_id", "is_fraud")
"""What a fold must know of each row."""


@dataclass(frozen=True, order=True)
class Fold:
    """One week that teaches and the week that is judged, a week of delay between them.

    Attributes:
        train_start: first day of the week that teaches, UTC.

    Examples:
        >>> Fold(date(2018, 7, 25)).judged_start
        datetime.date(2018, 8, 8)
    """

    train_start: date

    @property
    def judged_start(self) -> date:
        """First day of the judged week."""
        return self.train_start + 2 * WEEK


CHAPTER_3 = (Fold(date(2018, 7, 25)),)
"""P1: the one fold of the handbook's baselines."""
TEST = tuple(Fold(date(2018, 7, 25) + week * WEEK) for week in range(4))
"""P2: judged once, with everything chosen before."""
VALIDATION = tuple(Fold(date(2018, 7, 11) - week * WEEK) for week in range(4))
"""P2: the folds on which everything is chosen; the last day of them is before `TEST` is judged."""


@dataclass(frozen=True)
class Cut:
    """The rows of a fold.

    Attributes:
        learn: the week that teaches, every row of it.
        judged: the judged week without the cards known to be compromised.
    """

    learn: pl.DataFrame
    judged: pl.DataFrame


def cut(rows: pl.DataFrame, fold: Fold) -> Cut:
    """Cut a fold out of all rows; the order of rows is kept.

    A row of day d is judged unless its card had a fraud between the first day that teaches and
    day d - 8, whose labels are known on day d. Older frauds do not count.

    Args:
        rows: `ROW_COLUMNS` and whatever the models need, one row per payment.
        fold: which weeks.

    Raises:
        DataContractError: one of the two weeks has no frauds or no genuine payments.
    """
    day, start = pl.col("event_timestamp").dt.date(), fold.train_start
    known = (
        rows.filter(day >= start, day < fold.judged_start, pl.col("is_fraud"))
        .group_by("card_id")
        .agg(known_on=day.min() + WEEK + timedelta(days=1))
    )
    judged = (
        rows.filter(day >= fold.judged_start, day < fold.judged_start + WEEK)
        .join(known, "card_id", "left", maintain_order="left")
        .filter((day < pl.col("known_on")).fill_null(value=True))
        .drop("known_on")
    )
    found = Cut(rows.filter(day >= start, day < start + WEEK), judged)
    for what, part in (("teaches", found.learn), ("is judged", found.judged)):
        if not 0 < part["is_fraud"].sum() < part.height:
            raise DataContractError(
                f"found {part['is_fraud'].sum()} frauds among {part.height} payments in the week"
                f" that {what} of the fold from {start}, expected both kinds",
                hint="the handbook's protocol needs its data from 2018-04-01 to 2018-09-04.",
            )
    return found
