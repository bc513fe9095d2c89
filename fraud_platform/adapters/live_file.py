"""What a running scorer says about itself, once a second, in one file of the home.

Who reads it must look at `written_us`: a scorer that is gone says nothing any more.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from fraud_platform.errors import PermanentError, UnavailableError
from fraud_platform.heal.evidence import Reading
from fraud_platform.heal.harm import HarmState
from fraud_platform.rollout import Comparison


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """One scorer at one moment; unknown fields of a later release are skipped.

    Attributes:
        written_us: when, microseconds UTC of the wall.
        model_version: version that decides where no canary does, or None.
        model_digest: SHA-256 of its file, or None.
        policy_digest: names policy and thresholds, or the rule without a model.
        mode: in which mode it answers.
        orders_sequence: of the orders in force.
        payments: decided since the file was begun, over restarts.
        event_us: time of the newest of them, microseconds UTC; 0 before the first.
        readings: how the harm signals stand.
        governor: numbers of the governor by name; empty without one.
        configuration: settings that it decides by, as text by name.
        cuts: of the model that decides, likewise; empty without one.
        comparison: the canary beside its control arm; None: there is no canary.
        harm: what the next process goes on from, or None.
    """

    written_us: int
    model_version: str | None = None
    model_digest: str | None = None
    policy_digest: str = ""
    mode: str = ""
    orders_sequence: int = 0
    payments: int = 0
    event_us: int = 0
    readings: tuple[Reading, ...] = ()
    governor: Mapping[str, float] = {}
    configuration: Mapping[str, str] = {}
    cuts: Mapping[str, str] = {}
    comparison: Comparison | None = None
    harm: HarmState | None = None


def live_path(home: Path) -> Path:
    """Where the scorer of a home says how it is."""
    return home / "heal" / "live.json"


def read_live(path: Path) -> Live | None:
    """What was written last; None: nothing yet.

    Raises:
        PermanentError: the file is none of these.
        UnavailableError: the disk does not answer.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Live)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PermanentError(
            f"found {path} is no state of a scorer",
            hint="delete it; a running scorer writes it again within a second",
        ) from error


def write_live(path: Path, live: Live) -> None:
    """Replace the file; a reader sees the old one or the new one. One process writes.

    It is not forced onto the disk: once a second that would hold up the journal's syncs, and after
    a power cut the file is old in any case.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(msgspec.json.encode(live))
    part.replace(path)
