"""HTTP/1.1 for load: connections that stay open and carry one request at a time.

A general client costs about a millisecond per request; this one a few hundredths, so that what is
measured is the server. Nothing is retried: whoever measures must see every failure.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httptools

from fraud_platform.errors import PermanentError, UnavailableError

Token = TypeVar("Token")

LOST = 0
"""Stands for the status of a request whose connection ended before its answer."""

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts to connect again, the last one for ever."""
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """Where requests go, and all that is equal in them.

    Attributes:
        host: name or address.
        port: its port.
        is_tls: whether the connection is encrypted.
        head: the request's first line and headers, up to the length of its body.
    """

    host: str
    port: int
    is_tls: bool
    head: bytes

    @classmethod
    def of(cls, url: str, path: str, headers: Mapping[str, str]) -> "Target":
        """A route of a server.

        Raises:
            PermanentError: the URL is none of http or https.
        """
        parts = urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            port = 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or not port:
            raise PermanentError(
                "found an address that is no URL of a server, expected http://host:port",
                hint="for example http://127.0.0.1:8080",
            )
        lines = [
            f"POST {parts.path.rstrip('/')}{path} HTTP/1.1",
            f"host: {parts.netloc.rpartition('@')[2]}",
            "content-type: application/json",
            *(f"{name}: {value}" for name, value in headers.items()),
            "content-length: ",
        ]
        head = "\r\n".join(lines).encode()
        return cls(parts.hostname, port, parts.scheme == "https", head)

    def request(self, body: bytes) -> bytes:
        """The bytes of one request."""
        return b"%b%d\r\n\r\n%b" % (self.head, len(body), body)


class _Connection(asyncio.Protocol, Generic[Token]):
    """One connection; `token` is of the request under way."""

    def __init__(self, pool: "Pool[Token]") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._is_busy = False
        self._token: Token | None = None

    def send(self, request: bytes, token: Token) -> None:
        self._token, self._is_busy = token, True
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.lost(self)
        self._settle(LOST, b"")

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._parts)
        self._parts.clear()
        self._settle(status, body, is_free=self._parser.should_keep_alive())

    def _settle(self, status: int, body: bytes, *, is_free: bool = False) -> None:
        token, was_busy = self._token, self._is_busy
        self._token, self._is_busy = None, False
        if is_free:
            self._pool.freed(self)  # first: the answer may be reason to send something
        else:
            self.close()
        if was_busy:
            self._pool.answered(token, status, body)  # type: ignore[arg-type]  # busy: has one


class Pool(Generic[Token]):
    """Connections to one target, and the requests that wait for a free one.

    Args:
        target: where requests go.
        answered: called with each request's token, its status or `LOST`, and the answer's body.
    """

    def __init__(self, target: Target, answered: Callable[[Token, int, bytes], None]) -> None:
        self._target = target
        self._idle: list[_Connection[Token]] = []
        self._all: set[_Connection[Token]] = set()
        self._waiting: deque[tuple[bytes, Token]] = deque()
        self._again: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.answered = answered

    async def open(self, connections: int) -> None:
        """Connect so many times.

        Raises:
            UnavailableError: nobody listens there, or not so many times.
        """
        try:
            await asyncio.gather(*(self._connect() for _ in range(connections)))
        except (OSError, TimeoutError) as error:
            raise UnavailableError(
                f"found no server at {self._target.host}:{self._target.port}: "
                f"{error or 'no answer'}",
                hint="start it with: fraud-platform serve",
            ) from error

    def send(self, body: bytes, token: Token) -> None:
        """Send a request as soon as a connection is free."""
        request = self._target.request(body)
        if self._idle:
            self._idle.pop().send(request, token)
        else:
            self._waiting.append((request, token))

    async def close(self) -> None:
        """Let go of everything; what is under way counts as lost."""
        self._is_closed = True
        for task in self._again:
            task.cancel()
        for connection in list(self._all):
            connection.close()
        await asyncio.gather(*self._again, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def freed(self, connection: _Connection[Token]) -> None:
        """Take a connection back, or give it the request that has waited longest."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection[Token]) -> None:
        """Connect again in place of a connection that ended."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._is_closed:
            task = asyncio.get_running_loop().create_task(self._connect_again())
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        tls = ssl.create_default_context() if self._target.is_tls else None
        opening = loop.create_connection(
            lambda: _Connection(self), self._target.host, self._target.port, ssl=tls
        )
        _, connection = await asyncio.wait_for(opening, _PATIENCE_SECONDS)
        self._all.add(connection)
        self.freed(connection)

    async def _connect_again(self) -> None:
        for attempt in range(10**9):
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            with contextlib.suppress(OSError, TimeoutError):
                return await self._connect()
        return None
