"""A connection of the scorer: uvicorn's, with limits on what comes before a request is known.

Nothing of a request is known, nor whose it is, until its headers are complete. Until then a sender
gets so many bytes and so many seconds, and all senders together so many connections. A plain
payment is answered here, without a task and without the application: `hot_route`.
"""

import asyncio
import logging
import resource
import time
from collections.abc import Sized
from functools import partial
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.head_parser import MOST_BYTES, HeadParser
from serving.hot_route import PATH, HotDecisions
from serving.schemas import ErrorOut

LOGGER = logging.getLogger("fraud_platform.scorer")

HEAD_SECONDS = 10.0
"""How long the headers of a request may take, from their first byte or the connection's start."""
_LINGER_SECONDS = 1.0
"""How long a refused sender may go on sending, so that it reads the refusal, not a reset."""
_BODY_SECONDS = 0.2
"""How long the connection itself waits for the rest of a body; longer waits the application."""
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


class HotCycle:
    """A payment that the connection answers, in the place of uvicorn's cycle of one request.

    Attributes:
        body: what came of it so far.
        more_body: whether that is not all.
        keep_alive: whether the connection stays open after the answer.
        response_started: never seen; the whole answer is sent at once.
        response_complete: whether it was answered.
        disconnected: whether its sender has left.
        message_event: as uvicorn's, for nobody.
    """

    __slots__ = ("body", "disconnected", "keep_alive", "more_body", "response_complete")

    message_event = asyncio.Event()
    response_started = False

    def __init__(self, *, keep_alive: bool) -> None:
        self.body = b""
        self.keep_alive = keep_alive
        self.more_body = True
        self.response_complete = self.disconnected = False


class _Flow(FlowControl):
    """Reads on only when no request waits for its turn.

    uvicorn's reads on with each answer, so that what came in between waits in memory, without end.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection; `bounded` says how many there may be, and who answers payments."""

    connection_limit = 1
    hot: Any = None
    parser: Any
    cycle: Any
    _told = -_TOLD_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = HeadParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._is_refused = False
        self._idle_since = 0.0
        self._begun: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Take one more connection, or none."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        if len(self.connections) > self.connection_limit:
            self.connections.discard(self)
            self._tell()
            transport.abort()
            return
        self._await(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._stop_waiting()
        self._unset_keepalive_if_required()  # uvicorn leaves it when a sender resets
        if self._is_half_here():
            self._hand_over()  # which says that the rest did not come
        if self._begun is not None:  # uvicorn tells only the newest, which may wait behind it
            self._begun.disconnected = True
            self._begun.message_event.set()
        if self.parser is not None:
            self.parser.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and wait only so long for the rest of a head."""
        if self._is_refused:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
            return
        if not self._is_idle():
            if self._is_half_here():
                self._await(_BODY_SECONDS)
        elif not self.transport.is_closing():
            is_between = self.cycle is not None and not self.parser.is_in_message
            self._await(self.timeout_keep_alive if is_between else HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """Called by the parser; what only the application needs is made when it is asked."""
        self._stop_waiting()  # for a head, from here on, and no longer for its beginning
        self.url = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        """Called by the parser: whose request it is, is still to be found out."""
        self._stop_waiting()
        if self._is_hot():
            self.cycle = HotCycle(keep_alive=self.parser.should_keep_alive())
        else:
            self._ask_application()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        cycle = self.cycle
        if type(cycle) is HotCycle:
            cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        cycle = self.cycle
        if type(cycle) is not HotCycle:
            super().on_message_complete()
            return
        cycle.more_body = False
        self._stop_waiting()
        self._decide(cycle)

    def on_response_complete(self) -> None:
        """Called by whoever has answered."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was silent for too long.

        Called now and then, since an answer of the hot way does not begin to count anew.
        """
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or not self._is_idle():
            return  # an answer under way begins to count anew
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.parser.is_in_message:
            self._await(HEAD_SECONDS)
        elif left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(
                left, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read; what is too large has a status of its own.

        A refusal behind requests whose answers are still to come would be taken for one of those:
        they are answered, and then the connection is closed.
        """
        self._is_refused = True
        self._stop_waiting()
        is_idle = self._is_idle()
        if not is_idle and not self.cycle.more_body:
            self.cycle.keep_alive = False
        elif not is_idle and (self.pipeline or self.cycle.response_started):
            self.transport.close()
        elif not self.parser.is_too_large:
            super().send_400_response(msg)
        else:
            self.transport.write(_ANSWER)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._begun = cycle
        super()._start_asgi_task(cycle, app)

    def _is_idle(self) -> bool:
        """Whether no answer is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _is_half_here(self) -> bool:
        """Whether the rest of a body is still to come before the connection can answer."""
        return type(self.cycle) is HotCycle and self.cycle.more_body

    def _await(self, seconds: float) -> None:
        """Begin to wait; a sender that drips does not begin anew."""
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_idle():
            self.transport.close()
        elif self._is_half_here():
            self._hand_over()
        else:
            self._await(HEAD_SECONDS)

    def _is_hot(self) -> bool:
        """Whether the connection answers what begins here: a plain payment, in its turn."""
        return (
            self.url == PATH
            and self.hot is not None
            and self._is_idle()
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.hot.takes(self.headers)
        )

    def _ask_application(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url, self.headers = url, headers
        self.scope["headers"] = headers
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers
        )
        super().on_headers_complete()

    def _hand_over(self) -> None:
        """Have the application wait for the rest of a body, and refuse it if it has to."""
        begun, self.cycle = self.cycle, None
        self._ask_application()
        self.cycle.keep_alive = begun.keep_alive
        self.cycle.body += begun.body

    def _decide(self, cycle: HotCycle) -> None:
        host = self.client[0] if self.client else None
        try:
            asked = self.hot.ask(self.headers, host, cycle.body)
        except Exception as error:  # noqa: BLE001 -- each has an answer, a defect a 500
            # Later, as all answers: what was sent behind this request waits for its turn.
            asked = self.loop.create_future()
            asked.set_exception(error)
        asked.add_done_callback(partial(self._answer, cycle))

    def _answer(self, cycle: HotCycle, asked: asyncio.Future[Any]) -> None:
        defaults = self.server_state.default_headers
        answer = self.hot.answer(asked, defaults, stays=cycle.keep_alive)
        cycle.response_complete = True
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        if not cycle.keep_alive:
            self.transport.close()
        if self.pipeline or self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._idle_since = self.loop.time()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - BoundedProtocol._told >= _TOLD_SECONDS:
            BoundedProtocol._told = now
            LOGGER.warning(
                "found more than %d connections, so new ones are closed", self.connection_limit
            )


def bounded(connections: int, hot: HotDecisions | None = None) -> type[BoundedProtocol]:
    """The protocol of a server.

    Args:
        connections: so many may be open; at most as many as this process may have files.
        hot: answers plain payments; None: the application answers everything.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        connections = min(connections, max(files - _OTHER_FILES, files // 2))
    return type("Connection", (BoundedProtocol,), {"connection_limit": connections, "hot": hot})
