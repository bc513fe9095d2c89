"""What stands in for a champion is approved with it; what decided before approval was, goes on."""

import time
from dataclasses import replace

import pytest

from fraud_platform.adapters.approved_moves import approved, carry_out, propose_fallbacks
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_bundle import manifest_digest
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.approval_rules import Tier
from fraud_platform.approvals import Standing
from fraud_platform.errors import PermanentError
from fraud_platform.settings import Settings
from tests.governed_home import FileRoles, serving, settings_of, with_champion
from tests.small_bundles import trained, write_small_bundle

ANNA, BERT = Mandate(by="anna", why="better"), Mandate(by="bert", why="seen")


@pytest.fixture
def home(tmp_path):
    with_champion(tmp_path)
    return settings_of(tmp_path)


def fallback(home, champion, name="money", seed=7):
    write_small_bundle(
        home.models_dir, f"{champion}-without-{name}", trained(seed), without=(name,)
    )


def fallbacks(home):
    return dict(read_deployment(home.models_dir).fallbacks)


def agreed(home, version):
    """Proposed by anna, approved by bert, and done as the sensor does it."""
    roles = FileRoles(home)
    digest = roles.propose(version, ANNA)
    roles.docket.vote(digest, "approve", BERT)
    for case in approved(roles):
        carry_out(roles, case, home.rollout)
    return roles.docket.cases()[digest]


def test_a_fallback_that_no_proposal_named_stands_in_for_nothing(home):
    agreed(home, "2")
    fallback(home, "2")
    FileRoles(home).publish(BERT)
    assert fallbacks(home) == {}


def test_a_fallback_is_approved_with_its_champion_and_as_it_was_then(home):
    fallback(home, "2")
    case = agreed(home, "2")
    digest = manifest_digest(home.models_dir / "2-without-money")
    assert case.proposal.fallbacks == {"money": digest}
    assert fallbacks(home)["money"].manifest_digest == digest
    fallback(home, "2", "context", seed=8)
    FileRoles(home).publish(BERT)
    assert list(fallbacks(home)) == ["money"]


def test_a_fallback_that_was_trained_later_gets_an_approval_of_its_own(home):
    agreed(home, "2")
    assert FileRoles(home).propose("2", ANNA) is None
    fallback(home, "2")
    with pytest.raises(PermanentError, match="anna proposed or made it"):
        FileRoles(home).docket.vote(FileRoles(home).propose("2", ANNA), "approve", ANNA)
    case = agreed(home, "2")
    assert (serving(home), list(fallbacks(home))) == ({"champion": "2"}, ["money"])
    assert case.standing(time.time_ns() // 1000) is Standing.DONE
    assert FileRoles(home).propose("2", ANNA) is None
    assert [c.proposal.version for c in approved(FileRoles(home))] == []


def test_what_is_asked_anew_with_fallbacks_takes_the_place_of_what_was_asked_without(home):
    roles = FileRoles(home)
    first = roles.propose("2", ANNA)
    fallback(home, "2")
    second = roles.propose("2", ANNA)
    assert [c.proposal.digest for c in roles.docket.standing(Standing.WAITING, "model")] == [second]
    with pytest.raises(PermanentError, match="overtaken"):
        roles.docket.vote(first, "approve", BERT)


def test_a_training_asks_anew_for_what_it_asked_for_and_for_nobody_elses(home):
    run, other = (Mandate(by=f"dagster run {name}", trainer="tess") for name in "ab")
    roles = FileRoles(home)
    assert propose_fallbacks(roles, "2", run) is None
    first = roles.propose("2", replace(run, evidence="e" * 64), is_wider=False)
    assert propose_fallbacks(roles, "2", run) == first
    fallback(home, "2")
    assert propose_fallbacks(roles, "2", other) is None
    second = propose_fallbacks(roles, "2", replace(run, trainer=""))
    asked = roles.docket.cases()[second].proposal
    assert (asked.evidence, asked.trainer, asked.tier) == ("e" * 64, "tess", Tier.REFRESH)
    assert list(asked.fallbacks) == ["money"]


def test_a_champion_without_approval_brings_the_fallbacks_that_its_proposal_names(home):
    fallback(home, "2")
    roles = FileRoles(home)
    roles.break_glass("2", ANNA)
    assert list(fallbacks(home)) == ["money"]
    fallback(home, "2", "context", seed=8)
    roles.publish(BERT)
    assert list(fallbacks(home)) == ["money"]


def by_hand(home, alias, version):
    FileRoles(home)._client.set_registered_model_alias("fraud", alias, version)


def test_what_decides_when_approval_is_first_asked_for_goes_on_with_its_fallbacks(tmp_path):
    with_champion(tmp_path)
    before = Settings(home=tmp_path)
    by_hand(before, "champion", "3")
    fallback(before, "3")
    FileRoles(before).publish(BERT)
    home = settings_of(tmp_path)
    roles = FileRoles(home)
    roles.set_challenger("2", BERT)
    assert (serving(home), list(fallbacks(home))) == ({"champion": "3"}, ["money"])
    agreed(home, "2")
    assert roles.roll_back(mandate=BERT) == "3"


def test_a_champion_set_by_hand_that_never_decided_is_put_back(tmp_path):
    with_champion(tmp_path)
    by_hand(Settings(home=tmp_path), "champion", "3")
    home = settings_of(tmp_path)
    FileRoles(home).publish(BERT)
    assert serving(home) == {"champion": "1"}


def test_a_previous_champion_set_by_hand_is_put_back_so_that_a_roll_back_leads_home(home):
    agreed(home, "2")
    by_hand(home, "previous_champion", "3")
    roles = FileRoles(home)
    roles.publish(BERT)
    assert [entry.act for entry in roles.history()][-2:] == ["found", "restore"]
    assert read_deployment(home.models_dir).previous.version == "1"
    assert roles.roll_back(mandate=BERT) == "1"
