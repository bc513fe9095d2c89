"""What a training set was made of, as one document: whoever has the inputs can make it again.

What belongs here: the document and its digest. How rows are chosen is `training_set`; where the
document is kept is the caller's choice.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import msgspec
import polars as pl

from fraud_platform.errors import DataContractError
from fraud_platform.features.spec import spec_digest
from fraud_platform.features.table_digest import digest as table_digest
from fraud_platform.labels import LabelPolicy
from fraud_platform.proportions import effective_size
from fraud_platform.training_set import TrainingPolicy, digest, feature_columns

TABLE = "training_set_document"
"""The documents are kept under this name, one for each day of a training set."""


@dataclass(frozen=True, kw_only=True)
class SliceDocument:
    """One slice of a training set.

    Attributes:
        name: "train", "delay" (the embargo: nothing learns from it or is judged on it) or "test".
        first_day: day of its oldest row, UTC.
        last_day: day of its newest row, UTC.
        rows: labelled transactions.
        frauds: how many of them are fraud.
        weighted_frauds: sum of the frauds' weights; the weights of all rows add up to `rows`.
        effective_sample_size: rows of equal weight that would tell as much.
        amount_minor: sum of the amounts, minor units.
    """

    name: str
    first_day: date
    last_day: date
    rows: int
    frauds: int
    weighted_frauds: float
    effective_sample_size: float
    amount_minor: int


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Labelled payments that nothing may be learnt from.

    Attributes:
        why: the cause that the heal ledger names: an input was broken.
        since: the first moment in doubt, UTC.
        until: the last one, UTC; None: it was not over.
        rows: labelled payments of that time that would else have counted.
    """

    why: str
    since: datetime
    until: datetime | None
    rows: int


@dataclass(frozen=True, kw_only=True)
class TrainingSetDocument:
    """Everything that decided which rows a training set has, and what is in them.

    Attributes:
        as_of: the moment whose knowledge it holds, UTC.
        slices: in order of time.
        training: the policy that cut them.
        labels: the policy that called their labels mature.
        feature_names: the features, in order.
        feature_spec_digest: `features.spec.spec_digest`.
        inputs: table -> day (ISO 8601) -> SHA-256 of that day's rows (`features.table_digest`).
        rows_digest: `training_set.digest` of the rows.
        left_out: what was kept out of the mature labels before they were cut, earliest first.
    """

    as_of: datetime
    slices: tuple[SliceDocument, ...]
    training: TrainingPolicy
    labels: LabelPolicy
    feature_names: tuple[str, ...]
    feature_spec_digest: str
    inputs: dict[str, dict[str, str]]
    rows_digest: str
    left_out: tuple[LeftOut, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: sorted keys, no spaces, shortest floats.

        Where nothing was left out it says nothing of it: so documents of before keep their digests.
        """
        told = asdict(self)
        if not self.left_out:
            del told["left_out"]
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()

    def require(self, rows: pl.DataFrame) -> str:
        """The document's digest, if these are the rows that it describes.

        Raises:
            DataContractError: they are not; for instance one of the two was made again alone.
        """
        found = digest(rows)
        if found != self.rows_digest:
            raise DataContractError(
                f"The rows have the digest {found}, expected {self.rows_digest} as documented.",
                hint="materialize training_set of this day again; it writes rows and document.",
            )
        return self.digest


def document(
    rows: pl.DataFrame,
    inputs: Mapping[str, pl.DataFrame],
    *,
    as_of: datetime,
    training: TrainingPolicy,
    labels: LabelPolicy,
    left_out: tuple[LeftOut, ...] = (),
) -> TrainingSetDocument:
    """Describe a training set; the same inputs give the same document, byte for byte.

    Args:
        rows: what `training_set.build` returned.
        inputs: the tables that it was built from, by name, each in its own order of rows; mature
            labels count to the day that made them mature, others to that of `event_timestamp`.
        as_of: as given to `build`.
        training: as given to `build`.
        labels: the policy behind the mature labels.
        left_out: what of the mature labels was not given to `build`.
    """
    parts = rows.partition_by("slice", maintain_order=True)
    return TrainingSetDocument(
        as_of=as_of,
        slices=tuple(_described(part) for part in parts),
        training=training,
        labels=labels,
        feature_names=feature_columns(rows),
        feature_spec_digest=spec_digest(),
        inputs={name: digests_by_day(table) for name, table in sorted(inputs.items())},
        rows_digest=digest(rows),
        left_out=left_out,
    )


def _described(part: pl.DataFrame) -> SliceDocument:
    days = part["event_timestamp"].dt.date()
    return SliceDocument(
        name=part["slice"][0],
        first_day=days[0],
        last_day=days[-1],
        rows=part.height,
        frauds=int(part["is_fraud"].sum()),
        weighted_frauds=float(part.filter("is_fraud")["weight"].sum()),
        effective_sample_size=effective_size(part["weight"].to_numpy()),
        amount_minor=int(part["amount_minor"].sum()),
    )


def digests_by_day(table: pl.DataFrame) -> dict[str, str]:
    """SHA-256 of each day's rows of an input, by the day's name (ISO 8601).

    Args:
        table: rows with `event_timestamp`; those with `as_of_timestamp`, too, are mature labels,
            which count to the day that made them mature.
    """
    parts = table.group_by(_PARTITION[_MATURES in table.columns].dt.date(), maintain_order=True)
    found = {day: table_digest(rows) for (day,), rows in parts}
    return {str(day): found[day] for day in sorted(found)}


_MATURES = "as_of_timestamp"
# A label belongs to the day whose end made it mature, anything else to the day it happened.
_PARTITION = (pl.col("event_timestamp"), pl.col(_MATURES) - timedelta(microseconds=1))
