"""The platform's long-running programs as child processes that never outlive their parent."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fraud_platform.adapters import dagster_home
from fraud_platform.settings import Settings

Child = subprocess.Popen[bytes]
"""A running program."""

_PR_SET_PDEATHSIG = 1
_MARK = "FRAUD_PARENT_HOME"
_GRACE_SECONDS = 10


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[Child]:
    """Run a program for as long as the block lasts, its output in a file.

    It gets its own process group, which is stopped as a whole: politely, then by force.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 -- our own programs
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=born_under(),
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: Child) -> None:
    """Stop a process group: interrupt, wait, kill."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        break
    # Children of the program may survive its own orderly end; nothing is left of the group after.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def end_strays(home: Path) -> int:
    """Kill what an earlier parent on this home left behind when it was killed itself.

    A killed parent takes its children along, but not theirs: Dagster's code server and run workers
    live on for some seconds and would write into the home. They are known by a variable that only
    `environment` sets. Needs Linux's /proc; elsewhere nothing is done.

    Returns:
        How many processes were killed.
    """
    mark = f"{_MARK}={home.resolve()}".encode()
    strays = 0
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            is_me = int(entry.parent.name) == os.getpid()
            if not is_me and mark in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
                strays += 1
        except (PermissionError, ProcessLookupError, FileNotFoundError):
            continue  # another user's, or already gone
    return strays


def environment(settings: Settings) -> dict[str, str]:
    """The environment of every child: this one's, with the home and Dagster's home in it."""
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 -- children inherit what configures us
        # Feast sets these when it is imported: the scorer's metrics would end up in its files.
        if not name.upper().startswith("PROMETHEUS_MULTIPROC")
    }
    return inherited | {
        _MARK: str(settings.home.resolve()),
        "FRAUD_HOME": str(settings.home.resolve()),
        "FRAUD_SCORER_HOST": settings.scorer_host,
        "FRAUD_SCORER_PORT": str(settings.scorer_port),
        "DAGSTER_HOME": str(dagster_home.prepare(settings)),
        # Boosters and BLAS of several processes would otherwise spin on each other's cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONWARNINGS": "ignore",
        "PYTHONDONTWRITEBYTECODE": "",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": _mlflow_database(settings) or "",
        "FRAUD_CODE_COMMIT": settings.code_commit or _code_commit(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def scorer_command() -> list[str]:
    """The scorer, configured by the environment."""
    return [sys.executable, "-m", "serving"]


def daemon_command() -> list[str]:
    """Dagster's daemon: sensors, schedules, the run queue and backfills."""
    return [*_dagster("dagster_daemon"), "run", "-m", "fraud_platform.definitions"]


def dagster_command(host: str, port: int) -> list[str]:
    """Dagster's UI and daemon on one code server."""
    return [
        *_dagster("dagster"),
        *("dev", "-m", "fraud_platform.definitions", "-h", host, "-p", str(port)),
    ]


def mlflow_command(settings: Settings, host: str, port: int) -> list[str] | None:
    """MLflow's UI on the database in use; None when `mlflow_uri` is a server with its own UI.

    The database's address is in the environment: command lines are visible to everybody.
    """
    if _mlflow_database(settings) is None:
        return None
    place = (settings.mlflow_dir / "artifacts").resolve().as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *("--artifacts-destination", place, "--workers", "1"),
    ]


def _mlflow_database(settings: Settings) -> str | None:
    if settings.mlflow_uri is None:
        return f"sqlite:///{settings.mlflow_dir.resolve() / 'mlflow.db'}"
    uri = settings.mlflow_uri.get_secret_value()
    return None if uri.startswith(("http://", "https://")) else uri


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _code_commit() -> str:
    """The commit of the running code, marked when files differ from it; "unknown" without git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        described = subprocess.run(  # noqa: S603 -- our own arguments
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--match="],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def _dagster(program: str) -> list[str]:
    module = {"dagster": "dagster", "dagster_daemon": "dagster._daemon"}[program]
    return [sys.executable, "-m", module]


def born_under() -> Callable[[], None]:
    """What a child of this process does before its program starts.

    It takes back the default signal handling, because a shell that starts this in the background
    has SIGINT ignored and Dagster would then ignore SIGTERM too. On Linux it also asks to be ended
    when its parent is killed; elsewhere an orphan must be stopped by hand.
    """
    parent = os.getpid()
    # Found before the fork: a thread that the child does not have may hold the loader's lock there.
    prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None

    def arm() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the request was made
                os._exit(1)

    return arm
