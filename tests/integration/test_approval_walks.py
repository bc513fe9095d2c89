"""T-FSM: whatever people, sensors, healing and clocks do, what nobody approved decides nothing."""

import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fraud_platform.adapters import model_proposals, model_roles
from fraud_platform.adapters.approved_moves import (
    approved,
    carry_out,
    take_cards,
    uncleared,
    unconfirmed,
    undo,
)
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_bundle import manifest_digest
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.approvals import HOUR_US, Standing
from fraud_platform.errors import NotReadyError, PermanentError
from tests.governed_home import FileRoles, settings_of, with_champion

PEOPLE = st.sampled_from(["anna", "A.Smith", "bert", "carl", "healing", "dagster run 1"])
VERSIONS = st.sampled_from(["1", "2", "3", "4"])
RULES = {"aliases": ("a.smith=anna",), "widening_approvals": 2}
COUNTED = {"walks": 0, "steps": 0, "refused": 0, "done": 0}
_TEMPLATE = Path(tempfile.mkdtemp()) / "home"


@pytest.fixture(scope="module", autouse=True)
def template():
    """One home with its bundles, copied for each walk."""
    with_champion(_TEMPLATE, versions=4)
    yield
    shutil.rmtree(_TEMPLATE.parent)


class Walk(RuleBasedStateMachine):
    """One home in the hands of everybody; the model is who approved which digest."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp()) / "home"
        self.hours = 0.0
        real = model_proposals._now_us
        clock = lambda: real() + round(self.hours * HOUR_US)  # noqa: E731
        # A bundle's verification is not what is tried here, and costs most of a step.
        self.patches = [
            mock.patch.object(model_proposals, "_now_us", clock),
            mock.patch.object(model_roles, "load_bundle", manifest_digest),
        ]
        for patch in self.patches:
            patch.start()

    @initialize()
    def begin(self):
        shutil.copytree(_TEMPLATE, self.folder)
        self.settings = settings_of(self.folder, **RULES)
        self.roles = FileRoles(self.settings)
        self.digests = {v: manifest_digest(self.settings.models_dir / v) for v in "1234"}
        self.approved = {self.digests["1"]}
        self.voices = {}
        COUNTED["walks"] += 1

    def attempt(self, act):
        COUNTED["steps"] += 1
        try:
            found = act()
        except (PermanentError, NotReadyError):
            COUNTED["refused"] += 1
            return None
        COUNTED["done"] += 1
        return found

    @rule(version=VERSIONS, by=PEOPLE)
    def propose(self, version, by):
        self.attempt(lambda: self.roles.propose(version, Mandate(by=by, why="better")))

    @rule(version=VERSIONS, by=PEOPLE, answer=st.sampled_from(["approve", "approve", "reject"]))
    def vote(self, version, by, answer):
        # Several people may have asked for one version: the newest proposal is named by its digest.
        known = self.roles.docket.cases().values()
        asked = [case.proposal.digest for case in known if case.proposal.version == version]
        name = asked[-1] if asked else version
        case = self.attempt(lambda: self.roles.docket.vote(name, answer, Mandate(by=by)))
        if case is None:
            return
        if answer == "reject":
            now_us = model_proposals._now_us()
            assert case.standing(now_us) is Standing.REJECTED, "a rejection ends it, however late"
            return
        person = {"A.Smith": "anna"}.get(by, by)
        assert person in ("anna", "bert", "carl"), "runs and parts of the platform approve nothing"
        asked = case.proposal
        voices = self.voices.setdefault(asked.digest, set())
        assert person not in voices, "each person counts once"
        assert person != {"A.Smith": "anna"}.get(asked.proposer, asked.proposer)
        voices.add(person)
        if len(voices) >= 2:
            self.approved.add(asked.content)

    @rule(version=VERSIONS, by=PEOPLE)
    def promote(self, version, by):
        self.attempt(lambda: self.roles.promote(version, Mandate(by=by)))

    @rule(by=PEOPLE)
    def roll_back(self, by):
        before = read_deployment(self.settings.models_dir).champion
        found = self.attempt(lambda: self.roles.roll_back(mandate=Mandate(by=by)))
        if found is not None and before is not None and found != before.version:
            assert self.digests[found] in self.approved, "a roll-back leads to what was approved"

    @rule(version=VERSIONS, by=PEOPLE, share=st.sampled_from([0.0, 0.1, 0.5]))
    def canary(self, version, by, share):
        self.attempt(lambda: self.roles.set_challenger(version, Mandate(by=by)))
        self.attempt(lambda: self.roles.set_canary(share, Mandate(by=by)))

    @rule(version=VERSIONS)
    def break_the_glass(self, version):
        self.attempt(lambda: self.roles.break_glass(version, Mandate(by="zoe", why="a fire")))

    @rule(version=VERSIONS)
    def move_an_alias_by_hand(self, version):
        self.roles._client.set_registered_model_alias("fraud", "champion", version)
        self.attempt(lambda: self.roles.publish(Mandate(by="anna")))

    @rule(hours=st.sampled_from([1.0, 23.0, 30.0, 80.0]))
    def wait(self, hours):
        self.hours += hours
        self.tick()

    @rule()
    def tick(self):
        """What the sensor `approvals` does."""
        if (made := unconfirmed(self.roles)) is not None:
            self.attempt(lambda: undo(self.roles, made))
        if uncleared(self.roles) is not None:
            self.attempt(lambda: take_cards(self.roles))
        for case in approved(self.roles):
            self.attempt(lambda case=case: carry_out(self.roles, case, self.settings.rollout))

    @invariant()
    def nothing_decides_that_nobody_approved(self):
        if not hasattr(self, "roles"):
            return
        found = read_deployment(self.settings.models_dir)
        broken = {
            case.proposal.content
            for standing in (Standing.WAITING, Standing.REJECTED)
            for case in self.roles.docket.standing(standing, "break_glass")
        }
        assert found.champion.manifest_digest in self.approved | broken
        if found.canary_share:
            assert found.challenger.manifest_digest in self.approved
        if found.previous is not None:
            assert found.previous.manifest_digest in self.approved

    def teardown(self):
        for patch in self.patches:
            patch.stop()
        shutil.rmtree(self.folder.parent)


def test_nothing_decides_that_nobody_approved_whatever_happens():
    walk = settings(
        max_examples=100,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )

    run_state_machine_as_test(Walk, settings=walk)
    assert COUNTED["done"] > 500
    assert COUNTED["refused"] > 500
    print(json.dumps({"test": "T-FSM", **COUNTED}))
