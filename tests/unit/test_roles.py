"""Roles: what each may do, what nobody may do together, and that nothing runs undeclared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.access import SCOPES
from fraud_platform.errors import AccessDeniedError, PermanentError
from fraud_platform.roles import (
    COMMANDS,
    GOVERNING,
    OPEN,
    ROLE_NAMES,
    ROLES,
    needed_for,
    require_apart,
    role_of,
    scopes_of,
)

WRITING = {"score", "label", "propose", "approve", "operate", "admin"}


def test_every_role_has_scopes_that_exist_and_no_two_the_same():
    assert set(ROLES) == set(ROLE_NAMES)
    assert set().union(*ROLES.values()) == set(SCOPES), "a scope that no role has is for nobody"
    assert len({frozenset(scopes) for scopes in ROLES.values()}) == len(ROLES)
    assert all(role_of(ROLES[role]) == role for role in ROLE_NAMES)


def test_all_scopes_together_are_no_keys_but_an_open_homes():
    assert role_of(SCOPES) == "local"
    with pytest.raises(AccessDeniedError):
        require_apart(SCOPES, "anybody")


def test_who_gives_out_keys_reads_and_approves_nothing():
    assert ROLES["admin"] == ("admin",)


def test_an_auditor_reads_everything_and_changes_nothing():
    assert {"read", "explain", "audit"} == set(ROLES["auditor"])
    assert WRITING.isdisjoint(ROLES["auditor"])


def test_only_an_approver_approves_and_only_an_ml_engineer_proposes():
    assert [role for role in ROLE_NAMES if "approve" in ROLES[role]] == ["approver"]
    assert [role for role in ROLE_NAMES if "propose" in ROLES[role]] == ["ml_engineer"]
    assert {"approve", "propose"}.isdisjoint(ROLES["service"]), (
        "a program is no second pair of eyes"
    )


def test_every_command_needs_scopes_that_exist_or_is_open_and_nothing_else():
    for command, scopes in COMMANDS.items():
        assert scopes == (OPEN,) or set(scopes) <= set(SCOPES), command
        assert scopes, command


def test_what_moves_a_model_needs_an_approver():
    moving = ["approve", "reject", "models canary", "heal approve"]
    assert all(needed_for(command) == {"approve"} for command in moving)
    assert all(needed_for(f"keys {act}") == {"admin"} for act in ("create", "rotate", "revoke"))


def test_a_command_that_is_not_declared_runs_for_nobody():
    with pytest.raises(PermanentError, match="without a scope"):
        needed_for("models steal")


@given(st.sets(st.sampled_from(SCOPES)))
def test_admin_and_approve_are_never_together(scopes):
    if {"admin", "approve"} <= scopes:
        with pytest.raises(AccessDeniedError, match="admin and approve together"):
            require_apart(scopes, "ann")
    else:
        require_apart(scopes, "ann")


@given(st.lists(st.sampled_from([*ROLE_NAMES, "root", "", "Admin"])))
def test_roles_add_up_and_foreign_names_add_nothing(roles):
    expected = {scope for role in roles for scope in ROLES.get(role, ())}
    assert scopes_of(roles) == expected


def test_a_key_for_payments_alone_governs_nothing():
    assert GOVERNING.isdisjoint({"score", "label", "read", "explain"})
    assert set(SCOPES) - GOVERNING == {"score", "label", "read", "explain"}
