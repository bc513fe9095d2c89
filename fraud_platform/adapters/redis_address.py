"""The address of a Redis, taken apart once, so that what is secret in it is never shown."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fraud_platform.errors import PermanentError

_PATIENCE = {"socket_connect_timeout": 5, "socket_timeout": 5}
"""Seconds until a Redis that does not answer counts as away."""

_OPTIONS = {
    *("db", "username", "password", "client_name"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval"),
    *("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    *("ssl_cert_reqs", "ssl_check_hostname"),
}
"""What an address may say after its "?". The client has more, but some change what it answers."""


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis is, and how to reach it.

    Attributes:
        host: name or IPv4 address.
        port: its port.
        options: what else the client is told, as arguments of `redis.Redis`; may hold secrets.
    """

    host: str
    port: int
    options: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Read `redis://[user:password@]host:port/database?option=value`, or `rediss://` for TLS.

        Raises:
            PermanentError: it is not of this form; the message does not repeat it.
        """
        from redis.connection import SSLConnection, parse_url

        try:
            options = parse_url(url)  # type: ignore[no-untyped-call]  # theirs
            told = urlsplit(url)
        except ValueError:
            options, told = {}, urlsplit("")
        if "host" not in options or ("db" not in options and told.path.strip("/")):
            raise PermanentError(
                "found a Redis address of another form, expected "
                "redis://[user:password@]host:port/database",
                hint="correct FRAUD_REDIS_URL; rediss:// speaks TLS",
            )
        if not parse_qs(told.query).keys() <= _OPTIONS:
            # Not named: the rest of a password with an unescaped "?" would stand there too.
            raise PermanentError(
                "found an unknown option behind the '?' of the Redis address, expected only "
                + ", ".join(sorted(_OPTIONS)),
                hint="correct FRAUD_REDIS_URL; in a password, write ? as %3F",
            )
        if options.pop("connection_class", None) is SSLConnection:
            options["ssl"] = True
        host, port = options.pop("host"), options.pop("port", 6379)
        return cls(host, port, {**_PATIENCE, **options})

    @property
    def place(self) -> str:
        """Host, port and number of the database: what may be shown."""
        return f"{self.host}:{self.port}/{self.options.get('db', 0)}"

    def for_feast(self) -> dict[str, Any]:
        """The configuration of Feast's online store on this Redis."""
        # Feast splits at commas and reads values as JSON, where a comma can be written differently.
        parts = (f"{k}={json.dumps(v)}".replace(",", "\\u002c") for k, v in self.options.items())
        return {
            "type": "redis",
            "connection_string": ",".join([f"{self.host}:{self.port}", *parts]),
            # Only what is new is pushed; a recomputed value of the same instant must replace.
            "skip_dedup": True,
        }
