"""The label ledger: what was known about each payment at a moment, and what its silence means.

What belongs here: the meaning of a set of verdicts. How long verdicts take is `label_delays`,
whether they still come is `label_arrivals`, which rows a model learns from is `training_set`.

The rule (docs/labels.md has it as a table). Of what was known before `as_of`:

1. Each source's latest word stands (by `label_timestamp`, then `seq`). `withdrawn` takes back
   whatever that source said before, and nothing that others said.
2. Of the words that stand, the one of the highest-ranked source decides (`SOURCES`).
3. Where none stands, nothing is known, until silence is old enough to count as genuine; and never
   for a payment that was declined, about which nobody would have complained.

The order in which verdicts arrive therefore decides nothing but ties within one source. The feature
kernel has a rule of its own on purpose: a window counts the latest visible verdict of any source,
which costs it no memory of who said what; a model's target deserves the better answer.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from fraud_platform.errors import DataContractError
from fraud_platform.schemas import MATURE_LABELS, UTC_MICROSECONDS

SOURCES = ("audit", "dispute", "chargeback", "analyst", "customer_report")
"""Who may say something about a payment, most trusted first."""

IMPLIED = "implied"
"""The source of a genuine label that nobody spoke: silence that is old enough. Ranked last."""

OUTCOME_COLUMNS: dict[str, pl.DataType] = {
    "transaction_id": pl.String(),
    "decision": pl.String(),  # approve | review | decline
    "pass_propensity": pl.Float64(),  # chance to be let through; null: nothing was to be declined
    "audit_propensity": pl.Float64(),  # chance to be audited; null: nothing was to be declined
}
"""What the ledger has to know of a decision."""

LEDGER_COLUMNS: dict[str, pl.DataType] = {
    "transaction_id": pl.String(),
    "event_timestamp": UTC_MICROSECONDS,
    "card_id": pl.String(),
    "state": pl.String(),  # unlabelled | early | mature | final
    "is_fraud": pl.Boolean(),  # null while unlabelled
    "label_source": pl.String(),  # one of SOURCES, or IMPLIED; null while unlabelled
    "label_timestamp": UTC_MICROSECONDS,  # of the deciding verdict; null if implied
    "is_contested": pl.Boolean(),  # whether sources that stand disagree
    "propensity": pl.Float64(),  # chance that the label could become known, in (0, 1]
    "as_of_timestamp": UTC_MICROSECONDS,
}
"""Columns of `ledger`."""


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """What the silence about a payment means, and when the silence of a source is an alarm."""

    maturity_days: int = 7
    """Days after the transaction's day until "no fraud verdict" counts as genuine."""
    final_days: int = 120
    """Days after the transaction's day from which its label is final: card schemes accept no
    dispute later."""
    delay_history_days: int = 180
    """Payments of so many days tell how long verdicts take, and how many are to be expected."""
    arrival_days: int = 7
    """Verdicts of so many days are compared with their expectation. A whole week, since many
    senders rest on Sundays; fewer days see a stop sooner."""
    min_arrival_share: float = 0.6
    """A source has stopped when surely fewer verdicts came than expected, and less than this share
    of them."""
    arrival_confidence: float = 0.99
    """Confidence of the interval around that share, and of the bands of the delay curves."""

    def __post_init__(self) -> None:
        least = {"maturity_days": 0, "final_days": self.maturity_days, "arrival_days": 1}
        least |= {"delay_history_days": max(self.maturity_days, self.arrival_days) + 1}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least {bound}")
        for name in ("min_arrival_share", "arrival_confidence"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"found {name}={getattr(self, name)}, expected between 0 and 1")


def standing(labels: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
    """The verdict that decides about each transaction, of all that were known before `as_of`.

    Args:
        labels: `schemas.LABELS` rows in any order; needs `seq`, `transaction_id`, `verdict`,
            `label_source` and `label_timestamp`.
        as_of: exclusive, UTC.

    Returns:
        One row per transaction about which a verdict stands: transaction_id, is_fraud,
        label_source, label_timestamp and is_contested, sorted by transaction_id.

    Raises:
        DataContractError: a source is none of `SOURCES`.

    Examples:
        >>> from datetime import UTC
        >>> said = pl.DataFrame({
        ...     "seq": [1, 2, 3], "transaction_id": ["a"] * 3,
        ...     "verdict": ["fraud", "genuine", "withdrawn"],
        ...     "label_source": ["chargeback", "dispute", "dispute"],
        ...     "label_timestamp": [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3, 4)]})
        >>> [standing(said, as_of=datetime(2026, 1, day, tzinfo=UTC))["is_fraud"].to_list()
        ...  for day in (2, 3, 4, 5)]
        [[], [True], [False], [True]]
    """
    _refuse_unknown_sources(labels)
    rank = pl.col("label_source").cast(pl.Enum(SOURCES)).to_physical()
    words = (
        labels.filter(pl.col("label_timestamp") < as_of)
        .sort("label_timestamp", "seq")
        .unique(["transaction_id", "label_source"], keep="last", maintain_order=True)
        .filter(pl.col("verdict") != "withdrawn")
    )
    return (
        words.select(
            "transaction_id",
            "label_source",
            "label_timestamp",
            is_fraud=pl.col("verdict") == "fraud",
            is_contested=pl.col("verdict").n_unique().over("transaction_id") > 1,
        )
        .sort("transaction_id", rank)
        .unique("transaction_id", keep="first", maintain_order=True)
        .select("transaction_id", "is_fraud", "label_source", "label_timestamp", "is_contested")
    )


def ledger(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    decisions: pl.DataFrame,
    *,
    as_of: datetime,
    policy: LabelPolicy,
) -> pl.DataFrame:
    """The state of each of these transactions at `as_of`.

    `final` and `mature` are transactions whose day ended at least `final_days`, `maturity_days`
    before `as_of`, and that have a label: a verdict that stands, or silence, which then means
    genuine. `early` ones are younger and have a verdict. All others are `unlabelled`: the young
    that nobody spoke of, and, however old, what was declined and nobody spoke of.

    The propensity is what inverse-propensity weights are made of: 1 where the label could become
    known anyway; the chance of having been let through or audited, `1 - (1 - pass)(1 - audit)`, of
    what was to be declined and was drawn. A verdict about a decline that nobody drew stands for
    itself alone, so it has 1.

    Args:
        transactions: one row per transaction; needs `transaction_id`, `event_timestamp` and
            `card_id`, other columns are ignored.
        labels: `schemas.LABELS` rows in any order; verdicts about other transactions are ignored.
        decisions: `OUTCOME_COLUMNS`, at most one row per transaction; those without one were not
            declined by this platform.
        as_of: the moment the answer pretends it is, UTC.
        policy: when silence counts.

    Returns:
        `LEDGER_COLUMNS`, one row per transaction, in the order of `transactions`.

    Raises:
        DataContractError: a transaction did not happen before `as_of`, or appears twice.
    """
    _refuse_future_or_repeated(transactions, as_of)
    day_end = pl.col("event_timestamp").dt.truncate("1d") + timedelta(days=1)
    days = (pl.lit(as_of, dtype=UTC_MICROSECONDS) - day_end) / timedelta(days=1)
    speaks, declined = pl.col("is_fraud").is_not_null(), pl.col("decision") == "decline"
    is_old = days >= policy.maturity_days
    is_implied = ~speaks & is_old & ~declined.fill_null(value=False)
    rows = (
        transactions.select("transaction_id", "event_timestamp", "card_id")
        .join(
            standing(labels.join(transactions, on="transaction_id", how="semi"), as_of=as_of),
            on="transaction_id",
            how="left",
            maintain_order="left",
        )
        .join(decisions, on="transaction_id", how="left", maintain_order="left")
    )
    return rows.select(
        "transaction_id",
        "event_timestamp",
        "card_id",
        state=pl.when(~speaks & ~is_implied)
        .then(pl.lit("unlabelled"))
        .when(~is_old)
        .then(pl.lit("early"))
        .when(days < policy.final_days)
        .then(pl.lit("mature"))
        .otherwise(pl.lit("final")),
        is_fraud=pl.when(is_implied).then(pl.lit(value=False)).otherwise("is_fraud"),
        label_source=pl.when(is_implied).then(pl.lit(IMPLIED)).otherwise("label_source"),
        label_timestamp="label_timestamp",
        is_contested=pl.col("is_contested").fill_null(value=False),
        propensity=_propensity(declined),
        as_of_timestamp=pl.lit(as_of, dtype=UTC_MICROSECONDS),
    )


def mature_by_day(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    decisions: pl.DataFrame,
    *,
    policy: LabelPolicy,
    first: date,
    last: date,
) -> pl.DataFrame:
    """What becomes mature on each of some days: day D settles the transactions of D - maturity.

    Each day is judged by what was known at its own end, so a range gives the same rows as its days
    one by one. What is still unlabelled then, the declined, is left out.

    Args:
        transactions: at least those of the days `first - maturity_days` to `last - maturity_days`;
            others are ignored.
        labels: at least all verdicts on them that were known before the end of `last`.
        decisions: `OUTCOME_COLUMNS`, at least of these transactions.
        policy: how many whole days of silence count as genuine.
        first: first as-of day, UTC.
        last: last as-of day, UTC, included.

    Returns:
        `schemas.MATURE_LABELS`, in the order of `transactions` within each day.

    Raises:
        DataContractError: a transaction appears twice.

    Examples:
        >>> from datetime import UTC
        >>> paid = pl.DataFrame({"transaction_id": ["a", "b", "c"], "card_id": ["d"] * 3,
        ...                      "event_timestamp": [datetime(2026, 1, 1, tzinfo=UTC)] * 3})
        >>> said = pl.DataFrame({"seq": [7], "transaction_id": ["b"], "verdict": ["fraud"],
        ...                      "label_source": ["chargeback"],
        ...                      "label_timestamp": [datetime(2026, 1, 3, tzinfo=UTC)]})
        >>> done = pl.DataFrame({"transaction_id": ["c"], "decision": ["decline"],
        ...                      "pass_propensity": [None], "audit_propensity": [None]})
        >>> day = date(2026, 1, 8)
        >>> mature = mature_by_day(paid, said, done, policy=LabelPolicy(), first=day, last=day)
        >>> mature.select("transaction_id", "is_fraud").rows()
        [('a', False), ('b', True)]
    """
    settled = [MATURE_LABELS.empty()]
    event_day = pl.col("event_timestamp").dt.date()
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        due = transactions.filter(event_day == day - timedelta(days=policy.maturity_days))
        end = datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC)
        told = ledger(due, labels, decisions, as_of=end, policy=policy)
        labelled = told.filter(pl.col("state") != "unlabelled")
        settled.append(labelled.select(*MATURE_LABELS.columns).cast(MATURE_LABELS.columns))  # type: ignore[arg-type]  # a schema
    return pl.concat(settled)


def frauds_called_genuine(
    mature_labels: pl.DataFrame, labels: pl.DataFrame, *, as_of: datetime
) -> pl.DataFrame:
    """The rows that are called genuine although they stand as fraud at `as_of`.

    At the rows' own `as_of_timestamp` there must be none. At a later moment they are the frauds
    that became known too late: the error that maturity admits.

    Args:
        mature_labels: `schemas.MATURE_LABELS`, or any rows with `transaction_id` and `is_fraud`.
        labels: all verdicts on them that were known before `as_of`.
        as_of: exclusive, UTC.
    """
    frauds = standing(labels, as_of=as_of).filter("is_fraud")
    return mature_labels.filter(~pl.col("is_fraud")).join(frauds, on="transaction_id", how="semi")


def _propensity(declined: pl.Expr) -> pl.Expr:
    missed = pl.lit(1.0)
    for way in ("pass_propensity", "audit_propensity"):
        missed = missed * (1 - pl.col(way).fill_null(0.0))
    chance = 1 - missed
    was_drawn = ~declined | (pl.col("label_source") == "audit").fill_null(value=False)
    return pl.when(was_drawn & (chance > 0)).then(chance).otherwise(1.0)


def _refuse_unknown_sources(labels: pl.DataFrame) -> None:
    if unknown := sorted(set(labels["label_source"].unique().to_list()) - set(SOURCES)):
        raise DataContractError(
            f"found verdicts of {unknown}, expected only {list(SOURCES)}",
            hint="a new source needs a rank in labels.SOURCES",
        )


def _refuse_future_or_repeated(transactions: pl.DataFrame, as_of: datetime) -> None:
    future = transactions.filter(pl.col("event_timestamp") >= as_of).height
    if future:
        raise DataContractError(
            f"{future} of {transactions.height} transactions did not happen before as_of "
            f"{as_of.isoformat()}; a label cannot be older than its transaction.",
            hint="pass only transactions that had happened at as_of.",
        )
    repeated = transactions.height - transactions["transaction_id"].n_unique()
    if repeated:
        raise DataContractError(
            f"{repeated} transaction ids appear more than once; expected one row each.",
            hint="deduplicate the transactions first (validated_transactions has unique ids).",
        )
