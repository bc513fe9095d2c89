"""A file of transactions goes into the event log; every row is accounted for.

Reading files is `source_files`, what rows mean `mapping`, what they must satisfy `validation`.
A run that was interrupted is simply repeated: rows that are in the log already are no-ops.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import yaml

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_origins import SourceFile, described
from fraud_platform.adapters.source_files import Batch, read_batches
from fraud_platform.card_number import mask, masked_json
from fraud_platform.errors import MappingError
from fraud_platform.events import Transaction
from fraud_platform.mapping import Mapping, parse_mapping
from fraud_platform.schemas import PAYLOAD_COLUMNS, UTC_MICROSECONDS
from fraud_platform.validation import ValidationPolicy, quarantine, split

_COMMIT = 4_000
"""Rows per commit: a live scorer waits no longer than one of them takes, and refuses payments when
it is more than 5,000 events behind (`serving.engine`)."""
_PAUSE_SECONDS = 0.1
"""Between commits. SQLite's waiting writers look again this often and have no queue: without a
pause the next commit takes the lock again before any of them looks."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class IngestSummary:
    """What became of a file: rows_in = accepted + duplicates + all quarantined.

    Attributes:
        rows_in: rows of the file, the header and blank lines not counted.
        accepted: transactions that are new in the log.
        duplicates: transactions the log had already, with the same payload.
        quarantined: name of the broken rule -> rows.
        labels_accepted: verdicts that are new in the log.
        labels_duplicates: verdicts the log had already.
        labels_quarantined: name of the broken rule -> verdicts; their transactions are accepted.
    """

    rows_in: int
    accepted: int
    duplicates: int
    quarantined: dict[str, int]
    labels_accepted: int
    labels_duplicates: int
    labels_quarantined: dict[str, int]

    def to_dict(self) -> dict[str, int | dict[str, int]]:
        """The same as plain numbers, for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """The same as aligned lines, for people; rules are indented under their sum."""
        lines: list[tuple[str, int]] = []
        for name, value in self.to_dict().items():
            by_rule = value if isinstance(value, dict) else {}
            total = sum(by_rule.values()) if isinstance(value, dict) else value
            lines += [(name.replace("_", " "), total)]
            lines += [(f"  {rule}", count) for rule, count in by_rule.items()]
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {count:>12,}" for name, count in lines)


def read_mapping(path: Path) -> Mapping:
    """The mapping in a YAML file.

    Raises:
        MappingError: the file cannot be read, is no YAML, or is no valid mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(
            f"found no readable mapping at {path}: {error}", hint="check the path of --mapping"
        ) from error
    except yaml.YAMLError as error:
        raise MappingError(
            f"found no valid YAML in {path}: {error}", hint="check the indentation at that line"
        ) from error
    return parse_mapping(document)


def ingest(  # noqa: PLR0913 -- everything a pure core must not fetch by itself is handed in
    path: Path,
    mapping: Mapping,
    *,
    log: EventLog,
    policy: ValidationPolicy,
    received: datetime,
    token_key: bytes | None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Append a CSV or Parquet file to the log; rows that break a rule go to quarantine.

    Events enter the log in the order in which they became known, whatever the file's order is.

    Args:
        path: the file.
        mapping: what its columns mean.
        log: where it goes.
        policy: bounds of valid transactions.
        received: now, with a zone.
        token_key: the secret for mappings with `tokenize`.
        progress: called with the stage ("read", "append"), done and total.

    Raises:
        DataContractError: the file is unusable or damaged, wherever; nothing is written.
        MappingError: the mapping does not fit the file, or lacks its token key.
        LogUnavailableError: the log cannot be written; run again later.
    """
    mapping.check_token_key(token_key)
    run = _Run(log, policy, received, f"ingest:{mask(path.name)}", progress or _silent)
    for batch in read_batches(path, mapping):
        run.take(batch, mapping, token_key)
    run.append(described(path, mapping))
    return run.summary()


@dataclass
class _Run:
    """One file on its way into the log."""

    log: EventLog
    policy: ValidationPolicy
    received: datetime
    source: str
    progress: Progress
    transactions: list[pl.DataFrame] = field(default_factory=list)
    labels: list[pl.DataFrame] = field(default_factory=list)
    rejected: list[pl.DataFrame] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    broken_rows: Counter[str] = field(default_factory=Counter)
    broken_labels: Counter[str] = field(default_factory=Counter)

    def take(self, batch: Batch, mapping: Mapping, token_key: bytes | None) -> None:
        """Read and check one batch; nothing is written before the whole file is read."""
        self.counts["rows_in"] += batch.rows.height + batch.ragged.height
        mapped = mapping.apply(batch.rows, token_key=token_key, row_numbers=batch.numbers)
        checked = split(self._stamped(mapped.transactions), self.policy)
        told = mapped.labels.join(checked.valid, on="row_number", how="semi")
        latest = self.received + timedelta(seconds=self.policy.future_tolerance_seconds)
        early = told.filter(pl.col("label_timestamp") > latest)
        self._reject(self.broken_rows, batch.ragged, mapped.rejected)
        self._keep(self.broken_rows, checked.quarantined)
        self._reject(
            self.broken_labels,
            mapped.rejected_labels.join(checked.valid, on="row_number", how="semi"),
            _label_rejections(early, checked.valid, "label_is_not_from_the_future"),
        )
        self.transactions.append(checked.valid)
        self.labels.append(told.filter(pl.col("label_timestamp") <= latest))
        self.progress("read", batch.done, batch.total)

    def append(self, file: SourceFile) -> None:
        """Put bad rows into quarantine, and valid ones into the log as they became known."""
        self._flush()
        if not self.transactions:
            return
        transactions = pl.concat(self.transactions).sort("event_timestamp", maintain_order=True)
        self.transactions.clear()
        labels = self._stamped(pl.concat(self.labels)).rename({"source": "reported_by"})
        labels = self._trusted(labels, transactions)
        done, total = 0, max(transactions.height + labels.height, 1)
        for some, verdicts in _in_commits(transactions, labels):
            if done:
                time.sleep(_PAUSE_SECONDS)
            self._commit(some, verdicts, file)
            done += some.height + verdicts.height
            self.progress("append", done, total)

    def summary(self) -> IngestSummary:
        """The counts, after checking that they add up."""
        left = self.counts["rows_in"] - self.counts["accepted"] - self.counts["duplicates"]
        if left != self.broken_rows.total():
            raise RuntimeError(
                f"{self.broken_rows.total()} rows in quarantine, {left} expected: {self.counts}"
            )
        return IngestSummary(
            rows_in=self.counts["rows_in"],
            accepted=self.counts["accepted"],
            duplicates=self.counts["duplicates"],
            quarantined=dict(sorted(self.broken_rows.items())),
            labels_accepted=self.counts["labels_accepted"],
            labels_duplicates=self.counts["labels_duplicates"],
            labels_quarantined=dict(sorted(self.broken_labels.items())),
        )

    def _commit(self, transactions: pl.DataFrame, labels: pl.DataFrame, file: SourceFile) -> None:
        done = self.log.append(transactions, labels, file)
        self.counts["accepted"] += done.accepted
        self.counts["duplicates"] += done.duplicates
        self.counts["labels_accepted"] += done.labels_accepted
        self.counts["labels_duplicates"] += done.labels_duplicates
        self._reject(self.broken_rows, _conflict_rejections(done.conflicts))
        unknown = _label_rejections(done.labels_unknown, transactions, "label_has_a_transaction")
        self._reject(self.broken_labels, unknown)
        self._flush()

    def _stamped(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(
            received_timestamp=pl.lit(self.received).cast(UTC_MICROSECONDS),
            source=pl.lit(self.source),
        )

    def _reject(self, counter: Counter[str], *rejected: pl.DataFrame) -> None:
        for rows in rejected:
            if rows.height:
                self._keep(counter, quarantine(self._stamped(rows), self.policy))

    def _keep(self, counter: Counter[str], rows: pl.DataFrame) -> None:
        if rows.height:
            self.rejected.append(rows)
            counter.update(dict(rows["broken_rule"].value_counts().iter_rows()))

    def _flush(self) -> None:
        for rows in self.rejected:
            for some in rows.iter_slices(_COMMIT):
                self.log.reject(some)
        self.rejected.clear()

    def _trusted(self, labels: pl.DataFrame, transactions: pl.DataFrame) -> pl.DataFrame:
        """Verdicts without those of rows that contradict an earlier row under the same id."""
        labelled = transactions.join(labels, on="row_number", how="semi")
        rivals = transactions.join(labelled, on="transaction_id", how="semi", maintain_order="left")
        first = rivals.unique("transaction_id", keep="first", maintain_order=True)
        same = labelled.join(first, on=list(PAYLOAD_COLUMNS), how="semi", nulls_equal=True)
        if self.log.last_seq():
            same = same.filter([self._agrees(row) for row in _payloads(same)])
        return labels.join(same, on="row_number", how="semi")

    def _agrees(self, transaction: Transaction) -> bool:
        known = self.log.recorded(transaction.transaction_id)
        return known is None or known.transaction == transaction


def _payloads(rows: pl.DataFrame) -> Iterator[Transaction]:
    payload = rows.select(*PAYLOAD_COLUMNS).with_columns(pl.col("event_timestamp").cast(pl.Int64))
    return (Transaction(*row) for row in payload.iter_rows())


def _in_commits(
    transactions: pl.DataFrame, labels: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Consecutive stretches of time with about `_COMMIT` events each.

    A verdict is never in an earlier stretch than its transaction, and equal times stay together.
    """
    payments = transactions.sort("event_timestamp", maintain_order=True)
    verdicts = labels.sort("label_timestamp", maintain_order=True)
    paid = payments["event_timestamp"].cast(pl.Int64)
    told = verdicts["label_timestamp"].cast(pl.Int64)
    starts = pl.concat([paid, told]).sort().gather_every(_COMMIT).unique().sort()
    cuts = [[*times.search_sorted(starts), times.len()] for times in (paid, told)]
    for (start, end), (first, last) in zip(*map(pairwise, cuts), strict=True):
        yield payments[start:end], verdicts[first:last]


def _conflict_rejections(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        broken_rule=pl.lit("transaction_id_names_one_payload"),
        detail=pl.lit("found an id that an earlier row has with other values; expected a new id"),
        payload=masked_json(rows.select(*PAYLOAD_COLUMNS)),
    )


def _label_rejections(labels: pl.DataFrame, rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    expected = {
        "label_has_a_transaction": "a transaction with this id in the log",
        "label_is_not_from_the_future": "a verdict that is known by now; ingest the file again"
        " when it is",
    }
    told = labels.select("row_number", "transaction_id", "verdict", "label_timestamp")
    times = rows.select("row_number", "event_timestamp")
    return labels.join(times, on="row_number", how="left", maintain_order="left").with_columns(
        broken_rule=pl.lit(rule),
        detail=pl.format(
            "found a verdict known at {}; expected " + expected[rule], "label_timestamp"
        ),
        payload=masked_json(told),
    )


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
