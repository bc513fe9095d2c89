"""A payment system that asks the scorer, and a dispute desk that tells it the truth."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import polars as pl

from fraud_platform.load.payments import request_body
from fraud_platform.schemas import PAYLOAD_COLUMNS

_AT_ONCE = 16
_LABELS_PER_REQUEST = 1_000


@dataclass
class Traffic:
    """Everything that was asked over HTTP, and what came back.

    Attributes:
        address: the scorer's base URL.
        answered: decisions received, by model version.
        outcomes: decisions received, by outcome.
        failed: requests that got no decision, by what came back instead.
    """

    address: str
    answered: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    last_version: str | None = None
    last_arm: str | None = None

    def ask(
        self, payments: pl.DataFrame, progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        """Ask for a decision on each payment, in time order, several at once."""
        rows = payments.select(*PAYLOAD_COLUMNS).iter_rows(named=True)
        bodies = [
            request_body(row) | {"event_timestamp": row["event_timestamp"].isoformat()}
            for row in rows
        ]
        asyncio.run(self._ask_all(bodies, progress))

    def tell(self, verdicts: pl.DataFrame) -> int:
        """Report frauds that became known; returns how many the scorer recorded as new.

        Raises:
            httpx.HTTPStatusError: the scorer refused the batch.
        """
        recorded = 0
        for part in verdicts.iter_slices(_LABELS_PER_REQUEST):
            body = [
                {
                    "transaction_id": row["transaction_id"],
                    "verdict": "fraud",
                    "source": "chargeback",
                    "known_at": row["label_timestamp"].isoformat(),
                }
                for row in part.iter_rows(named=True)
            ]
            answer = httpx.post(f"{self.address}/v1/labels", json=body, timeout=60)
            answer.raise_for_status()
            recorded += answer.json()["recorded"]
        return recorded

    async def _ask_all(
        self,
        bodies: list[dict[str, object]],
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        waiting = iter(enumerate(bodies, start=1))
        async with httpx.AsyncClient(base_url=self.address, timeout=60) as client:

            async def ask_next() -> None:
                for number, body in waiting:
                    await self._ask_one(client, body)
                    if progress is not None:
                        progress("over HTTP", number, len(bodies))

            await asyncio.gather(*(ask_next() for _ in range(_AT_ONCE)))

    async def _ask_one(self, client: httpx.AsyncClient, body: dict[str, object]) -> None:
        try:
            answer = await client.post("/v1/decisions", json=body)
        except httpx.TransportError as error:
            self.failed[type(error).__name__] += 1
            return
        if not answer.is_success:
            self.failed[f"HTTP {answer.status_code}: {answer.text[:120]}"] += 1
            return
        decision = answer.json()
        self.last_version, self.last_arm = decision["model_version"], decision["arm"]
        self.answered[str(decision["model_version"])] += 1
        self.outcomes[decision["decision"]] += 1
