"""Where the log of a replay comes from: the home's event log, or a file that never enters one.

A file is read by the rules of the door (`ingest`): the same mapping, the same validation, the first
of several rows with one id; but nothing is written, and nothing is quarantined: rows that the door
would refuse are counted and left out.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.source_files import read_batches
from fraud_platform.features.journal import Journal, journal
from fraud_platform.mapping import Mapping
from fraud_platform.schemas import LABELS, PAYLOAD_COLUMNS, TRANSACTIONS, UTC_MICROSECONDS
from fraud_platform.validation import ValidationPolicy, split

_STRETCH = timedelta(days=30)  # of a log read at a time: SQLite's rows are Python objects first
_END_OF_TIME = datetime(9000, 1, 1, tzinfo=UTC)
_LABEL = ("transaction_id", "verdict", "label_source", "label_timestamp")


@dataclass(frozen=True)
class Source:
    """A log, and what its source had beside it.

    Attributes:
        log: all events.
        rows_refused: rows of a file that break a rule.
        rows_repeated: rows of a file under an id that an earlier row has.
        purged_positions: positions of the log before its kept history, which is what is replayed.
    """

    log: Journal
    rows_refused: int = 0
    rows_repeated: int = 0
    purged_positions: int = 0


def read_log(log: EventLog) -> Source:
    """Everything the event log holds now; what is appended meanwhile is left out."""
    horizon = log.horizon()
    last_seq, start = log.last_seq(), log.oldest_event_timestamp()
    newest = log.newest_event_timestamp()
    if start is None or newest is None:
        return Source(Journal(TRANSACTIONS.empty(), LABELS.empty()))
    labels = log.labels(start, _END_OF_TIME, is_cut=True)
    stretches = []
    while start <= newest:
        stretches.append(log.transactions(start, start + _STRETCH, is_cut=True))
        start += _STRETCH
    known = pl.col("seq") <= last_seq
    return Source(
        Journal(pl.concat(stretches).filter(known).sort("seq"), labels.filter(known).sort("seq")),
        purged_positions=0 if horizon is None else horizon.last_seq,
    )


def read_file(
    path: Path,
    mapping: Mapping,
    *,
    policy: ValidationPolicy,
    received: datetime,
    token_key: bytes | None,
) -> Source:
    """A CSV or Parquet file as the log that its ingest into an empty home would make.

    Args:
        path: the file.
        mapping: what its columns mean.
        policy: bounds of valid transactions.
        received: now, with a zone: what is later is refused.
        token_key: the secret for mappings with `tokenize`.

    Raises:
        DataContractError: the file is unusable or damaged, wherever.
        MappingError: the mapping does not fit the file, or lacks its token key.
    """
    mapping.check_token_key(token_key)
    rows_in = 0
    transactions, labels = [_PAYMENTS], [_VERDICTS]
    for batch in read_batches(path, mapping):
        rows_in += batch.rows.height + batch.ragged.height
        mapped = mapping.apply(batch.rows, token_key=token_key, row_numbers=batch.numbers)
        stamped = mapped.transactions.with_columns(
            received_timestamp=pl.lit(received).cast(UTC_MICROSECONDS), source=pl.lit("replay")
        )
        valid = split(stamped, policy).valid
        told = mapped.labels.join(valid, on="row_number", how="semi")
        latest = received + timedelta(seconds=policy.future_tolerance_seconds)
        transactions.append(valid.select(*PAYLOAD_COLUMNS))
        labels.append(told.filter(pl.col("label_timestamp") <= latest).select(_LABEL))
    rows = pl.concat(transactions)
    verdicts = pl.concat(labels).unique(maintain_order=True)
    log = journal(rows, verdicts)
    return Source(log, rows_in - rows.height, rows.height - log.transactions.height)


_PAYMENTS = TRANSACTIONS.empty().select(*PAYLOAD_COLUMNS)
_VERDICTS = LABELS.empty().select(_LABEL)
