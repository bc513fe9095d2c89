"""Which policy healing acts by: the one in force, as far as people approved it.

Where changes need approval, a policy that an operator wrote lets healing act alone only once
people approved its digest; until then it asks before whatever is not safe by itself.
"""

from dataclasses import dataclass

import msgspec

from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.heal_policy_file import policy_in_force, read_heal_policy
from fraud_platform.adapters.model_proposals import HEAL_POLICY, Docket
from fraud_platform.errors import HistoryDamagedError
from fraud_platform.heal.actions import Level
from fraud_platform.heal.policy import HealPolicy
from fraud_platform.settings import Settings


@dataclass(frozen=True)
class Gated:
    """A heal policy, and how far it counts.

    Attributes:
        policy: to act by.
        why_asking: why healing asks a person before it acts; empty: it need not.
    """

    policy: HealPolicy
    why_asking: str = ""


def gated_policy(settings: Settings) -> Gated:
    """The heal policy of a home; the shipped one is approved with the release that brings it.

    Raises:
        PermanentError: its own cannot be read.
        DataContractError: its own is no heal policy, or breaks a rule of one.
        UnavailableError: the disk does not answer.
    """
    found = policy_in_force(settings.heal_dir)
    if found.digest == read_heal_policy().digest or _is_approved(settings, found.digest):
        return Gated(found)
    asking = msgspec.structs.replace(found, maturity=min(found.maturity, Level.PROPOSE))
    return Gated(asking, f"nobody approved the heal policy {found.digest[:12]}")


def _is_approved(settings: Settings, digest: str) -> bool:
    """Whether people approved it, or none need to; a docket that is damaged tells of nobody."""
    docket = Docket(settings.models_dir, governance_of(settings))
    try:
        return not docket.rules().is_required or docket.has_approved(HEAL_POLICY, digest)
    except HistoryDamagedError:
        return False
