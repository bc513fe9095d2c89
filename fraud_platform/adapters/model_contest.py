"""Two bundles on the same rows: what the gates of a promotion need to know of them.

What belongs here: loading and scoring. The judgement is `promotion`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.model_bundle import Bundle
from fraud_platform.evaluation import EvaluationPolicy, evaluate
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.heal.doubt import Spans, outside
from fraud_platform.model import matrix
from fraud_platform.promotion import Rivals
from fraud_platform.promotion_backtest import Duel
from fraud_platform.promotion_gates import Alerts, data_facts
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.segments import SegmentPolicy, groups

_DAY = timedelta(days=1)
LONGEST_LOOK = 14 * _DAY
"""Age of the oldest payments that two models meet on."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Where two models meet.

    Attributes:
        training_set: labelled rows; the slice "test" is what both are judged on.
        newest: features of the newest payments, shape (n, k), in the order of `FEATURE_NAMES`.
        as_of: the moment the comparison pretends it is, UTC.
    """

    training_set: pl.DataFrame
    newest: NDArray[np.float64]
    as_of: datetime


def newest_payments(
    event_log: EventLog,
    features: pl.DataFrame,
    as_of: datetime,
    policy: PromotionPolicy,
    doubtful: Spans = (),
    *,
    within: timedelta = LONGEST_LOOK,
) -> NDArray[np.float64]:
    """Features of the newest payments before a moment, as they were decided on.

    Recorded decisions say what the scorer saw; where it has decided on too few, or by another
    declaration of the features, the batch table says what it would have seen.

    Args:
        event_log: holds the decisions.
        features: the batch table's newest days.
        as_of: exclusive, UTC.
        policy: how many are wanted.
        doubtful: when inputs were broken: these payments say nothing of either model.
        within: how old payments may be.

    Returns:
        Shape (n, k), n at most `policy.replay_rows`, in the order of `FEATURE_NAMES`.
    """
    known = pl.col("feature_spec_digest") == spec_digest()
    found: list[pl.DataFrame] = []
    end, rows = as_of, 0
    while rows < policy.replay_rows and as_of - end < within:
        decisions = outside(event_log.decisions(end - _DAY, end).filter(known), doubtful)
        found.insert(0, decisions.select("features"))
        end, rows = end - _DAY, rows + found[0].height
    if rows < policy.min_replay_rows:
        recent = features.filter(pl.col("event_timestamp") >= as_of - within)
        sound = outside(recent, doubtful).sort("event_timestamp")
        return matrix(sound.tail(policy.replay_rows), FEATURE_NAMES)
    wide = (
        pl.concat(found).tail(policy.replay_rows)["features"].list.to_struct(fields=FEATURE_NAMES)
    )
    return matrix(wide.struct.unnest(), FEATURE_NAMES)


def rivals(
    challenger: Bundle, champion: Bundle, ground: Ground, evaluation: EvaluationPolicy
) -> Rivals:
    """Score the same rows with both models."""
    test = ground.training_set.filter(pl.col("slice") == "test")
    features = matrix(test, FEATURE_NAMES)
    new, old = challenger.model.score(features), champion.model.score(features)
    return Rivals(
        report=evaluate(test.with_columns(score=pl.Series(old)), evaluation),
        data=data_facts(ground.training_set, ground.as_of),
        duel=Duel(
            rows=test,
            new_scores=new,
            old_scores=old,
            segments=_segments(test, evaluation.segments),
        ),
        mature=_alerts(challenger, champion, new, old),
        replayed=alerts(challenger, champion, ground.newest),
    )


def alerts(challenger: Bundle, champion: Bundle, features: NDArray[np.float64]) -> Alerts:
    """What both bundles flag among payments, each with its own review threshold.

    Args:
        challenger: the new one.
        champion: the old one.
        features: shape (n, k), in the order of `FEATURE_NAMES`.
    """
    new, old = challenger.model.score(features), champion.model.score(features)
    return _alerts(challenger, champion, new, old)


def _alerts(
    challenger: Bundle, champion: Bundle, new: NDArray[np.float64], old: NDArray[np.float64]
) -> Alerts:
    return Alerts(
        new=new >= challenger.manifest.review_threshold,
        old=old >= champion.manifest.review_threshold,
    )


def _segments(test: pl.DataFrame, policy: SegmentPolicy) -> pl.DataFrame:
    """The name of each row's segment, a column per cut that the rows allow."""
    there = [cut for cut in policy.cuts if cut.column in (*test.columns, "hour")]
    columns = {cut.column: groups(test, cut) for cut in there}
    return pl.DataFrame({name: np.array(names)[place] for name, (names, place) in columns.items()})
