"""Models are swapped while payments are decided: none fails, and every record names its model."""

import threading
import time
from pathlib import Path

import pytest
from litestar.testing import TestClient

from fraud_platform.adapters.deployment import (
    Deployment,
    Pointer,
    read_deployment,
)
from fraud_platform.adapters.model_bundle import manifest_digest
from fraud_platform.events import microseconds
from serving.app import create_app
from tests.small_bundles import deploy

GOOD, BROKEN = 50, 10


class Sender(threading.Thread):
    """Sends payments one after the other until told to stop."""

    def __init__(self, client, payment) -> None:
        super().__init__()
        self._client, self._payment = client, payment
        self.answers: list[tuple[int, dict]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            body = self._payment(len(self.answers) % 900, transaction_id=f"p{len(self.answers)}")
            answer = self._client.post("/v1/decisions", json=body)
            self.answers.append((answer.status_code, answer.json()))


def point(models_dir: Path, **folders: str) -> None:
    before = read_deployment(models_dir)
    roles = {
        role: Pointer(version=v, path=v, manifest_digest=manifest_digest(models_dir / v))
        for role, v in folders.items()
    }
    deploy(models_dir, Deployment(sequence=before.sequence + 1, **roles))


def damage(path: Path, number: int) -> None:
    """Flip one bit of a file; the manifest is whole, so a pointer can name it."""
    names = ["model.ubj", "golden.npz", "calibration.json", "reference.parquet"]
    target = path / names[number % len(names)]
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1 << (number % 8)
    target.write_bytes(content)


@pytest.fixture
def client(settings, publish, now, models, monkeypatch):
    for number in range(BROKEN):
        monkeypatch.setitem(models, f"broken-{number}", models["2"])
        damage(publish(f"broken-{number}"), number)
    publish("2")
    publish("1")
    with TestClient(create_app(settings, clock=lambda: microseconds(now))) as client:
        yield client


def load_error(client) -> str:
    return client.get("/v1/models").json()["load_error"] or ""


def wait(condition, told):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, told
        time.sleep(0.01)


def test_fifty_swaps_and_ten_broken_artifacts_fail_no_payment(client, payment, settings, models):
    models_dir, sender = settings.models_dir, Sender(client, payment)
    sender.start()
    took, digests = [], {version: models[version].digest for version in ("1", "2")}
    try:
        for number in range(GOOD):
            version, other = ("2", "1") if number % 2 == 0 else ("1", "2")
            if number % (GOOD // BROKEN) == 0:
                point(models_dir, champion=f"broken-{number * BROKEN // GOOD}", previous=other)
                wait(lambda: "SHA-256" in load_error(client), f"broken at {number}")
            started = time.perf_counter()
            point(models_dir, champion=version, previous=other)
            wait(
                lambda v=version: client.get("/v1/models").json()["champion"] == v,
                f"version {version} at {number}",
            )
            took.append(time.perf_counter() - started)
    finally:
        sender.stop.set()
        sender.join()
    assert [answer for answer in sender.answers if answer[0] != 200] == []
    decided = [answer for _, answer in sender.answers]
    assert {a["model_version"] for a in decided} == set(digests)
    assert all(digests[a["model_version"]] == a["model_digest"] for a in decided)
    print(
        f"{len(decided)} decisions, 0 failed; swap p50 {sorted(took)[25]:.3f} s, {max(took):.3f} s"
    )
    # An explanation is given only if the named model gives the recorded features the score.
    for answer in decided[:: max(1, len(decided) // 100)]:
        found = client.get(f"/v1/decisions/{answer['transaction_id']}/explanation")
        assert (found.status_code, found.json()["score"]) == (200, answer["score"])
