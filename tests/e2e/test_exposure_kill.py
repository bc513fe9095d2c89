"""Kill a scorer that lets declines through, again and again: its day's ceiling is never exceeded.

`FRAUD_KILLS=200` is the nightly form; a fifth of it is done here.
"""

import json
import os
import random
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from http.client import HTTPException

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.log_file import LogFile
from tests.e2e.scorer_process import Scorer, home_at, kept, tell
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

KILLS = max(3, int(os.environ.get("FRAUD_KILLS", "20")) // 5)
AMOUNT, CEILING = 1_000, 400_000
BATCH = 40
_MOST_BATCHES = 20 * CEILING // AMOUNT // BATCH
RULES = {
    "FRAUD_GOVERNOR__IS_ON": "false",  # it would let go what must be declined here
    "FRAUD_EXPLORATION__PASS_RATE": "0.5",
    "FRAUD_EXPLORATION__PASS_CEILING_MINOR": str(CEILING),
    "FRAUD_EXPLORATION__AUDIT_RATE": "0.1",
}


def payments(chance: random.Random, start: int) -> dict[str, object]:
    """A batch; all of it is declined by a model whose cuts are 0."""
    moment = datetime.now(UTC) - timedelta(hours=1)
    return {
        "transactions": [
            {
                "transaction_id": f"t{n}",
                "event_timestamp": (moment + timedelta(milliseconds=n)).isoformat(),
                "card_id": f"card-{chance.randint(0, 50)}",
                "terminal_id": f"m{n % 7}",
                "amount_minor": AMOUNT,
                "currency": "EUR",
            }
            for n in range(start, start + BATCH)
        ]
    }


def ask(scorer: Scorer, body: dict[str, object]) -> list[dict[str, object]]:
    """What was answered; nothing if the scorer was killed meanwhile."""
    request = urllib.request.Request(  # noqa: S310 -- ours
        f"{scorer.url}/v1/decisions/batch",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- ours
            results = json.loads(answer.read())["results"]
    except (OSError, HTTPException):  # the kill may fall before, within or after the head
        return []
    return [one["decision"] for one in results if "decision" in one]


class Sender:
    """Sends batches, and keeps what was answered.

    Attributes:
        answered: decisions, in the order of the answers.
        sent: how many payments were sent.
    """

    def __init__(self) -> None:
        self.chance = random.Random(5)
        self.answered: list[dict[str, object]] = []
        self.sent = 0

    def send(self, scorer: Scorer) -> None:
        self.answered += ask(scorer, payments(self.chance, self.sent))
        self.sent += BATCH

    def live(self, scorer: Scorer) -> None:
        """Some batches, and then more until a kill in the middle of one."""
        # Not past the ceiling at once: the later lives must have something to exceed.
        for _ in range(1 + 2 * CEILING // AMOUNT // BATCH // KILLS):
            self.send(scorer)
        end = threading.Timer(self.chance.uniform(0.0, 0.03), scorer.kill)
        end.start()
        while scorer.popen.poll() is None:
            self.send(scorer)
        end.join()

    def exhaust(self, scorer: Scorer) -> None:
        """More, until nearly nothing passes."""
        for _ in range(_MOST_BATCHES):
            if sum(one["decision"] == "decline" for one in self.answered[-160:]) >= 120:
                return
            self.send(scorer)
        raise AssertionError(f"found {self.answered[-1:]} after {self.sent} payments")


def test_the_ceiling_is_never_exceeded_whenever_the_scorer_is_killed(tmp_path):
    sender = Sender()
    with home_at(tmp_path / "home", **RULES) as home:
        bundle = write_small_bundle(home.models_dir, "1", trained(1), review=0.0, decline=0.0)
        deploy(home.models_dir, Deployment(champion=pointer_to(bundle)))
        for _ in range(KILLS):
            sender.live(home.start())
        scorer = home.start()
        sender.exhaust(scorer)
        shown = scorer.metric("fraud_exploration_exposure_minor")
        scorer.kill()
        recorded = {one.key: one.answer for one in kept(home.log_path)}
        spent = LogFile(home.log_path).spent()
    exposure = [day.exposure_minor for day in spent.values()]
    tell("exposure_kill", kills=KILLS, sent=sender.sent, exposure=exposure, ceiling=CEILING)
    assert max(exposure) <= CEILING
    assert spent[max(spent)].exposure_minor == shown
    assert shown > 0.8 * CEILING or len(spent) > 1  # it was there to be exceeded
    for one in sender.answered:
        told = recorded[one["transaction_id"]]
        assert (told["decision"], told.get("explored")) == (one["decision"], one.get("explored"))
