"""One connection to PostgreSQL that cannot hang for ever and never tells its password.

Errors of the driver become errors of the platform here. Their text holds no row and no secret:
details and contexts of PostgreSQL quote values, so only its state and its main sentence are kept.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import psycopg2.extensions
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from fraud_platform.errors import PermanentError, UnavailableError

_OPTIONS = {
    *("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"),
    *("channel_binding", "gssencmode", "krbsrvname", "passfile", "target_session_attrs"),
}
"""What an address may say after its "?"."""
_QUOTES_VALUES = ("22", "23")
"""Classes of SQL states whose sentence may repeat a value of a row."""
_FORM = "postgresql+psycopg2://[user:password@]host:port/database"


@dataclass(frozen=True)
class Patience:
    """How long to wait for PostgreSQL, seconds.

    Attributes:
        connect: until a server that does not take the connection counts as away.
        statement: until the server gives up on one statement.
        answer: until this side gives up on one exchange, whatever the network does.
        idle: until the server ends a transaction whose client has vanished.
    """

    connect: int = 5
    statement: int = 30
    answer: float = 60.0
    idle: int = 60


@dataclass(frozen=True)
class PostgresAddress:
    """Where a PostgreSQL is.

    Attributes:
        place: host, port and database: what may be shown.
        options: arguments of `psycopg2.connect`; may hold secrets.
    """

    place: str
    options: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "PostgresAddress":
        """Read `postgresql+psycopg2://[user:password@]host:port/database?sslmode=require`.

        Raises:
            PermanentError: it is not of this form; the message does not repeat it.
        """
        try:
            told = make_url(url)
            odd = bool(urlsplit(url).fragment) or "@" in (told.database or "")
        except (SQLAlchemyError, ValueError):
            told, odd = None, True
        if told is None or odd or told.drivername not in ("postgresql", "postgresql+psycopg2"):
            raise PermanentError(
                f"found a PostgreSQL address of another form, expected {_FORM}",
                hint="correct FRAUD_POSTGRES_URL; in a password, write special characters as %XX",
            )
        if not told.query.keys() <= _OPTIONS:
            # Not named: the rest of a password with an unescaped "?" would stand there too.
            raise PermanentError(
                "found an unknown option behind the '?' of the PostgreSQL address, expected only "
                + ", ".join(sorted(_OPTIONS)),
                hint="correct FRAUD_POSTGRES_URL; in a password, write ? as %3F",
            )
        options = told.translate_connect_args(username="user", database="dbname")
        options |= {name: v if isinstance(v, str) else v[0] for name, v in told.query.items()}
        where = f"{options.get('host', 'localhost')}:{options.get('port', 5432)}"
        return cls(f"{where}/{options.get('dbname', '')}", options)

    def connect(self, schema: str, patience: Patience) -> psycopg2.extensions.connection:
        """Open a connection whose unqualified names are those of the schema.

        Raises:
            UnavailableError: nobody answers, or the server does not let this user in.
        """
        server = {
            "search_path": schema,
            "statement_timeout": patience.statement * 1000,
            "lock_timeout": patience.statement * 1000,
            "idle_in_transaction_session_timeout": patience.idle * 1000,
            # A client that is cut off must not keep its locks for hours.
            "tcp_keepalives_idle": 10,
            "tcp_keepalives_interval": 5,
            "tcp_keepalives_count": 3,
        }
        client: dict[str, Any] = {
            "connect_timeout": patience.connect,
            "application_name": "fraud-platform mirror",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": int(patience.answer * 1000),
            "client_encoding": "utf8",
        }
        with self.translated():
            opened: psycopg2.extensions.connection = psycopg2.connect(
                **self.options, **client, options=" ".join(f"-c {k}={v}" for k, v in server.items())
            )
        return opened

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of the driver into those of the platform, without what they quote.

        Raises:
            UnavailableError: PostgreSQL is away, busy, full or not taking writes.
            PermanentError: it does not allow a statement, or lacks what the statement names.
        """
        try:
            yield
        except psycopg2.Error as error:
            told = f"found PostgreSQL at {self.place} unusable ({self._told(error)})"
            if isinstance(error, (psycopg2.ProgrammingError, psycopg2.DataError)):
                raise PermanentError(
                    f"{told}, expected to read and write the mirror's tables",
                    hint="check the grants of this role, and that nobody changed the tables",
                ) from None
            raise UnavailableError(
                f"{told}, expected to read and write it",
                hint="check that it runs, FRAUD_POSTGRES_URL, and that its disk has room",
            ) from None

    def _told(self, error: psycopg2.Error) -> str:
        state = error.pgcode
        if state and state.startswith(_QUOTES_VALUES):
            return f"SQL state {state}"
        said = (state and error.diag.message_primary) or str(error).strip() or "no answer"
        password = self.options.get("password")
        said = said.replace(password, "***") if password else said
        return f"{' '.join(said.split())}{f', SQL state {state}' if state else ''}"


@contextmanager
def deadline(connection: psycopg2.extensions.connection, seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer: what waits for an answer then fails.

    Time-outs of the server do not help against a network that swallows its answers.
    """
    with closing(socket.socket(fileno=os.dup(connection.fileno()))) as line:
        timer = threading.Timer(seconds, _cut, [line])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _cut(line: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        line.shutdown(socket.SHUT_RDWR)
