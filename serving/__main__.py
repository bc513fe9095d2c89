"""`python -m serving`: the scorer as a process of its own."""

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from fraud_platform.adapters.drain import readable
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.home import in_use
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.ledger import owner_lock
from fraud_platform.adapters.log_file import JOURNAL_FOLDER
from fraud_platform.adapters.policy_watch import tell_policies
from fraud_platform.errors import FraudPlatformError
from fraud_platform.settings import Settings, get_settings
from serving.access import require_access
from serving.app import create_app
from serving.children import Child
from serving.front import arguments as front_arguments
from serving.listening import require_one_worker, reserved, server_config
from serving.logs import configure_logs
from serving.owner_socket import OwnerSocket, bound, http_path, owned, requests_path

LOGGER = logging.getLogger("fraud_platform.scorer")


class _Announcing(uvicorn.Server):
    """Says where it listens once it does, so that a supervisor can wait for the line."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            await self.announce()

    async def announce(self) -> None:
        """Tell where this very process listens."""
        _announce(self.servers[0].sockets[0])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _tell_systemd("STOPPING=1")
        await super().shutdown(sockets)


class _Owning(_Announcing):
    """The same for a process behind fronts: it says where they listen, once all of them do.

    Args:
        config: of the server on the Unix socket.
        door: where the fronts come in.
        held: the port that they share.
    """

    def __init__(self, config: uvicorn.Config, door: OwnerSocket, held: socket.socket) -> None:
        super().__init__(config)
        self._door = door
        self._held = held
        self._waiting: asyncio.Task[None] | None = None

    async def announce(self) -> None:
        self._waiting = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        await self._door.complete.wait()
        _announce(self._held)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        places = [self._door.path, *(Path(one.getsockname()) for one in sockets or [])]
        await super().shutdown(sockets)
        for place in places:
            place.unlink(missing_ok=True)


def _announce(listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    sys.stdout.write(f"scorer listening on http://{host}:{port}\n")
    sys.stdout.flush()
    _tell_systemd("READY=1")


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
        PermanentError: the home or the address cannot be used, or several workers are wanted.
    """
    configure_logs(settings.log_format)
    LOGGER.info(require_access(settings))
    require_one_worker(server_config(None, settings))
    with in_use(settings.home):
        # Asked here too, because what fails inside the server is told with its traces.
        journal = FolderDisk(settings.log_path.with_name(JOURNAL_FOLDER))
        with readable():
            owner_lock(journal).close()
        _leave_out_the_unused()
        _tell_policies(settings)
        started = _with_fronts(settings) if settings.scorer_fronts else _alone(settings)
    if not started:
        sys.exit(3)


def _tell_policies(settings: Settings) -> None:
    """Have the audit log say by which policies it decides; a scorer starts without it, too."""
    try:
        tell_policies(settings, governance_of(settings), origin="scorer")
    except (FraudPlatformError, OSError) as error:
        LOGGER.warning("the audit log does not know by which policies this decides: %s", error)


def _alone(settings: Settings) -> bool:
    app = create_app(settings, children=_children(settings))
    server = _Announcing(server_config(app, settings))
    server.run()
    return server.started


def _with_fronts(settings: Settings) -> bool:
    """Own the state behind other processes: HTTP on a Unix socket only, for what they pass on."""
    with (
        owned(settings.home),
        reserved(settings.scorer_host, settings.scorer_port) as held,
    ):
        count, (host, port) = settings.scorer_fronts, held.getsockname()[:2]
        fronts = (Child(f"front {n + 1}", front_arguments(host, port)) for n in range(count))
        door = OwnerSocket(requests_path(settings.home), expected=count)
        app = create_app(settings, children=(*_children(settings), *fronts), door=door)
        # Nobody but fronts gets at the socket, so whom they say they speak for is believed.
        trust = {"proxy_headers": True, "forwarded_allow_ips": "*"}
        server = _Owning(server_config(app, settings, **trust), door, held)
        server.run(sockets=[bound(http_path(settings.home))])
        return server.started


if __name__ == "__main__":
    run(get_settings())
