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
        ceiling: the best mode that an operator allows; NORMAL: no restriction. Never DEGRADED,
            which says what is missing: a scorer finds that out by itself.
    """

    has_model: bool
    can_record: bool
    missing: frozenset[str] = frozenset()
    ceiling: Mode = Mode.NORMAL

    def __post_init__(self) -> None:
        if self.ceiling is Mode.DEGRADED:
            raise ValueError("found ceiling=degraded, expected normal, rules_only or closed")

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
        missing: the capabilities that are missing in it, in alphabetical order; while DEGRADED is
            being left, those that were missing last.
    """

    def __init__(self, policy: ModePolicy) -> None:
        self._policy = policy
        self.mode: Mode | None = None
        self.missing: tuple[str, ...] = ()
        self._missing_since: int | None = None
        self._missed: tuple[str, ...] = ()  # what was missing when last something was
        self._asked_since: dict[Mode, int] = {}  # every look since then asked for it or better

    def look(self, situation: Situation, now_us: int) -> Mode:
        """The mode from now on.

        Args:
            situation: what is found now.
            now_us: a clock that does not go back, microseconds.
        """
        asked = self._asked(situation, now_us)
        self.mode = asked if self.mode is None else self._stepped(self.mode, asked, now_us)
        self.missing = self._missed if self.mode is Mode.DEGRADED else ()
        return self.mode

    def _asked(self, situation: Situation, now_us: int) -> Mode:
        """What the situation asks for; what is missing for a moment does not count yet."""
        asked = situation.mode
        if situation.missing:
            self._missed = tuple(sorted(situation.missing))
            if self._missing_since is None:
                self._missing_since = now_us
            waited_us = now_us - self._missing_since
            is_short = waited_us < self._policy.degrade_seconds * _MICROSECONDS
            if is_short and asked is Mode.DEGRADED and self.mode is Mode.NORMAL:
                asked = Mode.NORMAL
        else:
            self._missing_since = None
        since = {mode: self._asked_since.get(mode, now_us) for mode in Mode}
        self._asked_since = {m: at for m, at in since.items() if _ORDER[asked] <= _ORDER[m]}
        return asked

    def _stepped(self, mode: Mode, asked: Mode, now_us: int) -> Mode:
        """The worse mode at once, or the best that was asked for long enough."""
        if _ORDER[asked] >= _ORDER[mode]:
            return asked
        enough_us = self._policy.recover_seconds * _MICROSECONDS
        lasting = (m for m, since in self._asked_since.items() if now_us - since >= enough_us)
        return min((mode, *lasting), key=_ORDER.__getitem__)
