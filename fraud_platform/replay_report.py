"""What a replay of decisions found, counted as it goes.

Nothing of a decision is kept but the first of each kind of trouble, however long the log is.
"""

from collections import Counter
from dataclasses import dataclass, field

from fraud_platform.decision_replay import Asked, Finding
from fraud_platform.events import Decision

Json = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """What a replay found.

    Attributes:
        decisions: decisions replayed: the sum of the next three.
        equal: all there is to compare was compared, and equal.
        different: some value differs.
        not_replayed: nothing differs, but something could not be compared.
        values_compared: single values compared, floats bit for bit.
        differences: field -> in how many decisions it differs, and the first of them.
        gaps: why something could not be compared -> for how many decisions, and the first of them.
        by_arm: decisions per arm: champion, canary or none.
        by_cause: decisions without a model, by the reason that the record gives for that. The rest
            follows from it and is compared; it itself is the record's word.
        overtaken: decisions whose features had not seen the position right before their own.
        canary_otherwise_now: canary decisions on cards that the share in force now would leave to
            the champion; a share is not recorded, so this is no difference.
    """

    decisions: int
    equal: int
    different: int
    not_replayed: int
    values_compared: int
    differences: dict[str, Json]
    gaps: dict[str, Json]
    by_arm: dict[str, int]
    by_cause: dict[str, int]
    overtaken: int
    canary_otherwise_now: int


_COUNTS = (
    *("decisions", "equal", "different", "not_replayed", "values_compared"),
    *("overtaken", "canary_otherwise_now"),
)


@dataclass
class Tally:
    """A report in the making."""

    counts: Counter[str] = field(default_factory=Counter)
    by_arm: Counter[str] = field(default_factory=Counter)
    by_cause: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    first: dict[str, Json] = field(default_factory=dict)

    def add(self, asked: Asked, found: Finding) -> None:
        """Count one decision."""
        decision = asked.decision
        self.counts["decisions"] += 1
        self.counts["values_compared"] += found.compared
        self.counts["overtaken"] += decision.seen_seq < asked.seq - 1
        self.by_arm[decision.arm] += 1
        if decision.arm == "none" and decision.reasons:
            self.by_cause[decision.reasons[0]] += 1
        state = "different" if found.differences else "not_replayed" if found.gaps else "equal"
        self.counts[state] += 1
        for name in dict.fromkeys(one.field for one in found.differences):
            self.differing[name] += 1
        for one in found.differences:
            told = {"transaction_id": one.transaction_id, "recorded": one.recorded}
            self.first.setdefault(f"differs {one.field}", told | {"replayed": one.replayed})
        for why in dict.fromkeys(found.gaps):
            self.miss(why, found.transaction_id)

    def miss(self, why: str, transaction_id: str, count: int = 1) -> None:
        """Count decisions for which something could not be compared."""
        self.missed[why] += count
        self.first.setdefault(f"misses {why}", {"transaction_id": transaction_id})

    def lack(self, why: str, decision: str, count: int) -> None:
        """Count decisions of which nothing could be replayed."""
        self.counts["decisions"] += count
        self.counts["not_replayed"] += count
        self.miss(why, decision, count)

    def canary(self, decision: Decision, arm_now: str | None) -> None:
        """Note what arm the share in force now gives to a card; None: it cannot be said."""
        self.counts["canary_otherwise_now"] += decision.arm == "canary" and arm_now not in (
            None,
            "canary",
        )

    def report(self) -> ReplayReport:
        """What was counted so far."""
        return ReplayReport(
            **{name: self.counts[name] for name in _COUNTS},
            differences=self._told("differs", self.differing),
            gaps=self._told("misses", self.missed),
            by_arm=dict(sorted(self.by_arm.items())),
            by_cause=dict(sorted(self.by_cause.items())),
        )

    def _told(self, kind: str, counts: Counter[str]) -> dict[str, Json]:
        return {
            name: {"decisions": count, "first": self.first[f"{kind} {name}"]}
            for name, count in counts.most_common()
        }
