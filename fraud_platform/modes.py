"""In which mode a scorer answers: entered when something is missing, left when it has stayed well.

What belongs here: the order of the modes, what a situation asks for, and the hysteresis between
them. Who decides in a mode is `serving.ruling`; what is looked at is the scorer's affair.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf

_MICROSECONDS = 1_000_000


class Mode(StrEnum):
    """How much of the scorer stands behind its answers, best first."""

    NORMAL = "normal"  # the champion decides and nothing is missing
    DEGRADED = "degraded"  # a verified model decides, a named capability is missing
    RULES_ONLY = "rules_only"  # no model decides: amount bands, never plain approve
    CLOSED = "closed"  # nothing is decided: every payment gets an error


_ORDER = {mode: place for place, mode in enumerate(Mode)}


@dataclass(frozen=True, kw_only=True)
class ModePolicy:
    """When a scorer changes its mode."""

    degrade_seconds: float = 2.0
    """How long a capability may be missing before the mode says so, seconds."""
    recover_seconds: float = 2.0
    """How long all must be well before a better mode is entered, seconds."""

    def __post_init__(self) -> None:
        for name in ("degrade_seconds", "recover_seconds"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"found {name}={getattr(self, name)}, expected 0 or more seconds")


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a scorer finds when it looks at itself.

    Attributes:
        has_model: a verified model could decide.
        can_record: decisions can be made durable.
        missing: names of capabilities that are missing, e.g. `champion`, `mirror`.
        ceiling: the best mode that an operator allows; NORMAL: no restriction.
    """

    has_model: bool
    can_record: bool
    missing: frozenset[str] = frozenset()
    ceiling: Mode = Mode.NORMAL

    @property
    def mode(self) -> Mode:
        """The mode this situation asks for, without any hysteresis.

        Examples:
            >>> str(Situation(has_model=True, can_record=True).mode)
            'normal'
            >>> str(Situation(has_model=False, can_record=True).mode)
            'rules_only'
            >>> str(Situation(has_model=True, can_record=True, ceiling=Mode.CLOSED).mode)
            'closed'
        """
        asked = Mode.DEGRADED if self.missing else Mode.NORMAL
        if not self.has_model:
            asked = Mode.RULES_ONLY
        if not self.can_record:
            asked = Mode.CLOSED
        return worst((asked, self.ceiling))


def worst(modes: Iterable[Mode]) -> Mode:
    """The mode of these that promises least.

    Examples:
        >>> str(worst((Mode.DEGRADED, Mode.RULES_ONLY)))
        'rules_only'
    """
    return max(modes, key=_ORDER.__getitem__)


class ModeSwitch:
    """The mode in force, with hysteresis.

    RULES_ONLY and CLOSED are entered at once: without a model or a record nothing else is true.
    DEGRADED is entered when something has been missing for `degrade_seconds` without a pause. A
    better mode is entered when every look of the last `recover_seconds` asked for it or better.

    Args:
        policy: how long is long.

    Attributes:
        mode: the mode in force; None before the first look.
        missing: the capabilities that are missing in it, in alphabetical order.
    """

    def __init__(self, policy: ModePolicy) -> None:
        self._policy = policy
        self.mode: Mode | None = None
        self.missing: tuple[str, ...] = ()
        self._better_since: int | None = None
        self._missing_since: int | None = None

    def look(self, situation: Situation, now_us: int) -> Mode:
        """The mode from now on.

        Args:
            situation: what is found now.
            now_us: a clock that does not go back, microseconds.
        """
        if self.mode is None:
            self.mode = situation.mode
        else:
            asked = self._asked(situation, now_us)
            self.mode = self._stepped(self.mode, asked, now_us)
        self.missing = tuple(sorted(situation.missing)) if self.mode is Mode.DEGRADED else ()
        return self.mode

    def _asked(self, situation: Situation, now_us: int) -> Mode:
        """What the situation asks for; what is missing for a moment does not count yet."""
        if not situation.missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now_us
        asked = situation.mode
        if asked is Mode.DEGRADED and self.mode is Mode.NORMAL and self._missing_since is not None:
            waited_us = now_us - self._missing_since
            if waited_us < self._policy.degrade_seconds * _MICROSECONDS:
                return Mode.NORMAL
        return asked

    def _stepped(self, mode: Mode, asked: Mode, now_us: int) -> Mode:
        if _ORDER[asked] >= _ORDER[mode]:
            self._better_since = None
            return asked
        if self._better_since is None:
            self._better_since = now_us
        if now_us - self._better_since < self._policy.recover_seconds * _MICROSECONDS:
            return mode
        self._better_since = None
        return asked
