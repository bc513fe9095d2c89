"""Why a recorded decision got its score: exact, of the model that took it, or not told at all."""

import asyncio
import shutil
import time

import numpy as np
import pytest
from litestar.testing import TestClient

from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.events import microseconds
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import Explanations, Model
from serving.app import create_app
from serving.ruling import REASON_TEXTS


@pytest.fixture
def clock(now):
    return lambda: microseconds(now)


@pytest.fixture
def client(settings, publish, clock):
    publish("1")
    with TestClient(create_app(settings, clock=clock)) as client:
        yield client


def explanation(client, name="t0"):
    return client.get(f"/v1/decisions/{name}/explanation")


def decided(client, body):
    answer = client.post("/v1/decisions", json=body)
    assert answer.status_code == 200
    return answer.json()


def serves(client, version):
    deadline = time.monotonic() + 60
    while client.get("/v1/models").json()["champion"] != version:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_parts_add_up_to_the_margin_and_the_margin_is_the_scores(client, payment):
    for number in range(12):
        answer = decided(client, payment(number))
        found = explanation(client, f"t{number}").json()
        parts = [part["contribution"] for part in found["contributions"]]
        assert abs(found["base"] + sum(parts) - found["margin"]) <= 1e-4
        assert 1 / (1 + np.exp(-found["margin"])) == pytest.approx(answer["score"], abs=1e-6)
        assert found["score"] == answer["score"]
        assert (found["model_version"], found["model_digest"]) == ("1", answer["model_digest"])
        assert found["decision_id"] == answer["decision_id"]
        assert [abs(part) for part in parts] == sorted(map(abs, parts), reverse=True)


def test_every_feature_is_there_once_with_its_recorded_value_and_its_text(client, payment):
    decided(client, payment(amount_minor=9_000))
    parts = explanation(client).json()["contributions"]
    assert sorted(part["feature"] for part in parts) == sorted(FEATURE_NAMES)
    assert all(part["text"] == REASON_TEXTS[part["reason_code"]] for part in parts)
    assert parts[0]["value"] is not None
    assert any(part["value"] is None for part in parts), "a first payment has no past"


def test_the_largest_push_is_the_first_reason_of_the_decision(client, payment):
    answer = decided(client, payment(amount_minor=9_000))
    pushes = [p for p in explanation(client).json()["contributions"] if p["contribution"] > 0]
    assert pushes[0]["reason_code"] == answer["reasons"][0]["code"]


def test_a_decision_is_explained_by_its_own_model_after_a_swap(client, payment, publish):
    first = decided(client, payment(0))
    publish("2")
    serves(client, "2")
    second = decided(client, payment(1))
    assert first["model_digest"] != second["model_digest"]
    for name, answer in (("t0", first), ("t1", second)):
        found = explanation(client, name).json()
        assert (found["model_digest"], found["score"]) == (answer["model_digest"], answer["score"])


def test_a_payment_that_nobody_decided_has_no_explanation(client):
    answer = explanation(client, "absent")
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_decision")


def test_a_decision_without_a_model_has_nothing_to_explain(settings, clock, payment):
    with TestClient(create_app(settings, clock=clock)) as client:
        decided(client, payment())
        answer = explanation(client)
    assert (answer.status_code, answer.json()["error"]) == (409, "no_score")


def test_a_model_that_is_gone_is_named_as_gone(client, payment, publish, settings):
    decided(client, payment())
    publish("2")
    serves(client, "2")
    shutil.rmtree(settings.models_dir / "1")
    answer = explanation(client)
    assert (answer.status_code, answer.json()["error"]) == (404, "model_gone")


def test_a_bundle_that_was_damaged_since_explains_nothing(client, payment, publish, settings):
    decided(client, payment())
    publish("2")
    serves(client, "2")
    (settings.models_dir / "1" / "model.ubj").write_bytes(b"")
    answer = explanation(client)
    assert (answer.status_code, answer.json()["error"]) == (503, "explanation_unverified")
    assert answer.headers["retry-after"]


def test_a_version_that_holds_another_model_now_is_not_asked(
    client, payment, publish, settings, models
):
    decided(client, payment())
    publish("2")
    serves(client, "2")
    shutil.rmtree(settings.models_dir / "1")
    models["1"], kept = models["2"], models["1"]
    try:
        publish("1")
    finally:
        models["1"] = kept
    assert load_bundle(settings.models_dir / "1").model.digest == models["2"].digest
    # Version 2's model is in memory under its own digest, and is not the one that decided either.
    answer = explanation(client)
    assert (answer.status_code, answer.json()["error"]) == (404, "model_gone")


def test_contributions_that_do_not_add_up_are_refused_not_answered(client, payment, monkeypatch):
    decided(client, payment())
    honest = Model.explain

    def off(self, features):
        found = honest(self, features)
        return Explanations(
            base=found.base, contributions=found.contributions * 1.01, margin=found.margin
        )

    monkeypatch.setattr(Model, "explain", off)
    answer = explanation(client)
    assert (answer.status_code, answer.json()["error"]) == (503, "explanation_unverified")


def test_features_that_no_longer_get_the_recorded_score_are_not_explained(
    client, payment, monkeypatch
):
    decided(client, payment())
    honest = Model.score
    monkeypatch.setattr(Model, "score", lambda self, rows: np.nextafter(honest(self, rows), 1))
    answer = explanation(client)
    assert (answer.status_code, answer.json()["error"]) == (503, "explanation_unverified")


def test_many_at_once_are_all_answered_and_decisions_go_on(client, payment):
    for number in range(5):
        decided(client, payment(number))

    async def ask() -> list[int]:
        names = [f"t{number % 5}" for number in range(40)]
        asked = [asyncio.to_thread(explanation, client, name) for name in names]
        others = [asyncio.to_thread(decided, client, payment(10 + n)) for n in range(10)]
        found, _ = await asyncio.gather(asyncio.gather(*asked), asyncio.gather(*others))
        return [answer.status_code for answer in found]

    assert asyncio.run(ask()) == [200] * 40
