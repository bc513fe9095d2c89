"""Who runs a command: the holder of an API key of this home, or the login name where none governs.

This is a lock for honest people and a record of what they do. Whoever owns the files of a home can
go round it; docs/how-to/roles-and-keys.md says what stands against that.
"""

import contextlib
import getpass
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from fraud_platform.access import SCOPES, ApiKey, id_of, proven
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.audit_log.acts import Act
from fraud_platform.errors import AccessDeniedError, PermanentError
from fraud_platform.roles import (
    GOVERNING,
    LOCAL,
    RECOVERS,
    RECOVERY,
    needed_for,
    require_apart,
    role_of,
)
from fraud_platform.settings import Settings

_HINT = (
    "show who you are: FRAUD_OPERATOR_KEY=fp_... fraud-platform {command}"
    " (an admin makes keys: fraud-platform keys create --role ...)"
)


@dataclass(frozen=True)
class Operator:
    """Who runs a command.

    Attributes:
        subject: the person or program.
        role: under which role; the scopes themselves where they are none.
        scopes: what they may do.
        origin: where the command came from.
    """

    subject: str
    role: str
    scopes: frozenset[str]
    origin: str = "cli"

    def act(self, action: str, object: str, **told: Any) -> Act:
        """Something that they do, for the audit log.

        Args:
            action: a name in `audit_log.acts.ACTIONS`.
            object: what it is done to, for example `model:3`.
            told: `reason`, `before`, `after` and `facts`, as `Act` has them.
        """
        return Act(
            actor=self.subject,
            role=self.role,
            action=action,
            object=object,
            origin=self.origin,
            **told,
        )


def operator_of(settings: Settings, command: str, by: str | None = None) -> Operator:
    """Who runs this command, if they may.

    Args:
        settings: the home, and the key that was shown (FRAUD_OPERATOR_KEY).
        command: as `roles.COMMANDS` names it, for example `models approve`.
        by: the name that they give themselves; None: they give none. A key knows better.

    Raises:
        AccessDeniedError: they may not, or cannot prove who they are; the audit log has it.
        AuditUnavailableError: they may not, and the audit log cannot be told.
        KeyStoreError: the file of keys cannot be believed.
        PermanentError: the command declares no scope.
    """
    needed = needed_for(command)
    if by is not None and not by.strip():
        raise PermanentError("found no person in --by, expected a name")
    now_us = time.time_ns() // 1_000
    store = KeyStore(settings.access_dir)
    keys = store.read().keys
    if settings.operator_key is None:
        operator = _at_the_keyboard(keys, by, now_us)
    else:
        operator = _by_key(settings, command, keys, now_us)
        if by is not None and by.strip() != operator.subject:
            _refuse(settings, operator, command, "found another name in --by than the key's holder")
        with contextlib.suppress(OSError):  # a help for people: it decides nothing
            store.note_use({id_of(settings.operator_key.get_secret_value())}, now_us)
    if operator.role == RECOVERY and command not in RECOVERS:
        found = "found no admin's key that counts, expected one to be made first"
        _refuse(settings, operator, command, found)
    if needed and needed.isdisjoint(operator.scopes):
        who = operator.role if operator.scopes else "nobody: no operator key was shown"
        wanted = " or ".join(sorted(needed))
        found = f"found that {operator.subject} acts as {who}, expected the scope {wanted}"
        _refuse(settings, operator, command, found)
    return operator


def person_of_key(settings: Settings) -> str:
    """Whose key this process runs under, if it is a person's that counts; else ""."""
    if settings.operator_key is None:
        return ""
    shown = settings.operator_key.get_secret_value()
    try:
        key = proven(shown, KeyStore(settings.access_dir).read().keys, time.time_ns() // 1_000)
    except AccessDeniedError:
        return ""
    is_person = settings.approvals.is_person(key.subject) and role_of(key.scopes) != "service"
    return key.subject if is_person else ""


def _by_key(settings: Settings, command: str, keys: Mapping[str, ApiKey], now_us: int) -> Operator:
    """Who shows a key, which counts here and now."""
    shown = settings.operator_key.get_secret_value() if settings.operator_key else ""
    try:
        key = proven(shown, keys, now_us)
        require_apart(key.scopes, f"the key {key.id}")
    except AccessDeniedError as error:
        _refuse(settings, Operator(_login(), "", frozenset()), command, error.message)
    return Operator(key.subject, role_of(key.scopes), frozenset(key.scopes))


def _at_the_keyboard(keys: Mapping[str, ApiKey], by: str | None, now_us: int) -> Operator:
    """Who runs a command without a key: nobody can be told apart, so the name is as given."""
    subject = _login() if by is None else by.strip()
    governing = [key for key in keys.values() if not GOVERNING.isdisjoint(key.scopes)]
    if not governing:
        return Operator(subject, LOCAL, frozenset(SCOPES))
    if any("admin" in key.scopes and key.state(now_us) == "active" for key in governing):
        return Operator(subject, "", frozenset())
    # The last admin's key has ended: without a way back the home could never be governed again.
    return Operator(subject, RECOVERY, frozenset({"admin"}))


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return f"uid {os.getuid()}"


def _refuse(settings: Settings, operator: Operator, command: str, found: str) -> NoReturn:
    """Say no, and write down to whom."""
    act = operator.act("access.refused", f"command:{command}", reason=found)
    audit_log_of(settings).record(act, outcome="refused")
    raise AccessDeniedError(found, hint=_HINT.format(command=command))
