"""What a tick of healing saw -> asset checks of `live_health`, when something changed."""

from pathlib import Path

import dagster as dg
import msgspec

from assets.signals import LIVE_HEALTH, numbers, passes, severity
from fraud_platform.adapters.heal_tick import Ticked
from fraud_platform.adapters.sealed_folder import replace_file
from fraud_platform.heal.evidence import Signal, Standing
from fraud_platform.settings import Settings

AT_LEAST_EVERY_US = 6 * 3_600_000_000
"""A signal whose standing stays is shown again so often: every event stays in Dagster's log."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What was reported of a signal last.

    Attributes:
        standing: how it stood.
        at_us: when, microseconds UTC of the wall.
    """

    standing: Standing
    at_us: int


def report_health(
    instance: dg.DagsterInstance, settings: Settings, ticked: Ticked, now_us: int
) -> int:
    """Report the signals that stand otherwise than when they were last shown, or long ago.

    Returns:
        How many were reported.
    """
    if ticked.evidence is None:
        return 0
    path = settings.heal_dir / "shown.json"
    shown = _read(path)
    count = 0
    for signal in Signal:
        reading, last = ticked.evidence.reading(signal), shown.get(signal)
        is_old = last is not None and now_us - last.at_us >= AT_LEAST_EVERY_US
        if last is not None and last.standing is reading.standing and not is_old:
            continue
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=LIVE_HEALTH,
                check_name=signal.value,
                passed=passes(reading),
                severity=severity(signal),
                metadata=numbers(reading),
            )
        )
        shown[signal] = Shown(standing=reading.standing, at_us=now_us)
        count += 1
    if count:
        replace_file(path, msgspec.json.encode(shown))
    return count


def _read(path: Path) -> dict[Signal, Shown]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[Signal, Shown])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
