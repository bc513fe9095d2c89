"""Signed tokens (JWT, RFC 7519): who sent one, if its issuer, signature and times are right.

Checking a signature costs more than a decision, so a token that was right once is remembered, as a
digest, until it ends.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jwt

from fraud_platform.access import LONGEST_SUBJECT, SCOPES, AccessPolicy, Caller
from fraud_platform.adapters.signing_keys import SigningKeys
from fraud_platform.errors import PermanentError
from fraud_platform.roles import APART, scopes_of

_LONGEST_TOKEN = 8_192
_MOST_REMEMBERED = 10_000
_SECOND_US = 1_000_000
_SHORTEST_SECRET = 32
_LATEST = 253_402_300_800
"""The year 10000: a time beyond it is a mistake."""
_TYPES = {"jwt", "at+jwt", "application/jwt", "application/at+jwt"}
"""Media types, so case does not count (RFC 7515, section 4.1.9, and RFC 9068)."""
_ONLY_SIGNATURE: Any = {
    f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
}
"""PyJWT would read the real clock; the claims are checked here."""


class TokenRefusedError(Exception):
    """A token that does not count; the text says why, for people, without a value from it."""


class TokenVerifier:
    """Tells callers by their tokens.

    Args:
        policy: whose tokens count.
        keys: the issuer's public keys; None: there are none.
        secret: shared with the issuer, for HS256; None: HS256 is refused.

    Raises:
        PermanentError: the secret is short, or is a key in another sense.
    """

    def __init__(
        self, policy: AccessPolicy, *, keys: SigningKeys | None, secret: str | None
    ) -> None:
        if secret is not None:
            _check_secret(secret)
        self._policy = policy
        self._keys = keys
        self._secret = None if secret is None else secret.encode()
        self._algorithms = {*policy.algorithms} if keys else set()
        self._algorithms |= {"HS256"} if secret else set()
        self._leeway = policy.leeway_seconds * _SECOND_US
        self._remembered: OrderedDict[bytes, tuple[Caller, int]] = OrderedDict()
        self._version = keys.version if keys else 0

    @property
    def is_waiting(self) -> bool:
        """Whether the issuer's keys are needed and not known."""
        return self._keys is not None and self._secret is None and not self._keys.are_known

    @property
    def problem(self) -> str | None:
        """Why the issuer's keys could not be fetched; None: they could."""
        return None if self._keys is None else self._keys.problem

    def look(self) -> None:
        """What is due now and then: fresh keys, and forgetting what old ones signed."""
        if self._keys is None:
            return
        self._keys.keep_fresh()
        if self._version != self._keys.version or not self._keys.are_known:
            self._remembered.clear()
            self._version = self._keys.version

    def remembered(self, token: bytes, now_us: int) -> Caller | None:
        """The caller of a token that was right before and has not ended."""
        found = self._remembered.get(hashlib.sha256(token).digest())
        return found[0] if found is not None and now_us < found[1] else None

    def refuse_hopeless(self, token: bytes, now_us: int) -> None:
        """Refuse what no signature could save, at a fraction of a signature's cost.

        Raises:
            TokenRefusedError: form, algorithm, key or a claim is wrong.
        """
        self._key(token)
        self._read(_decoded(token, None, ""), now_us)

    def verify(self, token: bytes, now_us: int) -> Caller:
        """The caller of a token; remembers it.

        Args:
            token: as it came.
            now_us: the time, microseconds UTC.

        Raises:
            TokenRefusedError: it does not count.
        """
        key, algorithm = self._key(token)
        caller, ends_us = self._read(_decoded(token, key, algorithm), now_us)
        self._remembered[hashlib.sha256(token).digest()] = (caller, ends_us)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    def _key(self, token: bytes) -> tuple[Any, str]:
        """The one key that may have signed this token, and how: told by us, not by the token."""
        if len(token) > _LONGEST_TOKEN:
            raise TokenRefusedError("The token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise TokenRefusedError("The token is malformed") from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenRefusedError("The token is signed in a way that does not count here")
        if "crit" in header or "b64" in header or not _is_type(header.get("typ")):
            raise TokenRefusedError("The token demands something that is not supported")
        if algorithm == "HS256":
            return self._secret, algorithm
        key_id = header.get("kid")
        key = self._keys.get(key_id) if self._keys and isinstance(key_id, str) else None
        if key is None or key.algorithm_name != algorithm:
            raise TokenRefusedError("The token is signed with a key that is not known")
        return key, algorithm

    def _read(self, claims: Mapping[str, Any], now_us: int) -> tuple[Caller, int]:
        """The caller that the claims name, and when that ends, microseconds UTC."""
        policy = self._policy
        if claims.get("iss") != policy.issuer:
            raise TokenRefusedError("The token is of another issuer")
        audience = claims.get("aud")
        if policy.audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenRefusedError("The token is for another audience")
        ends_us = _moment(claims, "exp") + self._leeway
        if now_us >= ends_us:
            raise TokenRefusedError("The token has expired")
        if "nbf" in claims and now_us < _moment(claims, "nbf") - self._leeway:
            raise TokenRefusedError("The token does not count yet")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not _is_subject(subject):
            raise TokenRefusedError(
                f"The token has no subject (sub) of 1 to {LONGEST_SUBJECT} printable characters"
            )
        scopes = _names(claims, policy.scope_claim) & frozenset(SCOPES)
        if policy.roles_claim:
            scopes |= scopes_of(_names(claims, policy.roles_claim))
        if scopes >= APART:
            raise TokenRefusedError(
                "The token allows admin and approve, which nobody holds together"
            )
        return Caller(subject, scopes, None), ends_us


def _decoded(token: bytes, key: Any, algorithm: str) -> Mapping[str, Any]:
    """The claims; believed only with a key."""
    options: Any = {**_ONLY_SIGNATURE, "verify_signature": key is not None}
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token, key if key is not None else "", algorithms=[algorithm], options=options
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise TokenRefusedError("The token is malformed or its signature is wrong") from None
    return claims


def _names(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """What a claim lists: texts in a list, or in one text with spaces between."""
    told = claims.get(claim)
    listed = told.split(" ") if isinstance(told, str) else told
    return (
        frozenset(s for s in listed if isinstance(s, str))
        if isinstance(listed, list)
        else frozenset()
    )


def _moment(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenRefusedError(f"The token lacks the time {name}")
    if not 0 <= value < _LATEST:
        raise TokenRefusedError(f"The token's time {name} is out of range")
    return int(value * _SECOND_US)


def _is_subject(text: str) -> bool:
    return 0 < len(text) <= LONGEST_SUBJECT and text.isprintable()


def _is_type(value: object) -> bool:
    """Whether a header's `typ` is one of ours; a missing one is."""
    return value is None or (isinstance(value, str) and value.lower() in _TYPES)


def _check_secret(secret: str) -> None:
    shapes = ("-----BEGIN", "ssh-", "ecdsa-", '{"')
    if len(secret) < _SHORTEST_SECRET or secret.lstrip().startswith(shapes):
        raise PermanentError(
            f"found a shared secret (FRAUD_JWT_SECRET) of {len(secret)} characters, expected at"
            f" least {_SHORTEST_SECRET} random ones and no key of a pair",
            hint="openssl rand -hex 32; public keys belong into FRAUD_ACCESS__JWKS",
        )
