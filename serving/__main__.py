"""`python -m serving`: the scorer as a process of its own."""

import logging
import os
import socket
import sys

import uvicorn

from fraud_platform.adapters.home import in_use
from fraud_platform.settings import Settings, get_settings
from serving.access import require_access
from serving.app import create_app
from serving.children import Child
from serving.logs import configure_logs

LOGGER = logging.getLogger("fraud_platform.scorer")


class _Announcing(uvicorn.Server):
    """Says where it listens once it does, so that a supervisor can wait for the line."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            sys.stdout.write(f"scorer listening on http://{host}:{port}\n")
            sys.stdout.flush()
            _tell_systemd("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _tell_systemd("STOPPING=1")
        await super().shutdown(sockets)


def _tell_systemd(state: str) -> None:
    """Say how this program is to who started it with Type=notify, as sd_notify(3) describes."""
    place = os.environ.get("NOTIFY_SOCKET")  # noqa: TID251 -- not ours: systemd names it so
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        try:
            told.sendto(state.encode(), f"\0{place[1:]}" if place[0] == "@" else place)
        except OSError as error:
            LOGGER.warning("systemd was not told %s: %s", state, error.strerror)


def _children(settings: Settings) -> tuple[Child, ...]:
    """What runs beside a scorer; they read the same environment."""
    drain = Child("the drain", ("-m", "serving.drain_loop"))
    if settings.postgres_url is None:
        return (drain,)
    return (drain, Child("the mirror", ("-m", "fraud_platform.cli", "mirror")))


def _leave_out_the_unused() -> None:
    """Have the boosters do without scikit-learn and pandas, as they can.

    They import both when they are there: more than a second of each start and 100 MB that no
    decision uses.
    """
    for name in ("sklearn", "pandas"):
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]  # how an import is forbidden


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, answering what is under way first.

    Raises:
        PermanentError: the home cannot be used, or is being emptied.
    """
    configure_logs(settings.log_format)
    LOGGER.info(require_access(settings))
    config = uvicorn.Config(
        create_app(settings, children=_children(settings)),
        host=settings.scorer_host,
        port=settings.scorer_port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,  # the decision log is the record; request lines would hold ids
        log_level="warning",
        proxy_headers=False,  # nothing here depends on who the client says it is
        server_header=False,
        timeout_keep_alive=75,  # longer than the idle time of common connection pools
        log_config=None,  # uvicorn's own lines look like all others
        timeout_graceful_shutdown=10,  # for what is in flight after SIGTERM
    )
    server = _Announcing(config)
    with in_use(settings.home):
        _leave_out_the_unused()
        server.run()
    if not server.started:
        sys.exit(3)


if __name__ == "__main__":
    run(get_settings())
