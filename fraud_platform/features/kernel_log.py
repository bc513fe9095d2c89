"""The log as arrays that compiled loops read: payments and verdicts by rank.

The rank of a payment is its position among all payments by seq.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from functools import cached_property
from itertools import count
from typing import TypeVar, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.features.compiled import compiled
from fraud_platform.features.declaration import Where, refuse_beyond

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Flags = NDArray[np.bool_]
Words = NDArray[np.uint64]

Found = TypeVar("Found")
_SOME = 1 << 16


class Memory:
    """Answers that were worked out before, for the features that share them."""

    def __init__(self) -> None:
        self._found: dict[Hashable, object] = {}

    def once(self, key: Hashable, work: Callable[[], Found]) -> Found:
        """What `work` answers; a key always stands for the same work."""
        if key not in self._found:
            self._found[key] = work()
        return cast("Found", self._found[key])


class Log:
    """Payments in the order of the log, and what was said about them.

    Args:
        transactions: see `kernel.compute`.
        labels: see there.
        since: see there.
        seen: see there.

    Attributes:
        rows: the payments in seq order.
        ranks: 0, 1, ...
        times: when payments happened, microseconds.
        amounts: minor units.
        is_wanted: which are decisions to be answered.
        wanted: the ranks of these.
        slots: the place of each decision in the answer.
        marks: which are outliers; None where a column of `rows` says so, or nobody asks.
        is_whole: whether all payments are decisions that saw the whole log before them.

    Raises:
        PermanentError: an amount is too large for exact sums.
    """

    def __init__(
        self,
        transactions: pl.DataFrame,
        labels: pl.DataFrame,
        since: datetime | None,
        seen: pl.DataFrame | None,
    ) -> None:
        is_sorted = transactions["seq"].is_sorted()
        self.rows = transactions if is_sorted else transactions.sort("seq")
        self._labels, self._seen, self._memory = labels, seen, Memory()
        self.marks: Flags | None = None
        self.is_whole = since is None and seen is None
        self.times: Ints = array(self.rows["event_timestamp"].dt.epoch("us"))
        self.amounts: Ints = array(self.rows["amount_minor"])
        refuse_beyond(int(max(self.amounts.max(initial=0), -self.amounts.min(initial=0))))
        self.ranks = self.wanted = self.slots = np.arange(self.rows.height, dtype=np.int32)
        self.is_wanted = np.ones(self.rows.height, np.bool_)
        if since is not None:
            self.is_wanted = _flags(self.rows["event_timestamp"] >= since)
            self.wanted = self.ranks[self.is_wanted]
            self.slots = np.cumsum(self.is_wanted, dtype=np.int32) - np.int32(1)

    def passes(self, where: Where) -> Flags:
        """Which payments count, by rank."""
        if where.fact == "is_outlier" and self.marks is not None:
            return self.marks if where.equals else ~self.marks
        return _flags((self.rows[where.fact] == where.equals).fill_null(value=False))

    @cached_property
    def before(self) -> Ints:
        """The newest log position before each payment."""
        return array(self.rows["seq"] - 1)

    def seen(self, entity: str) -> tuple[Ints, Places]:
        """What each decision had seen: the newest log position, and how many payments."""
        if self._seen is None:
            return self.before, self.ranks
        told = self.rows.select("seq").join(self._seen, "seq", "left", maintain_order="left")
        newest = told[f"{entity}_seen"].fill_null(pl.Series(self.before))
        seen = np.minimum(newest.to_numpy(), self.before)
        seen.flags.writeable = False
        ranks = np.searchsorted(self.before, seen)  # its first payment that was not seen
        return seen, ranks.astype(np.int32)

    def codes(self, column: str) -> Places:
        """Small numbers that stand for the texts of a column; -1 for null."""
        return self._memory.once(column, lambda: _codes(self.rows[column]))

    def number_of_codes(self, column: str) -> int:
        """One more than the largest of them."""
        return int(self.codes(column).max(initial=-1)) + 1

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        """Of payments that were ever called fraud: rank, known_us, seq, is_fraud; sorted."""
        ranks = self.rows.select("transaction_id", rank=pl.int_range(pl.len(), dtype=pl.Int32))
        told = self._labels.join(ranks, on="transaction_id").select(
            "rank",
            "seq",
            known_us=pl.col("label_timestamp").dt.epoch("us"),
            is_fraud=pl.col("verdict") == "fraud",
        )
        accused = told.filter("is_fraud").select("rank").unique()
        return told.join(accused, on="rank", how="semi").sort("rank", "known_us", "seq")

    @cached_property
    def is_accused(self) -> Flags:
        """Which payments were ever called fraud."""
        is_accused = np.zeros(len(self.ranks), np.bool_)
        is_accused[array(self.verdicts["rank"])] = True
        return is_accused


def array(series: pl.Series) -> NDArray:  # type: ignore[type-arg]  # of the series' own type
    """Its numbers where they are; always read only, since loops are compiled for either kind."""
    numbers = series.to_numpy().view()
    numbers.flags.writeable = False
    return numbers


def _flags(series: pl.Series) -> Flags:
    return series.to_numpy(writable=True)


def _codes(texts: pl.Series) -> Places:
    """Numbers by hash, a third of the cost of a cast to categories; checked text by text."""
    for seed in count():
        codes, firsts = _numbered(array(texts.hash(seed)), np.empty(len(texts), np.int32))
        if _are_texts_of(codes, texts.gather(firsts), texts):
            break  # else two texts have the same hash
    if texts.null_count():
        codes[_flags(texts.is_null())] = -1
    return codes


def _are_texts_of(codes: Places, different: pl.Series, texts: pl.Series) -> bool:
    """Whether codes stand for these texts; some at a time, for they take more room than codes."""
    return all(
        texts[start : start + _SOME].eq_missing(different[codes[start : start + _SOME]]).all()
        for start in range(0, len(texts), _SOME)
    )


@compiled
def _numbered(hashes: Words, codes: Places) -> tuple[Places, Places]:
    """0, 1, ... for different hashes as they appear, and where each appears first."""
    firsts = np.empty(len(hashes), np.int32)
    different, size = np.empty(len(hashes), np.uint64), 0
    table = np.full(1 << 10, -1, np.int32)
    for at in range(len(hashes)):
        slot = _slot(table, different, hashes[at])
        if table[slot] < 0:
            table[slot], different[size], firsts[size] = size, hashes[at], at
            size += 1
        codes[at] = table[slot]
        if 2 * size > len(table):
            table = np.full(4 * len(table), -1, np.int32)
            for code in range(size):
                table[_slot(table, different, different[code])] = code
    return codes, firsts[:size].copy()


@compiled
def _slot(table: Places, different: Words, one: np.uint64) -> int:
    """Where a hash stands in the table of codes, or where it belongs."""
    slot = int(np.int64(one & np.uint64(len(table) - 1)))
    while table[slot] >= 0 and different[table[slot]] != one:
        slot = (slot + 1) & (len(table) - 1)
    return slot
