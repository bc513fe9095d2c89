"""Harm as it happens: anytime-valid evidence, a step every 100 payments, without any label.

What belongs here: counts in, readings out. Who counts is `serving.harm`, what follows from a
reading is `causes` and `controller`.

Each signal is a share against a bound, watched by two detectors of `stats.detectors` in turn:

- The *alarm* bets against "the share is within its bound". At evidence 1 / `false_alarm` the signal
  is breached; a false alarm comes once in so many steps, or more rarely.
- Then the *relief* starts from nothing and bets against "the share is still at the level of
  relief", which lies on the harmful side of the bound. At evidence 1 / `false_relief` the signal is
  fine again, on payments that all came after the alarm, and the alarm starts from nothing. As the
  relief is a detector too, it may be asked after every step: while a share stays at its level or
  beyond, it is called fine by mistake once in 1 / `false_relief` steps, or more rarely. A share
  that stays between bound and level is told harmful and fine in turns, some ten thousand payments
  each.

Criminals keep other hours than customers: of the few payments at night many are disturbed while all
is well. So the shares of disturbed payments are held against what the champion disturbs at the
hours of the step's payments, and bounds and levels follow the clock.

Payments of one card come together, and then they are no independent evidence. So a rise of the
disturbed share counts each card once a step, takes two cards for one, and mixes bets on counts
(fast: 900 payments for a share that triples) with bets on the mean of a step (sees small changes,
whatever happens within a step). In simulations (`tests/unit/test_harm.py`) with 70 % of the
disturbed payments in bursts of ten of one card, and a rate that wobbles by 8 %, nothing alarmed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.heal.harm_bets import STEP, Bets, Watched, after, each_card_once
from fraud_platform.hourly import HOURS, hours_of_day
from fraud_platform.rollout import CANARY_ARM, CONTROL_ARM, ArmCount, Comparison, worst_report
from fraud_platform.stats.canary import CanaryReport, Verdict

_LARGEST_BOUND = 0.99
_REMEMBERED = 100_000
"""Disturbed cards of an arm that are not counted again; more are forgotten, the oldest first."""


@dataclass(frozen=True, kw_only=True)
class HarmPolicy:
    """What counts as harm, and how often it may be found where there is none."""

    false_alarm: float = 1e-6
    """One false alarm of a signal in 1 / this steps of 100 payments, or more rarely."""
    false_relief: float = 0.01
    """One harm in 1 / this steps is called over too early, or more rarely."""
    max_rise: float = 1.25
    """Share of disturbed payments that is tolerated, as a multiple of the champion's own."""
    relief_rise: float = 1.5
    """A harm is over once the share is surely below this multiple."""
    max_fall: float = 0.6
    """Share of disturbed payments that is not too quiet, as a multiple of the champion's own."""
    relief_fall: float = 0.5
    """The silence is over once the share is surely above this multiple."""
    max_errors: float = 0.001
    """Share of requests that may end without a decision by the scorer's own fault."""
    relief_errors: float = 0.005
    """Errors are over once their share is surely below this."""
    slow_ms: float = 50.0
    """A slower answer breaks the promise, milliseconds from the parsed request."""
    max_slow: float = 0.01
    """Share of answers that may break it: with 0.01 the promise is a 99th percentile."""
    relief_slow: float = 0.02
    """Slowness is over once its share is surely below this."""
    min_rate: float = 0.001
    """A champion that disturbs less is watched as if it disturbed this share."""
    min_rows: int = 1_000
    """Payments since the last start before a signal says anything but a breach."""

    def __post_init__(self) -> None:
        shares = ("false_alarm", "false_relief", "max_errors", "relief_errors", "max_slow")
        for name in (*shares, "relief_slow", "min_rate"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"found {name}={getattr(self, name)}, expected one in (0, 1)")
        rising = (
            (0.0, self.relief_fall, self.max_fall, 1.0, self.max_rise, self.relief_rise),
            (0.0, self.max_errors, self.relief_errors),
            (0.0, self.max_slow, self.relief_slow),
        )
        if not all(a < b for levels in rising for a, b in pairwise(levels)):
            raise ValueError("found bounds and levels of relief out of order, expected each level "
                             "of relief on the harmful side of its bound")  # fmt: skip
        if not (self.min_rows >= STEP and self.slow_ms > 0.0):
            raise ValueError(f"found min_rows={self.min_rows}, slow_ms={self.slow_ms}, "
                             f"expected at least {STEP}, above 0")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Payments:
    """Decided payments, in the order of their decisions.

    Attributes:
        cards: shape (n,), integers; any numbers that name the cards within this process.
        disturbed: shape (n,), whether the model would have reviewed or declined, before any cap.
        is_watched: shape (n,), whether the model decided whose rate is expected.
        latency_us: shape (n,), from request to answer.
        event_us: shape (n,), when they happened, microseconds UTC.
        arms: shape (n,), `rollout` arm by name; None: no canary runs.
        unusable: shape (n,), whether a model was asked and gave no score; None: none was.

    Raises:
        ValueError: the shapes differ.
    """

    cards: NDArray[np.int64]
    disturbed: NDArray[np.bool_]
    is_watched: NDArray[np.bool_]
    latency_us: NDArray[np.int64]
    event_us: NDArray[np.int64]
    arms: Sequence[str] | None = None
    unusable: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        told = (self.disturbed, self.is_watched, self.latency_us, self.arms, self.unusable)
        sizes = {len(each) for each in told if each is not None}
        sizes |= {len(self.cards), len(self.event_us)}
        if len(sizes) > 1:
            raise ValueError(f"found columns of {sorted(sizes)} payments, expected equally many")


class HarmState(msgspec.Struct, frozen=True, kw_only=True):
    """What survives a restart.

    Attributes:
        model: names the model whose rate is expected.
        rate: the share of payments that it is expected to disturb.
        by_hour: the same by hour of the day, UTC; () if only the one is known, as it was to
            releases from before.
        watched: by signal.
        comparison: the canary's counts, or None.
    """

    model: str
    rate: float
    by_hour: tuple[float, ...] = ()
    watched: dict[str, Watched]
    comparison: Comparison | None = None


class Harm:
    """The harm signals of one scorer.

    Args:
        policy: what counts as harm.
        state: what an earlier process left, or None.

    Examples:
        >>> harm = Harm(HarmPolicy())
        >>> harm.expect("model", 0.05)
        >>> many = np.arange(3_000)
        >>> harm.observe(Payments(cards=many, disturbed=many % 5 == 0,
        ...     is_watched=many >= 0, latency_us=many, event_us=many))
        >>> reading = harm.readings(now_us=0)[0]
        >>> str(reading.signal), str(reading.standing), reading.value, round(reading.bound, 4)
        ('disturbed_rate', 'breached', 0.2, 0.0625)
        >>> harm.expect("owl", 0.05, (0.2, *[0.04] * 23))  # at night it is so while all is well
        >>> harm.observe(Payments(cards=many, disturbed=many % 5 == 0,
        ...     is_watched=many >= 0, latency_us=many, event_us=many))
        >>> reading = harm.readings(now_us=0)[0]
        >>> str(reading.standing), reading.value, round(reading.bound, 4)
        ('fine', 0.2, 0.25)
    """

    def __init__(self, policy: HarmPolicy, state: HarmState | None = None) -> None:
        self._policy = policy
        self._model = state.model if state else ""
        self._rate = state.rate if state else None
        self._by_hour = state.by_hour if state else ()
        kept = state.watched if state else {}
        self._watched = {signal: kept.get(signal, Watched()) for signal in _KINDS}
        self._comparison = state.comparison if state else None
        self._seen: dict[tuple[str, str], dict[int, None]] = {}
        self._left: dict[Signal, _Told] = {}

    def expect(self, model: str, rate: float, by_hour: Sequence[float] = ()) -> None:
        """Watch against this model's own rate; of another model than so far, from nothing.

        Args:
            model: names the model that decides, e.g. by its digest.
            rate: share of payments that it disturbed when its cuts were set, in [0, 1].
            by_hour: the same by hour of the day, UTC, 24 shares in [0, 1]; (): at all hours alike.

        Raises:
            ValueError: a share is outside [0, 1], or there are neither 24 nor none by hour.
        """
        if not all(0.0 <= share <= 1.0 for share in (rate, *by_hour)):
            raise ValueError(f"found an expected rate of {rate}, expected one in [0, 1], "
                             "and so at every hour")  # fmt: skip
        if len(by_hour) not in (0, HOURS):
            raise ValueError(f"found rates of {len(by_hour)} hours, expected {HOURS} or none")
        if (model, rate, tuple(by_hour)) == (self._model, self._rate, self._by_hour):
            return
        self._model, self._rate, self._by_hour = model, rate, tuple(by_hour)
        for signal in (Signal.DISTURBED_RATE, Signal.QUIET_RATE):
            self._watched[signal] = Watched()
            self._left.pop(signal, None)

    def compare(self, key: str, candidate: str, traffic: float) -> None:
        """Count the arms of this comparison; those of another one are forgotten.

        Args:
            key: names candidate, champion and policy; "": there is no canary.
            candidate: the version, for people.
            traffic: the canary's share of the cards of both arms, in (0, 1).
        """
        before = self._comparison
        if not key:
            self._comparison, self._seen = None, {}
        elif before is None or (before.key, before.traffic) != (key, traffic):
            self._comparison = Comparison(key=key, candidate=candidate, traffic=traffic)
            self._seen = {}

    def observe(self, payments: Payments, *, refused: int = 0) -> None:
        """Count decided payments, and requests that ended without a decision.

        Args:
            payments: decided, in order.
            refused: requests that the scorer failed, beside them.
        """
        sound = np.zeros(len(payments.cards) + refused)
        sound[len(payments.cards) :] = 1.0
        self._count(Signal.ERRORS, sound)
        self._count(
            Signal.LATENCY, (payments.latency_us > self._policy.slow_ms * 1_000.0).astype(float)
        )
        if self._rate is not None:
            watched = payments.is_watched
            told, cards = payments.disturbed[watched].astype(float), payments.cards[watched]
            expected = self._expected(payments.event_us[watched])
            self._count(Signal.DISTURBED_RATE, told, expected, cards)
            self._count(Signal.QUIET_RATE, told, expected)
        if self._comparison is not None and payments.arms is not None:
            self._comparison = self._compared(self._comparison, payments, payments.arms)

    @property
    def comparison(self) -> Comparison | None:
        """The canary's counts, or None while there is none."""
        return self._comparison

    @property
    def state(self) -> HarmState | None:
        """What the next process goes on from; None while no model's rate is known."""
        if self._rate is None:
            return None
        return HarmState(
            model=self._model,
            rate=self._rate,
            by_hour=self._by_hour,
            watched={str(signal): held for signal, held in self._watched.items()},
            comparison=self._comparison,
        )

    def readings(self, now_us: int) -> tuple[Reading, ...]:
        """How each signal stands.

        Args:
            now_us: the clock of the wall, microseconds UTC.
        """
        told = [self._reading(signal, now_us) for signal in _KINDS]
        return (*told, _canary_reading(self._comparison, now_us))

    def _count(
        self,
        signal: Signal,
        values: NDArray[np.float64],
        expected: NDArray[np.float64] | None = None,
        cards: NDArray[np.int64] | None = None,
    ) -> None:
        """Take what makes whole steps; the rest waits for the next."""
        shares = np.zeros(len(values)) if expected is None else expected
        names = np.zeros(len(values), dtype=np.int64) if cards is None else cards
        told = _Told(values, shares, names)
        if signal in self._left:
            told = self._left[signal].plus(told)
        whole = len(told.values) // STEP * STEP
        self._left[signal], told = told.some(slice(whole, None)), told.some(slice(whole))
        if whole:
            raw = told.values.reshape(-1, STEP).sum(axis=1)
            once = raw if cards is None else each_card_once(told.values, told.cards)
            self._watched[signal] = after(
                self._watched[signal],
                _KINDS[signal](self._policy, told.expected.reshape(-1, STEP).mean(axis=1)),
                raw,
                once,
                false_alarm=self._policy.false_alarm,
                false_relief=self._policy.false_relief,
            )

    def _expected(self, event_us: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of payments at these times, the chance of each to be disturbed."""
        rates = np.array(self._by_hour or (self._rate or 0.0,) * HOURS)
        found: NDArray[np.float64] = np.maximum(rates, self._policy.min_rate)
        return found[hours_of_day(event_us)]

    def _compared(self, before: Comparison, payments: Payments, arms: Sequence[str]) -> Comparison:
        failed = payments.unusable
        found = {CANARY_ARM: [0, 0, 0], CONTROL_ARM: [0, 0, 0]}
        told = zip(arms, payments.cards.tolist(), payments.disturbed.tolist(), strict=True)
        for place, (arm, card, is_disturbed) in enumerate(told):
            if (counts := found.get(arm)) is None:
                continue
            has_failed = failed is not None and bool(failed[place])
            counts[0] += 1
            counts[1] += is_disturbed and self._is_new((arm, "disturbed"), card)
            counts[2] += has_failed and self._is_new((arm, "failed"), card)
        return before.plus(ArmCount(*found[CANARY_ARM]), ArmCount(*found[CONTROL_ARM]))

    def _is_new(self, about: tuple[str, str], card: int) -> bool:
        seen = self._seen.setdefault(about, {})
        if card in seen:
            return False
        if len(seen) >= _REMEMBERED:
            del seen[next(iter(seen))]
        seen[card] = None
        return True

    def _reading(self, signal: Signal, now_us: int) -> Reading:
        held, policy = self._watched[signal], self._policy
        at_once = np.array([max(self._rate or 0.0, policy.min_rate)])
        first = float(_KINDS[signal](policy, at_once).bound[0])
        standing = Standing.BREACHED if held.is_breached else Standing.FINE
        if held.rows < policy.min_rows and not held.is_breached:
            standing = Standing.BLIND
        alarm_at = -math.log(policy.false_relief if held.is_breached else policy.false_alarm)
        return Reading(
            signal=signal,
            standing=standing,
            value=None if standing is Standing.BLIND else held.value,
            bound=first if held.bound is None else held.bound,
            rows=held.rows,
            measured_us=now_us,
            details={"evidence": held.log_evidence, "decides_at": alarm_at},
            why=_why(signal, standing, held, policy),
        )


class _Told(NamedTuple):
    """Of each payment: whether it is an event, what was expected of it, and its card."""

    values: NDArray[np.float64]
    expected: NDArray[np.float64]
    cards: NDArray[np.int64]

    def plus(self, after: "_Told") -> "_Told":
        return _Told(
            np.concatenate((self.values, after.values)),
            np.concatenate((self.expected, after.expected)),
            np.concatenate((self.cards, after.cards)),
        )

    def some(self, rows: slice) -> "_Told":
        return _Told(self.values[rows], self.expected[rows], self.cards[rows])


def _most(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(shares, _LARGEST_BOUND)


def _always(bound: float, relief: float, steps: int) -> Bets:
    return Bets(np.full(steps, bound), np.full(steps, relief))


_KINDS: Mapping[Signal, Callable[[HarmPolicy, NDArray[np.float64]], Bets]] = {
    Signal.DISTURBED_RATE: lambda p, rates: Bets(
        _most(p.max_rise * rates), _most(p.relief_rise * rates), has_clusters=True
    ),
    Signal.QUIET_RATE: lambda p, rates: Bets(
        p.max_fall * rates, p.relief_fall * rates, is_fall=True
    ),
    Signal.ERRORS: lambda p, rates: _always(p.max_errors, p.relief_errors, rates.size),
    Signal.LATENCY: lambda p, rates: _always(p.max_slow, p.relief_slow, rates.size),
}
"""Signal -> its bets, from the policy and the rate expected of each step."""


def _why(signal: Signal, standing: Standing, held: Watched, policy: HarmPolicy) -> str:
    if standing is Standing.BLIND:
        return f"{held.rows} payments since the start, {policy.min_rows} are needed"
    told = _WORDS[signal]
    return f"{told}: {held.value or 0.0:.2%} of the last {len(held.recent) * STEP:,}"


_WORDS: Mapping[Signal, str] = {
    Signal.DISTURBED_RATE: "payments that the model would review or decline",
    Signal.QUIET_RATE: "payments that the model would review or decline",
    Signal.ERRORS: "requests without a decision",
    Signal.LATENCY: "answers slower than promised",
}

_STANDINGS = {
    Verdict.HARMFUL: Standing.BREACHED,
    Verdict.BLIND: Standing.BLIND,
    Verdict.HARMLESS: Standing.FINE,
    Verdict.INCONCLUSIVE: Standing.FINE,
}


def _canary_reading(comparison: Comparison | None, now_us: int) -> Reading:
    if comparison is None:
        why = "there is no canary"
        return Reading(signal=Signal.CANARY, standing=Standing.FINE, measured_us=now_us, why=why)
    report: CanaryReport = worst_report(comparison)
    return Reading(
        signal=Signal.CANARY,
        standing=_STANDINGS[report.verdict],
        value=report.harm,
        rows=comparison.canary.payments + comparison.control.payments,
        measured_us=now_us,
        subjects=(comparison.candidate,),
        details={"events": float(report.events), "safety": report.safety},
        why=f"canary {comparison.candidate} against its control arm: {report.verdict}",
    )
