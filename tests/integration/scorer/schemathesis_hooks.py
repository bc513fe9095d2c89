"""Loaded by schemathesis: what the OpenAPI document cannot say about an acceptable request.

A payment must lie between the oldest event and now, its id must be new, and a verdict must become
known after its payment. Requests that are meant to be refused are left alone.
"""

import itertools
from datetime import UTC, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st

_NUMBERS = itertools.count()
_MOMENTS = st.integers(10**9, 17 * 10**8).map(lambda second: datetime.fromtimestamp(second, UTC))

schemathesis.openapi.format("date-time", _MOMENTS.map(datetime.isoformat))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    if case.operation.label in {"POST /v1/decisions", "POST /v1/decisions/batch"}:
        for payment in _payments(case.body):
            payment["transaction_id"] = f"st-{next(_NUMBERS)}"
    if case.operation.label == "POST /v1/labels":
        for label in case.body if isinstance(case.body, list) else [case.body]:
            if label.get("known_at"):
                label["known_at"] = datetime.now(UTC).isoformat()


def _payments(body: Any) -> list[dict[str, Any]]:
    if isinstance(body, dict) and "transactions" in body:
        body = body["transactions"]
    items = body if isinstance(body, list) else [body]
    return [item for item in items if isinstance(item, dict) and "transaction_id" in item]
