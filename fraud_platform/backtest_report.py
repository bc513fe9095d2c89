"""What a backtest found: counts, and the rates, the money and the texts that follow from them.

What belongs here: the report of `backtest`. The page for people is `adapters.backtest_page`.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime

import msgspec

from fraud_platform.backtest_side import NUMBERS, Period, SideReport, with_intervals
from fraud_platform.bootstrap import Interval
from fraud_platform.decision import Outcome
from fraud_platform.money import MoneyPolicy
from fraud_platform.outcome_policy import OutcomePolicy

TextTable = tuple[str, str, tuple[str, ...], tuple[tuple[str, ...], ...]]
"""Heading, how to read it, names of the columns, rows of texts."""

_UNKNOWN = "cannot judge"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Judged payments whose outcome differs between the sides.

    Attributes:
        payments: how many.
        frauds: how many of them are fraud.
        payments_weight: payments that they stand for.
        frauds_weight: frauds that they stand for.
        amount_minor: weighted amount, minor units.
        fraud_amount_minor: that of the frauds.
        saved_minor: what the candidate's outcomes cost less than the other's; negative: more.
    """

    payments: int = 0
    frauds: int = 0
    payments_weight: float = 0.0
    frauds_weight: float = 0.0
    amount_minor: float = 0.0
    fraud_amount_minor: float = 0.0
    saved_minor: float = 0.0

    def __add__(self, other: "Moved") -> "Moved":
        names = [field.name for field in fields(self)]
        return Moved(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One payment of the swap set; says nothing of its card.

    Attributes:
        transaction_id: its id.
        event_timestamp: when it happened, UTC.
        amount_minor: minor units of `currency`.
        currency: ISO 4217.
        is_fraud: the truth.
        score: the candidate's.
        score_against: the other side's.
        reasons: why the stricter side suspects it, strongest first.
    """

    transaction_id: str
    event_timestamp: datetime
    amount_minor: int
    currency: str
    is_fraud: bool
    score: float
    score_against: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Transition:
    """Payments that the other side gives one outcome and the candidate another.

    Attributes:
        before: the other side's outcome.
        after: the candidate's.
        moved: how many, and what that means.
        samples: some of them at random, in the order of time.
    """

    before: Outcome
    after: Outcome
    moved: Moved
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class BacktestReport:
    """Two models, or two policies, on the same past payments.

    Attributes:
        period: which payments, and by which labels.
        judged: payments with a mature label; all that follows counts only these.
        frauds: how many of them are fraud.
        immature: payments that were too young to have a mature label, left out.
        censored: payments old enough without a label, left out: they were declined, or what was
            said of them was taken back.
        effective_rows: equally weighted payments that would say as much as the judged ones.
        effective_frauds: the same for the frauds.
        fraud_cards: cards with fraud.
        currencies: of the judged payments; amounts are added up as they are.
        money: the prices.
        candidate: what is asked about.
        against: what it is compared with.
        differences: candidate minus against, intervals by card; empty where they have none.
        transitions: the swap set, by outcome before and after.
    """

    period: Period
    judged: int
    frauds: int
    immature: int
    censored: int
    effective_rows: float
    effective_frauds: float
    fraud_cards: int
    currencies: tuple[str, ...]
    money: MoneyPolicy
    candidate: SideReport
    against: SideReport
    differences: Mapping[str, Interval]
    transitions: tuple[Transition, ...]

    def newly(self, outcome: Outcome) -> Moved:
        """The payments that get an outcome from the candidate and another one otherwise."""
        parts = (t.moved for t in self.transitions if t.after is outcome)
        return functools.reduce(Moved.__add__, parts, Moved())

    @property
    def difference(self) -> dict[str, float | None]:
        """`NUMBERS` of the candidate minus those of the other side."""
        ours, theirs = self.candidate.numbers, self.against.numbers
        return {name: _less(ours[name], theirs[name]) for name in NUMBERS}

    def to_dict(self) -> dict[str, object]:
        """The whole report as JSON knows it."""
        return {
            "from": self.period.first.isoformat(),
            "to": self.period.last.isoformat(),
            "as_of": self.period.as_of.isoformat(),
            "payments": {
                "judged": self.judged,
                "frauds": self.frauds,
                "fraud_cards": self.fraud_cards,
                "left_out_immature": self.immature,
                "left_out_censored": self.censored,
                "effective": self.effective_rows,
                "effective_frauds": self.effective_frauds,
            },
            "currencies": list(self.currencies),
            "prices": asdict(self.money),
            "candidate": self.candidate.to_dict(),
            "against": self.against.to_dict(),
            "difference": with_intervals(self.difference, self.differences),
            "newly": {str(outcome): asdict(self.newly(outcome)) for outcome in Outcome},
            "swap_set": msgspec.to_builtins(self.transitions),
        }

    def to_markdown(self) -> str:
        """The report for a person, without pictures."""
        parts = [*self.premises(), *map(_markdown, self.tables())]
        return "\n\n".join(parts) + "\n"

    def premises(self) -> Iterator[str]:
        """What was compared on what, a sentence or two each."""
        period = self.period
        yield (
            f"Payments of {period.first} to {period.last}, labels known before "
            f"{period.as_of:%Y-%m-%d %H:%M} UTC. Judged on {self.judged:,} with mature labels, "
            f"{self.frauds:,} of them fraud, on {self.fraud_cards:,} cards. Left out: "
            f"{self.immature:,} too young, {self.censored:,} without a verdict that stands."
        )
        if self.effective_rows < self.judged - 0.5:
            yield (
                "Payments count by inverse propensity. They say as much as "
                f"{self.effective_rows:,.0f} equally weighted ones, their frauds as much as "
                f"{self.effective_frauds:,.0f}."
            )
        units = " and ".join(self.currencies)
        mixed = ", added up as they are" if len(self.currencies) > 1 else ""
        yield f"Amounts in minor units of {units}{mixed}."
        for role, side in (("Candidate", self.candidate), ("Against", self.against)):
            yield (
                f"{role}: {side.name}. Reviewed from {side.thresholds.review:.5f}, declined from "
                f"{side.thresholds.decline:.5f} on{_rules(side.policy)}."
            )
            if side.judged_before_training:
                yield (
                    f"{side.name} was trained as of {side.trained_as_of:%Y-%m-%d %H:%M}: it may "
                    f"have learnt the truth of {side.judged_before_training:,} of these payments, "
                    "which flatters it."
                )
        if not self.differences:
            yield f"Too few cards have fraud for intervals: {self.fraud_cards}."

    def tables(self) -> Iterator[TextTable]:
        """Everything as tables of short texts, the most asked for first."""
        yield self._numbers()
        yield self._swaps()
        if any(transition.samples for transition in self.transitions):
            yield self._samples()
        yield self._counts()
        yield self._money()
        yield self._workload()

    def _numbers(self) -> TextTable:
        rows = []
        for name, (text, form) in NUMBERS.items():
            row = [text]
            for values, spans in (
                (self.candidate.numbers, self.candidate.intervals),
                (self.against.numbers, self.against.intervals),
                (self.difference, self.differences),
            ):
                row += [_shown(values[name], form), _span(spans.get(name), form)]
            rows.append(tuple(row))
        header = ("number", "candidate", "interval", "against", "interval", "difference")
        told = [
            f"{one.confidence:.0%} intervals by drawing cards." for one in self.differences.values()
        ]
        return ("What changes", "".join(told[:1]), (*header, "interval"), tuple(rows))

    def _swaps(self) -> TextTable:
        parts = []
        for outcome in (Outcome.DECLINE, Outcome.REVIEW, Outcome.APPROVE):
            parts.append((f"newly {_DONE[outcome]}", self.newly(outcome)))
            parts += [
                (f"... {_DONE[t.before]} before", t.moved)
                for t in self.transitions
                if t.after is outcome
            ]
        rows = tuple(
            (
                name,
                f"{moved.payments:,}",
                f"{moved.frauds:,}",
                f"{moved.amount_minor:,.0f}",
                f"{moved.fraud_amount_minor:,.0f}",
                f"{moved.saved_minor:,.0f}",
            )
            for name, moved in parts
        )
        header = ("payments", "count", "frauds", "amount", "amount of frauds", "saved")
        return ("Swap set", "What the sides decide differently; money is weighted.", header, rows)

    def _samples(self) -> TextTable:
        rows = tuple(
            (
                sample.transaction_id,
                f"{transition.before} to {transition.after}",
                f"{sample.event_timestamp:%Y-%m-%d %H:%M}",
                f"{sample.amount_minor:,} {sample.currency}",
                "fraud" if sample.is_fraud else "genuine",
                f"{sample.score:.4f}",
                f"{sample.score_against:.4f}",
                "; ".join(sample.reasons),
            )
            for transition in self.transitions
            for sample in transition.samples
        )
        header = ("payment", "moves", "time (UTC)", "minor units", "truth", "candidate", "against")
        return (
            "Samples of the swap set",
            "Drawn at random. The reasons are those of the stricter side.",
            (*header, "reasons"),
            rows,
        )

    def _counts(self) -> TextTable:
        rows = []
        for role, side in (("candidate", self.candidate), ("against", self.against)):
            for outcome, told in side.counts().items():
                name = f"{role}: {_DONE[outcome]}"
                whole = (f"{told['frauds']:,}", f"{told['genuine']:,}")
                weights = (f"{told['frauds_weight']:,.1f}", f"{told['genuine_weight']:,.1f}")
                rows.append((name, *whole, *weights))
        header = ("outcome", "frauds", "genuine", "frauds, weighted", "genuine, weighted")
        note = "Every rate above follows from the weighted counts."
        return ("Counts by outcome", note, header, tuple(rows))

    def _money(self) -> TextTable:
        ours, theirs = self.candidate.money, self.against.money
        lines = {
            "lost with everything approved": "without_model_minor",
            "fraud let through": "lost_minor",
            "reviews": "reviews_minor",
            "false declines": "false_declines_minor",
            "saved net": "saved_minor",
        }
        rows = tuple(
            (text, f"{a:,.0f}", f"{b:,.0f}", f"{a - b:,.0f}")
            for text, name in lines.items()
            for a, b in ((getattr(ours, name), getattr(theirs, name)),)
        )
        header = ("", "candidate", "against", "difference")
        return ("Money", "All judged payments together, in minor units.", header, rows)

    def _workload(self) -> TextTable:
        names = ("min", "median", "p95", "max", "capacity", "days_over", "left_over")
        sides = (self.candidate.workload.to_dict(), self.against.workload.to_dict())
        rows = tuple(
            (name.replace("_", " "), *(f"{side[name]:,}" for side in sides)) for name in names
        )
        note = "Of all payments of the period, since people review what has no label, too."
        return ("Reviews per day", note, ("", "candidate", "against"), rows)


_DONE = {Outcome.APPROVE: "approved", Outcome.REVIEW: "reviewed", Outcome.DECLINE: "declined"}


def _rules(policy: OutcomePolicy) -> str:
    names = ", ".join(rule.name for rule in policy.rules)
    times = policy.worth_multiplier
    worth = "" if times is None else f", where that pays with friction at {times:g} times its price"
    return worth + (f", but for the rules {names}" if names else "")


def _less(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _shown(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else format(value, form)


def _span(found: Interval | None, form: str) -> str:
    return _UNKNOWN if found is None else f"{found.low:{form}} to {found.high:{form}}"


def _markdown(table: TextTable) -> str:
    title, note, header, rows = table
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    body = "\n".join(f"| {' | '.join(text.replace('|', '/') for text in row)} |" for row in lines)
    return f"## {title}\n\n{note}\n\n{body}"
