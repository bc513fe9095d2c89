"""One tick of healing as a program, on a home, which may die or dawdle in its first fast act.

`python bent_tick.py HOME [before|after|slow]`: killed before the act was carried out, killed after
it and before anybody wrote so, or waiting in it until its input ends. Prints the cause, the acts
that it answered and the runs that it asks for, a line each, or that another holds the lease.
"""

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_actuator import HomeActuator
from fraud_platform.adapters.heal_tick import Healer
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.errors import LeaseHeldError
from fraud_platform.heal.actions import Act
from fraud_platform.heal.controller import Outcome
from fraud_platform.settings import Settings


def bent(how: str) -> None:
    """Let the first act go wrong."""
    carry_out = HomeActuator.carry_out

    def die(self: HomeActuator, act: Act) -> Outcome:
        if how == "slow":
            sys.stdin.read()
            return carry_out(self, act)
        if how == "after":
            carry_out(self, act)
        print(f"dies in {act.act_id}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    HomeActuator.carry_out = die  # type: ignore[method-assign]


def said(home: Path, *, later: int = 0) -> list[str]:
    """Tick once.

    Args:
        home: what is healed.
        later: seconds that the clock is ahead.

    Returns:
        The cause, the acts that the tick answered and the runs that it asks for; or who heals.
    """
    settings = Settings(home=home)
    uri = settings.mlflow_uri.get_secret_value() if settings.mlflow_uri else None
    roles = ModelRegistry(uri, settings.mlflow_dir, settings.models_dir)
    now_us = time.time_ns() // 1000 + later * 1_000_000
    with closing(EventLog(settings.log_path)) as log:
        try:
            ticked = Healer(settings, log, roles).tick(now_us, by="test")
        except LeaseHeldError:
            return ["held"]
    lines = [f"cause {ticked.cause}"]
    for record in ticked.answers:
        assert record.act is not None
        lines.append(f"{record.kind} {record.act.act_id} {record.act.action}: {record.why}")
    return lines + [f"asked {act.act_id} {act.action}" for act in ticked.asked]


if __name__ == "__main__":
    path, *how = sys.argv[1:]
    if how:
        bent(*how)
    print("\n".join(said(Path(path))))
