"""Which payments were known to be frauds when a decision was made.

Frauds are few, so they are looked at one by one: every payment with a fraud verdict meets the
decisions of its line that may see it, and each pair asks which verdict held at that moment.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.features.declaration import Feature
from fraud_platform.features.sight import count_up, first_from, stretches

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """What a feature asks about the frauds in its window.

    Attributes:
        about: "frauds" (their number), "newest_fraud" (its time), "streak" (how many of the newest
            payments seen are frauds without a gap), "streak_start" (time of the oldest of them) or
            "newest_good" (time of the newest payment seen that is not known to be fraud).
        feature: whose window and `where`.
        newest: for streaks: column of the place of the newest payment seen; null if none is.
        oldest: for streaks: column of the place of the oldest.
    """

    about: str
    feature: Feature
    newest: str = ""
    oldest: str = ""


def answers(
    line: pl.DataFrame, asked: pl.DataFrame, verdicts: pl.DataFrame, questions: dict[str, Question]
) -> pl.DataFrame:
    """Answer the questions for every asked row.

    Args:
        line: what `sight.line_up` returned, with `place`: 0, 1, ... in its order.
        asked: its asked rows, with the columns that the questions name.
        verdicts: rank of the payment, is_fraud, known_us and label_seq.
        questions: by the name of the column to answer in.

    Returns:
        One Int64 column per question (null: no such payment), in the order of the asked rows.
    """
    pairs = _known_frauds(line, verdicts, [question.feature for question in questions.values()])
    times = line["time_us"].to_numpy()
    return pl.DataFrame({
        name: _answer(question, asked, _within(pairs, question.feature), times)
        for name, question in questions.items()
    })  # fmt: skip


def _within(pairs: pl.DataFrame, feature: Feature) -> pl.DataFrame:
    """The pairs that are within a feature's window and pass its `where`."""
    where = feature.where
    counts = pl.lit(value=True) if where is None else pl.col(where.fact) == where.equals
    age = pl.col("age_us")
    return pairs.filter(counts, age > feature.delay_us, age <= feature.reach_us)


def _answer(question: Question, asked: pl.DataFrame, pairs: pl.DataFrame, times: Ints) -> pl.Series:
    decisions, frauds = pairs["decision"].to_numpy(), pairs["fraud"].to_numpy()
    number = np.bincount(decisions, minlength=len(times))
    first = np.cumsum(number) - number  # of each decision, in the pairs
    places = asked["place"].to_numpy()
    if question.about == "frauds":
        return pl.Series(number[places])
    if question.about == "newest_fraud":
        found = number[places] > 0
        newest = np.zeros(len(places), np.int64)
        newest[found] = frauds[first[places][found]]
        return _times_at(times, newest, found)
    newest = asked[question.newest].fill_null(-1).to_numpy()
    newest_of = np.full(len(times), -1)
    newest_of[places] = newest
    rank = np.arange(len(decisions)) - first[decisions]
    in_streak = frauds == newest_of[decisions] - rank  # newest first, so a gap ends it
    streak = np.bincount(decisions[in_streak], minlength=len(times))[places]
    oldest = asked[question.oldest].fill_null(0).to_numpy()
    return {
        "streak": lambda: pl.Series(streak),
        "streak_start": lambda: _times_at(times, newest - streak + 1, streak > 0),
        "newest_good": lambda: _times_at(times, newest - streak, newest - streak >= oldest),
    }[question.about]()


def _times_at(times: Ints, places: Ints, found: NDArray[np.bool_]) -> pl.Series:
    """Event times at places; null where nothing was found."""
    moments = np.zeros(len(places), np.int64)
    moments[found] = times[places[found]]
    return pl.Series(moments).set(pl.Series(~found), None)


def _known_frauds(
    line: pl.DataFrame, verdicts: pl.DataFrame, features: list[Feature]
) -> pl.DataFrame:
    """Every pair of an asked decision and a payment in its reach that it knows to be a fraud.

    Returns:
        decision and fraud (places), age_us between them and the fraud's facts; sorted by decision,
        then by fraud, newest first.
    """
    facts = sorted({feature.where.fact for feature in features if feature.where})
    events = line.join(verdicts.filter("is_fraud"), on="rank", how="semi", maintain_order="left")
    pairs = _pairs(
        line,
        events.select("rank", *facts, fraud="place", event_us="time_us"),
        delay_us=min(feature.delay_us for feature in features),
        reach_us=max(feature.reach_us for feature in features),
    )
    return (
        pairs.join(verdicts, on="rank")
        .filter(pl.col("known_us") <= pl.col("decided_us"), pl.col("label_seq") <= pl.col("seen"))
        .sort("known_us", "label_seq")
        .unique(["decision", "fraud"], keep="last", maintain_order=True)  # the latest verdict holds
        .filter("is_fraud")
        .with_columns(age_us=pl.col("decided_us") - pl.col("event_us"))
        .sort("decision", "fraud", descending=[False, True])
    )


def _pairs(
    line: pl.DataFrame, events: pl.DataFrame, *, delay_us: int, reach_us: int
) -> pl.DataFrame:
    """Each event with every asked decision of its line that is older than the delay."""
    times = line["time_us"].to_numpy()
    start, end = stretches(line["line"].to_numpy(), events["fraud"].to_numpy())
    moments = events["event_us"].to_numpy()
    first = first_from(times, start, end, moments + delay_us + 1)
    last = first_from(times, start, end, moments + reach_us + 1)
    lengths = last - first
    decisions = np.repeat(first, lengths) + count_up(lengths)
    asked: pl.DataFrame = line.select("is_asked", "seen", decision="place", decided_us="time_us")[
        decisions
    ]
    repeated: pl.DataFrame = events[np.repeat(np.arange(len(lengths)), lengths)]
    return pl.concat([repeated, asked], how="horizontal").filter("is_asked")
