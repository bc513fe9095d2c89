"""Payments as requests: moved to now, under ids of their own, some of them sent again."""

import random
import secrets
import string
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import polars as pl

from fraud_platform.errors import DataContractError
from fraud_platform.schemas import PAYLOAD_COLUMNS

ROUTE = "/v1/decisions"
"""Where a scorer takes payments."""
_REMEMBERED = 1_000
"""Answers that a repeated payment is chosen from: the newest ones."""
_DAY = timedelta(days=1)


def request_body(payment: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `PAYLOAD_COLUMNS` as a request: what is not known is left out.

    Examples:
        >>> request_body({"transaction_id": "t1", "country": None})
        {'transaction_id': 't1'}
    """
    return {name: value for name, value in payment.items() if value is not None}


@dataclass(frozen=True)
class Sent:
    """A payment under way.

    Attributes:
        request: its body.
        first: the answer it got before, when it is sent again.
    """

    request: bytes
    first: bytes | None = None


class Payments:
    """An endless row of payments; every one is new unless it is sent again on purpose.

    The payments keep their order and their distances; all are moved so that the last one that is
    likely to be asked for happens at `newest`. When they are used up they begin again, later by
    their whole length.

    Args:
        payments: `PAYLOAD_COLUMNS`, at least one row, in the order they are to be sent.
        requests: about how many will be asked for.
        newest: no payment happens later.
        repeat_share: of the requests, in [0, 1), are payments that were answered before.
        seed: of what is repeated.

    Attributes:
        shift: what was added to the times of the payments, in their first round.
        repeated: payments that were sent again and answered.
        different: of these, how many got another decision than before.

    Raises:
        DataContractError: there is no payment.
    """

    def __init__(
        self,
        payments: pl.DataFrame,
        *,
        requests: int,
        newest: datetime,
        repeat_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not payments.height:
            raise DataContractError("found no payment to send, expected at least one")
        rows = payments.select(*PAYLOAD_COLUMNS).iter_rows(named=True)
        self._payments = [request_body(row) for row in rows]
        moments = [payment["event_timestamp"] for payment in self._payments]
        rounds = -(-requests // len(moments))
        self._length = _round(max(moments) - min(moments))
        self._newest = newest
        self.shift = newest - max(moments) - (rounds - 1) * self._length
        # Letters only: digits and dashes may happen to make a card number.
        self._name = "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))
        self._taken = 0
        self._repeat_share = repeat_share
        self._chance = random.Random(seed)  # noqa: S311 -- chooses repeats, no secrets
        self._known: deque[Sent] = deque(maxlen=_REMEMBERED)
        self.repeated = 0
        self.different = 0

    def next(self) -> tuple[bytes, Sent]:
        """One more request: a new payment, or now and then one that was answered before."""
        if self._known and self._chance.random() < self._repeat_share:
            again = self._chance.choice(self._known)
            return again.request, again
        request = msgspec.json.encode(self._next_payment())
        return request, Sent(request)

    def answered(self, sent: Sent, status: int, answer: bytes) -> None:
        """Remember a first answer, and compare it with the answer to a repeat."""
        if not self._repeat_share or not 200 <= status < 300:
            return
        if sent.first is None:
            self._known.append(Sent(sent.request, answer))
            return
        self.repeated += 1
        self.different += not _is_same_decision(sent.first, answer)

    def _next_payment(self) -> dict[str, Any]:
        number, self._taken = self._taken, self._taken + 1
        rounds, place = divmod(number, len(self._payments))
        payment = self._payments[place]
        moment = payment["event_timestamp"] + self.shift + rounds * self._length
        return payment | {
            "transaction_id": f"load-{self._name}-{number}",
            "event_timestamp": min(moment, self._newest),
        }


def _round(span: timedelta) -> timedelta:
    """From a payment to its repetition: of more than a day, each keeps its time of the day."""
    return -(-span // _DAY) * _DAY if span > _DAY else span + timedelta(seconds=1)


def _is_same_decision(first: bytes, again: bytes) -> bool:
    """Whether a repeat got the recorded decision: all of it, and said to be recorded."""
    try:
        one, other = (msgspec.json.decode(answer, type=dict[str, Any]) for answer in (first, again))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return other.get("replayed") is True and one | {"replayed": True} == other
