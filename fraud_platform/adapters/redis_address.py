"""The address of a Redis, taken apart once, so that what is secret in it is never shown."""

import json
from dataclasses import dataclass, field
from typing import Any

from fraud_platform.errors import PermanentError

_PATIENCE = {"socket_connect_timeout": 5, "socket_timeout": 5}
"""Seconds until a Redis that does not answer counts as away."""


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
            options = {**_PATIENCE, **parse_url(url)}  # type: ignore[no-untyped-call]  # theirs
        except ValueError:
            options = {}
        if "host" not in options:
            raise PermanentError(
                "The Redis address is not of the form redis://[user:password@]host:port/database.",
                hint="Correct FRAUD_REDIS_URL; rediss:// speaks TLS.",
            )
        if options.pop("connection_class", None) is SSLConnection:
            options["ssl"] = True
        return cls(options.pop("host"), options.pop("port", 6379), options)

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
