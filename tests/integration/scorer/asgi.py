"""Speaks ASGI to a scorer's application without a network, so that tests can send what no HTTP
client would: lying lengths, broken chunks, a sender that goes away."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from litestar import Litestar

JSON = ("content-type", "application/json")
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 when nothing did."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class Caller:
    """One application in one event loop of its own."""

    def __init__(self, app: Litestar, runner: asyncio.Runner) -> None:
        self._app = app
        self._runner = runner

    def run(self, story: Awaitable[Any]) -> Any:
        async def whole() -> Any:
            return await story

        return self._runner.run(whole())

    def post(self, path: str, body: object, headers: Headers = (JSON,)) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, [content], headers)

    def get(self, path: str, headers: Headers = ()) -> Answer:
        return self.send("GET", path, [], headers)

    def send(
        self, method: str, path: str, chunks: Sequence[bytes], headers: Headers = ()
    ) -> Answer:
        return self.run(self.sending(method, path, chunks, headers))

    async def sending(
        self,
        method: str,
        path: str,
        chunks: Sequence[bytes],
        headers: Headers = (),
        *,
        receive: Callable[[], Awaitable[Any]] | None = None,
    ) -> Answer:
        raw, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": unquote(raw, errors="replace"),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"scorer"), *_encoded(headers)],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8080),
            "state": {},
        }
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive or _receiving(chunks), send)  # type: ignore[arg-type]
        if not sent:
            return Answer(0, (), b"")
        start, *bodies = sent
        names = tuple((name.decode(), value.decode()) for name, value in start["headers"])
        return Answer(start["status"], names, b"".join(m.get("body", b"") for m in bodies))


@contextmanager
def calling(app: Litestar) -> Iterator[Caller]:
    """The application, started, until the end of the block."""
    with asyncio.Runner() as runner:
        stop = asyncio.Event()
        living = runner.run(_started(app, stop))
        try:
            yield Caller(app, runner)
        finally:
            stop.set()
            runner.run(_ended(living))


async def _started(app: Litestar, stop: asyncio.Event) -> "asyncio.Task[None]":
    started = asyncio.Event()

    async def live() -> None:
        # One task from start to end, as a server has it.
        async with app.lifespan():
            started.set()
            await stop.wait()

    living = asyncio.create_task(live())
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({living, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if living.done():
        waiting.cancel()
        await living
    return living


async def _ended(living: "asyncio.Task[None]") -> None:
    await living


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]


def _receiving(chunks: Sequence[bytes]) -> Callable[[], Awaitable[Any]]:
    parts = list(chunks) or [b""]
    left = iter(
        [
            {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
            for place, part in enumerate(parts)
        ]
    )

    async def receive() -> Any:
        await asyncio.sleep(0)
        return next(left, {"type": "http.disconnect"})

    return receive
