"""The governors of the models that decide: each model's cap is held by what it says itself.

What the cap is, is `fraud_platform.governor`; here its governors are fed in the order of the
decisions, obey what is ordered, hear what audits have shown, and start anew with each model: on the
newest payments that any model judged, scored by the new one.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters.audit_queue import judged_audits
from fraud_platform.adapters.recent_decisions import RecentDecisions, recent_decisions
from fraud_platform.audit_credit import JudgedAudit, audits_by_check
from fraud_platform.crowds import Payer, payer_of
from fraud_platform.cuts import capped
from fraud_platform.decision import Thresholds
from fraud_platform.errors import LogUnavailableError
from fraud_platform.events import Decision, Transaction
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.governor import Governor, GovernorPolicy
from fraud_platform.rollout import CANARY_ARM, CONTROL_ARM
from fraud_platform.score_cap import tie_breaker
from fraud_platform.settings import Settings
from fraud_platform.stats.block_budget import Audits, allowed_blocks
from serving.ruling import Resident, Ruling

LOGGER = logging.getLogger("fraud_platform.scorer")

_Key = tuple[str, str, Thresholds, tuple[float, ...]]
_Judged = Mapping[str, Sequence[JudgedAudit]]
_LOOK_SECONDS = 2.0


class Governing:
    """The caps of one scorer, and the newest payments that any of its models judged.

    What a failed group was told stays: a few payments of a window may be counted twice.

    Args:
        policy: the bound, and how it is held.
        recent: the newest decisions of the log, at most so many; asked once, before the first.
        judged: audits of declined payments that were judged since then, by model version.
    """

    def __init__(
        self,
        policy: GovernorPolicy,
        recent: Callable[[int], RecentDecisions],
        judged: Callable[[int], _Judged],
    ) -> None:
        self._policy = policy
        self._recent = recent
        self._judged = judged
        self._audits: _Judged = {}
        self._checks: Mapping[str, Sequence[Audits]] = {}
        self._doubt: str | None = None
        self._past: _Past | None = None
        self._before: Mapping[str, tuple[float, float]] = {}
        self._governors: dict[_Key, Governor] = {}
        self._ruling: Ruling | None = None
        self.arms: Mapping[str, Governor] = {}
        """Arm -> the governor of the model that decides there now."""
        # Its first call imports a library: not while payments wait.
        allowed_blocks(policy.window, policy.max_fpr, policy.risk)

    def begin(self, ruling: Ruling) -> None:
        """Hold the caps of the models that decide from now on.

        Raises:
            LogUnavailableError: the newest decisions cannot be read.
        """
        if ruling is self._ruling:
            return
        deciding = {}
        if ruling.champion is not None:
            deciding[ruling.lead] = ruling.champion
            if ruling.challenger is not None and ruling.canary_share:
                deciding |= {CANARY_ARM: ruling.challenger, CONTROL_ARM: ruling.champion}
        held = {_key(resident): self._governor(resident) for resident in deciding.values()}
        if held:
            self._before = {}  # those cuts are of the start
        for governor in held.values():
            governor.order(ruling.orders.max_disturbed)
        self._governors = held
        self.arms = {arm: held[_key(resident)] for arm, resident in deciding.items()}
        self._ruling = ruling

    async def follow_audits(self, clock: Callable[[], int]) -> None:
        """Look at the audits for ever; cancel to stop. What stops a look ends all credit.

        Args:
            clock: microseconds since 1970-01-01 UTC.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            [defect] = await asyncio.gather(self.look_at_audits(clock()), return_exceptions=True)
            if defect is not None:
                LOGGER.error("a look at the audits ended with a defect", exc_info=defect)
                self._credit({})

    async def look_at_audits(self, now_us: int) -> None:
        """Take into account what the audits of the last checks have shown by now.

        While the log cannot be read the audits of before count on, until the clock ends their
        credit. Those of one model tell nothing of another.

        Args:
            now_us: microseconds UTC.
        """
        check_us, checks = self._policy.check_us, self._policy.checks
        try:
            found = await asyncio.to_thread(self._judged, now_us - checks * check_us)
        except LogUnavailableError as error:
            if error.message != self._doubt:
                LOGGER.warning("credit by the audits of before: %s", error.message)
            self._doubt = error.message
        else:
            self._audits, self._doubt = found, None
        self._credit(
            {
                version: audits_by_check(audits, now_us, check_us=check_us, checks=checks)
                for version, audits in self._audits.items()
            }
        )

    def _credit(self, checks: Mapping[str, Sequence[Audits]]) -> None:
        self._checks = checks
        for (version, *_), governor in self._governors.items():
            governor.credit(checks.get(version, ()))

    def capped(
        self, decision: Decision, payment: Transaction, features: NDArray[np.float64]
    ) -> Decision:
        """A model's decision under its cap, by the cuts of the last completed step.

        Args:
            decision: what the model alone would have decided.
            payment: what was decided on.
            features: shape (k,), what is recorded of it.
        """
        governor, score = self.arms[decision.arm], decision.score
        if score is None or self._past is None:
            return decision
        found = capped(decision, governor.cuts)
        tie = tie_breaker(decision.transaction_id)
        told = payment.amount_minor, decision.event_us
        payer = payer_of(payment.device_id, payment.card_id)
        governor.add(score + tie, decision.probability, *told, payer)
        self._past.add(features, *told, tie, payer)
        return found

    def _governor(self, resident: Resident) -> Governor:
        known = self._governors.get(_key(resident))
        if known is not None:
            return known
        if self._past is None:
            recent = self._recent(self._policy.window)
            self._past, self._before = _Past(self._policy.window, recent), recent.cuts
        always = self._policy.always_review_from
        sure_from = math.inf if always is None else resident.calibration.lowest_score(always)
        governor = Governor(self._policy, resident.thresholds, sure_from)
        governor.credit(self._checks.get(resident.version, ()))
        features, amounts, ties, payers, newest_us = self._past.rows()
        if len(features):
            try:
                scores = resident.scorer.score(resident.seen(features))
            except Exception:  # the next payment tells; until then nothing is known of its scores
                LOGGER.exception("model %s failed on payments of before", resident.version)
                return governor
            usable = (scores >= 0.0) & (scores <= 1.0)
            chances = resident.calibration.probabilities(scores[usable])
            governor.rebase(
                resident.thresholds,
                scores[usable] + ties[usable],
                np.full(int(usable.sum()), np.nan) if chances is None else chances,
                amounts[usable],
                newest_us,
                payers[:, usable],
            )
        cuts = self._before.get(resident.version)
        if cuts is not None:
            governor.resume(*cuts)
        return governor


def governing_of(settings: Settings) -> Governing | None:
    """What holds the caps of an installation's models; None where the policy wants none."""
    if not settings.governor.is_on:
        return None
    path = settings.log_path
    return Governing(
        settings.governor, partial(recent_decisions, path), partial(judged_audits, path)
    )


class _Past:
    """The newest payments that a model judged: a ring, oldest first when it is read."""

    def __init__(self, size: int, recent: RecentDecisions) -> None:
        self._features = np.empty((size, len(FEATURE_NAMES)))
        self._amounts, self._times = np.empty((2, size), np.int64)
        self._ties = np.empty(size)
        self._payers = np.zeros((2, size), np.int64)
        self._count = self._place = len(recent.features)
        self._features[: self._count] = recent.features
        self._amounts[: self._count] = recent.amounts_minor
        self._times[: self._count] = recent.event_us
        self._ties[: self._count] = [tie_breaker(name) for name in recent.transaction_ids]
        if recent.payers:
            self._payers[:, : self._count] = np.transpose(recent.payers)
        self._place %= size

    def add(
        self,
        features: NDArray[np.float64],
        amount_minor: int,
        event_us: int,
        tie: float,
        payer: Payer,
    ) -> None:
        place, size = self._place, len(self._amounts)
        self._features[place] = features
        self._amounts[place], self._times[place] = amount_minor, event_us
        self._ties[place] = tie
        self._payers[:, place] = payer
        self._place = (place + 1) % size
        self._count = min(self._count + 1, size)

    def rows(self) -> "_PastRows":
        """All of them, oldest first."""
        order = np.arange(self._place - self._count, self._place)
        return _PastRows(
            self._features[order],
            self._amounts[order],
            self._ties[order],
            self._payers[:, order],
            int(self._times[order].max(initial=0)),
        )


class _PastRows(NamedTuple):
    """Payments of before: shapes (n, k), (n,), (n,), (2, n), and when the newest was; 0: none."""

    features: NDArray[np.float64]
    amounts_minor: NDArray[np.int64]
    ties: NDArray[np.float64]
    payers: NDArray[np.int64]
    newest_us: int


def _key(resident: Resident) -> _Key:
    """What a model's scores and own cuts depend on; trees may come again with other cuts."""
    return resident.version, resident.model.digest, resident.thresholds, resident.divisors
