"""A policy to try on the past: a YAML or JSON file, or a few values on the command line."""

from pathlib import Path

import msgspec
import yaml

from fraud_platform.errors import PermanentError
from fraud_platform.outcome_policy import OutcomePolicy

_HINT = (
    "a policy has review and decline (scores), or review_fpr and decline_fpr (shares of genuine "
    "payments), worth_multiplier, and rules with name, outcome, amount_from_minor, "
    "amount_below_minor, score_from; "
    "without rules it may stand in place of a file's name: review=0.3,decline=0.8"
)


def read_policy(told: str) -> OutcomePolicy:
    """The policy that an argument names or spells out.

    Args:
        told: path of a file, or `name=value,name=value`.

    Raises:
        PermanentError: the file cannot be read, or is no policy; the message says what is wrong.

    Examples:
        >>> read_policy("review_fpr=0.01,decline=0.9").decline
        0.9
    """
    is_inline = "=" in told and not Path(told).exists()
    document = _spelt_out(told) if is_inline else _read(Path(told))
    try:
        # Not strict: 1e-3 is a text to YAML 1.1, and so is everything on a command line.
        return msgspec.convert(document, OutcomePolicy, strict=False)
    except msgspec.ValidationError as error:
        raise PermanentError(f"{told} is no policy: {error}", hint=_HINT) from error


def _spelt_out(told: str) -> dict[str, str]:
    parts = [part.partition("=") for part in told.split(",")]
    return {name.strip(): value.strip() for name, _, value in parts}


def _read(path: Path) -> object:
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"found no readable policy at {path}: {error}", hint=_HINT) from error
    try:
        return msgspec.json.decode(content)  # YAML does not take JSON that is indented by tabs
    except msgspec.DecodeError:
        return _read_yaml(content, path)


def _read_yaml(content: str, path: Path) -> object:
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: the 31st of June
        raise PermanentError(
            f"found neither JSON nor YAML in {path}: {error}", hint=_HINT
        ) from error
