"""One tick of healing as a program, on a home, which may die or dawdle in its first fast act.

`python bent_tick.py HOME [before|after|slow]`: killed before the act was carried out, killed after
it and before anybody wrote so, or asleep for some seconds in it. BENT_LATER_SECONDS are added to
its clock. Prints the cause, the acts that it answered and the runs that it asks for, a line each; a
lease that another holds is told, too.
"""

import os
import signal
import sys
import time
from pathlib import Path

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_actuator import HomeActuator
from fraud_platform.adapters.heal_tick import Healer
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.errors import LeaseHeldError
from fraud_platform.heal.actions import Act
from fraud_platform.heal.controller import Outcome
from fraud_platform.settings import Settings

SLOW_SECONDS = 4.0


def bent(how: str) -> None:
    """Let the first act go wrong."""
    carry_out = HomeActuator.carry_out

    def die(self: HomeActuator, act: Act) -> Outcome:
        if how == "slow":
            time.sleep(SLOW_SECONDS)
            return carry_out(self, act)
        if how == "after":
            carry_out(self, act)
        print(f"dies in {act.act_id}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    HomeActuator.carry_out = die  # type: ignore[method-assign]


def main(home: Path, how: str = "") -> None:
    """Tick once."""
    settings = Settings(home=home)
    if how:
        bent(how)
    uri = settings.mlflow_uri.get_secret_value() if settings.mlflow_uri else None
    log = EventLog(settings.log_path)
    roles = ModelRegistry(uri, settings.mlflow_dir, settings.models_dir)
    now_us = time.time_ns() // 1000 + int(os.environ.get("BENT_LATER_SECONDS", "0")) * 1_000_000
    try:
        ticked = Healer(settings, log, roles).tick(now_us, by="test")
    except LeaseHeldError:
        print("held", flush=True)
        return
    print(f"cause {ticked.cause}")
    for record in ticked.answers:
        assert record.act is not None
        print(f"{record.kind} {record.act.act_id} {record.act.action}: {record.why}")
    for act in ticked.asked:
        print(f"asked {act.act_id} {act.action}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
