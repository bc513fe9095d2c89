"""What every call of MLflow needs: errors of this platform.

What belongs here: how the registry is asked. What is asked is `model_registry`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fraud_platform.errors import PermanentError, RegistryUnavailableError

_PERMANENT_CODES = frozenset(
    {
        "BAD_REQUEST",
        "CUSTOMER_UNAUTHORIZED",
        "INVALID_PARAMETER_VALUE",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
        "UNAUTHENTICATED",
    }
)


def aliases_of(client: Any, model: str) -> Mapping[str, str]:
    """Alias -> version of a registered model; empty while it is not registered."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(model).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {str(name): str(version) for name, version in found.items()}


def require_a_memory(client: Any, model: str, told: Mapping[str, str]) -> None:
    """Follow no registry that has forgotten every role: its database was lost, or is another.

    Who took it at its word would leave the scorers without a model.

    Args:
        client: MLflow's.
        model: a registered model.
        told: alias -> version as the history has it.

    Raises:
        RegistryUnavailableError: the history names roles, the registry none.
    """
    if told and not aliases_of(client, model):
        roles = ", ".join(f"{name} {version}" for name, version in sorted(told.items()))
        raise RegistryUnavailableError(
            f"found a registry in which no version has a role, expected {roles}; nothing moved.",
            hint="restore its database, or set the alias champion there by hand.",
        )


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn the errors of MLflow and its database into ours.

    Raises:
        PermanentError: MLflow refuses the request.
        RegistryUnavailableError: it cannot be reached.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code in _PERMANENT_CODES:
            raise PermanentError(f"The registry refused to {action}: {error.message}") from error
        raise RegistryUnavailableError(
            f"The registry could not {action}: {error.message}"
        ) from error
    except (SQLAlchemyError, OSError) as error:
        raise RegistryUnavailableError(
            f"The registry could not {action}: {type(error).__name__}.",
            hint="check the address in FRAUD_MLFLOW_URI, the disk and its permissions.",
        ) from error
