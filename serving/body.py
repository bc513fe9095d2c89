"""Reading a request's body: as much as a route accepts, for as long as a sender may take.

The limit holds while reading, whatever content-length said. A body that is a little too large is
read to its end, so that its sender sees the refusal instead of a reset connection; beyond that the
connection is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from serving.refusals import RefusedError
from serving.schemas import ErrorOut

Receive = Callable[[], Awaitable[Any]]

SECONDS = 10.0
"""How long a body may take to arrive."""
_PATIENCE = 16
"""Bodies up to this many times the limit are read to their end before they are refused."""


async def read_body(receive: Receive, *, limit: int, seconds: float = SECONDS) -> bytes:
    """The whole body.

    Args:
        receive: the request's channel.
        limit: the most bytes that the route accepts.
        seconds: how long the body may take to arrive.

    Raises:
        RefusedError: 413 too large, 408 too slow, 400 the sender left in the middle.
    """
    try:
        async with asyncio.timeout(seconds):  # also for the first part: it may never come
            message = await receive()
            if message["type"] != "http.request" or message.get("more_body", False):
                return await _read_on(message, receive, limit)
    except TimeoutError:
        raise _closing(
            408, "body_too_slow", f"The body did not arrive within {seconds:g} seconds"
        ) from None
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _read_on(message: Any, receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise _closing(400, "body_incomplete", "The connection ended before the body did")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > limit * _PATIENCE:
            raise _too_large(limit, headers={"connection": "close"})
        if not message.get("more_body", False):
            break
        message = await receive()
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


def _too_large(limit: int, headers: dict[str, str] | None = None) -> RefusedError:
    message = "The body is larger than this route accepts"
    hint = f"Send at most {limit} bytes"
    return RefusedError(
        413, ErrorOut(error="body_too_large", message=message, hint=hint), headers=headers
    )


def _closing(status: int, code: str, message: str) -> RefusedError:
    """A refusal after which the connection has no defined place to go on from."""
    return RefusedError(
        status, ErrorOut(error=code, message=message), headers={"connection": "close"}
    )
