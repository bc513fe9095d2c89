"""Which policies a home acts by, and the audit row of the first look that finds others."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import msgspec

from fraud_platform.adapters.governance import Governance
from fraud_platform.adapters.heal_policy_file import policy_in_force
from fraud_platform.adapters.lock_file import locked
from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.approval_rules import digest_of
from fraud_platform.audit_log.acts import Act
from fraud_platform.settings import Settings

_NAMES = ("promotion", "approvals", "rollout", "decision", "governor", "modes", "worth")
"""Settings that decide over payments, or over what may."""


def policies_of(settings: Settings) -> Mapping[str, str]:
    """Digest of every policy of a home, by name.

    Raises:
        DataContractError: the heal policy is none.
    """
    found = {name: _digest(getattr(settings, name)) for name in _NAMES}
    return {**found, "heal": policy_in_force(settings.heal_dir).digest}


def tell_policies(settings: Settings, governance: Governance, origin: str) -> tuple[str, ...]:
    """Record every policy that is another than at the last look; gives their names.

    Args:
        settings: of the home.
        governance: where it is recorded.
        origin: who looks.

    Raises:
        AuditUnavailableError: it cannot be recorded; it is told at the next look.
    """
    path = settings.home / "policies.json"
    now = policies_of(settings)
    if _known(path) == now:
        return ()
    with locked(path.with_suffix(".lock")):
        known = _known(path)
        changed = tuple(name for name, digest in now.items() if known.get(name) != digest)
        for name in changed:
            act = Act(
                actor="platform",
                role="",
                action="policy.change",
                object=f"policy:{name}",
                origin=origin,
                before=known.get(name, ""),
                after=now[name],
            )
            with governance.recording(act):
                replace_file(path, msgspec.json.encode({**_known(path), name: now[name]}))
    return changed


def _known(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.MsgspecError):  # told anew, which harms nobody
        return {}


def _digest(policy: object) -> str:
    told = asdict(policy)  # type: ignore[call-overload]  # every policy is a dataclass
    return digest_of(*(f"{name}={told[name]!r}" for name in sorted(told)))
