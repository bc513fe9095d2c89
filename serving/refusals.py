"""Every answer that is not a result: which status, which code, and what the sender should do.

Nothing here ever carries a value from a request: a refused field is named, not repeated.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from fraud_platform.errors import (
    AuditUnavailableError,
    FraudPlatformError,
    IdempotencyConflictError,
    InvalidLabelError,
    JournalFullError,
    NotReadyError,
    PermanentError,
    ScorerClosedError,
    ScorerFullError,
    UnavailableError,
    UnknownTransactionError,
)
from serving.group import AlreadyIngestedError
from serving.schemas import ErrorOut, FieldOut

LOGGER = logging.getLogger("fraud_platform.scorer")

RETRY_AFTER_SECONDS = 1
AGAIN = "Send the same request again: a payment is decided at most once"
WHOLE_BODY = "(the whole body)"
"""Stands where a field would, when no single field is at fault."""

DOMAIN: dict[type[FraudPlatformError], tuple[int, str]] = {
    AlreadyIngestedError: (422, "already_ingested"),
    IdempotencyConflictError: (422, "idempotency_conflict"),
    UnknownTransactionError: (404, "unknown_transaction"),
    InvalidLabelError: (422, "invalid_label"),
    PermanentError: (422, "refused"),
    NotReadyError: (503, "not_ready"),
    JournalFullError: (503, "journal_full"),
    ScorerClosedError: (503, "mode_closed"),
    ScorerFullError: (503, "scorer_full"),
    AuditUnavailableError: (503, "audit_unavailable"),
    UnavailableError: (503, "log_unavailable"),
}
"""First match along the error's ancestry wins."""

_UNAVAILABLE = {
    "journal_full": "There is no room for another record",
    "mode_closed": "The scorer is closed",
    "scorer_full": "More requests are waiting than the scorer takes",
    "audit_unavailable": "What is done here cannot be recorded, so it is not done",
    "log_unavailable": "The event log is unavailable",
}

FRAMEWORK: dict[int, tuple[str, str]] = {
    400: ("malformed_request", "The request cannot be read"),
    404: ("not_found", "There is nothing under this path"),
    405: ("method_not_allowed", "This path does not answer that method"),
    413: ("body_too_large", "The body is larger than this route accepts"),
}


class RefusedError(Exception):
    """A request that the edge refuses before any domain code sees it.

    Args:
        status: the HTTP status of the answer.
        body: what the sender reads.
        headers: response headers that belong to the status, such as `retry-after`.
    """

    def __init__(
        self, status: int, body: ErrorOut, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body.message)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def domain_refusal(error: FraudPlatformError) -> RefusedError:
    """The refusal that stands for an error of the domain or an adapter.

    The text of an `UnavailableError` names files and hosts, so it stays inside; operators read it
    at /health/ready.
    """
    status, code = next(DOMAIN[cls] for cls in type(error).__mro__ if cls in DOMAIN)
    if isinstance(error, UnavailableError):
        # Never that nothing was recorded: a write that failed may have come as far as the disk.
        message = f"{_UNAVAILABLE[code]}; this is not acknowledged"
        return RefusedError(status, ErrorOut(error=code, message=message, hint=AGAIN))
    return RefusedError(status, ErrorOut(error=code, message=error.message, hint=error.hint))


def refused_field(
    code: str, message: str, *, field: str, found: str, expected: str
) -> RefusedError:
    """A 422 about one field."""
    fields = [FieldOut(field=field, found=found, expected=expected)]
    return RefusedError(422, ErrorOut(error=code, message=message, fields=fields))


def placed(refusal: RefusedError, place: str) -> RefusedError:
    """The same refusal, of one item of a batch.

    Args:
        refusal: as the item alone would get it.
        place: the item's path, e.g. `transactions[3]`.
    """
    fields = [
        msgspec.structs.replace(field, field=_below(place, field.field))
        for field in refusal.body.fields
    ]
    if not fields and refusal.status < 500:
        found, expected = "not a JSON object of this contract", "one payment"
        fields = [FieldOut(field=place, found=found, expected=expected)]
    body = msgspec.structs.replace(refusal.body, fields=fields)
    return RefusedError(refusal.status, body, headers=refusal.headers)


def _below(place: str, names: str) -> str:
    if names == WHOLE_BODY:
        return place
    return ", ".join(f"{place}.{name}" for name in names.split(", "))


@dataclass(frozen=True)
class Refused:
    """One refusal as it goes out: the status, headers of its own, and JSON."""

    status: int
    headers: dict[str, str]
    body: bytes


class Refusals:
    """Turns every exception of a request into a counted JSON answer.

    Args:
        count: called with the code of each refusal.
    """

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count

    def handlers(self) -> ExceptionHandlersMap:
        """For `Litestar(exception_handlers=...)`."""
        return {HTTPException: self._respond, Exception: self._respond}

    def answer_to(self, error: Exception, where: str) -> Refused:
        """Count a refusal and put it into words.

        Args:
            error: what was raised, also by a defect.
            where: the route, for the log.
        """
        refusal = _refusal_of(error, where)
        self._count(refusal.body.error)
        again = {"retry-after": str(RETRY_AFTER_SECONDS)} if refusal.status == 503 else {}
        body = msgspec.json.encode(refusal.body)
        return Refused(refusal.status, again | refusal.headers, body)

    def _respond(self, request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        refused = self.answer_to(error, str(request.scope.get("route_handler")))
        return Response(
            refused.body,
            status_code=refused.status,
            headers=refused.headers,
            media_type=MediaType.JSON,
        )


def _refusal_of(error: Exception, where: str) -> RefusedError:
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, FraudPlatformError):
        return domain_refusal(error)
    if isinstance(error, HTTPException):
        status = error.status_code
        code, message = FRAMEWORK.get(status, ("refused", "The request was refused"))
        return RefusedError(status, ErrorOut(error=code, message=message), headers=error.headers)
    LOGGER.error("%s failed on a defect", where, exc_info=error)
    message = "The scorer failed on a defect of its own"
    return RefusedError(500, ErrorOut(error="internal_error", message=message, hint=AGAIN))
