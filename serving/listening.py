"""How the scorer's processes listen: uvicorn's configuration, and one port for several processes.

A port that fronts share is taken by their owner first, alone, so that two homes never share one;
then it lets the fronts in. The kernel spreads connections over the fronts that listen.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from fraud_platform.errors import PermanentError
from fraud_platform.settings import Settings
from serving.connections import bounded


def server_config(app: Any, settings: Settings, **changes: Any) -> uvicorn.Config:
    """What every HTTP server of a scorer has in common.

    Args:
        app: an ASGI application; what it has as `hot` connections ask by themselves.
        settings: the address.
        changes: other options of uvicorn.
    """
    # Whom a proxy speaks for, only uvicorn's own way finds out.
    hot = None if changes.get("proxy_headers") else getattr(app, "hot", None)
    told: dict[str, Any] = {
        "host": settings.scorer_host,
        "port": settings.scorer_port,
        "loop": "uvloop",
        "http": bounded(settings.connection_limit, hot),
        "ws": "none",
        "lifespan": "on",
        "access_log": False,  # the decision log is the record; request lines would hold ids
        "log_level": "warning",
        "proxy_headers": False,  # nothing here depends on who the client says it is
        "server_header": False,
        "timeout_keep_alive": 75,  # longer than the idle time of common connection pools
        "log_config": None,  # uvicorn's own lines look like all others
        "timeout_graceful_shutdown": 10,  # for what is in flight after SIGTERM
    }
    return uvicorn.Config(app, **(told | changes))


def require_one_worker(config: uvicorn.Config) -> None:
    """Refuse what asks for several independent scorers.

    Raises:
        PermanentError: WEB_CONCURRENCY, which uvicorn reads, wants more than one process.
    """
    if config.workers > 1:
        raise PermanentError(
            f"found WEB_CONCURRENCY={config.workers}, expected it unset or 1: workers that know"
            " nothing of each other count every card and terminal wrong",
            hint="unset WEB_CONCURRENCY; several processes before one owner of the state:"
            f" fraud-platform serve --fronts {config.workers}",
        )


@contextmanager
def reserved(host: str, port: int) -> Iterator[socket.socket]:
    """Keep a port for the fronts of this process for as long as the block lasts.

    Args:
        host: name or address.
        port: 0 takes a free one.

    Raises:
        PermanentError: somebody else listens there, or the address is not of this machine.
    """
    with _socket(host) as held:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections linger
            held.bind(_address(host, port))
        except OSError as error:
            raise PermanentError(
                f"found no way to listen on {host}, port {port}: {error.strerror}",
                hint="name another one: fraud-platform serve --host ... --port ...",
            ) from error
        # Only now, so that a port which others share was refused.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield held


def shared(host: str, port: int) -> socket.socket:
    """A front's own socket on the port that its owner has reserved.

    Raises:
        OSError: the port is not reserved for this user's fronts.
    """
    made = _socket(host)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(_address(host, port))
    return made


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0])


def _address(host: str, port: int) -> tuple[str, int]:
    return str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]), port
