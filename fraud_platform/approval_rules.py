"""Whose approval a change needs: how many people, how fast, and which names are one person's.

What belongs here: the rules alone. What is judged by them, proposals and votes, is `approvals`.
"""

import hashlib
import re
from dataclasses import dataclass, fields
from enum import StrEnum

_SUBJECT = re.compile(r"[a-z0-9][a-z0-9 ._@:/+-]{0,63}", re.ASCII)
_NOBODYS = frozenset(
    {"approvals", "canary_ramp", "command", "dagster", "heal", "healing", "platform", "scorer"}
    | {"sensor", "unknown", "whoever"}
)
"""Parts of the platform: no people."""
_MOST_APPROVALS = 5
"""Stricter rules hold at once: without bounds the environment alone could lock a home."""
_RUNS = ("dagster run ", "run:", "service:", "svc:")


class Tier(StrEnum):
    """How much a change may harm; each has its own number of approvals."""

    REFRESH = "refresh"
    WIDENING = "widening"
    FIRST_CHAMPION = "first_champion"
    POLICY = "policy"
    EMERGENCY = "emergency"


@dataclass(frozen=True, kw_only=True)
class ApprovalPolicy:
    """How many people must agree, how fast, and which names are one person's."""

    expires_hours: float = 72.0
    """How long a proposal may be voted on, hours."""
    break_glass_hours: float = 24.0
    """How long a promotion without approval stands until another confirms it, hours; then it is
    undone."""
    refresh_approvals: int = 1
    """People who must approve a model that disturbs no more payments than the champion."""
    widening_approvals: int = 1
    """The same for a model that disturbs more, or of which nobody measured it."""
    first_champion_approvals: int = 1
    """The same for the first champion."""
    policy_approvals: int = 1
    """The same for a change that asks for fewer of these approvals, or for none."""
    aliases: tuple[str, ...] = ()
    """Further names of a person, as `NAME=SUBJECT`: a JSON list. Both are one person."""
    service_accounts: tuple[str, ...] = ()
    """Subjects that are no people and approve nothing, beside the platform's own: a JSON list."""

    def require_bounds(self) -> "ApprovalPolicy":
        """The policy itself, if it may come into force; those of before are read as they were.

        Raises:
            ValueError: a bound is broken, or an alias is none.
        """
        for name in ("expires_hours", "break_glass_hours"):
            if not 1.0 <= getattr(self, name) <= 8_760.0:
                raise ValueError(f"found {name}={getattr(self, name)}, expected 1 to 8760")
        for name in ("refresh", "widening", "first_champion", "policy"):
            if not 1 <= getattr(self, f"{name}_approvals") <= _MOST_APPROVALS:
                raise ValueError(f"found {name}_approvals outside 1 to {_MOST_APPROVALS}")
        names = [plain(pair.partition("=")[0]) for pair in self.aliases]
        if len(names) > len(set(names)):
            raise ValueError("found two subjects for one alias, expected one")
        for pair in self.aliases:
            name, _, subject = pair.partition("=")
            if not (name.strip() and subject.strip()):
                raise ValueError(f"found the alias {pair!r}, expected NAME=SUBJECT")
        return self

    def approvals(self, tier: Tier) -> int:
        """How many people must approve a change of a tier; nobody measures an emergency."""
        if tier is Tier.EMERGENCY:
            return max(self.refresh_approvals, self.widening_approvals)
        return int(getattr(self, f"{tier}_approvals"))

    def person(self, subject: str) -> str:
        """The one name of whoever has this one: case, spaces and aliases make nobody another.

        Examples:
            >>> ApprovalPolicy(aliases=("b.smith=bert",)).person("B.Smith ")
            'bert'
        """
        pairs = [pair.partition("=") for pair in self.aliases]
        known = {plain(name): plain(named) for name, _, named in pairs}
        found, seen = plain(subject), set[str]()
        while found in known and found not in seen:
            seen.add(found)
            found = known[found]
        return min(seen) if found in seen else found

    def is_person(self, subject: str) -> bool:
        """Whether a subject can be one who looks: no run, no service, and written in ASCII."""
        found = self.person(subject)
        services = {*_NOBODYS, *map(self.person, self.service_accounts)}
        return bool(_SUBJECT.fullmatch(found)) and not (
            found in services or found.startswith(_RUNS) or plain(subject).startswith(_RUNS)
        )


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for changes: whether they need approval, and whose.

    Attributes:
        is_required: whether models are promoted by approval only.
        policy: by whom.
    """

    is_required: bool = False
    policy: ApprovalPolicy = ApprovalPolicy()

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        told = [f"{f.name}={getattr(self.policy, f.name)!r}" for f in fields(self.policy)]
        return digest_of("rules", str(self.is_required), *told)

    def no_looser_than(self, other: "Rules") -> bool:
        """Whether nothing passes these rules that those stop; doubts and other names are looser."""
        mine, theirs = self.policy, other.policy
        names = [f.name for f in fields(mine)]
        return (
            self.is_required >= other.is_required
            and all(getattr(mine, n) <= getattr(theirs, n) for n in names if n.endswith("_hours"))
            and all(
                getattr(mine, n) >= getattr(theirs, n) for n in names if n.endswith("_approvals")
            )
            and set(mine.aliases) == set(theirs.aliases)
            and set(mine.service_accounts) == set(theirs.service_accounts)
        )


def plain(subject: str) -> str:
    """A subject without what makes no difference: case, and spaces.

    Examples:
        >>> plain(" Ann   Lee ")
        'ann lee'
    """
    return " ".join(subject.casefold().split())


def digest_of(*parts: str) -> str:
    """SHA-256 over texts, each with its length in front, so that none runs into the next.

    Examples:
        >>> digest_of("ab", "c") == digest_of("a", "bc")
        False
    """
    found = hashlib.sha256()
    for part in parts:
        content = part.encode()
        found.update(len(content).to_bytes(8, "big") + content)
    return found.hexdigest()
