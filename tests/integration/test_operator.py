"""Who may run which command: every command, every role, every state of a key; and what is kept of
a refusal."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraud_platform.access import SCOPES, ApiKey, digest_of, id_of
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.adapters.operator import operator_of
from fraud_platform.cli import main
from fraud_platform.command_access import Admitted, commands_of
from fraud_platform.errors import AccessDeniedError, AuditUnavailableError, PermanentError
from fraud_platform.roles import COMMANDS, OPEN, ROLE_NAMES, ROLES
from fraud_platform.settings import Settings, get_settings

PROGRAM = str(Path(sys.executable).with_name("fraud-platform"))
LEAVES = dict(commands_of(main))
DAY_US = 86_400_000_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def key_for(home: Path, *scopes: str, subject: str = "ann", **more: object) -> str:
    """A new key of the home, not made by a command."""
    now_us = time.time_ns() // 1_000

    def make(text: str) -> ApiKey:
        key = ApiKey(
            id=id_of(text),
            environment="live",
            digest=digest_of(text),
            subject=subject,
            scopes=scopes,
            created_us=now_us,
            expires_us=now_us + DAY_US,
        )
        return replace(key, **more)

    return KeyStore(home / "access").create(make, environment="live")[0]


def settings_with(home: Path, key: str | None) -> Settings:
    return Settings(home=home, operator_key=key)


def refusals(home: Path) -> list[tuple[str, str, str]]:
    rows = audit_log_of(Settings(home=home)).rows()
    return [(r.actor, r.object, r.outcome) for r in rows if r.action == "access.refused"]


def said(home: Path, *words: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a process."""
    environment = os.environ | {"FRAUD_HOME": str(home)}
    if key is not None:
        environment["FRAUD_OPERATOR_KEY"] = key
    return subprocess.run(
        [PROGRAM, *words], env=environment, capture_output=True, text=True, timeout=120
    )


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *words: str, key: str | None = None) -> str:
    """A command in this process; one of its own takes a second to start."""
    monkeypatch.setenv("FRAUD_HOME", str(home))
    monkeypatch.delenv("FRAUD_OPERATOR_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("FRAUD_OPERATOR_KEY", key)
    get_settings.cache_clear()
    done = CliRunner().invoke(main, words)
    get_settings.cache_clear()
    return done.output


# --- the whole table


def held_by(home: Path) -> dict[str, tuple[str | None, frozenset[str]]]:
    """Everybody who could come to a governed home: their key, and the scopes it should give."""
    now_us = time.time_ns() // 1_000
    people = {
        role: (key_for(home, *ROLES[role], subject=role), frozenset(ROLES[role]))
        for role in ROLE_NAMES
    }
    almost_all = [scope for scope in SCOPES if scope != "admin"]
    ended = key_for(home, *almost_all, subject="ended", expires_us=now_us - 1)
    revoked = key_for(home, *almost_all, subject="revoked", revoked_us=now_us)
    nothing: frozenset[str] = frozenset()
    return {
        **people,
        "no key": (None, nothing),
        "no key at all": ("nonsense", nothing),
        "wrong secret": (people["admin"][0][:-5] + "xxxxx", nothing),
        "expired": (ended, nothing),
        "revoked": (revoked, nothing),
    }


def test_every_command_runs_for_whom_the_table_says_and_for_nobody_else(home, monkeypatch):
    people = held_by(home)
    cells = right = refused = 0
    for who, (key, scopes) in people.items():
        settings = settings_with(home, key)
        monkeypatch.setattr("fraud_platform.command_access.get_settings", lambda s=settings: s)
        for name, command in LEAVES.items():
            assert isinstance(command.callback, Admitted), f"{name} has no door"
            door = replace(command.callback, run=lambda **_: "ran")
            needed = set(COMMANDS[name])
            expected = OPEN in needed or not needed.isdisjoint(scopes)
            try:
                found = door() == "ran"
            except AccessDeniedError:
                found, refused = False, refused + 1
            cells, right = cells + 1, right + (found == expected)
            assert found == expected, (who, name)
    assert len(refusals(home)) == refused, "each refusal is in the audit log"
    told = {"test": "T-RBAC commands", "cells": cells, "right": right, "refused": refused}
    print(json.dumps(told | {"commands": len(LEAVES), "callers": len(people)}))
    assert right == cells >= 40 * len(people)


def test_every_command_is_declared():
    assert set(LEAVES) <= set(COMMANDS), "declare it in roles.COMMANDS"


def test_what_is_declared_is_there():
    for name in set(COMMANDS) - set(LEAVES):
        command, _, act = name.rpartition(" ")
        words = {
            word for one in LEAVES[command].params for word in (*one.opts, one.human_readable_name)
        }
        assert act in words, f"{command} has no {act}"


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        (("mode", "normal"), "operate"),
        (("models", "promote", "7"), "approve"),
        (("models", "promote", "7", "--break-glass"), "admin"),
    ],
    ids=["mode", "promote", "break-glass"],
)
def test_an_argument_or_option_can_need_more_than_its_command(home, monkeypatch, words, scope):
    key_for(home, "operate", subject="root")
    for role in ROLE_NAMES:
        if scope not in ROLES[role]:
            key = key_for(home, *ROLES[role], subject=role)
            assert "expected the scope" in run(home, monkeypatch, *words, key=key), role


def test_a_command_that_nobody_declared_runs_for_nobody(home, monkeypatch):
    settings = settings_with(home, None)
    monkeypatch.setattr("fraud_platform.command_access.get_settings", lambda: settings)
    with pytest.raises(PermanentError, match="without a scope"):
        Admitted("models steal", lambda: "ran")()


# --- a home without and with governors


def test_a_laptop_needs_no_key(home):
    operator = operator_of(settings_with(home, None), "approve", "ann")
    assert (operator.subject, operator.role) == ("ann", "local")
    assert operator.scopes == set(SCOPES)
    assert not (home / "audit").exists(), "nothing is kept of who may"


def test_a_key_for_payments_leaves_the_command_line_as_it_was(home):
    key_for(home, "score", "read")
    assert operator_of(settings_with(home, None), "ingest").role == "local"


@pytest.mark.parametrize("scope", ["propose", "approve", "operate", "audit", "admin"])
def test_with_a_key_that_governs_a_name_is_not_enough(home, scope):
    key_for(home, scope)
    if scope != "admin":
        key_for(home, "admin", subject="root")
    with pytest.raises(AccessDeniedError, match="no operator key was shown") as refusal:
        operator_of(settings_with(home, None), "ingest", "ann")
    assert "FRAUD_OPERATOR_KEY" in str(refusal.value.hint)
    assert refusals(home) == [("ann", "command:ingest", "refused")]


def test_the_holder_of_a_key_acts_under_their_own_name(home):
    key = key_for(home, *ROLES["approver"], subject="ann")
    operator = operator_of(settings_with(home, key), "approve")
    assert (operator.subject, operator.role) == ("ann", "approver")
    act = operator.act("key.create", "key:a", reason="so", facts={"a": "b"})
    assert (act.actor, act.role, act.origin, act.reason) == ("ann", "approver", "cli", "so")
    assert operator_of(settings_with(home, key), "approve", "ann").subject == "ann"
    with pytest.raises(AccessDeniedError, match="another name in --by"):
        operator_of(settings_with(home, key), "approve", "bob")


def test_a_refusal_that_cannot_be_written_down_is_still_one(home):
    key_for(home, "admin")
    (home / "audit").write_text("a file where a folder belongs", "utf-8")
    with pytest.raises(AuditUnavailableError):
        operator_of(settings_with(home, None), "ingest")


def test_when_the_last_admins_key_has_ended_the_owner_may_make_one_and_nothing_else(home):
    key_for(home, "admin", expires_us=1)
    settings = settings_with(home, None)
    operator = operator_of(settings, "keys create")
    assert (operator.role, operator.scopes) == ("recovery", {"admin"})
    for command in ("approve", "ingest", "decisions replay", "keys revoke", "models promote"):
        with pytest.raises(AccessDeniedError):
            operator_of(settings, command)


def test_the_key_that_recovery_makes_is_an_admins(home, monkeypatch):
    key_for(home, "admin", expires_us=1)
    told = ("keys", "create", "--subject", "ann", "--role")
    assert "no admin's key counts" in run(home, monkeypatch, *told, "approver")
    assert "fp_live_" in run(home, monkeypatch, *told, "admin")


def test_the_key_of_another_home_is_a_stranger(home, tmp_path):
    key_for(home, "admin")
    other = key_for(tmp_path / "other", "operate")
    with pytest.raises(AccessDeniedError, match="not valid") as refusal:
        operator_of(settings_with(home, other), "ingest")
    assert other[17:] not in str(refusal.value)


# --- as people type it


def test_the_names_that_a_command_keeps_are_the_keys(home, monkeypatch):
    key_for(home, "admin", subject="root")
    key = key_for(home, *ROLES["operator"], subject="olga")
    order = ("mode", "rules_only", "--reason", "attack")
    assert "no operator key was shown" in run(home, monkeypatch, *order)
    assert "another name" in run(home, monkeypatch, *order, "--by", "ann", key=key)
    assert run(home, monkeypatch, *order, key=key).startswith("rules_only olga attack")


def test_every_act_on_a_key_is_in_the_audit_log_and_no_key_is(home, monkeypatch):
    create = ("keys", "create", "--json", "--subject")
    admin = json.loads(run(home, monkeypatch, *create, "root", "--role", "admin"))["key"]
    made = run(home, monkeypatch, *create, "ann", "--role", "approver", key=admin)
    first = json.loads(made)["key"]
    told = run(home, monkeypatch, "keys", "rotate", first[8:16], "--json", key=admin)
    second = json.loads(told)["key"]
    run(home, monkeypatch, "keys", "revoke", second[8:16], key=admin)
    rows = [r for r in audit_log_of(Settings(home=home)).rows() if r.outcome == "begun"]
    assert [(r.actor, r.role, r.action) for r in rows][1:] == [
        ("root", "admin", "key.create"),
        ("root", "admin", "key.rotate"),
        ("root", "admin", "key.revoke"),
    ]
    assert rows[0].role == "local"
    assert rows[3].before == rows[2].after, "the chain of a key's states"
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    found = [key for key in (admin, first, second) if key[17:].encode() in written]
    print(json.dumps({"test": "T-KEYS at rest", "keys": 3, "found": len(found)}))
    assert not found


@pytest.mark.parametrize(
    "words",
    [
        ("--role", "admin", "--role", "approver"),
        ("--scope", "admin", "--scope", "approve"),
        ("--role", "admin", "--scope", "approve"),
    ],
    ids=["roles", "scopes", "both"],
)
def test_no_key_both_gives_out_keys_and_approves(home, monkeypatch, words):
    told = run(home, monkeypatch, "keys", "create", "--subject", "ann", *words)
    assert "admin and approve together" in told
    assert not KeyStore(home / "access").read().keys


def test_nor_do_two_keys_of_one_person_in_other_letters(home):
    key_for(home, *ROLES["approver"], subject="Ann")
    with pytest.raises(AccessDeniedError, match="admin and approve together"):
        key_for(home, "admin", subject="ann ")
    assert key_for(home, "admin", subject="bob")


def test_every_key_ends(home, monkeypatch):
    create = ("keys", "create", "--subject", "job", "--role", "service")
    assert "expected at most 365" in run(home, monkeypatch, *create, "--expires-days", "366")
    assert "0 is not in the range" in run(home, monkeypatch, *create, "--expires-days", "0")
    run(home, monkeypatch, *create)
    (key,) = KeyStore(home / "access").read().keys.values()
    assert key.expires_us - key.created_us == 365 * DAY_US
    endless, admin = key_for(home, "score", expires_us=None), key_for(home, "admin")
    new = json.loads(run(home, monkeypatch, "keys", "rotate", endless[8:16], "--json", key=admin))
    assert new["expires"] is not None, "not even by rotation"


def test_a_refusal_of_the_program_says_what_to_do(home):
    key_for(home, "admin")
    done = said(home, "models", "show")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Hint: show who you are: FRAUD_OPERATOR_KEY=" in done.stderr
    assert said(home, "models", "show", "--help").returncode == 0
    assert said(home, "settings").returncode == 0
