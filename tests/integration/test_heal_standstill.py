"""A tick that cannot be done calls a person, and does nothing."""

import json
from pathlib import Path

from fraud_platform.adapters.heal_standstill import AGAIN_US, tell_standstill
from fraud_platform.errors import DataContractError, HistoryDamagedError
from fraud_platform.settings import Settings

NOW = 1_780_000_000_000_000


def test_a_person_is_called_once_for_a_problem_and_again_while_it_lasts(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    policy = DataContractError("found no heal policy", hint="write one")
    times = [0, 1, AGAIN_US - 1, AGAIN_US, AGAIN_US + 1]
    assert [tell_standstill(settings, policy, NOW + at) for at in times] == [
        *(True, False, False, True, False)
    ]
    assert tell_standstill(settings, HistoryDamagedError("line 3 is no entry"), NOW + AGAIN_US + 2)
    told = [json.loads(line) for line in settings.alerts_path.read_text().splitlines()]
    assert [one["text"] for one in told] == [
        *["Healing stands still: found no heal policy"] * 2,
        "Healing stands still: line 3 is no entry",
    ]
    assert told[0]["hint"] == "write one"
    assert len({one["act_id"] for one in told}) == len(told)


def test_a_clock_that_was_set_back_calls_again(tmp_path: Path) -> None:
    settings, problem = Settings(home=tmp_path), DataContractError("found no heal policy")
    assert tell_standstill(settings, problem, NOW)
    assert tell_standstill(settings, problem, NOW - AGAIN_US)
