"""What is true now: nothing but the fold of all records.

What belongs here: the state and how a record changes it. What to do next is `controller`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from fraud_platform.heal.actions import VERBS, Act, Action
from fraud_platform.heal.evidence import Evidence
from fraud_platform.heal.records import EVERYTHING, PLATFORM, Kind, Record

DAY_US = 86_400_000_000

V = TypeVar("V")


class Stage(StrEnum):
    """Where an episode is."""

    DIAGNOSED = "diagnosed"
    WAITING = "waiting"  # for a person's approval
    ACTING = "acting"
    VERIFYING = "verifying"
    HEALED = "healed"  # verified; open until the cause is gone
    ESCALATED = "escalated"


@dataclass(frozen=True)
class Moment:
    """A place in both clocks and in the log; see `Record`."""

    rows: int = 0
    event_us: int = 0
    now_us: int = 0

    def elapsed_us(self, now: "Moment") -> int:
        """Time from here to there by whichever clock went further, at least 0.

        A silent shop's payments stand still while the wall moves on; history is healed faster than
        the wall moves.
        """
        return max(now.event_us - self.event_us, now.now_us - self.now_us, 0)


@dataclass(frozen=True)
class Trace:
    """How a cause did at the last checks.

    Attributes:
        held: whether it held, newest last, at most `TRACE` checks.
        clean: checks in a row in which it surely did not hold.
    """

    held: tuple[bool, ...] = ()
    clean: int = 0


TRACE = 10
"""Checks that a trace remembers."""
CLEAN = 64
"""Clean checks that are counted at most."""


@dataclass(frozen=True)
class Proposal:
    """An act that waits.

    Attributes:
        record: the PROPOSED record.
        approved_by: a person's subject; empty: nobody yet.
    """

    record: Record
    approved_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One cause from diagnosis to the end.

    Attributes:
        name: `cause@event_us`.
        cause: of the table.
        stage: where it is.
        tried: actions of its ladder that were taken or skipped; none is taken twice.
        aided: first aid that was asked for.
        failed: remedies that failed.
        proposal: what waits for a person.
        planned: the PLANNED record of the remedy under way or last done.
        since: from when payments count as fresh for verification.
        refuted: act ids that were, and whose orders are to be taken back.
        expired: when a proposal last expired; None: never.
        held: why nothing is done now; empty: nothing stands in the way.
        pages: times that a person was called.
        unseen: since when its cause can be neither confirmed nor refuted; None: it can.
        is_missed: that lasted, and a person was told.
    """

    name: str
    cause: str
    stage: Stage = Stage.DIAGNOSED
    tried: tuple[Action, ...] = ()
    aided: tuple[Action, ...] = ()
    failed: int = 0
    proposal: Proposal | None = None
    planned: Record | None = None
    since: Moment = Moment()
    refuted: tuple[str, ...] = ()
    expired: Moment | None = None
    held: str = ""
    pages: int = 0
    unseen: Moment | None = None
    is_missed: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """What is true after all records.

    Attributes:
        checked: when evidence was last counted as new.
        traces: cause -> its last checks; absent: surely not suspected.
        episodes: cause -> its open episode.
        asked: act id -> its PLANNED record, while neither DONE nor FAILED.
        orders: act id -> PLANNED record of what is in force and can be taken back.
        starts: PLANNED records of the last 24 hours of payments, oldest first.
        verdicts: of the last remedies, whether they were verified, oldest first.
        closed: cause -> when it last ended, and how often within 24 hours.
        failures: act id -> when it last failed: first aid, pages and taking back, asked again.
        paused: cause, or `EVERYTHING` -> when that ends by itself, by the wall; None: it does not.
        is_killed: nothing is done.
    """

    checked: Moment = Moment()
    traces: Mapping[str, Trace] = field(default_factory=dict)
    episodes: Mapping[str, Episode] = field(default_factory=dict)
    asked: Mapping[str, Record] = field(default_factory=dict)
    orders: Mapping[str, Record] = field(default_factory=dict)
    starts: tuple[Record, ...] = ()
    verdicts: tuple[bool, ...] = ()
    closed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    failures: Mapping[str, Moment] = field(default_factory=dict)
    paused: Mapping[str, int | None] = field(default_factory=dict)
    is_killed: bool = False

    @property
    def proposals(self) -> Mapping[str, Proposal]:
        """Act id -> what waits for a person."""
        waiting = [one.proposal for one in self.episodes.values() if one.proposal]
        return {one.record.act.act_id: one for one in waiting if one.record.act}


START = State()
"""Before the first record."""

VERDICTS = 50
"""Verdicts that are remembered; a policy looks at no more."""


def fold(state: State, record: Record) -> State:
    """The state after one more record; a record that fits nothing changes nothing.

    Examples:
        >>> record = Record(kind=Kind.PAUSED, event_us=0, now_us=0, cause=EVERYTHING, by="ann")
        >>> fold(START, record).paused
        {'*': None}
    """
    how = _FOLDS.get(record.kind, _moved)
    return how(state, record)


def folded(records: Iterable[Record]) -> State:
    """The state after all records, from the first."""
    state = START
    for record in records:
        state = fold(state, record)
    return state


def awake(state: State, now_us: int) -> State:
    """The state without the pauses that are over by now.

    Examples:
        >>> record = Record(kind=Kind.PAUSED, event_us=0, now_us=0, cause="bots", expires_us=60)
        >>> [dict(awake(fold(START, record), now).paused) for now in (59, 60)]
        [{'bots': 60}, {}]
    """
    paused = {cause: end for cause, end in state.paused.items() if end is None or now_us < end}
    return replace(state, paused=paused)


def moment(at: Evidence | Record) -> Moment:
    """When it was."""
    return Moment(at.rows, at.event_us, at.now_us)


def _with(state: State, episode: Episode) -> State:
    return replace(state, episodes={**state.episodes, episode.cause: episode})


def traced(
    traces: Mapping[str, Trace],
    held: Iterable[str],
    unsure: Iterable[str],
    open_causes: Iterable[str],
) -> dict[str, Trace]:
    """Traces after one more check.

    Args:
        traces: before it.
        held: causes that held at it.
        unsure: causes that could not be judged: neither a sight nor a clean check.
        open_causes: those with an episode are remembered however long they are clean.
    """
    now, unknown, kept = set(held), set(unsure), set(open_causes)
    found = {}
    for cause in sorted({*traces, *now, *kept}):
        trace = traces.get(cause, Trace())
        if cause not in unknown:
            seen = (*trace.held, cause in now)[-TRACE:]
            trace = Trace(seen, 0 if cause in now else min(trace.clean + 1, CLEAN))
        if any(trace.held) or cause in kept:
            found[cause] = trace
    return found


def _diagnosed(state: State, record: Record) -> State:
    return _with(state, Episode(name=record.episode, cause=record.cause))


def _checked(state: State, record: Record) -> State:
    traces = traced(state.traces, record.matched, record.unsure, state.episodes)
    return replace(state, checked=moment(record), traces=traces)


def _switched(state: State, record: Record) -> State:
    if record.kind is Kind.PAUSED:
        return replace(state, paused={**state.paused, record.cause: record.expires_us})
    if record.kind is Kind.RESUMED:
        everything = record.cause == EVERYTHING
        return replace(state, paused={} if everything else _without(state.paused, record.cause))
    return replace(state, is_killed=record.kind is Kind.KILLED)


def _lifted(state: State, record: Record) -> State:
    return replace(state, orders=_without(state.orders, record.act.act_id if record.act else ""))


def _answered(state: State, record: Record) -> State:
    act = record.act
    if act is None:
        return state
    planned = state.asked.get(act.act_id)
    if planned is None:
        return state
    state = replace(state, asked=_without(state.asked, act.act_id))
    return (_done if record.kind is Kind.DONE else _failed)(state, planned, act, moment(record))


def _planned(state: State, record: Record) -> State:
    act = record.act
    if act is None:
        return state
    day = [one for one in state.starts if record.event_us - one.event_us < DAY_US]
    asked = {**state.asked, act.act_id: record}
    state = replace(state, asked=asked, starts=(*day, record))
    episode = state.episodes.get(record.cause)
    if episode is None or record.undoes:
        return state
    return _with(state, _under_way(episode, record, act.action))


def _under_way(episode: Episode, record: Record, action: Action) -> Episode:
    if action is Action.PAGE:
        return replace(episode, pages=episode.pages + 1)
    if record.rung is None:
        return replace(episode, aided=(*episode.aided, action))
    tried = (*episode.tried, action)
    return replace(episode, stage=Stage.ACTING, proposal=None, planned=record, held="", tried=tried)


def _done(state: State, planned: Record, act: Act, now: Moment) -> State:
    orders = _without(state.orders, planned.undoes)
    if not planned.undoes and VERBS[act.action].inverse is not None:
        orders[act.act_id] = planned
    state = replace(state, orders=orders, failures=_without(state.failures, act.act_id))
    if VERBS[act.action].reach > 0:
        # What is fresh must have been decided under what is in force now.
        state = _restarted(state, now)
    episode = state.episodes.get(planned.cause)
    if episode is None or episode.planned != planned:
        return state
    return _with(state, replace(episode, stage=Stage.VERIFYING, since=now))


def _restarted(state: State, now: Moment) -> State:
    episodes = {
        cause: replace(one, since=now) if one.stage is Stage.VERIFYING else one
        for cause, one in state.episodes.items()
    }
    return replace(state, episodes=episodes)


def _failed(state: State, planned: Record, act: Act, now: Moment) -> State:
    episode = state.episodes.get(planned.cause)
    if episode is not None and episode.planned == planned:
        return _with(state, _next_rung(episode, act.act_id))
    # First aid, pages and taking back are asked again, but not at once.
    return replace(state, failures={**state.failures, act.act_id: now})


def _next_rung(episode: Episode, refuted: str) -> Episode:
    return replace(
        episode,
        stage=Stage.DIAGNOSED,
        failed=episode.failed + 1,
        refuted=(*episode.refuted, refuted),
    )


def _moved(state: State, record: Record) -> State:
    """Records that move one episode."""
    episode = state.episodes.get(record.cause)
    if episode is None:
        return state
    if record.kind is Kind.CLOSED:
        return _closed(state, episode, record)
    if record.kind in (Kind.VERIFIED, Kind.REFUTED, Kind.RELAPSED):
        return _judged(state, episode, record)
    return _with(state, _waited(episode, record))


def _judged(state: State, episode: Episode, record: Record) -> State:
    act = record.act
    if act is None or episode.planned is None or episode.planned.act != act:
        return state
    if record.kind is not Kind.RELAPSED:
        verdicts = (*state.verdicts, record.kind is Kind.VERIFIED)[-VERDICTS:]
        state = replace(state, verdicts=verdicts)
    if record.kind is Kind.VERIFIED:
        return _with(state, replace(episode, stage=Stage.HEALED, since=moment(record)))
    return _with(state, _next_rung(episode, act.act_id))


def _sighted(state: State, record: Record) -> State:
    episode = state.episodes.get(record.cause)
    if episode is None:
        return state
    if record.kind is Kind.SEEN:
        return _with(state, replace(episode, unseen=None, is_missed=False))
    since, is_again = episode.unseen or moment(record), episode.unseen is not None
    return _with(state, replace(episode, unseen=since, is_missed=is_again))


def _closed(state: State, episode: Episode, record: Record) -> State:
    at, times = state.closed.get(episode.cause, (0, 0))
    again = times + 1 if record.event_us - at < DAY_US else 1
    return replace(
        state,
        episodes=_without(state.episodes, episode.cause),
        closed={**state.closed, episode.cause: (record.event_us, again)},
        traces=_without(state.traces, episode.cause),
    )


def _waited(episode: Episode, record: Record) -> Episode:
    """Proposals, answers to them, and reasons why nothing happens."""
    match record.kind:
        case Kind.APPROVED:
            found = _approved(episode, record)
        case Kind.REJECTED:
            found = _rejected(episode, record)
        case Kind.PROPOSED:
            found = replace(episode, stage=Stage.WAITING, proposal=Proposal(record), held="")
        case Kind.EXPIRED:
            found = replace(episode, stage=Stage.DIAGNOSED, proposal=None, expired=moment(record))
        case Kind.SKIPPED if record.act:
            found = replace(episode, tried=(*episode.tried, record.act.action), held="")
        case Kind.ESCALATED:
            found = replace(episode, stage=Stage.ESCALATED, proposal=None, held="")
        case Kind.HELD:
            found = replace(episode, held=record.why)
        case _:
            found = episode
    return found


def _approved(episode: Episode, record: Record) -> Episode:
    proposal = episode.proposal
    if proposal is None or proposal.record.act != record.act or record.by == PLATFORM:
        return episode
    if proposal.record.expires_us is None or record.now_us > proposal.record.expires_us:
        return episode
    return replace(episode, proposal=replace(proposal, approved_by=record.by))


def _rejected(episode: Episode, record: Record) -> Episode:
    act = record.act
    if act is None or episode.proposal is None or episode.proposal.record.act != act:
        return episode
    tried = (*episode.tried, act.action)
    return replace(episode, stage=Stage.DIAGNOSED, proposal=None, tried=tried)


def _without(mapping: Mapping[str, V], key: str) -> dict[str, V]:
    return {name: value for name, value in mapping.items() if name != key}


_FOLDS: Mapping[Kind, Callable[[State, Record], State]] = {
    Kind.CHECKED: _checked,
    Kind.DIAGNOSED: _diagnosed,
    Kind.PLANNED: _planned,
    Kind.LIFTED: _lifted,
    **dict.fromkeys((Kind.DONE, Kind.FAILED), _answered),
    **dict.fromkeys((Kind.UNSEEN, Kind.SEEN), _sighted),
    **dict.fromkeys((Kind.PAUSED, Kind.RESUMED, Kind.KILLED, Kind.REVIVED), _switched),
}
"""What a record does to the state; those not named move one episode."""
