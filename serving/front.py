"""`python -m serving.front HOST PORT`: one HTTP process in front of the owner of the state.

It does what is dear and needs no state: HTTP, admission, decoding, checking, tokens in the place of
card numbers, encoding. It is started and ended by its owner (`fraud-platform serve --fronts N`).
Limits on requests hold in each front for itself.
"""

import argparse
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import uvicorn
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from fraud_platform.settings import Settings, get_settings
from serving.access import Access
from serving.app import assemble_edge, wall_clock
from serving.context import Edge
from serving.listening import server_config, shared
from serving.logs import configure_logs
from serving.owner_socket import http_path, requests_path
from serving.passing import Passing, send_unavailable
from serving.paths import ScorerApp
from serving.remote_engine import RemoteEngine
from serving.schemas import HealthOut

_DECISIONS, _LABELS, _READY = b"/v1/decisions", b"/v1/labels", b"/health/ready"
_GRACE_SECONDS = 8
"""For what is in flight after SIGTERM; the owner waits a little longer."""


class Front:
    """The ASGI application of a front: an edge, and the owner for everything else.

    Args:
        edge: answers what is asked most.
        passing: answers the rest.
        owner: the way to what decides.

    Attributes:
        hot: answers payments before they get here.
    """

    def __init__(self, edge: ScorerApp, passing: Passing, owner: RemoteEngine) -> None:
        self._edge = edge
        self.hot = edge.hot
        self._passing = passing
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] != ScopeType.HTTP or is_answered_here(scope["raw_path"]):
            await self._edge(scope, receive, send)
        elif scope["raw_path"] == _READY and not self._owner.is_connected:
            # Also when the owner itself is ready: no payment would get there.
            body = msgspec.json.encode(HealthOut(status="not_ready"))
            await send_unavailable(body, scope, send)
        else:
            await self._passing(scope, receive, send)


def is_answered_here(raw_path: bytes) -> bool:
    """Whether the edge has this route; the owner has all, so any other answer is only slower.

    Examples:
        >>> is_answered_here(b"/v1/decisions/batch"), is_answered_here(b"/v1/decisions/t%2F1")
        (True, True)
        >>> is_answered_here(b"/v1/decisions/t1/explanation"), is_answered_here(b"/metrics")
        (False, False)
    """
    if raw_path in (_DECISIONS, _LABELS):
        return True
    head, slash, last = raw_path.rpartition(b"/")
    return bool(slash and last) and head == _DECISIONS


def create_front(settings: Settings) -> Front:
    """The application of one front of a home; nothing is opened."""
    owner = RemoteEngine(requests_path(settings.home), limit=settings.queue_limit)
    access = Access(settings, clock=wall_clock)
    edge = Edge(settings, owner, access, settings.edge_token_keys, wall_clock)
    return Front(
        assemble_edge(edge, refused=owner.refused, running=lambda: _running(owner)),
        Passing(http_path(settings.home), owner.refused),
        owner,
    )


@contextlib.asynccontextmanager
async def _running(owner: RemoteEngine) -> AsyncIterator[None]:
    await owner.start()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        await owner.stop()


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, answering what is under way first."""
    configure_logs(settings.log_format)
    config = server_config(
        create_front(settings), settings, workers=1, timeout_graceful_shutdown=_GRACE_SECONDS
    )
    listening = shared(settings.scorer_host, settings.scorer_port)
    listening.listen(config.backlog)  # before the owner hears of this front: then it may say so
    uvicorn.Server(config).run(sockets=[listening])


def arguments(host: str, port: int) -> tuple[str, ...]:
    """What follows the interpreter on a front's command line."""
    return ("-m", "serving.front", host, str(port))


def main() -> None:
    """Serve at the address on the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m serving.{Path(__file__).stem}")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    told = parser.parse_args()
    changes = {"scorer_host": told.host, "scorer_port": told.port}
    run(get_settings().model_copy(update=changes))


if __name__ == "__main__":
    main()
