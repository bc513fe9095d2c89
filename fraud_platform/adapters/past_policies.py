"""Every set of policies that a scorer of this home ever ruled by: a replay finds the one of then.

Each is sealed under the digest of its content when a scorer begins to rule by it. No secret is in
it. Whether one is the policy of a decision is not for the file to say: the decision names its
digest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.decision import DecisionPolicy
from fraud_platform.governor import GovernorPolicy
from fraud_platform.money import MoneyPolicy
from fraud_platform.selective_labels import ExplorationPolicy
from fraud_platform.settings import Settings
from fraud_platform.worth import WorthPolicy


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What decides beside a model.

    Attributes:
        decision: how much may be disturbed.
        exploration: what is let through at random.
        governor: the cap.
        worth: whether a disturbance must pay.
        money: at which prices.
    """

    decision: DecisionPolicy
    exploration: ExplorationPolicy
    governor: GovernorPolicy
    worth: WorthPolicy
    money: MoneyPolicy


class Known(NamedTuple):
    """Policies that rule or ruled.

    Attributes:
        policies: as this code reads them.
        document: as they were sealed: the digest in a decision is over the fields of its time.
    """

    policies: Policies
    document: Mapping[str, Any]


def policies_of(settings: Settings) -> Policies:
    """The policies in force."""
    return Policies(
        decision=settings.decision,
        exploration=settings.exploration,
        governor=settings.governor,
        worth=settings.worth,
        money=settings.money,
    )


def seal_policies(settings: Settings) -> Path:
    """Keep the policies in force for whoever asks later; the same ones are kept once."""
    content = msgspec.json.encode(policies_of(settings), order="deterministic")
    path = settings.policies_dir / f"{sha256(content)}.json"
    if not path.exists():
        replace_file(path, content)
    return path


def known_policies(settings: Settings) -> tuple[Known, ...]:
    """The policies in force, then those that were; what this code cannot read is left out."""
    now = policies_of(settings)
    found = [Known(now, msgspec.to_builtins(now))]
    for path in sorted(settings.policies_dir.glob("*.json")):
        try:
            content = path.read_bytes()
            one = Known(msgspec.json.decode(content, type=Policies), msgspec.json.decode(content))
        except (msgspec.DecodeError, ValueError):  # of another version, or damaged: it names none
            continue
        found += [one] if one.document != found[0].document else []
    return tuple(found)
