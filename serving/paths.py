"""Ids in paths: any character may stand in one, also an encoded slash, and any word."""

from typing import Any
from urllib.parse import unquote

from litestar import Litestar, Request

from serving.hot_route import HotDecisions

_PLACE = 2  # /v1/decisions/{transaction_id}
_BATCH = "/v1/decisions/batch"
"""Where several payments are sent, and where a payment of that id would be looked up."""


class ScorerApp(Litestar):
    """Litestar, except that an encoded slash stays inside its part of the path.

    Attributes:
        hot: answers payments before they get here; None: nothing does.
    """

    hot: HotDecisions | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one connection."""
        raw = scope.get("raw_path")
        if raw is not None and b"%2" in raw and scope["type"] == "http":
            scope["path"] = "/" + "/".join(part.replace("/", "%2F") for part in _parts(raw))
        if scope.get("method") == "GET" and scope["path"].startswith(_BATCH):
            # To ask is to ask for an id, also for this one; `transaction_id_of` reads it itself.
            scope["path"] = scope["path"].replace(_BATCH, f"{_BATCH}%2F", 1)
        await super().__call__(scope, receive, send)


def transaction_id_of(request: Request[Any, Any, Any]) -> str:
    """The id in a path below /v1/decisions/, exactly as its sender meant it.

    Litestar's own parameter cannot tell an encoded slash from the text `%2F`.
    """
    return _parts(request.scope["raw_path"])[_PLACE]


def _parts(raw: bytes) -> list[str]:
    plain = raw.partition(b"?")[0].decode("ascii", errors="replace")
    return [unquote(part, errors="replace") for part in plain.split("/") if part]
