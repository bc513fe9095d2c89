"""What a front does not answer itself: handed to the owner as it came, and its answer handed back.

The owner admits these requests: the credential travels along, and the caller's address in
`x-forwarded-for`, which the owner believes because nobody but fronts reaches its Unix socket. What
a caller wrote there itself is dropped. A connection carries one request: these are rare.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httptools
import msgspec
from litestar.types import Receive, Scope, Send

from fraud_platform.errors import ScorerFullError
from serving.body import read_body
from serving.headers import add_headers
from serving.refusals import RETRY_AFTER_SECONDS, RefusedError, domain_refusal
from serving.remote_engine import owner_away

_LARGEST_BODY = 1024 * 1024
_LARGEST_ANSWER = 32 * 1024 * 1024
_SECONDS = 30.0
"""How long an answer may take: an explanation may have to verify a bundle first."""
_MOST = 64
"""So many may be under way in one front."""
_CHUNK = 64 * 1024
_LATER = {"retry-after": str(RETRY_AFTER_SECONDS)}

_OF_ONE_LINK = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"te", b"trailer"),
    *(b"upgrade", b"expect", b"content-length", b"proxy-authorization", b"proxy-authenticate"),
}
"""Headers that speak of one connection (RFC 9110, 7.6.1), and the length, which is set anew."""
_SAID_BY_US = {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"}
_NOT_BACK = _OF_ONE_LINK | {b"date", b"server"}


class Passing:
    """An ASGI application that another process answers.

    Args:
        path: the owner's HTTP socket.
        refused: counts a refusal of our own by its code.
    """

    def __init__(self, path: Path, refused: Callable[[str], None]) -> None:
        self._path = os.fspath(path)
        self._refused = refused
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await read_body(receive, limit=_LARGEST_BODY)
            status, headers, content = await self._exchange(scope, body)
        except RefusedError as refusal:
            self._refused(refusal.body.error)
            told = msgspec.json.encode(refusal.body)
            await _send(refusal.status, refusal.headers, told, scope, send)
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": False})

    async def _exchange(
        self, scope: Scope, body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if self._under_way >= _MOST:
            raise _full()
        is_head = scope.get("method") == "HEAD"
        self._under_way += 1
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._asked(request_bytes(scope, body), is_head=is_head)
        except (OSError, TimeoutError, httptools.HttpParserError):
            raise owner_away() from None
        finally:
            self._under_way -= 1
        return answer.status, answer.headers_back(is_head=is_head), b"".join(answer.parts)

    async def _asked(self, request: bytes, *, is_head: bool) -> "_Answer":
        reader, writer = await asyncio.open_unix_connection(self._path)
        answer = _Answer()
        try:
            writer.write(request)
            while not answer.is_complete and (data := await reader.read(_CHUNK)):
                answer.feed(data)
        finally:
            writer.close()
        # The parser cannot know that the answer to HEAD has no body, and waits for one.
        if not answer.is_complete and not (is_head and answer.is_headed):
            raise ConnectionResetError
        return answer


def _full() -> RefusedError:
    refusal = domain_refusal(ScorerFullError("found more requests under way than a front passes"))
    refusal.headers.update(_LATER)
    return refusal


async def send_unavailable(body: bytes, scope: Scope, send: Send) -> None:
    """Answer that the time is not now, with this JSON."""
    await _send(503, _LATER, body, scope, send)


async def _send(
    status: int, named: Mapping[str, str], body: bytes, scope: Scope, send: Send
) -> None:
    """Answer with JSON of our own, as the application itself would."""
    headers = [(name.encode(), value.encode()) for name, value in named.items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    await add_headers(start, scope)
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


def request_bytes(scope: Scope, body: bytes) -> bytes:
    """The request as it goes to the owner.

    Args:
        scope: as the server made it: what a request line or a header cannot hold is not in it.
        body: the whole body.
    """
    query: bytes = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    lines = [b"%b %b HTTP/1.1" % (str(scope.get("method")).encode(), target)]
    dropped = _OF_ONE_LINK | _SAID_BY_US | _named_by_connection(scope["headers"])
    lines += [b"%b: %b" % pair for pair in scope["headers"] if pair[0] not in dropped]
    if client := scope["client"]:
        host = f"[{client[0]}]" if ":" in client[0] else client[0]
        lines.append(b"x-forwarded-for: " + host.encode())
    lines += [b"connection: close", b"content-length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


def _named_by_connection(headers: Any) -> set[bytes]:
    told = [value for name, value in headers if name == b"connection"]
    return {name.strip().lower() for value in told for name in value.split(b",")} - {b"host"}


class _Answer:
    """The owner's answer as it arrives."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._size = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.is_headed = False
        self.is_complete = False

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _LARGEST_ANSWER:
            raise ConnectionResetError
        self._parser.feed_data(data)

    def headers_back(self, *, is_head: bool) -> list[tuple[bytes, bytes]]:
        """What the caller gets; the answer to HEAD says how long the one to GET would be."""
        length = b"%d" % sum(len(part) for part in self.parts)
        if is_head:
            length = dict(self.headers).get(b"content-length", length)
        kept = [(name, value) for name, value in self.headers if name not in _NOT_BACK]
        return [*kept, (b"content-length", length)]

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_headed = True

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        self.is_complete = True
