"""Loaded by schemathesis: what the OpenAPI document cannot say about an acceptable request.

A payment must lie between the oldest event and now, its id must be new, its amount has no decimal
point, and a verdict must become known after its payment. Requests that are meant to be refused are
left alone, and so are batches, which answer each payment by itself.
"""

import itertools
import os
from datetime import UTC, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st

_RUN = os.getpid()  # several runs may ask one scorer
_NUMBERS = itertools.count()
_MOMENTS = st.integers(10**9, 17 * 10**8).map(lambda second: datetime.fromtimestamp(second, UTC))

schemathesis.openapi.format("date-time", _MOMENTS.map(datetime.isoformat))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    if case.operation.label == "POST /v1/decisions":
        case.body |= {
            "transaction_id": f"st-{_RUN}-{next(_NUMBERS)}",
            # JSON Schema takes 162.0 for an integer; money is written without a point here.
            "amount_minor": int(case.body["amount_minor"]),
            # Schemathesis also sends what it saw in answers, and those expire in the future.
            "event_timestamp": min(case.body["event_timestamp"], _now()),
        }
    if case.operation.label == "POST /v1/labels":
        for label in case.body if isinstance(case.body, list) else [case.body]:
            if label.get("known_at"):
                label["known_at"] = _now()


def _now() -> str:
    return datetime.now(UTC).isoformat()
