"""Senders of payments and verdicts that never forget what they asked and what they were told."""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fraud_platform.events import microseconds
from fraud_platform.load.client import Pool, Target
from serving.schemas import TRANSACTION_DECODER, transaction_from
from tests.e2e.history import Asked, unresolved

Token = list[Asked]
"""What one request asked for: a batch of verdicts asks several things."""

_VERDICT_SHARE = 0.15
_BATCH = 5


@dataclass
class Traffic:
    """What is sent to one scorer after another, and everything that came of it.

    Attributes:
        seed: same seed, same payments.
        cards: who pay.
        largest: no amount reaches it, minor units; the small models suspect those above 4,000.
        history: every request.
        refusals: status and code of answers that are neither 200 nor meant to be refused.
        again: what is to be asked before anything new.
    """

    seed: int
    cards: int = 40
    largest: int = 9_000
    history: list[Asked] = field(default_factory=list)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    again: deque[tuple[str, dict[str, Any]]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._base = datetime.now(UTC) - timedelta(days=2)
        self._sent = 0
        self._bodies: dict[str, dict[str, Any]] = {}
        self._known: list[str] = []  # acknowledged payments
        self._verdicts: list[dict[str, Any]] = []  # acknowledged verdicts

    @property
    def acknowledged(self) -> int:
        """How many requests were answered with what they asked for."""
        return sum(one.is_ok for one in self.history)

    def ask_again(self, *, sample: int = 20) -> None:
        """Before all else: what is unknown, some of what is known, and some of both altered."""
        for (kind, _), one in unresolved(self.history).items():
            body = self._body(one)
            if kind == "decision" and self._chance.random() < 0.1:
                self.again.append((kind, self._altered(body)))
            self.again.append((kind, body))
        chosen = self._chance.sample(self._known, min(sample, len(self._known)))
        for place, name in enumerate(chosen):
            body = self._bodies[name]
            self.again.append(("decision", self._altered(body) if place % 5 == 4 else body))
        verdicts = self._chance.sample(self._verdicts, min(sample // 4, len(self._verdicts)))
        self.again.extend(("label", verdict) for verdict in verdicts)

    def next(self) -> tuple[str, Token, bytes]:
        """The path, what is asked, and the body of one more request."""
        if self.again:
            kind, body = self.again.popleft()
            return self._made(kind, [body])
        if self._known and self._chance.random() < _VERDICT_SHARE:
            count = _BATCH if self._chance.random() < 0.2 else 1
            return self._made("label", [self._verdict() for _ in range(count)])
        if self._known and self._chance.random() < 0.05:
            return self._made("decision", [self._bodies[self._chance.choice(self._known)]])
        return self._made("decision", [self._payment()])

    def answered(self, token: Token, status: int, body: bytes) -> None:
        """Take note of an answer, or of a connection's end."""
        now = time.monotonic_ns()
        told = json.loads(body) if body else {}
        for place, one in enumerate(token):
            one.ended, one.status, one.answer = now, status, told
            if status == 200 and "results" in told:
                one.answer = told["results"][place]
                one.status = 422 if "error" in one.answer else 200
                one.answer.pop("index", None)
            self._note(one)

    def _note(self, one: Asked) -> None:
        if not one.is_ok:
            if one.status and one.code != "idempotency_conflict":
                self.refusals.append((one.status, one.code))
        elif one.kind == "decision":
            if one.is_first:
                self._known.append(str(one.key))
        elif one.is_first:
            self._verdicts.append(self._body(one))

    def _payment(self) -> dict[str, Any]:
        number, self._sent = self._sent, self._sent + 1
        moment = self._base + timedelta(seconds=number)
        if self._chance.random() < 0.05:
            moment -= timedelta(hours=self._chance.randrange(1, 300))
        body = {
            "transaction_id": f"s{self.seed}n{number}",
            "event_timestamp": moment.isoformat(),
            "card_id": f"card-{self._chance.randrange(self.cards)}",
            "terminal_id": f"terminal-{self._chance.randrange(15)}",
            "amount_minor": self._chance.randrange(100, self.largest),
            "currency": "EUR",
        }
        self._bodies[f"s{self.seed}n{number}"] = body
        return body

    def _altered(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "amount_minor": body["amount_minor"] + 1}

    def _verdict(self) -> dict[str, Any]:
        body = self._bodies[self._chance.choice(self._known)]
        moment = datetime.fromisoformat(body["event_timestamp"])
        return {
            "transaction_id": body["transaction_id"],
            "verdict": self._chance.choice(["fraud", "genuine", "withdrawn"]),
            "source": self._chance.choice(["chargeback", "analyst"]),
            "known_at": (moment + timedelta(hours=self._chance.randrange(4))).isoformat(),
        }

    def _made(self, kind: str, bodies: list[dict[str, Any]]) -> tuple[str, Token, bytes]:
        now = time.monotonic_ns()
        token = [_asked(kind, body, now) for body in bodies]
        self.history += token
        content = json.dumps(bodies[0] if len(bodies) == 1 else bodies).encode()
        return kind, token, content

    def _body(self, one: Asked) -> dict[str, Any]:
        """The request that asks for the same again."""
        if one.kind == "decision":
            body = self._bodies[str(one.key)]
            return body if one.value.amount_minor == body["amount_minor"] else self._altered(body)
        name, verdict, source, known_us = one.key  # type: ignore[misc]  # a verdict's key
        known_at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=known_us)
        said = {"verdict": verdict, "source": source, "known_at": known_at.isoformat()}
        return {"transaction_id": name, **said}


def _asked(kind: str, body: dict[str, Any], now: int) -> Asked:
    if kind == "decision":
        sent = transaction_from(TRANSACTION_DECODER.decode(msgspec.json.encode(body)))
        return Asked(kind, sent.transaction_id, sent, now)
    known_us = microseconds(datetime.fromisoformat(body["known_at"]))
    return Asked(
        kind, (body["transaction_id"], body["verdict"], body["source"], known_us), None, now
    )


class Senders:
    """Connections to one scorer that keep so many requests under way until it is gone.

    Args:
        url: of the scorer.
        traffic: what to send.
        connections: for payments; a quarter as many more carry verdicts.
        rate: requests per second; None: each connection asks again as soon as it is answered.
    """

    def __init__(
        self, url: str, traffic: Traffic, *, connections: int = 8, rate: float | None = None
    ) -> None:
        self._traffic = traffic
        self._counts = {"decision": connections, "label": max(1, connections // 4)}
        paths = {"decision": "/v1/decisions", "label": "/v1/labels"}
        self._pools: dict[str, Pool[Token]] = {
            kind: Pool(Target.of(url, path, {}), self._answered) for kind, path in paths.items()
        }
        self._rate = rate
        self._pacing: asyncio.Task[None] | None = None
        self._under_way = 0
        self._is_open = True
        self.answers = 0
        self.acknowledged = 0
        self.lost: list[Asked] = []

    async def flow(self, until: Callable[[], object], *, seconds: float = 120.0) -> None:
        """Send until a condition holds or a connection is lost."""
        for kind, pool in self._pools.items():
            await pool.open(self._counts[kind])
        if self._rate is None:
            for _ in range(self._counts["decision"]):
                self._send()
        else:
            self._pacing = asyncio.create_task(self._pace(self._rate))
        await self.resumed(until, seconds=seconds)

    async def resumed(self, until: Callable[[], object], *, seconds: float = 120.0) -> None:
        """Go on sending until a condition holds or a connection is lost."""
        deadline = time.monotonic() + seconds
        while self._is_open and not until():
            assert time.monotonic() < deadline, "the scorer stopped answering"
            await asyncio.sleep(0.002)

    async def drained(self, *, seconds: float = 60.0) -> None:
        """Stop sending, and wait for the answers that are still to come."""
        self._is_open = False
        deadline = time.monotonic() + seconds
        while self._under_way:
            assert time.monotonic() < deadline, "answers did not come"
            await asyncio.sleep(0.002)
        await self.close()

    async def close(self) -> None:
        """What has no answer now has none for ever."""
        self._is_open = False
        if self._pacing is not None:
            self._pacing.cancel()
        for pool in self._pools.values():
            await pool.close()

    async def _pace(self, rate: float) -> None:
        start, sent = time.monotonic(), 0
        while self._is_open:
            due = int((time.monotonic() - start) * rate)
            for _ in range(due - sent):
                self._send()
            sent = due
            await asyncio.sleep(0.002)

    def _send(self) -> None:
        kind, token, body = self._traffic.next()
        self._under_way += 1
        self._pools[kind].send(body, token)

    def _answered(self, token: Token, status: int, body: bytes) -> None:
        self._under_way -= 1
        self.answers += status > 0
        self._traffic.answered(token, status, body)
        self.acknowledged += status == 200
        if status == 0:
            self._is_open = False
            self.lost += token
        elif self._is_open and self._rate is None:
            self._send()


def told(history: Iterable[Asked]) -> dict[str, int]:
    """How many requests ended how."""
    found = {"ok": 0, "refused": 0, "unknown": 0}
    for one in history:
        found["ok" if one.is_ok else "unknown" if one.is_unknown else "refused"] += 1
    return found
