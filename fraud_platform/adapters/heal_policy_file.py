"""The heal policy in force: the shipped one, or a file that the operator wrote."""

from importlib.resources import files
from pathlib import Path

from fraud_platform.errors import PermanentError
from fraud_platform.heal.policy import HealPolicy, policy_from

POLICY = "policy.yaml"
"""The file beside the ledger."""


def policy_in_force(heal_dir: Path) -> HealPolicy:
    """The policy that an installation heals by: its own `policy.yaml`, or the shipped one.

    Raises:
        PermanentError: its own cannot be read.
        DataContractError: its own is no heal policy, or breaks a rule of one.
    """
    path = heal_dir / POLICY
    return read_heal_policy(path if path.exists() else None)


def policy_text(heal_dir: Path) -> str:
    """The text of the policy in force, with its comments.

    Raises:
        PermanentError: the installation's own cannot be read.
    """
    path = heal_dir / POLICY
    return _read(path) if path.exists() else _shipped()


def read_heal_policy(path: Path | None = None) -> HealPolicy:
    """The policy of a YAML file; without one, the shipped one.

    Raises:
        PermanentError: the file cannot be read.
        DataContractError: it is no heal policy, or breaks a rule of one.

    Examples:
        >>> read_heal_policy().policy
        'fraud-heal/v1'
    """
    return policy_from(_shipped() if path is None else _read(path))


def _shipped() -> str:
    return files("fraud_platform.heal").joinpath("policy.yaml").read_text("utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(
            f"found no readable heal policy at {path}: {error}",
            hint="copy fraud_platform/heal/policy.yaml and change it",
        ) from error
