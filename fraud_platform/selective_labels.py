"""Learning although what is declined never shows its truth: explore a little, and weigh.

What belongs here: which would-be declines are let through or audited, and what a row that became
known by such a chance stands for. Who acts on it is the scorer; which rows a model learns from is
`training_set`; what such rows say about the others is `survey`.
"""

import hashlib
import re
import struct
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_platform.events import Transaction

Floats = NDArray[np.float64]

PASSED, AUDITED = "passed", "audited"
"""What a decision's record says of a payment that was drawn."""

_DAY_US = 86_400_000_000
_WORDS = struct.Struct(">QQ")
_BLOCK = hashlib.sha256().block_size


class Action(StrEnum):
    """What becomes of a payment that would be declined."""

    NONE = "none"  # it is declined, and its truth stays unknown
    # approved, and its truth becomes known as for any approved payment
    PASS = "pass"  # noqa: S105 -- no password
    AUDIT = "audit"  # it is declined, and somebody finds out what it was


@dataclass(frozen=True, kw_only=True)
class ExplorationPolicy:
    """How many would-be declines are let through or audited at random; off unless told."""

    pass_rate: float = 0.0
    """Chance that a would-be decline of at most `pass_max_amount_minor` is let through, in [0, 1]:
    letting a share of frauds through is what learning from declines costs."""
    pass_floor: float = 0.0
    """The same chance for larger amounts, in [0, pass_rate]."""
    pass_max_amount_minor: int = 15_000
    """Amount up to which `pass_rate` holds, minor units."""
    pass_ceiling_minor: int = 200_000
    """Sum of the amounts let through in a day (UTC) that is never exceeded, minor units."""
    audit_rate: float = 0.0
    """Chance that a would-be decline of at most `audit_amount_minor` that is not let through is
    audited, in [0, 1]."""
    audit_amount_minor: int = 10_000
    """Amount up to which `audit_rate` holds, minor units, at least 1. Above, the chance grows with
    the amount up to 1: the few large payments that decide a sum of money are seldom missed."""
    audit_rate_approved: float = 0.0
    """Chance that an approved payment is audited, in [0, 1]: what only approvals can tell, such as
    the frauds that a model has stopped seeing, is learnt from them long before a chargeback."""
    audits_per_day: int = 100
    """Audits in a day (UTC), declined and approved together; then no more are asked for."""
    currency: str = "EUR"
    """Currency of the amounts of this policy, ISO 4217: payments in any other are never let
    through, so that the ceiling is one sum of money."""

    def __post_init__(self) -> None:
        audits = (self.audit_rate, self.audit_rate_approved)
        passes_are_rates = 0.0 <= self.pass_floor <= self.pass_rate <= 1.0
        if not (passes_are_rates and all(0.0 <= rate <= 1.0 for rate in audits)):
            raise ValueError(
                f"found pass_floor={self.pass_floor}, pass_rate={self.pass_rate}, audit_rate="
                f"{self.audit_rate} and audit_rate_approved={self.audit_rate_approved}, expected "
                "0 <= pass_floor <= pass_rate <= 1 and both audit rates in [0, 1]"
            )
        if not re.fullmatch("[A-Z]{3}", self.currency):
            raise ValueError(f"found currency={self.currency!r}, expected a code as in ISO 4217")
        limits = (self.pass_max_amount_minor, self.pass_ceiling_minor, self.audits_per_day)
        if min(limits) < 0:
            raise ValueError(
                f"found pass_max_amount_minor, pass_ceiling_minor and audits_per_day of {limits}, "
                "expected at least 0"
            )
        if self.audit_amount_minor < 1:
            found = self.audit_amount_minor
            raise ValueError(f"found audit_amount_minor={found}, expected at least 1")

    @property
    def is_on(self) -> bool:
        """Whether anything is ever drawn."""
        return max(self.pass_rate, self.audit_rate, self.audit_rate_approved) > 0.0

    def audit_chance(self, amount_minor: int) -> float:
        """Chance that a would-be decline is audited, while the day's audits last.

        Examples:
            >>> policy = ExplorationPolicy(audit_rate=0.25, audit_amount_minor=10_000)
            >>> [policy.audit_chance(amount) for amount in (500, 10_000, 30_000, 200_000)]
            [0.25, 0.25, 0.75, 1.0]
        """
        return min(1.0, self.audit_rate * max(1.0, amount_minor / self.audit_amount_minor))


class Spent(NamedTuple):
    """What exploration has spent on one UTC day, by the time of the decisions.

    Attributes:
        exposure_minor: sum of the amounts let through, minor units of the policy's currency.
        audits: payments put up for audit.
    """

    exposure_minor: int = 0
    audits: int = 0

    def after(self, explored: str, amount_minor: int) -> "Spent":
        """The same with one more payment that was let through or put up for audit.

        Examples:
            >>> Spent(100, 1).after(PASSED, 50), Spent(100, 1).after(AUDITED, 50)
            (Spent(exposure_minor=150, audits=1), Spent(exposure_minor=100, audits=2))
        """
        if explored == PASSED:
            return Spent(self.exposure_minor + amount_minor, self.audits)
        return Spent(self.exposure_minor, self.audits + 1)


def day_of(decided_us: int) -> int:
    """The UTC day that a decision is counted on, days since 1970-01-01."""
    return decided_us // _DAY_US


class Exploration(NamedTuple):
    """What was drawn for a would-be decline, and how likely it was.

    Attributes:
        action: what becomes of the payment.
        pass_propensity: chance that it was let through.
        audit_propensity: chance that it was audited, had it not been let through.
    """

    action: Action
    pass_propensity: float
    audit_propensity: float

    @property
    def propensity(self) -> float:
        """Chance that the truth of this payment could become known, in [0, 1].

        Examples:
            >>> Exploration(Action.NONE, 0.5, 0.5).propensity
            0.75
        """
        return 1.0 - (1.0 - self.pass_propensity) * (1.0 - self.audit_propensity)


def explore(
    policy: ExplorationPolicy,
    transaction_id: str,
    amount_minor: int,
    *,
    exposure_minor_today: int,
    audits_today: int,
    salt: bytes,
) -> Exploration:
    """Draw what becomes of one would-be decline; the same input always draws the same.

    The chance comes from a keyed digest of the transaction id, so that a replay of the decision
    redraws it, and nobody without the key can find ids that will pass.

    Args:
        policy: the rates and the limits.
        transaction_id: of the payment.
        amount_minor: its amount, minor units.
        exposure_minor_today: amounts let through on this UTC day so far, minor units.
        audits_today: audits asked for on this UTC day so far.
        salt: the key; whoever knows it knows what will pass.

    Examples:
        >>> policy = ExplorationPolicy(pass_rate=1.0)
        >>> today = {"audits_today": 0, "salt": b"key"}
        >>> explore(policy, "t1", 9_000, exposure_minor_today=0, **today).action
        <Action.PASS: 'pass'>
        >>> explore(policy, "t1", 9_000, exposure_minor_today=195_000, **today).pass_propensity
        0.0
    """
    spent = Spent(exposure_minor_today, audits_today)
    found = _draw(policy, transaction_id, amount_minor, spent, salt)
    action = _ACTIONS[found.explored]
    return Exploration(action, found.pass_propensity or 0.0, found.audit_propensity or 0.0)


class Drawn(NamedTuple):
    """What a decision's record says about exploration.

    Attributes:
        pass_propensity: chance to be let through; None: nothing was to be declined.
        audit_propensity: chance to be put up for audit, had it not been let through; None: it
            could not be.
        explored: `PASSED`, `AUDITED`, or None when neither was drawn.
    """

    pass_propensity: float | None = None
    audit_propensity: float | None = None
    explored: str | None = None


NOT_DRAWN = Drawn()
"""Of what can be neither let through nor audited."""
_ACTIONS = {None: Action.NONE, PASSED: Action.PASS, AUDITED: Action.AUDIT}


def _draw(
    policy: ExplorationPolicy, transaction_id: str, amount_minor: int, spent: Spent, salt: bytes
) -> Drawn:
    """The draw for one would-be decline in the policy's currency."""
    passes = policy.pass_rate if amount_minor <= policy.pass_max_amount_minor else policy.pass_floor
    if spent.exposure_minor + amount_minor > policy.pass_ceiling_minor:
        passes = 0.0
    audits = policy.audit_chance(amount_minor) if spent.audits < policy.audits_per_day else 0.0
    to_pass, to_audit = _uniforms(salt, transaction_id)
    if to_pass < passes:
        return Drawn(passes, audits, PASSED)
    return Drawn(passes, audits, AUDITED if to_audit < audits else None)


@dataclass(frozen=True)
class Explorer:
    """A policy and the key it draws with.

    Attributes:
        policy: the rates and the limits.
        salt: the key; whoever knows it knows what will pass.
    """

    policy: ExplorationPolicy
    salt: bytes = field(repr=False)

    @cached_property
    def document(self) -> dict[str, object]:
        """What names it in the digest of the rules: the policy, and which key, not the key."""
        return asdict(self.policy) | {"salt": hashlib.sha256(self.salt).hexdigest()}

    def draw(self, outcome: str, payment: Transaction, spent: Spent) -> Drawn:
        """Draw for a payment that a model judged.

        Nothing but the payment's own id decides: no card is let through twice because it was once.

        Args:
            outcome: what its model says: approve, review or decline.
            payment: the payment.
            spent: on the day of the decision so far.

        Examples:
            >>> explorer = Explorer(ExplorationPolicy(pass_rate=1.0), b"key")
            >>> payment = Transaction("t1", 0, "c", "t", 9_000, "EUR")
            >>> explorer.draw("decline", payment, Spent())
            Drawn(pass_propensity=1.0, audit_propensity=0.0, explored='passed')
            >>> explorer.draw("decline", payment._replace(currency="SEK"), Spent())
            Drawn(pass_propensity=0.0, audit_propensity=0.0, explored=None)
        """
        policy, name = self.policy, payment.transaction_id
        if outcome == "decline":
            if payment.currency != policy.currency:
                spent = Spent(policy.pass_ceiling_minor + 1, spent.audits)  # no room for it
            return _draw(policy, name, payment.amount_minor, spent, self.salt)
        rate = policy.audit_rate_approved
        if outcome != "approve" or not rate:
            return NOT_DRAWN
        if spent.audits >= policy.audits_per_day:
            return Drawn(None, 0.0, None)
        _, to_audit = _uniforms(self.salt, name)
        return Drawn(None, rate, AUDITED if to_audit < rate else None)


def _uniforms(salt: bytes, transaction_id: str) -> tuple[float, float]:
    """Two numbers in [0, 1) that look drawn at random and independently, to pass and to audit.

    53 bits each of one HMAC-SHA256 of the id.
    """
    inner, outer = _keyed(salt)
    inner, outer = inner.copy(), outer.copy()
    inner.update(transaction_id.encode())
    outer.update(inner.digest())
    to_pass, to_audit = _WORDS.unpack_from(outer.digest())
    return (to_pass >> 11) * 2.0**-53, (to_audit >> 11) * 2.0**-53


@lru_cache(maxsize=4)
def _keyed(salt: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """The two hashes of HMAC (RFC 2104) with the key taken in: `hmac` does it for each message."""
    key = (hashlib.sha256(salt).digest() if len(salt) > _BLOCK else salt).ljust(_BLOCK, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in key) for pad in (0x36, 0x5C))
    return hashlib.sha256(inner), hashlib.sha256(outer)


def training_weights(propensity: Floats, *, max_weight: float) -> Floats:
    """How many payments each labelled row stands for: 1 / propensity, clipped, mean 1.

    The clip gives up a little truth for a smaller variance; the mean of 1 keeps what a library's
    settings per row (such as the least weight of a leaf) mean.

    Args:
        propensity: shape (n,), chance that the row's label became known, in [0, 1]. A label that
            came although its chance was 0 was not drawn: it stands for itself alone.
        max_weight: what the inverse is clipped at, at least 1.

    Examples:
        >>> training_weights(np.array([1.0, 1.0, 0.01, 0.0]), max_weight=5.0).tolist()
        [0.5, 0.5, 2.5, 0.5]
    """
    inverse = np.divide(1.0, propensity, out=np.ones(propensity.shape), where=propensity > 0)
    clipped = np.minimum(inverse, max_weight)
    return np.asarray(clipped / clipped.mean() if clipped.size else clipped, dtype=np.float64)
