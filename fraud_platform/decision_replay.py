"""Deciding again on what was decided: every feature, score and decision of a record, to the bit.

What belongs here: what a record must say, given the state at the position that its features had
seen, the model that it names and the policy in force. Where records and models come from is the
adapters' affair. A difference and something that cannot be said any more are two things: a model
that is gone makes no decision wrong, and none right.
"""

import math
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fraud_platform.cuts import Cuts, capped
from fraud_platform.decision import (
    NO_MODEL,
    QUARANTINED,
    SET_ASIDE,
    STATE_IN_DOUBT,
    DecisionPolicy,
    decide_without_score,
    explored,
    is_usable,
    policy_digest,
)
from fraud_platform.events import Decision, Event, Transaction
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.features.state import FeatureState
from fraud_platform.model import Model
from fraud_platform.modes import Mode
from fraud_platform.native_score import ROWS
from fraud_platform.selective_labels import NOT_DRAWN, Explorer, Spent
from fraud_platform.worth import Worth, weighed

Vector = tuple[float | None, ...]

LATE = "late, and its windows had been cut by then"
DOUBTED = "the scorer said itself that its features were in doubt"
FIRST_VERSION = "recorded by the first version, which told less"
ORPHANED = "its transaction is not in the log"
CUT = "payments that its windows could see were purged, and no snapshot has them"

_FIRST_MODE = "champion"  # what the first version called the mode in which a model decides
_CAUSES = (NO_MODEL, STATE_IN_DOUBT, SET_ASIDE, QUARANTINED)
_SECOND_US = 1_000_000


class Asked(NamedTuple):
    """A recorded decision that is to be replayed.

    Attributes:
        seq: where the log has its transaction.
        read_at: the position of the log at which its features are read.
        transaction: what was decided on.
        decision: the record.
        spent: what exploration had spent before it on the day of the decision.
    """

    seq: int
    read_at: int
    transaction: Transaction
    decision: Decision
    spent: Spent = Spent()


class Page(NamedTuple):
    """A stretch of the log, and the decisions whose features are read within it.

    Attributes:
        events: in seq order.
        asked: by `read_at`; none is read before the events of earlier pages.
    """

    events: Sequence[Event]
    asked: Sequence[Asked]


class Case(NamedTuple):
    """A decision beside what the features are at its position."""

    asked: Asked
    features: Vector
    is_late: bool


class Judged(Protocol):
    """What a model's judge says about one row; `serving.ruling.Verdict` is one."""

    @property
    def outcome(self) -> str: ...  # noqa: D102 -- as in a decision
    @property
    def score(self) -> float | None: ...  # noqa: D102 -- as in a decision
    @property
    def probability(self) -> float | None: ...  # noqa: D102 -- as in a decision
    @property
    def expected_fpr(self) -> float | None: ...  # noqa: D102 -- as in a decision
    @property
    def reasons(self) -> tuple[str, ...]: ...  # noqa: D102 -- as in a decision


class Judge(Protocol):
    """A verified bundle under the policy in force; `serving.ruling.Resident` is one."""

    @property
    def version(self) -> str: ...  # noqa: D102 -- the registry's version
    @property
    def model(self) -> Model: ...  # noqa: D102 -- the model itself, for the way around serving
    @property
    def policy(self) -> DecisionPolicy: ...  # noqa: D102 -- that it rules by
    @property
    def policy_digest(self) -> str: ...  # noqa: D102 -- names policy, thresholds and orders
    @property
    def explorer(self) -> Explorer | None: ...  # noqa: D102 -- draws at random, if anything does
    @property
    def worth(self) -> Worth | None: ...  # noqa: D102 -- weighs what is disturbed, if anything does
    @property
    def without(self) -> tuple[str, ...]: ...  # noqa: D102 -- what it was trained without

    def seen(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Recorded rows, shape (n, k), as the model sees them."""

    def verdicts(self, features: NDArray[np.float64], arm: str) -> Sequence[Judged]:
        """What the scorer says about recorded rows, shape (n, k)."""


class Judgement(NamedTuple):
    """What a model says about a recorded vector, on both ways to its score."""

    judge: Judge
    score: float
    verdict: Judged


class Difference(NamedTuple):
    """One value of a record that is not what the replay says."""

    transaction_id: str
    field: str
    recorded: object
    replayed: object


@dataclass
class Finding:
    """What the replay of one decision found.

    Attributes:
        transaction_id: of the decision.
        compared: how many values were compared.
        differences: those of them that differ.
        gaps: why something could not be compared.
    """

    transaction_id: str
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def same(self, name: str, recorded: object, replayed: object) -> None:
        """Compare one value; floats bit for bit."""
        self.compared += 1
        if _bits(recorded) != _bits(replayed):
            self._differs(name, recorded, replayed)

    def one_of(self, name: str, recorded: object, allowed: Sequence[object]) -> None:
        """Compare one value with all that it may be."""
        self.compared += 1
        if recorded not in allowed:
            self._differs(name, recorded, " or ".join(map(str, allowed)))

    def _differs(self, name: str, recorded: object, replayed: object) -> None:
        self.differences.append(Difference(self.transaction_id, name, recorded, replayed))


def judged(decisions: Sequence[Decision], judge: Judge) -> list[Judgement]:
    """Score recorded vectors with their model, as the scorer does and by `Model.score`."""
    found: list[Judgement] = []
    # No more rows at once than the scorer's fast way takes: beyond, it takes the other one.
    for start in range(0, len(decisions), ROWS):
        rows = np.array([one.features for one in decisions[start : start + ROWS]], np.float64)
        scores: list[float] = judge.model.score(judge.seen(rows)).tolist()
        verdicts = judge.verdicts(rows, "champion")
        found += map(Judgement, [judge] * len(rows), scores, verdicts)
    return found


def compared(
    case: Case, judgement: Judgement | str | None, policies: Sequence[DecisionPolicy]
) -> Finding:
    """Compare one record with what the replay says.

    Args:
        case: the record, and the features at its position.
        judgement: what its model says; a text: why there is none; None: no model is named.
        policies: the decision policies that are known to have ruled, the one in force first.
    """
    decision = case.asked.decision
    found = Finding(decision.transaction_id)
    _compare_record(found, case)
    _compare_features(found, case)
    if isinstance(judgement, str):
        found.gaps.append(judgement)
    elif judgement is not None:
        _compare_score(found, case.asked, judgement)
    elif decision.arm == "none":
        _compare_bands(found, case.asked, policies)
    return found


def _compare_record(found: Finding, case: Case) -> None:
    """What the log and the record itself say about the record."""
    asked, decision = case.asked, case.asked.decision
    found.same("seq", decision.seq, asked.seq)
    found.same("decision_id", decision.decision_id, f"dec_{asked.seq}")
    found.same("event_us", decision.event_us, asked.transaction.event_us)
    found.one_of("seen_seq", decision.seen_seq, range(asked.seq))
    found.same("is_late", decision.is_late, case.is_late)
    if decision.mode == _FIRST_MODE:
        found.gaps.append(FIRST_VERSION)
        return
    found.one_of("arm", decision.arm, ("champion", "canary", "control", "fallback", "none"))
    if decision.arm == "none":
        found.same("mode", decision.mode, str(Mode.RULES_ONLY))
        for name in ("score", "probability", "expected_fpr", "model_version", "model_digest"):
            found.same(name, getattr(decision, name), None)
    else:
        found.one_of("mode", decision.mode, (str(Mode.NORMAL), str(Mode.DEGRADED)))
        if decision.model_digest is None:
            found.same("model_digest", None, f"the model of the {decision.arm}")
    if decision.mode != Mode.DEGRADED:
        found.same("missing", decision.missing, ())


def _compare_features(found: Finding, case: Case) -> None:
    decision = case.asked.decision
    if decision.feature_spec_digest != spec_digest():
        found.gaps.append(f"other feature definitions ({decision.feature_spec_digest[:12]})")
        return
    if len(decision.features) != len(FEATURE_NAMES):
        found.same("features", len(decision.features), len(FEATURE_NAMES))
        return
    if _packed(decision.features) == _packed(case.features):
        found.compared += len(FEATURE_NAMES)
    elif STATE_IN_DOUBT in decision.reasons:
        found.gaps.append(DOUBTED)
    elif decision.is_late and case.is_late:
        found.gaps.append(LATE)
    else:
        for name, recorded, replayed in zip(
            FEATURE_NAMES, decision.features, case.features, strict=True
        ):
            found.same(name, recorded, replayed)


def _compare_score(found: Finding, asked: Asked, judgement: Judgement) -> None:
    """What the model named by the record makes of the recorded vector."""
    policy = judgement.judge.policy
    decision, verdict, score = asked.decision, judgement.verdict, judgement.score
    found.same("model_version", decision.model_version, judgement.judge.version)
    if decision.arm == "fallback" or judgement.judge.without:
        found.same("arm", decision.arm, "fallback" if judgement.judge.without else "champion")
    found.same("score", decision.score, score if is_usable(score) else None)
    found.same("score as served", decision.score, verdict.score)
    if decision.mode != _FIRST_MODE:
        found.same("probability", decision.probability, verdict.probability)
        found.same("expected_fpr", decision.expected_fpr, verdict.expected_fpr)
    if _is_of(judgement.judge.policy_digest, decision, found):
        told = _under_its_cuts(decision, str(verdict.outcome), verdict.reasons)
        if (worth := judgement.judge.worth) is not None:
            told = weighed(told, asked.transaction, worth)
        explorer, drawn = judgement.judge.explorer, NOT_DRAWN
        if explorer is not None:
            drawn = explorer.draw(told.decision, asked.transaction, asked.spent)
        told = explored(told, drawn, policy)
        for name in ("decision", "reasons", "governed", "worth_multiplier", *drawn._fields):
            found.same(name, getattr(decision, name), getattr(told, name))
        found.same("expires_us", decision.expires_us, _expiry(decision, policy))


def _under_its_cuts(decision: Decision, alone: str, reasons: tuple[str, ...]) -> Decision:
    """What the model alone would have decided, under the cuts that the record names."""
    told = decision._replace(decision=alone, reasons=reasons, governed=None, worth_multiplier=None)
    if decision.review_cut is None or decision.decline_cut is None:
        return told
    cuts = Cuts(decision.review_cut, decision.decline_cut, decision.budget or 0.0, is_held=True)
    return capped(told, cuts)


def _compare_bands(found: Finding, asked: Asked, policies: Sequence[DecisionPolicy]) -> None:
    """What the amount bands say; why no model judged is the record's word alone."""
    decision = asked.decision
    ruled = [one for one in policies if policy_digest(one, None) == decision.policy_digest]
    policy = ruled[0] if ruled else policies[0]
    cause = decision.reasons[0] if decision.reasons else None
    found.one_of("reasons", cause, _CAUSES)
    if cause in _CAUSES and _is_of(policy_digest(policy, None), decision, found):
        amount = asked.transaction.amount_minor
        outcome, reasons = decide_without_score(amount, str(cause), policy)
        found.same("decision", decision.decision, str(outcome))
        found.same("reasons", decision.reasons, reasons)
        cuts = ("governed", "review_cut", "decline_cut", "worth_multiplier")
        for name in (*NOT_DRAWN._fields, *cuts):
            found.same(name, getattr(decision, name), None)
        found.same("expires_us", decision.expires_us, _expiry(decision, policy))


def _is_of(digest: str, decision: Decision, found: Finding) -> bool:
    """Whether a policy that is known is the one that decided; if not, that is a gap."""
    if decision.policy_digest == digest:
        return True
    found.gaps.append(f"another policy than those known ({decision.policy_digest[:12]})")
    return False


def _expiry(decision: Decision, policy: DecisionPolicy) -> int:
    return decision.decided_us + policy.valid_seconds * _SECOND_US


def _bits(value: object) -> object:
    return struct.pack("<d", value) if isinstance(value, float) else value


def _packed(vector: Vector) -> bytes:
    return array("d", [math.nan if value is None else value for value in vector]).tobytes()


JudgeOf = Callable[[Decision], Judge | str]
"""The judge of the model that a decision names, or why there is none."""


def replay(
    pages: Iterable[Page],
    state: FeatureState,
    judge_of: JudgeOf,
    policies: Sequence[DecisionPolicy],
    found: Callable[[Asked, Finding], None],
) -> None:
    """Tell a state the log, and at each recorded position ask it, the models and the policy.

    Args:
        pages: the log from the state's position on, with the decisions to replay.
        state: the state where the pages begin.
        judge_of: finds the model of a decision.
        policies: as for `compared`.
        found: called with every decision and what was found, page by page.
    """
    for page in pages:
        cases = list(_cases(page, state))
        for case, judgement in zip(cases, _judgements(cases, judge_of), strict=True):
            found(case.asked, compared(case, judgement, policies))


def _cases(page: Page, state: FeatureState) -> Iterable[Case]:
    """The features at each decision's position; the state is at the page's end afterwards."""
    waiting = iter(page.asked)
    asked = next(waiting, None)
    for event in page.events:
        while asked is not None and asked.read_at < event.seq:
            yield _case(asked, state)
            asked = next(waiting, None)
        state.apply(event)
    while asked is not None:
        yield _case(asked, state)
        asked = next(waiting, None)


def _case(asked: Asked, state: FeatureState) -> Case:
    payment = asked.transaction
    return Case(asked, state.read(payment), state.is_late(payment.event_us))


def _judgements(cases: Sequence[Case], judge_of: JudgeOf) -> list[Judgement | str | None]:
    """One per case; the vectors of one model are scored together."""
    found: list[Judgement | str | None] = [None] * len(cases)
    places: dict[tuple[str | None, str, str], list[int]] = {}
    for place, case in enumerate(cases):
        decision = case.asked.decision
        if decision.model_digest is not None and len(decision.features) == len(FEATURE_NAMES):
            named = (decision.model_version, decision.model_digest, decision.policy_digest)
            places.setdefault(named, []).append(place)
    for mine in places.values():
        decisions = [cases[place].asked.decision for place in mine]
        judge = judge_of(decisions[0])
        told: Sequence[Judgement | str]
        told = [judge] * len(mine) if isinstance(judge, str) else judged(decisions, judge)
        for place, judgement in zip(mine, told, strict=True):
            found[place] = judgement
    return found
