"""The sensor of the canary's ramp, on a real registry, by what a scorer would have told."""

import time

import pytest

from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.live_file import Live, live_path, write_live
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.orders import Orders
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.rollout import ArmCount, Comparison, RolloutPolicy
from sensors.rollout import canary_ramp
from tests.integration.test_model_registry import register

pytestmark = pytest.mark.xdist_group("graph")

ROLLOUT = RolloutPolicy(is_on=True, min_minutes=0.0)


@pytest.fixture
def ramping(platform):
    """A champion, a challenger on its first cards, and the rollout on, without waiting."""
    platform = platform.with_settings(rollout=ROLLOUT)
    registry = platform.registry
    champion, challenger = (register(registry, seed=seed) for seed in (1, 2))
    registry.promote(champion)
    registry.set_challenger(challenger)
    registry.set_canary(0.01)
    return platform


def tell(platform, canary, control, *, key="k", readings=(), version=None, age=0.0):
    """What the scorer of this installation told, so many seconds ago."""
    deployment = read_deployment(platform.settings.models_dir)
    told = Comparison(
        key=key,
        candidate=deployment.challenger.version,
        traffic=0.5,
        canary=ArmCount(*canary),
        control=ArmCount(*control),
    )
    live = Live(
        written_us=time.time_ns() // 1_000 - round(age * 1e6),
        model_version=version or deployment.champion.version,
        comparison=told,
        readings=readings,
    )
    write_live(live_path(platform.settings.home), live)


def share(platform):
    return read_deployment(platform.settings.models_dir).canary_share


def champion(platform):
    return read_deployment(platform.settings.models_dir).champion.version


def test_a_sound_canary_goes_up_step_by_step_and_is_promoted(ramping):
    shares, cursor, payments = [], None, 0
    for _ in range(4):
        payments += 400
        tell(ramping, (payments, payments // 20), (payments, payments // 20))
        tick = ramping.tick(canary_ramp, cursor)
        cursor, _ = tick.cursor, shares.append(share(ramping))
    assert shares == [0.05, 0.25, 0.5, 0.0]
    assert champion(ramping) == "2"
    last = ramping.registry.history()[-1]
    assert (last.act, last.by) == ("promote", "canary_ramp")
    assert "harmless" in last.why
    assert "no canary" in ramping.tick(canary_ramp, cursor).skip_message


def test_a_harmful_canary_is_dismissed_and_people_are_told_once(ramping):
    tell(ramping, (300, 90), (300, 10))
    tick = ramping.tick(canary_ramp)
    assert "does harm" in tick.skip_message
    assert read_deployment(ramping.settings.models_dir).challenger is None
    assert champion(ramping) == "1"
    assert [alert["kind"] for alert in ramping.alerts.read()] == ["canary_stop"]


def test_a_canary_that_nobody_sees_or_that_must_wait_keeps_its_share(ramping):
    def paused(**told):
        tell(ramping, (900, 45), (900, 45), **told)
        message = ramping.tick(canary_ramp).skip_message
        assert share(ramping) == 0.01
        return message

    assert "tells nothing" in paused(age=120.0)
    assert "tells nothing" in paused(version="another")
    breached = Reading(signal=Signal.ERRORS, standing=Standing.BREACHED)
    assert "errors shows harm" in paused(readings=(breached,))
    write_orders(ramping.settings.orders_path, Orders(sequence=1, learning_frozen=True))
    assert "frozen" in paused()


def test_where_a_person_must_approve_the_last_step_waits_for_one(ramping):
    asked = ramping.with_settings(promotion=PromotionPolicy(approval_required=True))
    asked.registry.propose("2", Mandate(by="the gates"))
    asked.registry.set_canary(0.5, Mandate(by="ann"), needs_proposal=True)
    tell(asked, (2_000, 100), (2_000, 100))
    tick = asked.tick(canary_ramp)
    asked.tick(canary_ramp, tick.cursor)
    assert (champion(asked), share(asked)) == ("1", 0.5)
    assert [alert["kind"] for alert in asked.alerts.read()] == ["canary_finish"]
    asked.registry.approve("2", Mandate(by="ann"))
    assert champion(asked) == "2"


def test_while_the_rollout_is_off_a_share_set_by_hand_stays(ramping):
    by_hand = ramping.with_settings(rollout=RolloutPolicy())
    tell(by_hand, (900, 300), (900, 10))
    assert "off" in by_hand.tick(canary_ramp).skip_message
    assert share(by_hand) == 0.01
