"""Builders for the scorer's tests: small real models, settings on a temporary home, payments."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.model import Model
from fraud_platform.settings import Settings
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle
from tests.small_cards import small_card

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    """The scorer's clock stands still here."""
    return NOW


@pytest.fixture(scope="session")
def models() -> dict[str, Model]:
    return {str(seed): trained(seed) for seed in (1, 2)}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", champion_poll_seconds=0.05)


@pytest.fixture
def publish(models: dict[str, Model], settings: Settings) -> Callable[..., Path]:
    """Writes the bundle of a version and moves the pointer to it."""

    def act(version: str, *, review: float = 0.3, decline: float = 0.8) -> Path:
        card = small_card(models[version])
        cuts = {"review": review, "decline": decline}
        path = write_small_bundle(settings.models_dir, version, models[version], card=card, **cuts)
        deploy(settings.models_dir, Deployment(champion=pointer_to(path)))
        return path

    return act


@pytest.fixture
def payment() -> Callable[..., dict[str, Any]]:
    """A payment as a request body; number 7 happens seven minutes after number 0."""

    def build(number: int = 0, **changes: Any) -> dict[str, Any]:
        moment = NOW - timedelta(days=1) + timedelta(minutes=number)
        return {
            "transaction_id": f"t{number}",
            "event_timestamp": moment.isoformat(),
            "card_id": f"card-{number % 5}",
            "terminal_id": f"terminal-{number % 3}",
            "amount_minor": 1_000 + 700 * (number % 11),
            "currency": "EUR",
            **changes,
        }

    return build
