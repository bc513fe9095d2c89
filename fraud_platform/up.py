"""Everything on one machine: Dagster, scorer and MLflow until Ctrl-C."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

import httpx

from fraud_platform import processes
from fraud_platform.adapters.home import occupied
from fraud_platform.errors import UnavailableError
from fraud_platform.settings import Settings

_START_SECONDS = 180
_HERE = "127.0.0.1"


def run_until_interrupted(
    settings: Settings, *, dagster_port: int, mlflow_port: int, say: Callable[[str], None]
) -> None:
    """Start the three programs, print their addresses, stop them on Ctrl-C or SIGTERM.

    Raises:
        UnavailableError: one of them did not start or ended by itself.
    """
    logs = settings.home.resolve() / "logs"
    environment = processes.environment(settings)
    scorer = f"http://{settings.scorer_host}:{settings.scorer_port}"
    # The UIs can launch code and have no login: they stay on this machine.
    dagster = processes.dagster_command(_HERE, dagster_port)
    mlflow = processes.mlflow_command(settings, _HERE, mlflow_port)
    programs = {
        "dagster": (dagster, f"http://{_HERE}:{dagster_port}", "/server_info"),
        "scorer": (processes.scorer_command(), scorer, "/health/live"),
    }
    if mlflow is not None:
        programs["mlflow"] = (mlflow, f"http://{_HERE}:{mlflow_port}", "/health")
    # A shell that starts this in the background has SIGINT ignored; take it back.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with occupied(settings.home), ExitStack() as stack:
        processes.end_strays(settings.home)
        running = {
            name: stack.enter_context(processes.running(command, environment, logs / f"{name}.log"))
            for name, (command, _, _) in programs.items()
        }
        say(f"starting; logs are in {logs}")
        try:
            for name, (_, address, probe) in programs.items():
                _wait_until_up(name, running[name], address + probe, logs)
                say(f"{name:8} {address}")
            say("Ctrl-C stops all of them")
            while True:
                for name, process in running.items():
                    _must_live(name, process, logs)
                time.sleep(1)
        except KeyboardInterrupt:
            say("stopping")


def _wait_until_up(name: str, process: processes.Child, address: str, logs: object) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        _must_live(name, process, logs)
        try:
            if httpx.get(address, timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise UnavailableError(
        f"found no answer from {name} at {address} within {_START_SECONDS} s",
        hint=f"read {logs}/{name}.log",
    )


def _must_live(name: str, process: processes.Child, logs: object) -> None:
    if process.poll() is not None:
        raise UnavailableError(
            f"found {name} ended with code {process.returncode}, expected it to run",
            hint=f"read {logs}/{name}.log; is its port taken?",
        )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
