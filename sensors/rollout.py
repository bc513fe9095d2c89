"""What a scorer tells of a canary -> its next share, its end, or its promotion."""

import time

import dagster as dg
import msgspec

from assets.timing import SENSOR_SECONDS
from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.live_file import Live, live_path, read_live
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.orders_file import read_orders
from fraud_platform.errors import FraudPlatformError, PermanentError
from fraud_platform.heal.evidence import TIERS, Signal, Standing, Tier
from fraud_platform.rollout import Move, Ramp, Sight, Step, next_move
from fraud_platform.settings import Settings

_BY = "canary_ramp"


class _Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The cursor: the ramp, and the last step, which people are told of once."""

    ramp: Ramp = Ramp()
    step: Step | None = None


@dg.sensor(
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Gives a canary its next share, ends it at harm, and promotes it at last.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def canary_ramp(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    registry: dg.ResourceParam[ModelRegistry],
    alerts: dg.ResourceParam[Alerts],
) -> dg.SensorResult | dg.SkipReason:
    """Do what `rollout.next_move` says about the canary that runs now."""
    if not settings.rollout.is_on:
        return dg.SkipReason("the rollout is off: shares are set by hand")
    deployment = read_deployment(settings.models_dir)
    if deployment.challenger is None or not deployment.canary_share:
        # Dagster takes an empty cursor for none, and goes on with the last one.
        begin = msgspec.json.encode(_Memory()).decode()
        return dg.SensorResult(cursor=begin, skip_reason="no canary decides on any cards")
    memory = msgspec.json.decode(context.cursor, type=_Memory) if context.cursor else _Memory()
    sight = _sight(settings, deployment)
    move = next_move(memory.ramp, sight, settings.rollout)
    try:
        told = _carry_out(move, deployment, registry)
    except PermanentError as error:  # not cleared any more: the sensor `approvals` takes its cards
        return dg.SensorResult(
            cursor=context.cursor, skip_reason=f"{move.step} is refused: {error.message}"
        )
    if move.step is not memory.step and move.step in (Step.STOP, Step.FINISH):
        facts = {"version": deployment.challenger.version, "share": sight.share}
        alerts.write(kind=f"canary_{move.step}", text=told, facts=facts, at=sight.now_us / 1e6)
    return dg.SensorResult(
        cursor=msgspec.json.encode(_Memory(ramp=move.ramp, step=move.step)).decode(),
        skip_reason=f"{move.step} at {move.share:.0%}: {told}",
    )


def _sight(settings: Settings, deployment: Deployment) -> Sight:
    """What the scorer tells about the canary that is deployed; of another one it tells nothing."""
    now_us = time.time_ns() // 1_000
    live = _live(settings)
    found = live.comparison if live and _follows(live, deployment) else None
    return Sight(
        now_us=now_us,
        share=deployment.canary_share,
        comparison=found,
        written_us=live.written_us if live else 0,
        obstacle=_obstacle(settings, live),
    )


def _live(settings: Settings) -> Live | None:
    try:
        return read_live(live_path(settings.home))
    except FraudPlatformError:  # told as a scorer that says nothing: the ramp pauses
        return None


def _follows(live: Live, deployment: Deployment) -> bool:
    """Whether the scorer compares the models that are deployed."""
    champion, challenger = deployment.champion, deployment.challenger
    told = (live.model_version, live.comparison.candidate if live.comparison else None)
    return told == (champion and champion.version, challenger and challenger.version)


def _obstacle(settings: Settings, live: Live | None) -> str:
    """Why no canary gets more cards now, or ""."""
    if read_orders(settings.orders_path).learning_frozen:
        return "learning is frozen"
    breached = [
        str(reading.signal)
        for reading in (live.readings if live else ())
        if reading.standing is Standing.BREACHED
        and TIERS[reading.signal] is Tier.HARM
        and reading.signal is not Signal.CANARY
    ]
    return f"{', '.join(breached)} shows harm" if breached else ""


def _carry_out(move: Move, deployment: Deployment, registry: ModelRegistry) -> str:
    """Do it, and say so; a move that was done before does nothing.

    Where approval is required, a canary has it before its first cards, and needs no other.
    """
    version = deployment.challenger.version if deployment.challenger else ""
    mandate = Mandate(by=_BY, why=move.why)
    if move.step is Step.STOP:
        registry.dismiss(version, mandate)
    elif move.step is Step.ADVANCE:
        registry.set_canary(move.share, mandate)
    elif move.step is Step.FINISH:
        replacing = deployment.champion.version if deployment.champion else None
        registry.promote(version, mandate, replacing=replacing)
    return move.why
