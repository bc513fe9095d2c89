"""The heal policy in force: the shipped one, or a file that the operator wrote."""

from importlib.resources import files
from pathlib import Path

from fraud_platform.errors import PermanentError
from fraud_platform.heal.policy import HealPolicy, policy_from


def read_heal_policy(path: Path | None = None) -> HealPolicy:
    """The policy of a YAML file; without one, the shipped one.

    Raises:
        PermanentError: the file cannot be read.
        DataContractError: it is no heal policy, or breaks a rule of one.

    Examples:
        >>> read_heal_policy().policy
        'fraud-heal/v1'
    """
    if path is None:
        return policy_from(files("fraud_platform.heal").joinpath("policy.yaml").read_text("utf-8"))
    try:
        return policy_from(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(
            f"found no readable heal policy at {path}: {error}",
            hint="copy fraud_platform/heal/policy.yaml and change it",
        ) from error
