"""One pass over all causes: each step writes records, and the next step sees what they changed.

What belongs here: the order of things within an episode. What may not be done is `limits`, whether
something worked is `verification`.
"""

from typing import Any

from fraud_platform.heal.actions import VERBS, Act, Action, Level
from fraud_platform.heal.causes import BLIND, NAMES, Diagnosis, advice
from fraud_platform.heal.conditions import AllOf
from fraud_platform.heal.evidence import Evidence
from fraud_platform.heal.limits import (
    Hold,
    Scene,
    hold,
    is_claimed,
    is_paused,
    is_too_blind,
    level_of,
    unclaimed,
    waits_for,
)
from fraud_platform.heal.policy import HealPolicy, minutes
from fraud_platform.heal.policy_parts import Rung
from fraud_platform.heal.records import PLATFORM, Kind, Record, numbers_of
from fraud_platform.heal.remedies import Impossible, act_for, act_id, words, would_have
from fraud_platform.heal.sights import explained, is_cleared, is_new, is_raised, stands
from fraud_platform.heal.state import Episode, Moment, Stage, State, fold, traced
from fraud_platform.heal.unmeasured import unmeasured
from fraud_platform.heal.verification import breached, judged

_FAILURES = 2
"""Remedies of one episode that may fail before a person is called."""


class Tick:
    """What is written, and the state that follows from it.

    Args:
        state: the fold of all records before.
        evidence: what is known now.
        policy: what may be done.
        diagnosis: what the evidence means.
    """

    def __init__(
        self, state: State, evidence: Evidence, policy: HealPolicy, diagnosis: Diagnosis
    ) -> None:
        self.records: list[Record] = []
        self._state, self._evidence = state, evidence
        self._policy, self._diagnosis = policy, diagnosis
        self._now = Moment(evidence.rows, evidence.event_us, evidence.now_us)
        judged_not = {*diagnosis.matched, *diagnosis.refuted}
        self._numbers = numbers_of(evidence)
        self._unsure = tuple(name for name in NAMES[:-1] if name not in judged_not)

    def count_sights(self) -> None:
        """Count new evidence for and against every cause, if that changes anything."""
        traces = traced(
            self._state.traces, self._diagnosis.matched, self._unsure, self._state.episodes
        )
        if (
            is_new(self._now, self._state, self._diagnosis, self._policy)
            and traces != self._state.traces
        ):
            self._write(Kind.CHECKED)

    def give_up_on_acts(self) -> None:
        """Slow acts without an answer have failed; what is needed again is not taken back."""
        for record in [*self._state.asked.values()]:
            act = record.act
            if act is None:
                continue
            if VERBS[act.action].is_slow and self._is_overdue(record, act):
                self._write(Kind.FAILED, record.cause, act=act, why="no answer in time")
            order = self._state.orders.get(record.undoes)
            if order is not None and is_claimed(self._state, order):
                self._write(Kind.FAILED, record.cause, act=act, why="it is needed again")

    def judge(self, cause: str) -> None:
        """Has the remedy of an episode worked, and does it still?"""
        episode = self._state.episodes.get(cause)
        if episode is None or self._diagnosis.cause == BLIND or cause in self._explained():
            return
        if episode.stage is Stage.VERIFYING:
            self._verify(episode)
        elif episode.stage is Stage.HEALED and self._has_relapsed(episode):
            act = episode.planned.act if episode.planned else None
            if self._is_taken_back(episode):
                self._write(Kind.CLOSED, cause, why="it is back since the remedy was taken back")
            else:
                self._write(Kind.RELAPSED, cause, act=act, why="the symptom is back")

    def watch(self, cause: str) -> None:
        """Say when the cause of an episode cannot be measured; its orders stay."""
        if (episode := self._state.episodes.get(cause)) is None or is_paused(self._state, cause):
            return
        if word := unmeasured(episode, cause in self._unsure, self._scene()):
            self._write(word.kind, cause, why=word.why)
            if word.tells:
                self._page(cause)

    def open(self, cause: str) -> None:
        """Begin an episode of a cause that is believed and that nothing else explains."""
        if cause in self._state.episodes or not self._stands(cause):
            return
        if self._is_raised(cause):
            self._write(Kind.DIAGNOSED, cause, why=advice(cause))

    def advance(self, cause: str) -> None:
        """First aid, then the ladder, as far as it goes now."""
        episode = self._state.episodes.get(cause)
        if episode is None:
            return
        if episode.stage is Stage.WAITING:
            self._hear(episode)
        if is_paused(self._state, cause):
            return
        self._page_again(episode)
        if self._stands(cause):
            self._give_first_aid(episode)
            if episode.stage is Stage.DIAGNOSED:
                self._climb(episode)

    def undo_refuted(self, cause: str) -> None:
        """Take back what did not help, where taking back is safe, and what was for a time only."""
        episode = self._state.episodes.get(cause)
        if episode is None or is_paused(self._state, cause):
            return
        for order in self._orders(episode):
            act = order.act
            inverse = VERBS[act.action].inverse if act else None
            if act is None or inverse is None:
                continue
            is_refuted = act.act_id in episode.refuted and VERBS[inverse].is_safe
            if is_refuted or (act.until_us is not None and self._now.now_us >= act.until_us):
                self._undo(order)

    def take_back(self, cause: str) -> None:
        """Once the cause is gone undo everything, and close."""
        episode = self._state.episodes.get(cause)
        if episode is None or is_paused(self._state, cause):
            return
        if is_cleared(cause, self._state, self._evidence, self._policy, self._diagnosis):
            self._close(episode)

    def acts(self) -> tuple[Act, ...]:
        """Everything asked for and not answered that may be done now, the smallest reach first.

        Pages come last: a receiver that does not answer keeps no remedy waiting.
        """
        found = [
            record.act
            for record in self._state.asked.values()
            if record.act is not None and self._may_be_done(record, record.act)
        ]
        last = {Action.PAGE: 9}
        return tuple(sorted(found, key=lambda act: last.get(act.action, VERBS[act.action].reach)))

    # What is seen

    def _is_raised(self, cause: str) -> bool:
        return is_raised(cause, self._state, self._policy)

    def _explained(self) -> frozenset[str]:
        return explained(self._state, self._evidence, self._policy, self._diagnosis)

    def _stands(self, cause: str) -> bool:
        return stands(cause, self._state, self._evidence, self._policy, self._diagnosis)

    def _scene(self) -> Scene:
        return Scene(self._state, self._evidence, self._policy, self._diagnosis, self._explained())

    # Verdicts

    def _verify(self, episode: Episode) -> None:
        verdict = judged(episode, self._evidence, self._policy)
        if verdict is not None and episode.planned is not None:
            self._write(
                Kind.VERIFIED if verdict.is_healed else Kind.REFUTED,
                episode.cause,
                act=episode.planned.act,
                why=verdict.why,
                money=verdict.money,
            )

    def _has_relapsed(self, episode: Episode) -> bool:
        if episode.planned is None or episode.planned.act is None:
            return False
        verify = self._policy.verification(episode.cause, episode.planned.act.action)
        return self._is_raised(episode.cause) and bool(breached(verify, self._evidence))

    def _is_taken_back(self, episode: Episode) -> bool:
        """Whether the remedy hid the symptom and was taken back: it may be done again."""
        act = episode.planned.act if episode.planned else None
        can_be = act is not None and VERBS[act.action].inverse is not None
        return can_be and not self._orders(episode) and not self._is_busy(episode)

    # Acting

    def _give_first_aid(self, episode: Episode) -> None:
        for aid in self._policy.causes[episode.cause].first_aid:
            if level_of(self._scene(), aid.do, Level.ACT) < Level.ACT:
                continue
            subjects = self._diagnosis.subjects.get(episode.cause, ())
            act = act_for(aid, episode.name, subjects, self._evidence, self._policy.bounds)
            if aid.do not in episode.aided or self._may_ask_again(act.act_id):
                self._plan(episode, act, level=Level.ACT)

    def _climb(self, episode: Episode) -> None:
        """Take the next rung that is possible, or call a person."""
        if episode.failed >= _FAILURES:
            self._escalate(episode, f"{episode.failed} remedies failed")
            return
        if episode.expired and not self._is_cool(episode.expired):
            return
        treatment = self._policy.causes[episode.cause]
        for rung in treatment.ladder:
            if rung.do not in episode.tried and self._take(episode, rung):
                return
        if treatment.tells == "person" or episode.failed:
            self._escalate(episode, f"nothing is left to try: {advice(episode.cause)}")

    def _take(self, episode: Episode, rung: Rung) -> bool:
        """Whether the rung was possible here, now or later; if not, that is written."""
        needs = AllOf(tuple(need.condition for need in rung.needs))
        subjects = self._diagnosis.subjects.get(episode.cause, ())
        try:
            if not needs.holds(self._evidence):
                raise Impossible(f"it needs {needs}")
            act = act_for(rung, episode.name, subjects, self._evidence, self._policy.bounds)
        except Impossible as reason:
            skipped = Act(act_id=act_id(episode.name, rung.do, ()), action=rung.do)
            self._write(Kind.SKIPPED, episode.cause, act=skipped, why=str(reason))
            return False
        if not self._is_held(episode, act, waits_for(rung, self._evidence)):
            self._do(episode, rung, act)
        return True

    def _is_held(self, episode: Episode, act: Act, waits: Hold | None = None) -> bool:
        reason = waits or hold(self._scene(), episode, act.action)
        if reason is not None and reason.why != episode.held:
            self._write(Kind.HELD, episode.cause, act=act, why=reason.why)
            if reason.tells:
                self._page(episode.cause)
        return reason is not None

    def _do(self, episode: Episode, rung: Rung, act: Act) -> None:
        level = level_of(self._scene(), rung.do, rung.level)
        place = self._policy.causes[episode.cause].ladder.index(rung)
        if level is Level.ACT:
            self._plan(episode, act, level=level, rung=place)
        elif level is Level.PROPOSE:
            until = self._evidence.now_us + minutes(self._policy.approval_minutes)
            self._write(
                *(Kind.PROPOSED, episode.cause),
                act=act,
                level=level,
                rung=place,
                expires_us=until,
                why=f"{words(act)} waits for a person",
            )
            self._page(episode.cause)
        else:
            self._escalate(episode, f"{words(act)} is for a person to do", act, level)

    def _hear(self, episode: Episode) -> None:
        """Has a person approved in time?"""
        proposal = episode.proposal
        if proposal is None or proposal.record.act is None or proposal.record.expires_us is None:
            return
        ends, act = proposal.record.expires_us, proposal.record.act
        if proposal.approved_by:
            # Who approved in time is obeyed even if the next tick comes late, or something waits.
            ends += minutes(self._policy.approval_minutes)
            if episode.cause in self._diagnosis.standing and not self._is_held(episode, act):
                self._plan(
                    episode,
                    act,
                    level=Level.PROPOSE,
                    rung=proposal.record.rung,
                    by=proposal.approved_by,
                )
                return
        if self._evidence.now_us > ends:
            self._write(Kind.EXPIRED, episode.cause, act=act, why="nobody answered in time")

    def _plan(
        self,
        episode: Episode,
        act: Act,
        *,
        level: Level,
        rung: int | None = None,
        by: str = PLATFORM,
    ) -> None:
        self._write(
            Kind.PLANNED, episode.cause, act=act, level=level, rung=rung, by=by, why=words(act)
        )

    def _escalate(
        self, episode: Episode, why: str, act: Act | None = None, level: Level | None = None
    ) -> None:
        self._write(Kind.ESCALATED, episode.cause, act=act, level=level, why=why)
        self._page(episode.cause)

    def _page(self, cause: str) -> None:
        episode = self._state.episodes[cause]
        page = Act(
            act_id=act_id(episode.name, Action.PAGE, (str(episode.pages),)),
            action=Action.PAGE,
            subjects=(cause,),
        )
        self._plan(episode, page, level=Level.OBSERVE)

    def _page_again(self, episode: Episode) -> None:
        """A page that could not be delivered is tried again."""
        last = act_id(episode.name, Action.PAGE, (str(episode.pages - 1),))
        if self._may_ask_again(last):
            self._page(episode.cause)

    def _may_ask_again(self, which: str) -> bool:
        """Whether an act failed that is no remedy, and has rested."""
        failed = self._state.failures.get(which)
        return failed is not None and which not in self._state.asked and self._is_cool(failed)

    def _is_cool(self, since: Moment) -> bool:
        return since.elapsed_us(self._now) >= minutes(self._policy.cooldown_minutes)

    def _is_overdue(self, record: Record, act: Act) -> bool:
        since = Moment(record.rows, record.event_us, record.now_us)
        patience = self._policy.timeout_minutes(record.cause, act.action)
        return since.elapsed_us(self._now) >= minutes(patience)

    def _may_be_done(self, record: Record, act: Act) -> bool:
        if act.action is Action.PAGE:
            return True
        if is_paused(self._state, record.cause) or is_too_blind(self._diagnosis, act.action):
            return False
        return not self._is_outdated(record)

    def _is_outdated(self, record: Record) -> bool:
        """Whether a fast remedy that a crash or a pause kept back is no longer called for."""
        act = record.act
        if act is None or record.rung is None or VERBS[act.action].is_slow:
            return False
        return act.act_id in self._state.asked and record.cause in self._diagnosis.refuted

    # Taking back

    def _orders(self, episode: Episode) -> list[Record]:
        return [one for one in self._state.orders.values() if one.episode == episode.name]

    def _is_busy(self, episode: Episode) -> bool:
        asked = [one for one in self._state.asked.values() if one.episode == episode.name]
        return any(one.act and one.act.action is not Action.PAGE for one in asked)

    def _close(self, episode: Episode) -> None:
        if episode.stage is Stage.WAITING and episode.proposal:
            act = episode.proposal.record.act
            self._write(Kind.EXPIRED, episode.cause, act=act, why="the cause is gone")
        elif episode.planned and self._is_outdated(episode.planned):
            act = episode.planned.act
            self._write(Kind.FAILED, episode.cause, act=act, why="the cause is gone")
        elif episode.stage in (Stage.ACTING, Stage.VERIFYING):
            return
        for order in self._orders(episode):
            self._undo(order)
        if not self._is_busy(episode) and not self._orders(episode):
            self._write(Kind.CLOSED, episode.cause, why="the cause is gone, nothing is left behind")

    def _undo(self, order: Record) -> None:
        """Ask for the inverse of an order, unless another episode needs what it ordered."""
        act = order.act
        inverse = VERBS[act.action].inverse if act else None
        if act is None or inverse is None:
            return
        if is_claimed(self._state, order):
            self._write(Kind.LIFTED, order.cause, act=act, why="another episode needs it")
            return
        back = Act(
            act_id=act_id(order.episode, inverse, (act.act_id,)),
            action=inverse,
            subjects=unclaimed(self._state, order),
        )
        is_new = back.act_id not in (*self._state.asked, *self._state.failures)
        if is_new or self._may_ask_again(back.act_id):
            self._write(
                *(Kind.PLANNED, order.cause),
                act=back,
                level=order.level,
                undoes=act.act_id,
                why=f"{words(back)}: {words(act)} is no longer needed",
            )

    def _write(
        self, kind: Kind, cause: str = "", *, act: Act | None = None, why: str = "", **more: Any
    ) -> None:
        """Append a record and let the rest of the pass see it."""
        record = Record(
            kind=kind,
            event_us=self._now.event_us,
            now_us=self._now.now_us,
            rows=self._now.rows,
            episode=self._name(cause),
            cause=cause,
            matched=self._diagnosis.matched,
            unsure=self._unsure,
            evidence=self._numbers,
            policy=self._policy.digest,
            act=act,
            inverse=None if act is None else VERBS[act.action].inverse,
            would_have={} if act is None else would_have(act, self._policy.approval_minutes),
            money_per_day=self._evidence.money_per_day,
            money_interval=self._evidence.money_interval,
            why=why,
            **more,
        )
        self.records.append(record)
        self._state = fold(self._state, record)

    def _name(self, cause: str) -> str:
        """Of the cause's episode; two that begin at the same payment have two names."""
        if not cause:
            return ""
        if cause in self._state.episodes:
            return self._state.episodes[cause].name
        _, times = self._state.closed.get(cause, (0, 0))
        return f"{cause}@{self._now.event_us}" + (f"#{times}" if times else "")
