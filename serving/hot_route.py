"""The short way through `POST /v1/decisions`: the one route where the framework's share is felt.

Litestar routes the request here before it builds a request object or resolves dependencies. What
is refused is raised, so refusals are Litestar's own way out and look the same on both ways; other
methods, OPTIONS and the OpenAPI entry belong to the ordinary handler underneath. A contract test
holds the two ways together.
"""

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from serving.body import read_body
from serving.context import Edge
from serving.decoding import refuse_other_content
from serving.intake import ONE_PAYMENT, decide, payment_from

_ENCODER = msgspec.json.Encoder()
_TYPE = (b"content-type", b"application/json")


class HotDecisions:
    """Middleware that answers instead of the handler that it wraps.

    Args:
        app: the ordinary handler; never called.
        scorer: decides.
    """

    def __init__(self, app: ASGIApp, scorer: Edge) -> None:
        self._app = app
        self._scorer = scorer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit, read, decide, answer."""
        scorer, headers, client = self._scorer, list(scope["headers"]), scope["client"]
        scorer.access.admit(headers, client[0] if client else None, "score")
        refuse_other_content(headers)
        body = await read_body(receive, limit=ONE_PAYMENT)
        received_us = scorer.clock()
        payment = payment_from(body, received_us, scorer)
        answer = _ENCODER.encode(await decide(payment, received_us, scorer))
        length = (b"content-length", b"%d" % len(answer))
        await send({"type": "http.response.start", "status": 200, "headers": [_TYPE, length]})
        await send({"type": "http.response.body", "body": answer, "more_body": False})
