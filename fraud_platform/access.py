"""Who may do what at the scorer: scopes, API keys, and the policy of access.

What belongs here: what a key is, how it is made and told apart from a wrong one, without a clock or
a disk. The file of keys is `adapters.key_store`; admission of a request is `serving.access`.
"""

import hashlib
import ipaddress
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Literal, get_args

from fraud_platform.errors import AccessDeniedError, PermanentError

Scope = Literal[
    "score", "label", "read", "explain", "propose", "approve", "operate", "audit", "admin"
]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a caller may be allowed: ask for decisions, report verdicts, read decisions, read
explanations, propose models, approve what another proposed, operate the platform (take data in,
order modes, heal), read everything of the audit, and give out keys. None contains another."""

ASYMMETRIC = ("RS256", "ES256", "EdDSA")
"""Signatures that can be checked with a public key, so the scorer cannot make them."""

DAY_US = 86_400_000_000
LONGEST_DAYS = 3_650
LONGEST_SUBJECT = 64
LOWEST_RATE = 0.001
"""Fewest requests per second that a limit may allow, beside 0: one in about 17 minutes."""

_ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_KEY_TEXT = re.compile(r"fp_([a-z0-9]{1,12})_([a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_KEY_NAME = re.compile(r"(?:fp_[a-z0-9]{1,12}_)?([a-z0-9]{8})(?:_.*)?", re.ASCII)
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@:/+-]{0,63}", re.ASCII)
_ID = re.compile(r"[a-z0-9]{8}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ENVIRONMENT = re.compile(r"[a-z0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class AccessPolicy:
    """Who needs a key, how often a caller may ask, and whose signed tokens count."""

    required: Literal["auto", "always", "never"] = "auto"
    """Whether callers need a key or token: `auto` (not on loopback, until there is a key or an
    issuer), `always`, or `never` (refused when the scorer listens beyond loopback)."""
    requests_per_second: float = 5_000.0
    """How often one key, token subject or open client address may ask, per second. 0: no limit."""
    burst: int = 10_000
    """How many requests a caller that was silent may send at once."""
    failures_per_second: float = 5.0
    """How many wrong API keys, and how many wrong signatures, per second one client address is told
    about with 401; more get 429. Good credentials from there still count."""
    failure_burst: int = 50
    """How many refused credentials one client address may send at once."""
    environment: str = "live"
    """Middle part of new API keys, so that people and secret scanners see where a key belongs."""
    key_days: int = 365
    """How long a new API key counts, days, where its maker does not say."""
    longest_key_days: int = 365
    """How long a new API key may count at most, days; every key ends, a service's too."""
    issuer: str = ""
    """`iss` of the signed tokens (JWT) that count; empty: tokens are not accepted."""
    audience: str = ""
    """`aud` that a token must name; needed with an issuer."""
    jwks: str = ""
    """Where the issuer's public keys stand (JWKS): a file, or an https address."""
    algorithms: tuple[str, ...] = ASYMMETRIC
    """Signatures that count, of `RS256`, `ES256` and `EdDSA`; `HS256` counts only with
    FRAUD_JWT_SECRET."""
    scope_claim: str = "scope"
    """Claim of a token that lists its scopes: a list, or names with spaces between."""
    roles_claim: str = ""
    """Claim of a token that lists roles of ours, in the same two forms; empty: none counts,
    since an issuer may use such names for other things."""
    leeway_seconds: int = 30
    """How far an issuer's clock may differ from ours, seconds."""

    def __post_init__(self) -> None:
        _check_limit("requests_per_second", self.requests_per_second, "burst", self.burst)
        _check_limit(
            "failures_per_second", self.failures_per_second, "failure_burst", self.failure_burst
        )
        if not 1 <= self.key_days <= self.longest_key_days <= LONGEST_DAYS:
            raise ValueError(
                f"found key_days={self.key_days} and longest_key_days={self.longest_key_days},"
                f" expected 1 or more, the second no less than the first and at most {LONGEST_DAYS}"
            )
        if not _ENVIRONMENT.fullmatch(self.environment):
            raise ValueError(
                f"found environment={self.environment!r}, expected 1 to 12 of a-z and 0-9"
            )
        if unknown := set(self.algorithms) - set(ASYMMETRIC):
            raise ValueError(f"found algorithms={sorted(unknown)}, expected of {ASYMMETRIC}")
        if bool(self.issuer) != bool(self.audience) or (self.jwks and not self.issuer):
            raise ValueError(
                f"found issuer={self.issuer!r}, audience={self.audience!r} and jwks={self.jwks!r},"
                " expected issuer and audience together, and with them jwks or a shared secret"
            )
        if not 0 <= self.leeway_seconds <= 300:
            raise ValueError(f"found leeway_seconds={self.leeway_seconds}, expected 0 to 300")


@dataclass(frozen=True)
class Caller:
    """Who asks, as far as the scorer can prove it.

    Attributes:
        subject: the person or system the credential was given to; "anonymous" without one.
        scopes: what the caller may do.
        key_id: the API key's id; None for signed tokens and for callers without a credential.
    """

    subject: str
    scopes: frozenset[str]
    key_id: str | None


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """One API key as it is stored: everything but the key itself.

    Attributes:
        id: 8 characters; the public part.
        environment: the middle part of the key's text.
        digest: SHA-256 of the whole text, hex. The text is 256 random bits, so a slow hash for
            passwords would add nothing.
        subject: whom it was given to.
        scopes: what it allows.
        created_us: when it was made, microseconds UTC.
        expires_us: from when on it is refused; None: never.
        revoked_us: when it was taken back; None: it was not.
        requests_per_second: its own limit; None: the policy's.
        burst: its own burst; None: the policy's.
        replaces: id of the key it was made for by rotation.
    """

    id: str
    environment: str
    digest: str
    subject: str
    scopes: tuple[Scope, ...]
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None
    requests_per_second: float | None = None
    burst: int | None = None
    replaces: str | None = None

    def __post_init__(self) -> None:
        if not (_ID.fullmatch(self.id) and _DIGEST.fullmatch(self.digest)):
            raise ValueError("found no id of 8 characters, or no SHA-256, expected both")
        if not self.scopes or len(set(self.scopes)) != len(self.scopes):
            raise ValueError("found no scope, or one twice, expected each at most once")
        if not _SUBJECT.fullmatch(self.subject):
            raise ValueError(
                f"found a subject of {len(self.subject)} characters, expected 1 to"
                f" {LONGEST_SUBJECT} letters, digits and . _ @ : / + - and spaces"
            )

    @property
    def limit_problem(self) -> str | None:
        """Why the key's own limits cannot be kept; None: they can.

        A stored key is not refused for it as it is read: one such key would close the door to all.
        """
        burst = 1 if self.burst is None else self.burst
        return _limit_problem("requests_per_second", self.requests_per_second or 0, "burst", burst)

    def require_limits(self) -> None:
        """Refuse to make a key whose limits cannot be kept.

        Raises:
            ValueError: its rate or burst is out of bounds.
        """
        if problem := self.limit_problem:
            raise ValueError(problem)

    def state(self, now_us: int) -> Literal["active", "expired", "revoked"]:
        """Whether the key counts at this moment, microseconds UTC."""
        if self.revoked_us is not None:
            return "revoked"
        expired = self.expires_us is not None and self.expires_us <= now_us
        return "expired" if expired else "active"


def key_text(environment: str, random: bytes) -> str:
    """The text of a new API key: `fp_<environment>_<id>_<secret>`.

    Args:
        environment: where the key belongs.
        random: 40 bytes from the operating system's generator: 8 for the id, 32 for the secret.

    Examples:
        >>> key_text("live", bytes(40))
        'fp_live_aaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    key_id = "".join(_ID_ALPHABET[byte % 32] for byte in random[:8])
    secret = urlsafe_b64encode(random[8:40]).decode().rstrip("=")
    return f"fp_{environment}_{key_id}_{secret}"


def id_of(text: str) -> str:
    """The id in a key's text.

    Raises:
        PermanentError: this is no key; the message does not repeat it.
    """
    found = _KEY_TEXT.fullmatch(text)
    if found is None:
        raise PermanentError(
            f"found {len(text)} characters that are no API key, expected fp_<env>_<id>_<secret>"
        )
    return found.group(2)


def named_id(name: str) -> str:
    """The key id that a person means: the id, or any beginning of the key that holds it.

    Raises:
        PermanentError: there is no id in it; the message does not repeat it.

    Examples:
        >>> named_id("k7m2q9xa") == named_id("fp_live_k7m2q9xa")
        True
    """
    found = _KEY_NAME.fullmatch(name)
    if found is None:
        raise PermanentError(
            f"found {len(name)} characters that name no key, expected an id of 8 characters",
            hint="fraud-platform keys list",
        )
    return found.group(1)


def digest_of(text: str) -> str:
    """What is stored of a key's text: SHA-256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def proven(text: str, keys: Mapping[str, ApiKey], now_us: int) -> ApiKey:
    """The key that this text is.

    Args:
        text: as its holder gave it.
        keys: all keys by id.
        now_us: the time, microseconds UTC.

    Raises:
        AccessDeniedError: it is none of them, or one that does not count now; the message does not
            repeat it, and does not tell an unknown key from a wrong one.
    """
    found = _KEY_TEXT.fullmatch(text)
    key = keys.get(found.group(2)) if found else None
    if key is None or not compare_digest(key.digest, digest_of(text)):
        raise AccessDeniedError("found an API key that is not valid, expected one of this home")
    if (state := key.state(now_us)) != "active":
        raise AccessDeniedError(f"found the API key {key.id}, which is {state}")
    return key


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on this host.

    Names other than localhost count as reachable, whatever they resolve to today.

    Examples:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_limit(rate_name: str, rate: float, burst_name: str, burst: int) -> None:
    if problem := _limit_problem(rate_name, rate, burst_name, burst):
        raise ValueError(problem)


def _limit_problem(rate_name: str, rate: float, burst_name: str, burst: int) -> str | None:
    rate_counts = rate == 0 or LOWEST_RATE <= rate <= 1_000_000
    if rate_counts and 1 <= burst <= 10_000_000:
        return None
    return (
        f"found {rate_name}={rate} and {burst_name}={burst}, "
        f"expected 0 (no limit) or {LOWEST_RATE} to 1,000,000 and 1 to 10,000,000"
    )
