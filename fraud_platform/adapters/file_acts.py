"""Files that come in and go out, as the audit log has them: masked name, digest, counts."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.operator import Operator
from fraud_platform.card_number import mask
from fraud_platform.errors import PermanentError
from fraud_platform.settings import Settings

_COUNTED = "counted"
"""Outcome of the row that says what was in a file that came in."""


@contextmanager
def recorded_file(
    action: str, path: Path, operator: Operator, settings: Settings
) -> Iterator[dict[str, object]]:
    """Take a file in: its digest is recorded before, what was found in it after.

    Args:
        action: a name in `audit_log.acts.ACTIONS`.
        path: the file.
        operator: who takes it in.
        settings: of the home.

    Returns:
        Where the block tells what was found: name -> count, or counts by name.

    Raises:
        AuditUnavailableError: it cannot be recorded: nothing was taken in.
        PermanentError: the file cannot be read.
    """
    governance, found = governance_of(settings), dict[str, object]()
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}.") from error
    act = operator.act(action, f"file:{mask(path.name)}", after=digest)
    with governance.recording(act):
        yield found
        if governance.audit is not None and found:
            governance.audit.record(replace(act, facts=_texts(found)), outcome=_COUNTED)


def export(content: bytes, path: Path, operator: Operator, settings: Settings) -> None:
    """Write a report out, recorded with its digest.

    Raises:
        AuditUnavailableError: it cannot be recorded: nothing was written.
        PermanentError: it cannot be written there.
    """
    digest = hashlib.sha256(content).hexdigest()
    act = operator.act("report.export", f"file:{mask(path.name)}", after=digest)
    with governance_of(settings).recording(act):
        try:
            path.write_bytes(content)
        except OSError as error:
            raise PermanentError(
                f"found no way to write {path}: {error.strerror}",
                hint="name a file in a folder that exists and may be written: --out report.html",
            ) from error


def _texts(found: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in found.items() if value not in (None, {}, 0)}
