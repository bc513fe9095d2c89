"""What a policy decided, payment by payment, what that has cost, and what it could know by when.

What belongs here: decisions, their price, and the label feed as a policy sees it: only what was
told by then, never the truth.
"""

from dataclasses import dataclass

import numpy as np

from fraud_platform.heal_bench.stage import HOUR_US, NEVER_US, Stage
from fraud_platform.heal_bench.world import Bools, Floats, Ints, Rows
from fraud_platform.money import APPROVE, DECLINE, MoneyPolicy, cost_minor
from fraud_platform.selective_labels import training_weights

MONEY = MoneyPolicy()
"""The platform's own prices: 2.83 for a false block, 2.00 for a look at an audited payment."""
_SILENT_HOURS = 24.0
"""An approved payment that nobody has reported for so long is taken for genuine."""
_MAX_WEIGHT = 50.0


@dataclass(frozen=True)
class Dealt:
    """Decisions of one policy; arrays of shape (n,), filled as the run goes on.

    Attributes:
        would: whether the payment is to be blocked.
        blocked: whether it is: not if it was let through to learn from.
        audited: whether somebody looks at it.
        propensity: the chance that its truth becomes known.
        probability: of fraud as the deciding model states it, NaN where none is.
        own: whether the deciding model's own cut blocks it, whatever a cap says.
        score: as the deciding model states it, NaN where none was asked.
    """

    would: Bools
    blocked: Bools
    audited: Bools
    propensity: Floats
    probability: Floats
    own: Bools
    score: Floats

    @classmethod
    def blank(cls, rows: int) -> "Dealt":
        """Nothing is decided yet."""
        flags = [np.zeros(rows, dtype=bool) for _ in range(4)]
        chances = np.ones(rows), np.full(rows, np.nan)
        return cls(flags[0], flags[1], flags[2], *chances, flags[3], np.full(rows, np.nan))

    @classmethod
    def plain(cls, blocked: Bools) -> "Dealt":
        """Blocked or not, with nothing let through or looked at."""
        dealt = cls.blank(blocked.size)
        for told in (dealt.would, dealt.blocked, dealt.own):
            told[:] = blocked
        dealt.propensity[blocked] = 0.0
        return dealt


def costs(stage: Stage, dealt: Dealt) -> Floats:
    """What each payment costs, minor units, shape (n,); repetitions cost nothing."""
    outcomes = np.where(dealt.blocked, DECLINE, APPROVE).astype(np.int8)
    priced = cost_minor(stage.is_fraud, stage.true_minor, outcomes, MONEY)
    looked = np.where(dealt.audited, float(MONEY.review_cost_minor), 0.0)
    return np.asarray(np.where(stage.counts, priced, 0.0) + looked)


def exploration_minor(stage: Stage, dealt: Dealt, first: int) -> float:
    """What letting would-be blocks through has cost in fraud from a row on, and looking at some."""
    passed = dealt.would & ~dealt.blocked & stage.is_fraud & stage.counts
    looked = MONEY.review_cost_minor * float(dealt.audited[first:].sum())
    return float(stage.true_minor[first:][passed[first:]].sum()) + looked


@dataclass(frozen=True)
class Known:
    """What has been told of which payments.

    Attributes:
        rows: of the run.
        is_fraud: as told.
        propensity: the chance that it became known.
    """

    rows: Ints
    is_fraud: Bools
    propensity: Floats

    def some(self, which: Bools) -> "Known":
        """What is known of some of them."""
        return Known(self.rows[which], self.is_fraud[which], self.propensity[which])

    def learnt(self, stage: Stage) -> Rows:
        """The same as rows to learn from, each standing for those that were not known."""
        weight = training_weights(self.propensity, max_weight=_MAX_WEIGHT)
        return Rows(stage.served[self.rows], self.is_fraud, weight)


def known(stage: Stage, dealt: Dealt, first: int, now: int) -> Known:
    """What is known of the payments of rows [first, now) when row `now` arrives.

    Audits say what they say once they are judged; of the others that were let through, a report
    says fraud and a day of silence says genuine. What was blocked and not drawn stays unknown.
    """
    rows = np.arange(first, now)
    now_us = int(stage.arrived_us[min(now, stage.rows - 1)])
    judged = dealt.audited[rows] & (stage.verdicts.judged_us[rows] <= now_us)
    through = ~dealt.blocked[rows] & ~judged
    reported = through & (stage.verdicts.report_us[rows] <= now_us)
    old = now_us - stage.arrived_us[rows] >= _SILENT_HOURS * HOUR_US
    told = judged | reported | (through & old)
    is_fraud = np.where(judged, stage.verdicts.says_fraud[rows], reported)
    return Known(rows[told], is_fraud[told], dealt.propensity[rows][told])


def reported_us(stage: Stage, dealt: Dealt, rows: Ints, now_us: int) -> Ints:
    """When each of these payments was reported as fraud, `NEVER_US` if it was not by now."""
    at = np.where(dealt.blocked[rows], NEVER_US, stage.verdicts.report_us[rows])
    return np.where(at <= now_us, at, NEVER_US)
