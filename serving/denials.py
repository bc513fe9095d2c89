"""What callers are told whom `access` does not admit; never with a value that they sent."""

import math
from typing import NoReturn

from serving.rate import SECOND_NS
from serving.refusals import RETRY_AFTER_SECONDS, RefusedError
from serving.schemas import ErrorOut

_REALM = 'Bearer realm="fraud_platform"'


def refuse_credential(message: str, *, given: bool) -> NoReturn:
    """401: no credential, or one that does not count (RFC 6750, section 3)."""
    hint = "Send `authorization: Bearer` with an API key (fraud-platform keys create)"
    raise RefusedError(
        401,
        ErrorOut(error="unauthenticated", message=message, hint=hint),
        headers={"www-authenticate": f'{_REALM}, error="invalid_token"' if given else _REALM},
    )


def refuse_scope(scope: str) -> NoReturn:
    """403: the caller is known and may not do this."""
    message = f"The credential does not allow this: it lacks the scope {scope}"
    hint = f"Ask for a key with this scope (fraud-platform keys create --scope {scope})"
    raise RefusedError(
        403,
        ErrorOut(error="forbidden", message=message, hint=hint),
        headers={"www-authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
    )


def refuse_for_now(wait: int) -> NoReturn:
    """429: this caller may ask again after `wait` nanoseconds."""
    message = "More requests came than this caller may send"
    hint = "Wait as long as the header retry-after says, and send the same request again"
    raise RefusedError(
        429,
        ErrorOut(error="rate_limited", message=message, hint=hint),
        headers={"retry-after": str(max(1, math.ceil(wait / SECOND_NS)))},
    )


def refuse_everybody() -> NoReturn:
    """503: no credential can be checked."""
    message = "The scorer cannot check credentials at the moment, so nobody is let in"
    hint = "Send the same request again; operators find the reason in the log and at /health/ready"
    raise RefusedError(
        503,
        ErrorOut(error="access_unavailable", message=message, hint=hint),
        headers={"retry-after": str(RETRY_AFTER_SECONDS)},
    )
