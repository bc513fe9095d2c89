"""The sensor of the canary's ramp, on a real registry, by what a scorer would have told."""

import time

import msgspec
import pytest

from fraud_platform.adapters.deployment import read_deployment, write_deployment
from fraud_platform.adapters.live_file import Live, live_path, write_live
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.errors import NoChampionError
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.orders import Orders
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.rollout import ArmCount, Comparison, RolloutPolicy
from sensors import approvals as sensor
from sensors.approvals import approvals
from sensors.rollout import canary_ramp
from tests.integration.test_model_registry import register
from tests.small_bundles import trained, write_small_bundle

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
    over = ramping.tick(canary_ramp, tick.cursor)
    ramping.registry.set_challenger("2")
    ramping.registry.set_canary(0.01)
    ramping.tick(canary_ramp, over.cursor)
    assert len(ramping.alerts.read()) == 2, "the next canary is another"


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


def test_where_approval_is_required_a_canary_that_has_it_needs_no_other(ramping):
    ramping.registry.set_canary(0.0)
    asked = ramping.with_settings(promotion=PromotionPolicy(approval_required=True))
    asked.registry.propose("2", Mandate(by="the gates"))
    asked.tick(approvals)
    assert share(asked) == 0.0, "nobody approved it yet"
    asked.registry.docket.vote("2", "approve", Mandate(by="ann"))
    asked.tick(approvals)
    assert (champion(asked), share(asked)) == ("1", 0.01), "its first cards, not all"
    asked.tick(approvals)
    asked.registry.set_canary(0.5, Mandate(by="ann"))
    tell(asked, (2_000, 100), (2_000, 100))
    tick = asked.tick(canary_ramp)
    asked.tick(canary_ramp, tick.cursor)
    assert champion(asked) == "2"
    assert [alert["kind"] for alert in asked.alerts.read()] == ["canary_finish"]


@pytest.fixture
def approved(ramping):
    """Approval is required; Ann approved version 2, which has its first cards."""
    ramping.registry.set_canary(0.0)
    asked = ramping.with_settings(promotion=PromotionPolicy(approval_required=True))
    asked.registry.propose("2", Mandate(by="the gates"))
    asked.registry.docket.vote("2", "approve", Mandate(by="ann"))
    asked.tick(approvals)
    assert share(asked) == 0.01
    return asked


def test_a_canary_that_was_stopped_for_harm_does_not_start_again(approved):
    tell(approved, (300, 90), (300, 10))
    assert "does harm" in approved.tick(canary_ramp).skip_message
    assert "nothing is approved" in approved.tick(approvals).skip_message
    assert read_deployment(approved.settings.models_dir).challenger is None


def test_a_canary_that_is_turned_down_is_refused_more_cards_and_loses_those_it_has(approved):
    approved.registry.docket.vote("2", "reject", Mandate(by="zoe"))
    tell(approved, (2_000, 100), (2_000, 100))
    assert "advance is refused" in approved.tick(canary_ramp).skip_message
    assert "the canary of version 2 is over" in approved.tick(approvals).skip_message
    assert share(approved) == 0.0
    assert [alert["kind"] for alert in approved.alerts.read()] == ["canary_uncleared"]


def test_a_move_that_died_before_the_scorers_saw_it_is_finished(approved):
    models_dir = approved.settings.models_dir
    now = read_deployment(models_dir)
    before = msgspec.structs.replace(now, sequence=now.sequence - 1, canary_share=0.0)
    write_deployment(models_dir, before)
    assert "interrupted move is finished" in approved.tick(approvals).skip_message
    assert share(approved) == 0.01


def test_nothing_is_promoted_while_learning_is_frozen(ramping):
    ramping.registry.set_canary(0.0)
    asked = ramping.with_settings(promotion=PromotionPolicy(approval_required=True))
    asked.registry.propose("2", Mandate(by="the gates"))
    asked.registry.docket.vote("2", "approve", Mandate(by="ann"))
    write_orders(asked.settings.orders_path, Orders(sequence=1, learning_frozen=True))
    assert "learning is frozen" in asked.tick(approvals).skip_message
    assert share(asked) == 0.0
    write_orders(asked.settings.orders_path, Orders(sequence=2))
    asked.tick(approvals)
    assert share(asked) == 0.01


def test_what_cannot_be_undone_stops_no_approval_and_pages_once(ramping, monkeypatch):
    asked = ramping.with_settings(
        promotion=PromotionPolicy(approval_required=True), rollout=RolloutPolicy()
    )

    def fail(*arguments, **told):
        raise NoChampionError("no earlier champion is recorded")

    glass = asked.registry.break_glass("2", Mandate(by="zoe", why="a fire"))
    asked.registry.docket.vote(glass, "reject", Mandate(by="ann"))
    asked.registry.propose("1", Mandate(by="the gates"))
    asked.registry.docket.vote("1", "approve", Mandate(by="ann"))
    monkeypatch.setattr(sensor, "undo", fail)
    monkeypatch.setattr(sensor, "tell_policies", fail)
    tick = asked.tick(approvals)
    assert "cannot be undone" in tick.skip_message
    assert "version 1 is promoted" in tick.skip_message
    assert "cannot be told" in asked.tick(approvals, tick.cursor).skip_message
    assert [alert["kind"] for alert in asked.alerts.read()] == ["approval_stuck"] * 2


def test_fallbacks_that_nobody_is_asked_to_approve_are_told_of_once(ramping):
    write_small_bundle(
        ramping.settings.models_dir, "1-without-money", trained(7), without=("money",)
    )
    asked = ramping.with_settings(promotion=PromotionPolicy(approval_required=True))
    cursor = asked.tick(approvals).cursor
    assert "without money nothing stands in for it" in asked.tick(approvals, cursor).skip_message
    assert [alert["kind"] for alert in asked.alerts.read()] == ["approval_stuck"]
    digest = asked.registry.propose("1", Mandate(by="ann"))
    over = asked.tick(approvals, cursor).cursor
    assert not over.strip()
    asked.registry.docket.vote(digest, "reject", Mandate(by="bert"))
    asked.tick(approvals, over)
    assert len(asked.alerts.read()) == 2, "what comes back is told again"


def test_while_the_rollout_is_off_a_share_set_by_hand_stays(ramping):
    by_hand = ramping.with_settings(rollout=RolloutPolicy())
    tell(by_hand, (900, 300), (900, 10))
    assert "off" in by_hand.tick(canary_ramp).skip_message
    assert share(by_hand) == 0.01
