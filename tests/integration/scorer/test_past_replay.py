"""T-REP-2: thousands of decisions of several models, policies and lives, taken again to the bit.

FRAUD_REPLAYS=100000 is the form of a release.
"""

import json
import os
import time
from collections import Counter
from dataclasses import asdict, replace
from datetime import timedelta

import pytest
from litestar.testing import TestClient

from fraud_platform.adapters.decision_source import Choice
from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.past_policies import known_policies, seal_policies
from fraud_platform.decision import DecisionPolicy
from fraud_platform.events import microseconds
from fraud_platform.governor import GovernorPolicy
from fraud_platform.selective_labels import ExplorationPolicy
from serving.app import assemble, build_scorer
from serving.replaying import Replayer
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

DECISIONS = int(os.environ.get("FRAUD_REPLAYS", "10000"))
BATCH = 250
VERSIONS = {"1": (0.3, 0.8), "2": (0.2, 0.5), "3": (0.25, 0.6)}
POLICY = DecisionPolicy(rules_decline_from_minor=6_000)
LATER = DecisionPolicy(rules_decline_from_minor=3_000, max_reasons=2, valid_seconds=60)


class Life:
    """A scorer from its start to its end, under one policy."""

    def __init__(self, settings, payment, now) -> None:
        self.settings, self.payment, self.now = settings, payment, now

    def run(self, first: int, versions: str, count: int) -> int:
        """So many payments, the models one after the other; returns the next number."""
        self.deploy(versions[0])
        parts = build_scorer(self.settings, lambda: microseconds(self.now))
        with TestClient(assemble(parts)) as client:
            for version in versions:
                self.deploy(version)
                deadline = time.monotonic() + 30
                while parts.champion.ruling.version != version:
                    assert time.monotonic() < deadline, "waited in vain"
                    time.sleep(0.02)
                for _ in range(count // len(versions) // BATCH):
                    bodies = [self.body(number) for number in range(first, first + BATCH)]
                    told = client.post("/v1/decisions/batch", json={"transactions": bodies})
                    assert told.json()["decided"] == BATCH
                    first += BATCH
                verdict = {"verdict": "fraud", "source": "analyst"}
                name = {"transaction_id": f"t{first - 7}"}
                assert client.post("/v1/labels", json=name | verdict).status_code == 200
        return first

    def deploy(self, version: str) -> None:
        review, decline = VERSIONS[version]
        folder, model = self.settings.models_dir, trained(int(version))
        path = write_small_bundle(folder, version, model, review=review, decline=decline)
        deploy(folder, Deployment(champion=pointer_to(path)))

    def body(self, number: int) -> dict:
        moment = self.now - timedelta(days=20) + timedelta(seconds=15 * number)
        cards = {"card_id": f"card-{number % 499}", "terminal_id": f"terminal-{number % 97}"}
        return self.payment(number, event_timestamp=moment.isoformat(), **cards)


def test_decisions_of_three_models_two_policies_and_two_lives_are_taken_again_alike(
    settings, payment, now
):
    half = DECISIONS // 2
    settings = settings.model_copy(update={"decision": POLICY})
    following = Life(settings, payment, now).run(0, "12", half)
    changed = settings.model_copy(
        update={"decision": LATER, "exploration": ExplorationPolicy(pass_rate=0.1)}
    )
    Life(changed, payment, now).run(following, "23", half)
    by_model: Counter[tuple[str | None, str]] = Counter()
    done = Replayer(changed).replay(
        Choice(),
        found=lambda one, _: by_model.update(
            [(one.decision.model_version, one.decision.policy_digest)]
        ),
    )
    report = done.report
    print(
        json.dumps(
            {
                "test": "T-REP-2",
                "decisions": report.decisions,
                "equal": report.equal,
                "different": report.different,
                "not_replayed": report.not_replayed,
                "models_and_policies": len(by_model),
                "values": report.values_compared,
                "decisions_per_cpu_second": round(report.decisions / done.cpu_seconds),
            }
        )
    )
    assert report.decisions == report.equal >= DECISIONS * 0.95
    assert (report.different, report.not_replayed) == (0, 0)
    assert len({version for version, _ in by_model}) == len(VERSIONS)
    assert len(by_model) == 4, "the second model ruled under both policies"


def test_without_the_policy_of_then_a_decision_is_not_called_equal(settings, payment, now):
    settings = settings.model_copy(update={"decision": POLICY})
    Life(settings, payment, now).run(0, "1", BATCH)
    changed = settings.model_copy(update={"decision": LATER})
    assert Replayer(changed).replay(Choice()).report.equal == BATCH
    for path in settings.policies_dir.iterdir():
        path.unlink()
    report = Replayer(changed).replay(Choice()).report
    assert (report.equal, report.different, report.not_replayed) == (0, 0, BATCH)


def test_a_decision_is_taken_again_by_code_whose_policies_have_a_field_more(
    settings, payment, now, monkeypatch
):
    def of_then(policy: GovernorPolicy) -> dict[str, object]:
        return {name: value for name, value in asdict(policy).items() if name != "loosen_per_hour"}

    with monkeypatch.context() as then:
        then.setattr(GovernorPolicy, "document", property(of_then))
        Life(settings, payment, now).run(0, "1", BATCH)
    [path] = settings.policies_dir.iterdir()
    sealed = json.loads(path.read_text())
    del sealed["governor"]["loosen_per_hour"]
    path.write_text(json.dumps(sealed))
    report = Replayer(settings).replay(Choice()).report
    assert (report.equal, report.not_replayed) == (BATCH, 0)


def test_a_sealed_policy_comes_back_as_it_was_and_damage_to_it_names_no_decision(settings):
    told = settings.model_copy(update={"decision": POLICY})
    path = seal_policies(told)
    assert seal_policies(told) == path, "the same policies are kept once"
    now, then = (one.policies for one in known_policies(settings))
    assert (now.decision, then.decision) == (settings.decision, POLICY)
    assert replace(then.decision, rules_decline_from_minor=None) == settings.decision
    path.write_bytes(path.read_bytes()[:-2])
    assert len(known_policies(settings)) == 1
    path.write_text('{"decision": {"review_fpr": 7}}')
    assert len(known_policies(settings)) == 1


@pytest.mark.parametrize("every", [1, 3])
def test_a_sample_takes_each_nth_position(settings, payment, now, every):
    Life(settings, payment, now).run(0, "1", BATCH)
    report = Replayer(settings).replay(Choice(every=every)).report
    assert report.decisions == BATCH // every
