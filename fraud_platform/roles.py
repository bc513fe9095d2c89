"""Who may do what on the platform: roles, the scopes that each holds, and what a command needs.

One table for people and one for commands; routes declare theirs where they are written
(`serving.scopes`). What stands in neither is refused. A role is only a name for a set of scopes: a
key holds scopes, and its role is read back from them.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, get_args

from fraud_platform.access import SCOPES, Scope
from fraud_platform.errors import AccessDeniedError, PermanentError

Role = Literal[
    "scorer",
    "labeler",
    "analyst",
    "ml_engineer",
    "approver",
    "auditor",
    "operator",
    "admin",
    "service",
]
ROLE_NAMES: tuple[Role, ...] = get_args(Role)

ROLES: Mapping[Role, tuple[Scope, ...]] = MappingProxyType(
    {
        "scorer": ("score",),
        "labeler": ("label",),
        "analyst": ("read", "explain"),
        "ml_engineer": ("read", "explain", "propose"),
        "approver": ("read", "explain", "approve"),
        "auditor": ("read", "explain", "audit"),
        "operator": ("read", "operate"),
        "admin": ("admin",),
        "service": ("score", "label", "read", "operate"),
    }
)
"""What each role may do. No two hold the same, so that scopes tell the role. A `service` is a
program: it neither proposes nor approves, and sees nothing of the audit."""

LOCAL = "local"
"""Role of whoever sits at a home without governing keys: all scopes."""
RECOVERY = "recovery"
"""Role of whoever sits at a home whose governing keys hold no `admin` that counts."""
RECOVERS = frozenset({"keys create", "keys list"})
"""All that it may run: to make a key for an admin, which is the only kind that it may make."""

GOVERNING: frozenset[Scope] = frozenset({"propose", "approve", "operate", "audit", "admin"})
"""Scopes that change or oversee the platform: once a key holds one, commands ask who runs them."""

APART: frozenset[Scope] = frozenset({"admin", "approve"})
"""Who gives out keys must not approve models: nobody holds both."""

OPEN = "open"
"""For a command that reads or changes nothing of the home that needs a guard, or that asks a scorer
over HTTP, which admits by itself."""

COMMANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "accept-restore": ("admin",),
        "approve": ("approve",),
        "audit decision": ("audit",),
        "audit head": ("audit",),
        "audit log": ("audit",),
        "audit prove": ("audit",),
        "audit replay": ("audit",),
        "audit seal": ("audit", "operate"),
        "audit uses": ("audit",),
        "audit verify": ("audit",),
        "audits list": ("read", "label"),
        "backtest": ("read",),
        "decisions replay": ("read",),
        "demo": ("operate",),
        "evaluate": (OPEN,),
        "features compute": (OPEN,),
        "features verify": ("read",),
        "heal approve": ("approve",),
        "heal bench": (OPEN,),
        "heal configuration": ("read",),
        "heal configuration --approve": ("approve",),
        "heal explain": ("read",),
        "heal kill": ("operate",),
        "heal log": ("read",),
        "heal pause": ("operate",),
        "heal policy check": (OPEN,),
        "heal policy show": ("read",),
        "heal reject": ("approve",),
        "heal resume": ("operate",),
        "heal status": ("read",),
        "heal tick": ("operate",),
        "heal verify": ("read",),
        "ingest": ("operate",),
        "journal repair": ("operate",),
        "journal status": ("read",),
        "journal verify": ("read",),
        "keys create": ("admin",),
        "keys list": ("admin", "audit"),
        "keys revoke": ("admin",),
        "keys rotate": ("admin",),
        "load": (OPEN,),
        "mirror status": ("read",),
        "mode": ("read",),
        "mode ORDER": ("operate",),
        "models card": ("read",),
        "models canary": ("approve",),
        "models history": ("read",),
        "models promote": ("admin", "approve"),
        "models promote --break-glass": ("admin",),
        "models promote VERSION": ("approve",),
        "models publish": ("operate",),
        "models reproduce": ("read",),
        "models roll-back": ("approve", "operate"),
        "models show": ("read",),
        "proposals": ("read",),
        "propose": ("propose",),
        "reject": ("approve",),
        "retention hold": ("audit", "operate"),
        "retention purge": ("operate",),
        "retention release": ("audit",),
        "retention status": ("read",),
        "scan": ("audit",),
        # A machine that starts again must decide again, whatever has become of a key.
        "serve": (OPEN,),
        "settings": (OPEN,),
        "simulate": (OPEN,),
        "up": (OPEN,),
    }
)
"""Command -> the scopes of which one is needed, or `OPEN`. A command that acts only with an option
or argument has a line of its own for that, with the option's name behind the command's."""


def needed_for(command: str) -> frozenset[str]:
    """The scopes of which one lets a caller run this command; empty: everybody may.

    Raises:
        PermanentError: the table does not have it, so nobody may run it.

    Examples:
        >>> sorted(needed_for("audits list")), sorted(needed_for("settings"))
        (['label', 'read'], [])
    """
    if command not in COMMANDS:
        raise PermanentError(
            f"found the command {command!r} without a scope, expected a line in roles.COMMANDS",
            hint="deny by default: declare which scope it needs",
        )
    return frozenset(COMMANDS[command]) - {OPEN}


def scopes_of(roles: Iterable[str]) -> frozenset[Scope]:
    """What these roles may do together; names that are no role add nothing.

    Examples:
        >>> sorted(scopes_of(["analyst", "labeler", "emperor"]))
        ['explain', 'label', 'read']
    """
    return frozenset(scope for role in ROLE_NAMES if role in roles for scope in ROLES[role])


def role_of(scopes: Iterable[str]) -> str:
    """The role that holds exactly these scopes; without one, the scopes themselves.

    All of them together, which no key holds, are those of whoever is at an open home.

    Examples:
        >>> role_of(["explain", "read"]), role_of(["read", "label"])
        ('analyst', 'label+read')
    """
    held = frozenset(scopes)
    if held == frozenset(SCOPES):
        return LOCAL
    found = next((role for role in ROLE_NAMES if frozenset(ROLES[role]) == held), None)
    return found or "+".join(scope for scope in SCOPES if scope in held)


def require_apart(scopes: Iterable[str], whose: str) -> None:
    """Refuse scopes that nobody may hold together.

    Args:
        scopes: all that one key, or one subject, would hold.
        whose: the holder, as the message is to name it.

    Raises:
        AccessDeniedError: `admin` and `approve` are both among them.
    """
    if frozenset(scopes) >= APART:
        raise AccessDeniedError(
            f"found the scopes admin and approve together for {whose}, expected at most one:"
            " who gives out keys does not approve models",
            hint="give them to two people",
        )
