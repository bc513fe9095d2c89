"""What a person is told about healing: how things stand, and why an episode went as it went.

What belongs here: choosing and wording. Everything told is in the ledger or the policy.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from fraud_platform.events import moment_of
from fraud_platform.heal.actions import VERBS, Action, Level
from fraud_platform.heal.causes import HEALTHY, advice, diagnose
from fraud_platform.heal.evidence import Evidence, Signal, Standing
from fraud_platform.heal.limits import Scene, is_demoted, level_of, remedies
from fraud_platform.heal.policy import HealPolicy
from fraud_platform.heal.records import (
    EVERYTHING,
    PLATFORM,
    Kind,
    Money,
    Numbers,
    Record,
    numbers_of,
)
from fraud_platform.heal.remedies import words
from fraud_platform.heal.state import Episode, Stage, State, awake, folded

_CHOICES = {Kind.PROPOSED, Kind.PLANNED}
_COMMAND = {
    Stage.WAITING: "fraud-platform heal approve {act_id} --why '...'",
    Stage.ESCALATED: "fraud-platform heal explain {name}",
}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One open episode.

    Attributes:
        name: of the episode.
        cause: what it is about.
        stage: where it is.
        why: why nothing is done now, or what was done last.
        tried: actions taken or skipped so far.
        left: action -> level, of the rungs that are left.
        act_id: what waits for a person, or is under way.
        command: what a person can do about it; empty: nothing is needed.
    """

    name: str
    cause: str
    stage: Stage
    why: str
    tried: tuple[str, ...]
    left: Mapping[str, int]
    act_id: str = ""
    command: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How healing stands.

    Attributes:
        cause: what was believed first at the last look that the ledger holds.
        matched: every cause that held then.
        unsure: causes that could not be judged then.
        as_of_us: when that was, by the wall; 0: never.
        scorer_us: when the scorer last spoke, by the wall; 0: never.
        readings: signal -> numbers of that look, and what the scorer says of itself.
        episodes: open ones.
        orders: act id -> what is in force, in words.
        money: what a day cost at that look, in words; empty: it could not be told.
        killed: by whom and why nothing is done; empty: it is not killed.
        paused: cause, or `*` -> until when, by the wall; None: until a person ends it.
        maturity: highest level of acts that are not safe by themselves.
        is_demoted: remedies were wrong so often that level 4 is 3.
        budgets: name -> used and allowed in 24 hours of payments.
        policy: digest of the policy in force.
    """

    cause: str
    matched: tuple[str, ...]
    unsure: tuple[str, ...]
    as_of_us: int
    scorer_us: int
    readings: Mapping[Signal, Numbers]
    episodes: tuple[Told, ...]
    orders: Mapping[str, str]
    money: str
    killed: str
    paused: Mapping[str, int | None]
    maturity: Level
    is_demoted: bool
    budgets: Mapping[str, tuple[int, int]]
    policy: str


def status(
    records: Sequence[Record], policy: HealPolicy, heard: Evidence | None, now_us: int
) -> Status:
    """How healing stands.

    Args:
        records: all of the ledger.
        policy: in force.
        heard: what the scorer last said of itself; None: nothing.
        now_us: the clock of the wall.
    """
    state = awake(folded(records), now_us)
    look = next((one for one in reversed(records) if one.evidence), None)
    scene = _scene(state, policy, heard, now_us)
    return Status(
        cause=look.matched[0] if look and look.matched else HEALTHY,
        matched=look.matched if look else (),
        unsure=look.unsure if look else (),
        as_of_us=look.now_us if look else 0,
        scorer_us=heard.now_us if heard else 0,
        readings={**(look.evidence if look else {}), **(numbers_of(heard) if heard else {})},
        episodes=tuple(_told(one, scene) for one in state.episodes.values()),
        orders={act: words(one.act) for act, one in state.orders.items() if one.act},
        money=_daily(look) if look else "",
        killed=_killed(records) if state.is_killed else "",
        paused=state.paused,
        maturity=policy.maturity,
        is_demoted=is_demoted(scene),
        budgets=_budgets(scene),
        policy=policy.digest,
    )


def status_text(told: Status, holder: str) -> str:
    """The status as text.

    Args:
        told: the status.
        holder: who heals right now; empty: nobody.
    """
    return "\n".join([*_switches(told), *_sight(told), *_work(told), *_limits(told, holder)])


def episode_records(records: Sequence[Record], named: str = "") -> tuple[Record, ...]:
    """The records of an episode.

    Args:
        records: all of the ledger.
        named: the episode's name or its cause, then its newest episode; empty: the newest of all.
    """
    begun = [one for one in records if one.kind is Kind.DIAGNOSED]
    found = [one.episode for one in begun if named in ("", one.episode, one.cause)]
    return tuple(one for one in records if found and one.episode == found[-1])


def explanation(records: Sequence[Record]) -> str:
    """Why an episode went as it went: what was seen, what was done, what else would have been.

    Args:
        records: of one episode, the first that of its diagnosis.
    """
    first = records[0]
    lines = [
        f"{first.episode}: {first.why}",
        f"seen {_at(first.now_us)}, newest payment {_at(first.event_us)}, row {first.rows}",
        f"all causes that held: {', '.join(first.matched)}",
        f"not to be judged: {', '.join(first.unsure) or 'none'}",
        f"policy {first.policy[:12]}",
        f"a day cost {_daily(first) or 'nobody knows what'}",
        *_table({k: v for k, v in first.evidence.items() if v.standing is not Standing.FINE}),
        *(line for record in records for line in _event(record)),
    ]
    return "\n".join(lines)


def log_line(record: Record) -> str:
    """One record on one line."""
    about = record.episode or record.cause or ", ".join(record.matched)
    act = f" [{record.act.act_id}]" if record.act else ""
    return f"{_at(record.now_us)} {record.kind} {about}{act}{_by_and_why(record)}"


def _scene(state: State, policy: HealPolicy, heard: Evidence | None, now_us: int) -> Scene:
    """What limits look at when nothing but the scorer is asked."""
    at = state.checked
    event_us = max(at.event_us, heard.event_us if heard else 0)
    nothing = Evidence(readings={}, event_us=event_us, now_us=now_us, rows=at.rows)
    return Scene(state, nothing, policy, diagnose(nothing), frozenset())


def _told(episode: Episode, scene: Scene) -> Told:
    waiting = episode.proposal.record if episode.proposal else episode.planned
    act_id = waiting.act.act_id if waiting and waiting.act else ""
    ladder = scene.policy.causes[episode.cause].ladder
    left = {
        rung.do.value: int(level_of(scene, rung.do, rung.level))
        for rung in ladder
        if rung.do not in episode.tried
    }
    return Told(
        name=episode.name,
        cause=episode.cause,
        stage=episode.stage,
        why=_unseen(episode) or episode.held or (waiting.why if waiting else advice(episode.cause)),
        tried=tuple(action.value for action in episode.tried),
        left=left,
        act_id=act_id,
        command=_COMMAND.get(episode.stage, "").format(act_id=act_id, name=episode.name),
    )


def _unseen(episode: Episode) -> str:
    if episode.unseen is None:
        return ""
    told = ", a person was told" if episode.is_missed else ""
    since = f"since {_at(episode.unseen.now_us)}"
    return f"nobody can tell {since} whether it goes on; what is ordered stays{told}"


def _killed(records: Sequence[Record]) -> str:
    last = next(one for one in reversed(records) if one.kind is Kind.KILLED)
    return f"by {last.by} at {_at(last.now_us)}: {last.why}"


def _budgets(scene: Scene) -> dict[str, tuple[int, int]]:
    """What the limits count, for all causes together."""
    day = remedies(scene.state, scene.evidence.event_us)
    done = [one.act.action for one in day if one.act]
    budgets = scene.policy.budgets
    return {
        "remedies": (len(day), budgets.remedies),
        "learning": (sum(VERBS[action].learns for action in done), budgets.learning),
        "retrains": (done.count(Action.RETRAIN), budgets.retrains),
    }


def _switches(told: Status) -> Iterator[str]:
    if told.killed:
        yield f"KILLED {told.killed}; `fraud-platform heal resume --why '...'` ends it"
    for cause, until in told.paused.items():
        name = "everything" if cause == EVERYTHING else cause
        yield f"paused: {name}{'' if until is None else f' until {_at(until)}'}"


def _sight(told: Status) -> Iterator[str]:
    if told.as_of_us:
        yield f"seen at {_at(told.as_of_us)}: {', '.join(told.matched) or HEALTHY}"
    else:
        yield "nothing was seen yet"
    if told.scorer_us:
        yield f"scorer: last heard at {_at(told.scorer_us)}"
    if told.money:
        yield f"money then: {told.money}"
    if told.unsure:
        yield f"not to be judged then: {', '.join(told.unsure)}"
    yield from _table(told.readings)


def _work(told: Status) -> Iterator[str]:
    yield f"open episodes: {len(told.episodes) or 'none'}"
    for one in told.episodes:
        yield f"  {one.name}: {one.stage}: {one.why}"
        if one.left:
            left = (f"{action} at level {level}" for action, level in one.left.items())
            yield f"    left to try: {', '.join(left)}"
        if one.command:
            yield f"    {one.command}"
    yield f"orders in force: {len(told.orders) or 'none'}"
    for act_id, order in told.orders.items():
        yield f"  {order} [{act_id}]"


def _limits(told: Status, holder: str) -> Iterator[str]:
    demoted = ", demoted to 3: remedies were wrong too often" if told.is_demoted else ""
    yield f"maturity: level {int(told.maturity)}{demoted}"
    used = (f"{name} {spent} of {most}" for name, (spent, most) in told.budgets.items())
    yield f"budgets of 24 hours: {', '.join(used)}"
    yield f"policy {told.policy[:12]}, healing now: {holder or 'nobody'}"


def _table(readings: Mapping[Signal, Numbers]) -> Iterator[str]:
    """One line per signal, what is breached first."""
    if not readings:
        return
    yield f"  {'signal':<18} {'standing':<9} {'value':>11} {'bound':>11} {'rows':>9}  subjects"
    ordered = sorted(readings.items(), key=lambda item: item[1].standing is not Standing.BREACHED)
    for signal, one in ordered:
        value, bound = ("" if n is None else f"{n:.5g}" for n in (one.value, one.bound))
        subjects = ", ".join(one.subjects)
        line = f"  {signal:<18} {one.standing:<9} {value:>11} {bound:>11} {one.rows:>9}  {subjects}"
        yield line.rstrip()


def _event(record: Record) -> Iterator[str]:
    if record.kind is Kind.DIAGNOSED:
        return
    act = f" {words(record.act)} [{record.act.act_id}]" if record.act else ""
    level = "" if record.level is None else f" at level {int(record.level)}"
    yield f"{_at(record.now_us)} {record.kind}{act}{level}{_by_and_why(record)}"
    if record.before or record.after:
        yield f"    before: {record.before or 'unknown'}, after: {record.after or 'unknown'}"
    if record.money is not None:
        yield f"    money: {_money(record.money)}"
    if record.inverse is not None and record.kind is Kind.PLANNED:
        yield f"    undone by: {record.inverse}"
    if record.kind in _CHOICES and record.rung is not None:
        others = (item for item in sorted(record.would_have.items()) if item[0] != record.level)
        yield from (f"    at level {level}: {what}" for level, what in others)


def _by_and_why(record: Record) -> str:
    by = "" if record.by == PLATFORM else f" by {record.by}"
    return f"{by}: {record.why}" if record.why else by


def _money(money: Money) -> str:
    known = money.low is not None and money.high is not None
    interval = f" ({money.low:+,.0f} to {money.high:+,.0f})" if known else ""
    return f"{money.per_day:+,.0f} minor units a day{interval}"


def _daily(record: Record) -> str:
    """What a day cost when a record was written."""
    if record.money_per_day is None:
        return ""
    ends = record.money_interval
    interval = f" ({ends[0]:,.0f} to {ends[1]:,.0f})" if ends else ""
    return f"{record.money_per_day:,.0f} minor units{interval}"


def _at(us: int) -> str:
    return moment_of(us).isoformat(timespec="seconds")
