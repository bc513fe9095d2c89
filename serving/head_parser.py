"""Between httptools and uvicorn: how much of a request is kept before it is known, and no upgrades.

httptools keeps an unfinished header for as long as it grows, and at `Upgrade:` ends the request
with its headers, so that what follows, its body, would be read as another request. Here a head has
a limit, and an upgrade is ignored, as RFC 9110 (7.8) lets a server: the request is read as if it
had not asked. Trailers count against the limit and are dropped.
"""

from typing import Any, NoReturn, Protocol

import httptools

MOST_BYTES = 32 * 1024
"""The largest head: request line, headers and trailers."""
_BREAKS = (b"\r", b"\n", b"\0")


class Heard(Protocol):
    """What uvicorn's protocol does with the parts of a request; headers are put into its list."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A part of its target."""

    def on_headers_complete(self) -> None:
        """Its body begins."""

    def on_body(self, body: bytes) -> None:
        """A part of its body."""

    def on_message_complete(self) -> None:
        """It is here."""


class HeadParser:
    """Takes the place of `httptools.HttpRequestParser` in uvicorn's protocol.

    Args:
        protocol: hears of the parts.
    """

    def __init__(self, protocol: Heard) -> None:
        self._protocol: Any = protocol
        self._parser: Any = _new_parser(self)
        self._add: Any = None
        self._size = 0
        self._silent = 0
        self._heard = False
        self.is_too_large = False
        self.is_in_message = False

    def close(self) -> None:
        """Let go of the protocol; nothing is fed any more."""
        self._parser = self._protocol = self._add = None

    def feed_data(self, data: bytes) -> None:
        """Read on.

        Raises:
            httptools.HttpParserError: this is no HTTP, or a head is too large.
        """
        if len(data) <= MOST_BYTES:
            self._feed(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), MOST_BYTES):
            self._feed(view[start : start + MOST_BYTES])

    def get_http_version(self) -> str:
        """As httptools says."""
        version: str = self._parser.get_http_version()
        return version

    def get_method(self) -> bytes:
        """As httptools says."""
        method: bytes = self._parser.get_method()
        return method

    def should_keep_alive(self) -> bool:
        """As httptools says."""
        return bool(self._parser.should_keep_alive())

    def should_upgrade(self) -> bool:
        """Never."""
        return False

    def on_message_begin(self) -> None:
        """Called by httptools."""
        self._heard = self.is_in_message = True
        self._size = 0
        self._protocol.on_message_begin()
        self._add = self._protocol.headers.append

    def on_url(self, url: bytes) -> None:
        """Called by httptools."""
        self._grow(len(url))
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        self._grow(len(name) + len(value) + 4)  # a colon, a blank and the line's end
        self._add((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        self._heard = True
        self._add = _drop
        if not self._parser.should_upgrade():
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by httptools."""
        self._heard = True
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        self._heard = True
        if not self._parser.should_upgrade():
            self.is_in_message = False
            self._protocol.on_message_complete()

    def _feed(self, piece: bytes | memoryview) -> None:
        self._heard = False
        self._read(piece)
        # What the parser tells nobody of, it keeps: a header without an end.
        self._silent = 0 if self._heard else self._silent + len(piece)
        if self._silent > MOST_BYTES:
            self._refuse()

    def _read(self, piece: bytes | memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as asked:
                piece = piece[asked.args[0] :]
                self._begin_again()
            else:
                return

    def _begin_again(self) -> None:
        """Read the head that asked for an upgrade as one that did not; its body is still to come.

        Raises:
            httptools.HttpParserError: CONNECT, which cannot go on as anything else.
        """
        protocol = self._protocol
        kept = [pair for pair in protocol.headers if pair[0] != b"upgrade"]
        values = [protocol.url, *(value for _, value in kept)]
        if self.get_method() == b"CONNECT" or any(b in v for v in values for b in _BREAKS):
            raise httptools.HttpParserError("found a request that is nothing but an upgrade")
        version = self.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.get_method(), protocol.url, version)]
        lines += [b"%b: %b" % pair for pair in kept]
        self._parser = _new_parser(self)
        self._parser.feed_data(b"\r\n".join([*lines, b"", b""]))

    def _grow(self, count: int) -> None:
        self._heard = True
        self._size += count
        if self._size > MOST_BYTES:
            self._refuse()

    def _refuse(self) -> NoReturn:
        self.is_too_large = True
        raise httptools.HttpParserError("found a head that is too large")


def _drop(trailer: tuple[bytes, bytes]) -> None:
    """Trailers are no headers: who looked at these has let the request pass (RFC 9110, 6.5.1)."""


def _new_parser(target: HeadParser) -> Any:
    parser = httptools.HttpRequestParser(target)
    # As uvicorn has it: what follows `connection: close` is not held against the request before.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
