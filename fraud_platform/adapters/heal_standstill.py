"""Calling a person when healing itself cannot go on: no ledger, no policy, no audit log.

Healing then does nothing at all, which nobody would notice: nothing is written, nothing breaks.
"""

from pathlib import Path

import msgspec

from fraud_platform.adapters.notices import Notice, notices_of
from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.errors import FraudPlatformError
from fraud_platform.settings import Settings

AGAIN_US = 6 * 3_600_000_000
"""As long as the same problem lasts, a person is called so often."""


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a person was called for last."""

    text: str
    at_us: int


def tell_standstill(settings: Settings, error: FraudPlatformError, now_us: int) -> bool:
    """Call a person, unless one was called for the same not long ago.

    Args:
        settings: of the home.
        error: why no tick can be done.
        now_us: the clock of the wall, microseconds UTC.

    Returns:
        Whether somebody was called.
    """
    path = settings.heal_dir / "standstill.json"
    text = f"Healing stands still: {error.message}"
    last = _read(path)
    if last is not None and last.text == text and 0 <= now_us - last.at_us < AGAIN_US:
        return False
    facts = {"error": type(error).__name__, "hint": error.hint or ""}
    act_id = f"standstill-{sha256(f'{now_us} {text}'.encode())[:12]}"
    notice = Notice(act_id=act_id, at_us=now_us, cause="blind", text=text, facts=facts)
    notices_of(settings).page(notice)
    replace_file(path, msgspec.json.encode(_Told(text=text, at_us=now_us)))
    return True


def _read(path: Path) -> _Told | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Told)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
