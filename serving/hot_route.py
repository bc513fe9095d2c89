"""`POST /v1/decisions` without the framework: the one route where the framework's share is felt.

A connection asks here, with what it has read, and sends what it gets; nothing here waits. A plain
request with a small body is answered so; whatever is unusual, about a request or its way, is
Litestar's. A contract test holds the two ways together, byte by byte.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving import sandbox
from serving.context import Edge
from serving.decoding import refuse_other_content
from serving.group import DecisionRequest
from serving.headers import ALWAYS
from serving.intake import ONE_PAYMENT, decide, decided, payment_from
from serving.refusals import Refusals
from serving.schemas import DecisionOut

PATH = b"/v1/decisions"

_ENCODER = msgspec.json.Encoder()
_CLOSE = b"connection: close\r\n"
_JSON = (b"content-type", b"application/json")
_UNUSUAL = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"trailer"})
_DIGITS = len(str(ONE_PAYMENT))

Headers = Sequence[tuple[bytes, bytes]]


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


_END = _lines(ALWAYS)
_TYPE = b"content-type: application/json\r\ncontent-length: %d\r\n" + _END + b"%b\r\n%b"


class HotDecisions:
    """Decides on what a connection has read.

    Args:
        scorer: admits and decides.
        refusals: of the application, so that both ways refuse in the same words.
    """

    def __init__(self, scorer: Edge, refusals: Refusals) -> None:
        self._scorer = scorer
        self._refusals = refusals
        self._defaults: Headers | None = None
        self._begin = b""

    @staticmethod
    def takes(headers: Headers) -> bool:
        """Whether this is a plain request: no header twice, and one small body, as long as it says.

        Args:
            headers: names in lower case.
        """
        once = dict(headers)
        length = once.get(b"content-length", b"")
        return (
            len(once) == len(headers)
            and _UNUSUAL.isdisjoint(once)
            and len(length) <= _DIGITS
            and length.isdigit()
            and int(length) <= ONE_PAYMENT
        )

    def ask(self, headers: Headers, client_host: str | None, body: bytes) -> asyncio.Future[Any]:
        """Admit, read and put into the queue; what comes of it is for `answer`.

        Raises:
            RefusedError: before anything was decided.
            FraudPlatformError: the engine takes nothing.
        """
        scorer = self._scorer
        scorer.access.admit(headers, client_host, "score")
        if _JSON not in headers:  # where there is one, there is no other
            refuse_other_content(headers)
        received_us = scorer.clock()
        payment = payment_from(body, received_us, scorer)
        if payment.older or payment.transaction.card_id in sandbox.CARDS:
            return asyncio.ensure_future(decide(payment, received_us, scorer))
        return scorer.engine.submit(DecisionRequest(payment.transaction, received_us))

    def answer(self, asked: asyncio.Future[Any], defaults: Headers, *, stays: bool) -> bytes:
        """The whole answer to what was asked.

        Args:
            asked: what `ask` returned, done.
            defaults: headers of the server's own, the same object for as long as they hold.
            stays: whether the connection stays open.
        """
        try:
            found = asked.result()
            out = found if isinstance(found, DecisionOut) else decided(found)
        except Exception as error:  # noqa: BLE001 -- each has an answer, a defect a 500
            return self._refusal(error, defaults, stays)
        body = _ENCODER.encode(out)
        if defaults is not self._defaults:
            self._defaults, self._begin = defaults, STATUS_LINE[200] + _lines(defaults)
        return self._begin + _TYPE % (len(body), b"" if stays else _CLOSE, body)

    def _refusal(self, error: Exception, defaults: Headers, stays: bool) -> bytes:
        refused = self._refusals.answer_to(error, "POST /v1/decisions")
        own = [(name.encode(), value.encode("latin-1")) for name, value in refused.headers.items()]
        begin = STATUS_LINE[refused.status] + _lines([*defaults, *own])
        body = refused.body
        return begin + _TYPE % (len(body), b"" if stays else _CLOSE, body)
