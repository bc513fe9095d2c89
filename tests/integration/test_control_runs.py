"""How often a person is called for a control that fails."""

import pytest

from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.control_runs import AGAIN_US, BACK_US, tell_fault
from fraud_platform.controls import Control
from fraud_platform.settings import Settings

BEGAN_US = 1_767_225_600_000_000
MINUTE_US = 60_000_000


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def pages(settings: Settings) -> list[float]:
    """Minutes after the beginning."""
    lines = Alerts(settings.alerts_path).read()
    return [(line["at"] * 1e6 - BEGAN_US) / MINUTE_US for line in lines if line["kind"] == "page"]


def look(settings: Settings, minute: float, fault: str | None) -> None:
    tell_fault(settings, Control.JOURNAL_SYNC, fault, BEGAN_US + round(minute * MINUTE_US))


def test_a_control_that_comes_and_goes_calls_a_person_every_quarter_of_an_hour_at_most(settings):
    for minute in range(60):
        look(settings, minute, "a write was refused")
        look(settings, minute + 0.5, None)
    assert pages(settings) == [0, 15, 30, 45]


def test_what_is_back_soon_and_stays_is_told_after_a_quarter_of_an_hour_and_then_every_six(
    settings,
):
    look(settings, 0, "gone")
    look(settings, 1, None)
    for minute in range(2, 400):
        look(settings, minute, "gone")
    assert pages(settings) == [0, BACK_US / MINUTE_US, (BACK_US + AGAIN_US) / MINUTE_US]
