import msgspec
import pytest
import yaml

from fraud_platform.adapters.heal_policy_file import read_heal_policy
from fraud_platform.errors import DataContractError, PermanentError
from fraud_platform.heal.actions import VERBS, Action, Level
from fraud_platform.heal.causes import CAUSES, EXACT, HEALTHY, NAMES
from fraud_platform.heal.evidence import TIERS, Tier
from fraud_platform.heal.policy import HealPolicy, policy_from

POLICY = read_heal_policy()
LEARNING = {action for action in Action if VERBS[action].learns}


def document() -> dict:
    return msgspec.to_builtins(POLICY)


def read(found: dict) -> HealPolicy:
    return policy_from(yaml.safe_dump(found))


def test_the_shipped_policy_says_the_same_however_it_is_written():
    assert read(document()) == POLICY
    assert read(document()).digest == POLICY.digest


def test_another_rule_has_another_digest():
    assert read(document() | {"clear": 5}).digest != POLICY.digest


@pytest.mark.parametrize("cause", sorted(EXACT))
def test_no_model_is_made_while_a_law_is_broken(cause: str):
    assert set(POLICY.causes[cause].forbids) >= LEARNING


@pytest.mark.parametrize("cause", sorted(set(NAMES) - EXACT - {HEALTHY}))
def test_a_cause_that_attribution_alone_can_tell_starts_first_aid_or_asks(cause: str):
    rows = [row for row in CAUSES if row.name == cause]
    tiers = {TIERS[signal] for row in rows for signal in row.when.signals}
    if tiers <= {Tier.ATTRIBUTION}:
        assert all(rung.level <= Level.PROPOSE for rung in POLICY.causes[cause].ladder)


@pytest.mark.parametrize("cause", sorted(set(NAMES) - {HEALTHY}))
def test_every_remedy_is_verified(cause: str):
    for rung in POLICY.causes[cause].ladder:
        verify = POLICY.verification(cause, rung.do)
        assert verify.fine or verify.not_breached


def put(cause: str, **changed: object) -> dict:
    found = document()
    found["causes"][cause] = found["causes"][cause] | changed
    return found


def rung(**told: object) -> dict:
    return {"do": "shed", "level": 4} | told


WRONG = {
    "an unknown field": (lambda: document() | {"speed": 9}, "speed"),
    "another format": (lambda: document() | {"policy": "fraud-heal/v0"}, "v0"),
    "no YAML": (lambda: "a: [", "expected"),
    "a level that is none": (lambda: document() | {"maturity": 5}, "maturity"),
    "a cause that is none": (
        lambda: document() | {"causes": document()["causes"] | {"drift": {}}},
        r"causes \['drift'\]",
    ),
    "a cause left out": (
        lambda: document() | {"causes": {"bots": {}}},
        "no treatment of",
    ),
    "an action that is none": (lambda: put("latency", ladder=[rung(do="pray")]), "pray"),
    "a signal that is none": (lambda: put("latency", verify={"fine": ["luck"]}), "luck"),
    "a remedy that nobody verifies": (
        lambda: put("latency", verify=None),
        "no verification of shed",
    ),
    "a verification of nothing": (lambda: put("latency", verify={}), "of no signal"),
    "an action done and forbidden": (
        lambda: put("concept_drift", forbids=["retrain"]),
        "both done and forbidden",
    ),
    "an action twice": (lambda: put("latency", ladder=[rung(), rung()]), "more than once"),
    "first aid that is not safe": (
        lambda: put("latency", first_aid=[{"do": "quarantine"}]),
        "as first aid",
    ),
    "slow first aid": (lambda: put("latency", first_aid=[{"do": "refold"}]), "as first aid"),
    "a remedy that takes back": (lambda: put("latency", ladder=[rung(do="unshed")]), "as a remedy"),
    "a page as a remedy": (lambda: put("latency", ladder=[rung(do="page")]), "as a remedy"),
    "a need that asks nothing": (
        lambda: put("latency", ladder=[rung(needs=[{"signal": "change"}])]),
        "asks nothing",
    ),
    "an amount out of bounds": (
        lambda: put("attack", first_aid=[{"do": "step_up_review", "amounts": {"times": 50}}]),
        "times from 1.0 to 5.0",
    ),
    "no amount": (
        lambda: put("attack", first_aid=[{"do": "step_up_review"}]),
        "times from 1.0 to 5.0",
    ),
    "an amount of what has none": (
        lambda: put("latency", ladder=[rung(amounts={"times": 2})]),
        "expected none",
    ),
    "more sights than checks": (lambda: put("latency", **{"raise": {"sights": 4}}), "4 of 3"),
    "no clean check": (lambda: put("latency", clear=0), "clear=0"),
    "a negative budget": (lambda: document() | {"budgets": {"remedies": -1}}, "remedies=-1"),
    "bounds upside down": (lambda: document() | {"bounds": {"disturbed": [0.2, 0.1]}}, "low"),
    "a storm that is no share": (lambda: document() | {"storm_share": 1.5}, "storm_share"),
    "a storm that is no number": (
        lambda: document() | {"storm_share": float("nan")},
        "storm_share",
    ),
    "a cooldown before the act": (lambda: document() | {"cooldown_minutes": -1}, "cooldown"),
    "a demotion that never comes": (lambda: document() | {"demotion": {"rate": 1.0}}, "rate"),
    "a check of nothing": (lambda: document() | {"check": {"rows": 0}}, "rows=0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_policy_is_refused_for(name: str):
    made, told = WRONG[name]
    found = made()
    with pytest.raises(DataContractError, match=told) as caught:
        policy_from(found if isinstance(found, str) else yaml.safe_dump(found))
    assert caught.value.hint


def test_all_that_is_wrong_is_said_at_once():
    found = put("latency", ladder=[rung(do="unshed")], clear=3) | {"storm_share": 2.0}
    with pytest.raises(DataContractError, match=r"storm_share.*unshed"):
        read(found)


def test_a_file_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(PermanentError, match="no readable heal policy"):
        read_heal_policy(tmp_path / "none.yaml")


def test_a_file_of_ones_own_counts(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(document() | {"maturity": 2}), "utf-8")
    assert read_heal_policy(path).maturity is Level.ALERT
