"""Carrying out what healing decided, on one home: orders, the mode, roles of models, pages.

What belongs here: fast acts. Slow ones (retrain, recalibrate, refold) are runs of their own. Every
act may be carried out again: what is in force already stays so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from fraud_platform.adapters.approved_configuration import read_approval
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.live_file import live_path, read_live
from fraud_platform.adapters.mode_order import ModeOrder, read_order, write_order
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_roles import ModelRoles
from fraud_platform.adapters.notices import ALERTS, Notice, Notices
from fraud_platform.adapters.orders_file import read_orders, write_orders
from fraud_platform.errors import FraudPlatformError, PermanentError, UnavailableError
from fraud_platform.heal.actions import VERBS, Act, Action
from fraud_platform.heal.configuration import HOW, differences
from fraud_platform.heal.controller import Outcome
from fraud_platform.heal.records import Record
from fraud_platform.heal.remedies import words
from fraud_platform.modes import Mode
from fraud_platform.orders import Orders
from fraud_platform.settings import Settings

HEALING = "healing"
"""Who orders and moves, as modes and the history of models name it."""


@dataclass(frozen=True)
class HomeActuator:
    """What acts on one home.

    Attributes:
        settings: of the home.
        roles: moves models.
        notices: the ways to a person.
        planned: act id -> its PLANNED record, which says why.
    """

    settings: Settings
    roles: ModelRoles
    notices: Notices
    planned: Mapping[str, Record]

    def carry_out(self, act: Act) -> Outcome:
        """Do it, or say why it cannot be done.

        Raises:
            UnavailableError: a disk or the registry does not answer now; ask again.
        """
        how = _HOW.get(act.action)
        if how is None:
            return Outcome(is_done=False, why=f"{act.action} is no act of a tick")
        try:
            return how(self, act)
        except UnavailableError:
            raise
        except OSError as error:
            raise UnavailableError(f"the disk does not answer: {error.strerror}.") from error
        except FraudPlatformError as error:
            return Outcome(is_done=False, why=error.message)

    def why(self, act: Act) -> str:
        """Why it is done, with the act's id: the reason that people find where it acts."""
        record = self.planned.get(act.act_id)
        return f"{act.act_id}: {record.why or record.cause if record else words(act)}"


def slow(act: Act) -> bool:
    """Whether an act is a run of its own."""
    return VERBS[act.action].is_slow


def _order(actuator: HomeActuator, act: Act) -> Outcome:
    """Change the orders in force as the act says."""
    path = actuator.settings.orders_path
    before = read_orders(path)
    change = _ORDERS[act.action](before, act)
    because = {k: v for k, v in before.because.items() if v != act.act_id}
    for name in change:
        because[name] = act.act_id
    after = msgspec.structs.replace(before, **change)
    ordered = {f for f in after.__struct_fields__ if getattr(after, f) != getattr(Orders(), f)}
    after = msgspec.structs.replace(
        after, because={name: by for name, by in because.items() if name in ordered}
    )
    if after != before:
        after = write_orders(path, after)
    return Outcome(is_done=True, before=_shown(before), after=_shown(after))


def _shown(orders: Orders) -> str:
    """The orders that differ from normal, for a person."""
    told = msgspec.structs.asdict(orders)
    normal = msgspec.structs.asdict(Orders())
    differs = {k: v for k, v in told.items() if k not in _TOLD_APART and v != normal[k]}
    return ", ".join(f"{name}={value}" for name, value in differs.items()) or "nothing ordered"


_TOLD_APART = {"sequence", "because"}


def _quarantine(orders: Orders, act: Act) -> dict[str, object]:
    return {"quarantined": tuple(dict.fromkeys((*orders.quarantined, *act.subjects)))}


def _release(orders: Orders, act: Act) -> dict[str, object]:
    return {"quarantined": tuple(g for g in orders.quarantined if g not in act.subjects)}


def _invert(orders: Orders, act: Act) -> dict[str, object]:
    factor = act.amounts["factor"]
    return {"unit_factors": {**orders.unit_factors, **dict.fromkeys(act.subjects, factor)}}


def _keep(orders: Orders, act: Act) -> dict[str, object]:
    kept = {n: f for n, f in orders.unit_factors.items() if n not in act.subjects}
    return {"unit_factors": kept}


_Change = Callable[[Orders, Act], dict[str, object]]

_ORDERS: Mapping[Action, _Change] = {
    Action.FREEZE_LEARNING: lambda orders, act: {"learning_frozen": True},
    Action.THAW_LEARNING: lambda orders, act: {"learning_frozen": False},
    Action.QUARANTINE: _quarantine,
    Action.RELEASE: _release,
    Action.INVERT_UNIT: _invert,
    Action.KEEP_UNIT: _keep,
    Action.TIGHTEN_BUDGET: lambda orders, act: {"max_disturbed": act.amounts["share"]},
    Action.RAISE_BUDGET: lambda orders, act: {"max_disturbed": act.amounts["share"]},
    Action.RESTORE_BUDGET: lambda orders, act: {"max_disturbed": None},
    Action.STEP_UP_REVIEW: lambda orders, act: {"audit_factor": act.amounts["times"]},
    Action.STEP_DOWN_REVIEW: lambda orders, act: {"audit_factor": 1.0},
    Action.SHED: lambda orders, act: {"is_shedding": True},
    Action.UNSHED: lambda orders, act: {"is_shedding": False},
}
"""Action -> the fields of the orders that it changes."""


def _rules_only(actuator: HomeActuator, act: Act) -> Outcome:
    path = actuator.settings.mode_path
    before = read_order(path)
    if before.mode is not Mode.NORMAL:  # a person's order, or ours already
        return Outcome(is_done=True, before=before.mode, after=before.mode)
    now_us = actuator.planned[act.act_id].now_us if act.act_id in actuator.planned else 0
    order = ModeOrder(
        mode=Mode.RULES_ONLY, reason=actuator.why(act), ordered_by=HEALING, ordered_us=now_us
    )
    write_order(path, order, governance_of(actuator.settings))
    return Outcome(is_done=True, before=before.mode, after=order.mode)


def _leave_rules(actuator: HomeActuator, act: Act) -> Outcome:
    path = actuator.settings.mode_path
    before = read_order(path)
    if before.mode is not Mode.NORMAL and before.ordered_by == HEALING:
        order = ModeOrder(reason=actuator.why(act), ordered_by=HEALING)
        write_order(path, order, governance_of(actuator.settings))
    after = read_order(path)
    return Outcome(is_done=True, before=before.mode, after=after.mode)


def _roll_back(actuator: HomeActuator, act: Act) -> Outcome:
    """To the version that the act names; champion already: it was rolled back before."""
    (wanted,) = act.subjects
    deployment = read_deployment(actuator.settings.models_dir)
    now = deployment.champion.version if deployment.champion else ""
    if now == wanted:
        return Outcome(is_done=True, before=now, after=wanted)
    if act.replacing not in ("", now):
        raise PermanentError(f"found that {now or 'no model'} decides by now, not {act.replacing}")
    if deployment.previous is None or deployment.previous.version != wanted:
        raise PermanentError(f"found no version {wanted} to go back to, it is not the one before")
    found = actuator.roles.roll_back(now, _mandate(actuator, act))
    why = "" if found == wanted else f"{found} decides by now"
    return Outcome(is_done=not why, before=now, after=found, why=why)


def _reload(actuator: HomeActuator, act: Act) -> Outcome:
    """The deployment is written again once the champion, read anew, is what was registered."""
    found = actuator.roles.publish(_mandate(actuator, act), anew=True)
    if found is None:
        return Outcome(is_done=False, why="no champion")
    why = "read anew, its files are as registered and its stored rows score to the same bits"
    why += "; scorers read it again"
    return Outcome(is_done=True, after=found, why=why)


def _stop_canary(actuator: HomeActuator, act: Act) -> Outcome:
    """End the canary of the version that the act names; that of another one goes on."""
    deployment = read_deployment(actuator.settings.models_dir)
    share, challenger = deployment.canary_share, deployment.challenger
    if share and challenger and challenger.version in (act.subjects or (challenger.version,)):
        actuator.roles.set_canary(0.0, _mandate(actuator, act))
        return Outcome(is_done=True, before=f"{share:g}", after="0")
    return Outcome(is_done=True, before=f"{share:g}", after=f"{share:g}")


def _restore_configuration(actuator: HomeActuator, act: Act) -> Outcome:
    """Nothing that a program may do: it says what a person has to."""
    settings = actuator.settings
    approval, live = read_approval(settings.heal_dir), read_live(live_path(settings.home))
    found = differences(approval.values, live.configuration) if approval and live else ()
    otherwise = ", ".join(found) or "a model's cuts are not those that were registered"
    return Outcome(
        is_done=False,
        why=f"settings are the operator's, and {otherwise}"
        + (f" as {approval.by} approved" if approval and found else "")
        + f": start the scorer with what was approved, or approve what it decides by; {HOW}",
    )


def _page(actuator: HomeActuator, act: Act) -> Outcome:
    record = actuator.planned.get(act.act_id)
    told = actuator.notices.page(
        Notice(
            act_id=act.act_id,
            at_us=record.now_us if record else 0,
            cause=record.cause if record else "",
            text=record.why if record and record.why else words(act),
            facts={} if record is None else _facts(record),
        )
    )
    failed = [f"{delivery.way}: {delivery.why}" for delivery in told if not delivery.is_done]
    ways = ", ".join(delivery.way for delivery in told if delivery.is_done)
    # A file calls nobody: it counts only where there is no other way.
    callers = [delivery for delivery in told if delivery.way != ALERTS] or told
    is_done = any(delivery.is_done for delivery in callers)
    return Outcome(is_done=is_done, after=ways, why="; ".join(failed))


def _facts(record: Record) -> dict[str, str | int | float | None]:
    """The breached signals with their numbers, and where to look further."""
    found: dict[str, str | int | float | None] = {"episode": record.episode}
    for signal, numbers in record.evidence.items():
        if numbers.standing == "breached":
            found[signal.value] = numbers.value
    return found


def _observe(actuator: HomeActuator, act: Act) -> Outcome:
    return Outcome(is_done=True)


def _mandate(actuator: HomeActuator, act: Act) -> Mandate:
    return Mandate(by=HEALING, why=actuator.why(act))


_HOW: Mapping[Action, Callable[[HomeActuator, Act], Outcome]] = {
    **dict.fromkeys(_ORDERS, _order),
    Action.OBSERVE: _observe,
    Action.PAGE: _page,
    Action.RULES_ONLY: _rules_only,
    Action.LEAVE_RULES: _leave_rules,
    Action.ROLL_BACK: _roll_back,
    Action.RELOAD_MODEL: _reload,
    Action.RESTORE_CONFIGURATION: _restore_configuration,
    Action.STOP_CANARY: _stop_canary,
}
"""Action -> how it is carried out."""
