"""A connection of the scorer: uvicorn's, with limits on what comes before a request is known.

Nothing of a request is known, nor whose it is, until its headers are complete. Until then a sender
gets so many bytes and so many seconds, and all senders together so many connections.
"""

import asyncio
import logging
import resource
import time
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.head_parser import MOST_BYTES, HeadParser
from serving.schemas import ErrorOut

LOGGER = logging.getLogger("fraud_platform.scorer")

HEAD_SECONDS = 10.0
"""How long the headers of a request may take, from their first byte or the connection's start."""
_LINGER_SECONDS = 1.0
"""How long a refused sender may go on sending, so that it reads the refusal, not a reset."""
_OTHER_FILES = 256
"""So many open files are left for everything that is no connection."""
_TOLD_SECONDS = 60.0

_TOO_LARGE = msgspec.json.encode(
    ErrorOut(
        error="headers_too_large",
        message="The request line and the headers are larger than is read here",
        hint=f"Send at most {MOST_BYTES} bytes before the body",
    )
)
_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_TOO_LARGE), _TOO_LARGE)
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection; `bounded` says how many there may be."""

    connection_limit = 1
    parser: Any
    _told = -_TOLD_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = HeadParser(self)
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Take one more connection, or none."""
        super().connection_made(transport)
        if len(self.connections) > self.connection_limit:
            self.connections.discard(self)
            self._tell()
            transport.abort()
            return
        self._await_head(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._stop_waiting()
        if self.parser is not None:
            self.parser.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and wait only so long for the rest of a head."""
        if self._is_refused:
            return
        super().data_received(data)
        if self._is_refused or self.transport.is_closing() or not self._is_idle():
            return
        is_between = self.cycle is not None and not self.parser.is_in_message
        self._await_head(self.timeout_keep_alive if is_between else HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Called by the parser: whose request it is, is for the application to find out."""
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read; what is too large has a status of its own."""
        if not self.parser.is_too_large:
            super().send_400_response(msg)
        elif not self._is_idle():
            self.transport.close()  # an earlier answer is under way; nothing may come between
        else:
            self._is_refused = True
            self._stop_waiting()
            self.transport.write(_ANSWER)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _is_idle(self) -> bool:
        """Whether no answer is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self, seconds: float) -> None:
        """Begin to wait; a sender that drips does not begin anew."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self._is_idle():
            self.transport.close()
        else:
            self._await_head(HEAD_SECONDS)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - BoundedProtocol._told >= _TOLD_SECONDS:
            BoundedProtocol._told = now
            LOGGER.warning(
                "found more than %d connections, so new ones are closed", self.connection_limit
            )


def bounded(connections: int) -> type[BoundedProtocol]:
    """The protocol of a server.

    Args:
        connections: so many may be open; at most as many as this process may have files.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        connections = min(connections, max(files - _OTHER_FILES, files // 2))
    return type("Connection", (BoundedProtocol,), {"connection_limit": connections})
