"""When the controls that run by the clock ran last, with what result, and who was told.

A fault calls a person once, and again every six hours for as long as it lasts: who looks every few
seconds and who runs once an hour both tell of the same one. One that comes and goes, as a disk that
refuses a write now and then, calls a person every quarter of an hour at most.
"""

from pathlib import Path

import msgspec

from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.notices import Notice, notices_of
from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.controls import Control
from fraud_platform.settings import Settings

AGAIN_US = 6 * 3_600_000_000
"""As long as the same control fails, a person is called so often."""
BACK_US = 15 * 60_000_000
"""Behind a call, so long nobody is called for the same control that worked meanwhile."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The last run of a control.

    Attributes:
        at_us: when it ran, microseconds UTC; of one that never ran, since when it is expected.
        fault: what it found or met, one sentence; None: nothing.
    """

    at_us: int
    fault: str | None = None


class _Failing(msgspec.Struct, frozen=True, kw_only=True):
    """A control that fails, or did: since when, and when a person was called, microseconds UTC."""

    since_us: int | None = None
    told_us: int = 0

    def is_quiet(self, now_us: int) -> bool:
        """Whether nobody is called for it yet."""
        is_told = self.since_us is not None and self.since_us <= self.told_us
        return 0 <= now_us - self.told_us < (AGAIN_US if is_told else BACK_US)


def note_run(settings: Settings, control: Control, fault: str | None, now_us: int) -> None:
    """Write down that a control ran, and call a person if it found something.

    Args:
        settings: of the home.
        control: which.
        fault: what it found or met, one sentence; None: nothing.
        now_us: the clock of the wall, microseconds UTC.
    """
    path = _run_path(settings, control)
    replace_file(path, msgspec.json.encode(Run(at_us=now_us, fault=fault)))
    tell_fault(settings, control, fault, now_us)


def last_run(settings: Settings, control: Control, now_us: int) -> Run:
    """The last run of a control; one that never ran is expected from now on, and for good."""
    path = _run_path(settings, control)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except FileNotFoundError:
        expected = Run(at_us=now_us)
        replace_file(path, msgspec.json.encode(expected))
        return expected
    except msgspec.MsgspecError:
        return Run(at_us=0, fault=f"{path.name} says nothing that can be read")


def tell_fault(settings: Settings, control: Control, fault: str | None, now_us: int) -> None:
    """Call a person for a control that fails, and write down when it works again.

    Args:
        settings: of the home.
        control: which.
        fault: what is wrong, one sentence; None: it works.
        now_us: the clock of the wall, microseconds UTC.
    """
    path = settings.controls_dir / f"{control}.failing.json"
    last = _read(path)
    if fault is None:
        if last.since_us is not None:
            _say_that_it_works(settings, control, now_us - last.since_us, now_us)
            _keep(path, _Failing(told_us=last.told_us))
        return
    since_us = now_us if last.since_us is None else last.since_us
    if last.is_quiet(now_us):
        if last.since_us is None:
            _keep(path, _Failing(since_us=since_us, told_us=last.told_us))
        return
    text = f"A control fails: {control}: {fault}"
    act_id = f"control-{sha256(f'{now_us} {text}'.encode())[:12]}"
    facts = {"control": str(control)}
    notice = Notice(act_id=act_id, at_us=now_us, cause="control", text=text, facts=facts)
    notices_of(settings).page(notice)
    _keep(path, _Failing(since_us=since_us, told_us=now_us))


def _say_that_it_works(settings: Settings, control: Control, failed_us: int, now_us: int) -> None:
    Alerts(settings.alerts_path).write(
        kind="control_works",
        text=f"A control works again: {control}.",
        facts={"control": str(control), "failed_seconds": failed_us / 1e6},
        at=now_us / 1e6,
    )


def _keep(path: Path, failing: _Failing) -> None:
    replace_file(path, msgspec.json.encode(failing))


def _run_path(settings: Settings, control: Control) -> Path:
    return settings.controls_dir / f"{control}.json"


def _read(path: Path) -> _Failing:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Failing)
    except (FileNotFoundError, msgspec.MsgspecError):
        return _Failing()
