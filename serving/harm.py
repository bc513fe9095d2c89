"""Counting harm beside the answers, and telling it once a second.

What harm is, is `fraud_platform.heal.harm`. Here decided payments are kept until the next second,
and then counted and written in a thread; the loop pays for one append a payment.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fraud_platform.adapters.live_file import Live, read_live, write_live
from fraud_platform.decision import UNUSABLE_SCORE, Outcome
from fraud_platform.errors import FraudPlatformError
from fraud_platform.events import Decision
from fraud_platform.heal.configuration import cuts_of
from fraud_platform.heal.evidence import Reading, Standing
from fraud_platform.heal.harm import Harm, HarmPolicy, Payments
from fraud_platform.rollout import compared_traffic, comparison_key
from fraud_platform.selective_labels import PASSED
from serving.ruling import Ruling

LOGGER = logging.getLogger("fraud_platform.scorer")

_EVERY_SECONDS = 1.0
_MOST_KEPT = 20_000
"""Payments that wait to be counted, at most: while a disk hangs the oldest are not counted."""
_AT_FAULT = frozenset(
    {"internal_error", "journal_full", "log_unavailable", "not_ready", "scorer_full"}
)
"""Codes of refusals that no sender has earned, and nobody has ordered."""


class Answered(NamedTuple):
    """A payment that was decided just now.

    Attributes:
        card_id: whose.
        decision: what was answered.
        seconds: from the request to the answer.
    """

    card_id: str
    decision: Decision
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Told:
    """What else is written beside the harm; read once a second.

    Attributes:
        ruling: what decides.
        mode: in which mode it is answered.
        orders_sequence: of the orders in force.
        governor: the governor's numbers.
        configuration: settings that it decides by, as text by name.
    """

    ruling: Ruling
    mode: str
    orders_sequence: int = 0
    governor: Mapping[str, float] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)


class HarmWatch(Collector):
    """Counts what was answered, and tells how it stands.

    Args:
        path: where it is told, `live_path` of the home.
        policy: what counts as harm.
        told: what else is written; asked in the loop.
        clock: microseconds since 1970-01-01 UTC.

    Attributes:
        readings: of the last second.
    """

    def __init__(
        self,
        path: Path,
        policy: HarmPolicy,
        told: Callable[[], Told],
        clock: Callable[[], int],
    ) -> None:
        self._path = path
        self._policy = policy
        self._told = told
        self._clock = clock
        self._harm = Harm(policy)
        self._live = Live(written_us=0)
        self._answered = deque[Answered](maxlen=_MOST_KEPT)
        self._failed = 0
        self._problem: str | None = None
        self.readings: tuple[Reading, ...] = ()

    def answered(self, payments: Iterable[Answered]) -> None:
        """Keep payments for the next second."""
        self._answered.extend(payments)

    def refused(self, code: str, count: int = 1) -> None:
        """Count requests that got no decision by the scorer's own fault."""
        if code in _AT_FAULT:
            self._failed += count

    async def run(self) -> None:
        """Count and tell for ever, payments or not; cancel to stop."""
        await asyncio.to_thread(self._resume)
        try:
            while True:
                await self.look()
                await asyncio.sleep(_EVERY_SECONDS)
        finally:
            with contextlib.suppress(OSError):
                self._look(*self._take())

    async def look(self) -> None:
        """Count what came since the last look, and tell how it stands."""
        try:
            await asyncio.to_thread(self._look, *self._take())
        except Exception as error:
            if str(error) != self._problem:
                LOGGER.exception("counting harm failed; the next second tries again")
            self._problem = str(error)
        else:
            self._problem = None

    def collect(self) -> Iterator[Metric]:
        """Evidence and standing of each signal, when somebody scrapes."""
        evidence = GaugeMetricFamily(
            "fraud_harm_evidence",
            "Evidence of harm as ln E, or that it is over once it is breached",
            labels=["signal"],
        )
        breached = GaugeMetricFamily(
            "fraud_harm_breached", "1 for each harm signal that is breached", labels=["signal"]
        )
        for reading in self.readings:
            evidence.add_metric([reading.signal], reading.details.get("evidence", 0.0))
            breached.add_metric([reading.signal], reading.standing is Standing.BREACHED)
        yield evidence
        yield breached

    def _take(self) -> tuple[Collection[Answered], int, Told]:
        taken = self._answered, self._failed, self._told()
        self._answered, self._failed = deque(maxlen=_MOST_KEPT), 0
        return taken

    def _resume(self) -> None:
        try:
            live = read_live(self._path)
        except FraudPlatformError as error:
            LOGGER.warning("watching for harm from nothing: %s", error.message)
            return
        if live is not None:
            self._live, self._harm = live, Harm(self._policy, live.harm)

    def _look(self, answered: Collection[Answered], failed: int, told: Told) -> None:
        ruling = told.ruling
        champion = ruling.champion
        if champion is not None and champion.alert_rate is not None:
            # Not by the policy's digest: an order that is to end a harm must not make it forgotten.
            self._harm.expect(
                f"{champion.model.digest} {champion.thresholds}",
                champion.alert_rate,
                champion.alert_rate_by_hour,
            )
        challenger = ruling.challenger if ruling.has_canary else None
        if champion is None or challenger is None:
            self._harm.compare("", "", 0.5)
        else:
            # The digest of its trees does not name a model: they may come again with other cuts.
            key = comparison_key(
                challenger.version,
                challenger.policy_digest,
                champion.version,
                champion.policy_digest,
            )
            traffic = compared_traffic(ruling.canary_share)
            self._harm.compare(key, challenger.version, traffic)
        self._harm.observe(_payments(answered, ruling), refused=failed)
        now_us = self._clock()
        self.readings = self._harm.readings(now_us)
        self._live = self._now(answered, told, now_us)
        write_live(self._path, self._live)

    def _now(self, answered: Collection[Answered], told: Told, now_us: int) -> Live:
        ruling = told.ruling
        newest_us = max((each.decision.event_us for each in answered), default=0)
        return Live(
            written_us=now_us,
            model_version=ruling.version,
            model_digest=ruling.model_digest,
            policy_digest=(
                ruling.rules_digest if ruling.champion is None else ruling.champion.policy_digest
            ),
            mode=told.mode,
            orders_sequence=told.orders_sequence,
            payments=self._live.payments + len(answered),
            event_us=max(self._live.event_us, newest_us),
            readings=self.readings,
            governor=told.governor,
            configuration=told.configuration,
            cuts={} if ruling.champion is None else cuts_of(ruling.champion.thresholds),
            comparison=self._harm.comparison,
            harm=self._harm.state,
        )


def _payments(answered: Collection[Answered], ruling: Ruling) -> Payments:
    champion = ruling.champion
    # Where no model decides, or one whose rate nobody knows, there is nothing to compare with.
    is_known = champion is not None and champion.alert_rate is not None
    watched = ruling.version if is_known else ""
    unusable = [each.decision.score is None and UNUSABLE_SCORE in each.decision.reasons
                for each in answered]  # fmt: skip
    return Payments(
        cards=np.array([hash(each.card_id) for each in answered], dtype=np.int64),
        disturbed=np.array([would_disturb(each.decision) for each in answered], dtype=bool),
        is_watched=np.array(
            [each.decision.model_version == watched for each in answered], dtype=bool
        ),
        latency_us=np.array([each.seconds * 1e6 for each in answered]).astype(np.int64),
        event_us=np.array([each.decision.event_us for each in answered], dtype=np.int64),
        # A decision that no model could take says nothing of the arm that its card is in.
        arms=[
            ruling.arm(each.card_id) if failed else each.decision.arm
            for each, failed in zip(answered, unusable, strict=True)
        ],
        unusable=np.array(unusable, dtype=bool),
    )


def would_disturb(decision: Decision) -> bool:
    """Whether the model alone would have reviewed or declined: uncapped, with nothing drawn."""
    alone = decision.governed or decision.decision
    return alone != Outcome.APPROVE or decision.explored == PASSED
