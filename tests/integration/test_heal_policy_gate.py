"""Healing acts alone only by a policy that people approved, where changes need approval."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraud_platform.adapters.heal_policy_file import policy_in_force, policy_text
from fraud_platform.adapters.heal_policy_gate import gated_policy
from fraud_platform.adapters.heal_tick import Healer
from fraud_platform.cli import main
from fraud_platform.heal.actions import Action, Level
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.settings import get_settings
from tests.governed_home import FileRoles, settings_of, with_champion

SHIPPED = policy_text(Path("nowhere"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home that asks for approval, whose operator wrote a bolder heal policy."""
    with_champion(tmp_path)
    settings = settings_of(tmp_path)
    FileRoles(settings).docket.adopt()
    write(settings, 1)
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    monkeypatch.setenv("FRAUD_PROMOTION__APPROVAL_REQUIRED", "true")
    monkeypatch.delenv("FRAUD_OPERATOR_KEY", raising=False)
    get_settings.cache_clear()
    yield settings
    get_settings.cache_clear()


def write(settings, minutes):
    settings.heal_dir.mkdir(exist_ok=True, parents=True)
    bold = re.sub(r"cooldown_minutes: \d+", f"cooldown_minutes: {minutes}", SHIPPED)
    (settings.heal_dir / "policy.yaml").write_text(bold, "utf-8")


def run(*words, code=0):
    found = CliRunner().invoke(main, words)
    assert found.exit_code == code, found.output
    return found.output


def level(settings, action=Action.QUARANTINE):
    return gated_policy(settings).policy.level_of(action, Level.ACT)


def test_an_unapproved_policy_asks_a_person_and_an_approved_one_acts(home):
    assert (level(home), level(home, Action.PAGE)) == (Level.PROPOSE, Level.ACT)
    assert "nobody approved the heal policy" in run("heal", "status")
    told = run("propose", "heal-policy", "--by", "anna", "--reason", "faster")
    run("approve", told.strip(), "--by", "anna", "--reason", "mine", code=1)
    assert level(home) is Level.PROPOSE
    run("approve", told.strip(), "--by", "bert", "--reason", "seen")
    assert level(home) is Level.ACT
    assert "nobody approved" not in run("heal", "status")
    write(home, 2)
    assert level(home) is Level.PROPOSE, "an approval is for one content"


def test_a_tick_decides_by_the_policy_as_far_as_it_is_approved(home, monkeypatch):
    seen = []

    def decide(state, evidence, policy):
        seen.append(policy.maturity)
        raise StopIteration

    monkeypatch.setattr("fraud_platform.adapters.heal_tick.decide", decide)
    monkeypatch.setattr(Healer, "_evidence", lambda *_: object())
    with pytest.raises(StopIteration):
        Healer(home, None, None).tick(1, by="test", is_dry_run=True)
    assert seen == [Level.PROPOSE]


def test_the_shipped_policy_and_a_home_that_asks_for_no_approval_act(home, tmp_path):
    before = settings_of(tmp_path / "other", PromotionPolicy())
    write(before, 1)
    assert level(before) is Level.ACT
    (home.heal_dir / "policy.yaml").unlink()
    assert level(home) is Level.ACT
    assert gated_policy(home).policy.digest == policy_in_force(home.heal_dir).digest


def test_a_docket_that_is_damaged_lets_no_policy_act_alone(home):
    digest = run("propose", "heal-policy", "--by", "anna", "--reason", "faster").strip()
    run("approve", digest, "--by", "bert", "--reason", "seen")
    path = home.models_dir / "proposals.jsonl"
    path.write_bytes(path.read_bytes() + b"no line\n")
    assert level(home) is Level.PROPOSE
