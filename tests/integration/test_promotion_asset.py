"""What the asset `champion` makes of a verdict; the registry only listens."""

from types import SimpleNamespace

import pytest

from assets.promotion import Following, follow
from fraud_platform.approval_rules import Rules
from fraud_platform.promotion_gates import PromotionAnswer
from fraud_platform.rollout import RolloutPolicy
from fraud_platform.settings import Settings


class Listener:
    """Notes what the registry would do."""

    def __init__(self, approval: bool = False) -> None:
        self.docket = SimpleNamespace(rules=lambda: Rules(is_required=approval))
        self.heard: list[tuple[str, str | None, str, str | None]] = []

    def promote(self, version, mandate, replacing):
        self.heard.append(("promote", replacing, mandate.why, mandate.evidence))

    def propose(self, version, mandate, replacing, is_wider):
        self.heard.append(("propose", replacing, mandate.why, mandate.evidence))
        return "digest of the proposal"

    def alias(self, name):
        return {"champion": "6"}[name]

    def set_challenger(self, version, mandate):
        self.heard.append(("challenge", version, mandate.why, mandate.evidence))

    def set_canary(self, share, mandate):
        self.heard.append(("canary", share, mandate.why, mandate.evidence))

    def dismiss(self, version, mandate):
        self.heard.append(("dismiss", None, mandate.why, mandate.evidence))

    def publish(self, mandate):
        self.heard.append(("publish", None, mandate.why, mandate.evidence))


def judged(answer: PromotionAnswer, replacing: str | None = "6") -> Following:
    verdict = SimpleNamespace(answer=answer, reasons=("Cheaper.",), is_wider=False)
    return Following(
        version="7", replacing=replacing, verdict=verdict, evidence="e" * 64, by="run 1"
    )


@pytest.mark.parametrize(
    ("answer", "approval", "act", "proposal"),
    [
        (PromotionAnswer.PROMOTE, False, "promote", None),
        (PromotionAnswer.PROMOTE, True, "propose", "digest of the proposal"),
        (PromotionAnswer.SHADOW_ONLY, True, "publish", None),
        (PromotionAnswer.REJECT, False, "dismiss", None),
    ],
)
def test_only_a_promotion_moves_and_only_by_a_person_where_approval_is_required(
    tmp_path, answer, approval, act, proposal
):
    registry, settings = Listener(approval), Settings(home=tmp_path)
    assert follow(judged(answer), registry, settings) == proposal
    against = "6" if act in ("promote", "propose") else None
    # A verdict is no reason for what it did not ask for.
    told = ("", None) if act == "publish" else ("Cheaper.", "e" * 64)
    assert registry.heard == [(act, against, *told)]


def test_where_a_rollout_is_wanted_a_promotion_begins_with_its_first_cards(tmp_path):
    settings = Settings(home=tmp_path, rollout=RolloutPolicy(is_on=True))
    registry = Listener()
    follow(judged(PromotionAnswer.PROMOTE), registry, settings)
    told = ("Cheaper.", "e" * 64)
    assert registry.heard == [("challenge", "7", *told), ("canary", 0.01, *told)]


def test_a_first_champion_has_nothing_to_be_compared_with(tmp_path):
    settings = Settings(home=tmp_path, rollout=RolloutPolicy(is_on=True))
    registry = Listener()
    follow(judged(PromotionAnswer.PROMOTE, replacing=None), registry, settings)
    assert [act for act, *_ in registry.heard] == ["promote"]
