"""The models that once decided, found by what decisions say of them and judged under their orders.

For whoever decides again: a replay, a dossier. What decides now is `residents`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.exploration_key import known_explorer
from fraud_platform.adapters.model_bundle import list_manifests, load_bundle
from fraud_platform.adapters.orders_file import known_orders
from fraud_platform.adapters.past_policies import Policies, known_policies
from fraud_platform.decision import DecisionPolicy, policy_digest
from fraud_platform.decision_replay import Asked, Judge
from fraud_platform.errors import FraudPlatformError, PermanentError
from fraud_platform.events import Decision
from fraud_platform.governor import GovernorPolicy
from fraud_platform.orders import Orders
from fraud_platform.selective_labels import Explorer
from fraud_platform.settings import Settings
from fraud_platform.worth import Worth
from serving.obeying import ordered
from serving.ruling import Resident, Ruling, resident_of

_MOST_MODELS = 8
"""Models in memory at once: a log names them one after the other."""


class _Rules(NamedTuple):
    """What turns a bundle into a judge, as `resident_of` takes it."""

    policy: DecisionPolicy
    explorer: Explorer | None
    governor: GovernorPolicy
    worth: Worth | None


class PastModels:
    """The models of a home by what decisions say of them; the last few are kept in memory.

    Args:
        settings: of the home; its policies are those in force.

    Attributes:
        policies: the decision policies that are known to have ruled, the one in force first.
    """

    def __init__(self, settings: Settings) -> None:
        self._dir = settings.models_dir
        self._orders_path = settings.orders_path
        known = known_policies(settings)
        self.policies = [one.policies.decision for one in known]
        self._rules = [_rules(one.policies, settings.exploration_key_path) for one in known]
        self._documents = [one.document for one in known]
        self._held: OrderedDict[tuple[str | None, str], list[Resident] | str] = OrderedDict()
        try:
            self._deployment = read_deployment(settings.models_dir)
        except PermanentError:  # only `arm_now` asks for it, and then has no answer
            self._deployment = Deployment()
        manifests, self._damaged = list_manifests(settings.models_dir)
        self._pairs = {(one.version, one.model_digest) for one in manifests}

    def judge_of(self, decision: Decision) -> Judge | str:
        """The judge that a decision names: its model under the policies and orders of then.

        Or why there is none.
        """
        held = self._judges(decision.model_version, decision.model_digest or "")
        if isinstance(held, str):
            return held
        named = [one for one in held if one.policy_digest == decision.policy_digest]
        return named[0] if named else _under_its_orders(decision, held, self._orders)

    @cached_property
    def _orders(self) -> tuple[Orders, ...]:
        """Every order that was ever given; read once a decision is of another rule."""
        return known_orders(self._orders_path)

    def arm_now(self, asked: Asked) -> str | None:
        """The arm of a canary decision's card under the share in force; None: another canary."""
        decision, challenger = asked.decision, self._deployment.challenger
        share = self._deployment.canary_share
        is_theirs = challenger is not None and challenger.version == decision.model_version
        if decision.arm != "canary" or not is_theirs or not share:
            return None
        held = self._judges(decision.model_version, decision.model_digest or "")
        if isinstance(held, str):
            return None
        ruling = Ruling(held[0].policy, held[0], held[0], None, share)
        return ruling.arm(asked.transaction.card_id)

    def _judges(self, version: str | None, digest: str) -> list[Resident] | str:
        """The model under each of the known policies, those in force first, or why it is gone."""
        named = (version, digest)
        if named not in self._held:
            self._held[named] = self._load(version, digest)
            if len(self._held) > _MOST_MODELS:
                self._held.popitem(last=False)
        self._held.move_to_end(named)
        return self._held[named]

    def _load(self, version: str | None, digest: str) -> list[Resident] | str:
        # Another version of the same model would answer, but with a calibration of its own.
        if (version, digest) not in self._pairs and version not in self._damaged:
            return f"its model is gone: version {version}, model {digest[:12]}"
        path = self._dir / str(version)
        try:
            judge = resident_of(load_bundle(path), *self._rules[0])
            past = zip(self._rules[1:], self._documents[1:], strict=True)
            return [judge, *(_ruled(judge, rules, document) for rules, document in past)]
        except (FraudPlatformError, OSError) as error:
            return f"the bundle of version {path.name} is refused: {error}"


def _under_its_orders(
    decision: Decision, judges: Sequence[Resident], orders: Sequence[Orders]
) -> Resident:
    """The judge under the orders whose rule a decision names.

    If none has that name the policy was another one. Then the score tells what the model saw.
    """
    obeying = [*judges, *(ordered(judge, one) for judge in judges for one in orders)]
    named = [one for one in obeying if one.policy_digest == decision.policy_digest]
    if not named:
        row = np.array([decision.features], dtype=np.float64)
        named = [one for one in obeying if one.model.score(one.seen(row))[0] == decision.score]
    return named[0] if named else judges[0]


def _rules(known: Policies, key_path: Path) -> _Rules:
    return _Rules(
        known.decision,
        known_explorer(key_path, known.exploration),
        known.governor,
        Worth.of(known.worth, known.money),
    )


def _ruled(judge: Resident, rules: _Rules, document: Mapping[str, Any]) -> Resident:
    """The same model under other policies.

    Their digest is over what was told of them then: a field that policies got since was not.
    """
    explorer, worth = rules.explorer, rules.worth
    salt = {} if explorer is None else {"salt": explorer.document["salt"]}
    digest = policy_digest(
        document["decision"],
        judge.thresholds,
        None if explorer is None else document["exploration"] | salt,
        document["governor"] if rules.governor.is_on else None,
        None if worth is None else {"policy": document["worth"], "money": document["money"]},
    )
    return replace(judge, policy=rules.policy, policy_digest=digest, explorer=explorer, worth=worth)
