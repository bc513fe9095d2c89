"""What people approved is promoted; what nobody confirmed, or somebody turned down, is undone."""

import time
from collections.abc import Callable
from functools import partial

import dagster as dg

from assets.timing import SENSOR_SECONDS
from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.approved_moves import (
    approved,
    carry_out,
    finish,
    is_interrupted,
    take_cards,
    unasked,
    uncleared,
    unconfirmed,
    undo,
)
from fraud_platform.adapters.model_history import Entry
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.orders_file import why_frozen
from fraud_platform.adapters.policy_watch import tell_policies
from fraud_platform.approvals import Case
from fraud_platform.errors import (
    FraudPlatformError,
    NotReadyError,
    PermanentError,
    UnavailableError,
)
from fraud_platform.settings import Settings


@dg.sensor(
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Promotes what has its approvals, and undoes what was promoted without any.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def approvals(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    registry: dg.ResourceParam[ModelRegistry],
    alerts: dg.ResourceParam[Alerts],
) -> dg.SensorResult:
    """Do what follows from votes; what cannot be done now is asked again at the next tick.

    None of it stands in the way of the rest. The cursor has what people were paged for already.
    """
    told, failed = list[str](), list[str]()

    def attempt(what: str, act: Callable[[], str]) -> None:
        try:
            told.append(act())
        except FraudPlatformError as error:
            told.append(f"{what}: {error.message}")
            failed.extend(told[-1:] if not isinstance(error, UnavailableError) else ())

    attempt("an interrupted move cannot be finished", partial(_finished, registry))
    if (made := unconfirmed(registry)) is not None:
        what = f"version {made.version}, promoted without approval, cannot be undone"
        attempt(what, partial(_undone, made, registry, alerts))
    is_required = registry.docket.adopt().is_required
    attempt("a canary cannot be ended", partial(_ended, registry, alerts))
    for case in approved(registry) if is_required else ():
        what = f"version {case.proposal.version} is approved, but cannot be promoted"
        attempt(what, partial(_promoted, case, registry, settings))
    attempt("the champion has fallbacks that nobody approved", partial(_fallbacks, registry))
    attempt("changed policies cannot be told", partial(_policies, settings, registry))
    for text in failed:
        if text not in (context.cursor or "").splitlines():
            alerts.write(kind="approval_stuck", text=text, facts={}, at=time.time())
    text = "; ".join(filter(None, told))
    return dg.SensorResult(
        # Dagster takes an empty cursor for none, and goes on with the last one.
        cursor="\n".join(failed) or "\n",
        skip_reason=text or "nothing is approved that does not decide yet",
    )


def _finished(registry: ModelRegistry) -> str:
    if not is_interrupted(registry):
        return ""
    finish(registry)
    return "an interrupted move is finished"


def _undone(made: Entry, registry: ModelRegistry, alerts: Alerts) -> str:
    champion = undo(registry, made)
    text = f"version {made.version}, promoted without approval, was not confirmed: {champion} back"
    facts: dict[str, object] = {"version": made.version, "champion": champion}
    alerts.write(kind="break_glass_undone", text=text, facts=facts, at=time.time())
    return text


def _ended(registry: ModelRegistry, alerts: Alerts) -> str:
    if (version := uncleared(registry)) is None:
        return ""
    take_cards(registry)
    text = f"the canary of version {version} is over: its proposal is, or it had none"
    alerts.write(kind="canary_uncleared", text=text, facts={"version": version}, at=time.time())
    return text


def _promoted(case: Case, registry: ModelRegistry, settings: Settings) -> str:
    version = case.proposal.version
    if frozen := why_frozen(settings.orders_path):
        return f"version {version} is approved, but {frozen}"
    try:
        has_moved = carry_out(registry, case, settings.rollout)
    except NotReadyError as error:
        return f"version {version} is approved, but {error.message}"
    return f"version {version} {'is promoted' if has_moved else 'has its canary'}"


def _fallbacks(registry: ModelRegistry) -> str:
    if unasked_for := unasked(registry):
        raise PermanentError(
            f"without {', '.join(unasked_for)} nothing stands in for it from the next move on;"
            " `fraud-platform propose` it."
        )
    return ""


def _policies(settings: Settings, registry: ModelRegistry) -> str:
    tell_policies(settings, registry.docket.governance, origin="dagster sensor approvals")
    return ""
