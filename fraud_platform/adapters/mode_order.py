"""What an operator or a remedy orders: the best mode that the scorers of one home may answer in."""

from pathlib import Path

import msgspec

from fraud_platform.adapters.governance import UNGOVERNED, Governance
from fraud_platform.adapters.lock_file import locked
from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.audit_log.acts import Act, one_line
from fraud_platform.errors import PermanentError, UnavailableError
from fraud_platform.modes import Mode

ORDERED = (Mode.NORMAL, Mode.RULES_ONLY, Mode.CLOSED)
"""What can be ordered; a scorer finds out by itself whether it is degraded."""


class ModeOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order, with who gave it and why.

    Attributes:
        mode: one of `ORDERED`; NORMAL: no restriction.
        reason: for the people who find it.
        ordered_by: a person, or the remedy that gave it.
        ordered_us: when, microseconds UTC.
    """

    mode: Mode = Mode.NORMAL
    reason: str = ""
    ordered_by: str = ""
    ordered_us: int = 0


def read_order(path: Path) -> ModeOrder:
    """The order in force; without a file, none restricts anything.

    Raises:
        PermanentError: the file is no order.
        UnavailableError: the disk does not answer.
    """
    try:
        order = msgspec.json.decode(path.read_bytes(), type=ModeOrder)
    except FileNotFoundError:
        return ModeOrder()
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _no_order(path) from error
    if order.mode not in ORDERED:
        raise _no_order(path)
    return order


def write_order(
    path: Path, order: ModeOrder, governance: Governance = UNGOVERNED, **by: str
) -> None:
    """Replace the order; running scorers follow it within a second.

    Args:
        path: the file.
        order: what is ordered.
        governance: where it is recorded.
        by: `role` and `origin` of whoever orders it; default: a part of the platform.

    Raises:
        AuditUnavailableError: it cannot be recorded; the order before holds.
    """
    content = msgspec.json.encode(order)
    with locked(path.with_suffix(".lock")):
        before = _digest(path)
        governance.settle("mode.*", lambda row: row.after == before)
        act = Act(
            actor=order.ordered_by or "unknown",
            role=by.get("role", ""),
            action="mode.order",
            object=f"mode:{order.mode}",
            origin=by.get("origin", "platform"),
            reason=one_line(order.reason),
            before=before,
            after=sha256(content),
        )
        with governance.recording(act):
            replace_file(path, content)


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes())
    except OSError:
        return ""


def _no_order(path: Path) -> PermanentError:
    return PermanentError(
        f"found {path} is no order of a mode, expected one of {', '.join(ORDERED)}",
        hint="write it again with `fraud-platform mode`",
    )
