"""What audits of declined payments are worth to the cap on false positives, and for how long.

What belongs here: from audits to counts by check. What the counts are worth is
`stats.block_budget`, what the cap makes of it is `governor`; reading audits is an adapter's.
"""

import hashlib
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from fraud_platform.stats.block_budget import Audits


class JudgedAudit(NamedTuple):
    """A declined payment that was drawn at random for an audit, and judged.

    Attributes:
        transaction_id: of the payment.
        decided_us: when it was declined and drawn, microseconds UTC.
        judged_us: when its verdict became known, microseconds UTC.
        propensity: chance that a declined payment like it was drawn, in (0, 1].
        is_fraud: the verdict.
    """

    transaction_id: str
    decided_us: int
    judged_us: int
    propensity: float
    is_fraud: bool


def audits_by_check(
    judged: Iterable[JudgedAudit], now_us: int, *, check_us: int, checks: int
) -> tuple[Audits, ...]:
    """The audits of the last checks as counts, each check as if all payments had had one chance.

    A check is a span of time that ends now or where the next one begins; an audit belongs to the
    one in which it was judged. Payments that were declined more than `checks` + 1 spans ago say
    nothing of now. Who draws large payments more often finds more fraud than there is: of audits
    with unequal chances each is kept with the least chance of its check over its own, by a hash of
    its id, so that a plain count is an honest one.

    Args:
        judged: audits of one model's declines, in any order.
        now_us: microseconds UTC, on the clock of the verdicts.
        check_us: length of a check, microseconds.
        checks: how many count.

    Returns:
        One for each check, oldest first; a last one without audits ends all credit.

    Examples:
        >>> one = JudgedAudit("t1", 0, 5, 0.1, True)
        >>> audits_by_check([one], 6, check_us=10, checks=2)
        (Audits(fraud=0, looked=0), Audits(fraud=1, looked=1))
        >>> audits_by_check([one], 15, check_us=10, checks=2)
        (Audits(fraud=1, looked=1), Audits(fraud=0, looked=0))
    """

    def age(one: JudgedAudit) -> int:
        return (now_us - one.judged_us) // check_us

    oldest_us = now_us - (checks + 1) * check_us
    told = [one for one in judged if 0 <= age(one) < checks and one.decided_us > oldest_us]
    found = {k: _counted(list(group)) for k, group in groupby(sorted(told, key=age), key=age)}
    return tuple(found.get(k, Audits(0, 0)) for k in reversed(range(checks)))


def _counted(check: list[JudgedAudit]) -> Audits:
    least = min(one.propensity for one in check)
    kept = [one for one in check if _uniform(one.transaction_id) * one.propensity < least]
    return Audits(sum(one.is_fraud for one in kept), len(kept))


def _uniform(transaction_id: str) -> float:
    """A number in [0, 1) that looks drawn at random, and not by the draw of the audit itself."""
    word = hashlib.sha256(b"audit credit " + transaction_id.encode()).digest()[:8]
    return (int.from_bytes(word) >> 11) * 2.0**-53
