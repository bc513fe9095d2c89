"""Who may ask the scorer for what: admission on the request path.

Nothing is looked up over the network or waited for here. An API key costs one hash and one
comparison; a signed token that was right before costs the same. A message never repeats a
credential, and does not tell an unknown key from a wrong one.
"""

import base64
import hashlib
import ipaddress
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from hmac import compare_digest
from typing import NoReturn

from fraud_platform.access import SCOPES, ApiKey, Caller, is_loopback
from fraud_platform.adapters.key_store import Keys, KeyStore
from fraud_platform.adapters.signing_keys import SigningKeys
from fraud_platform.errors import KeyStoreError, PermanentError
from fraud_platform.roles import APART
from fraud_platform.settings import Settings
from serving.denials import (
    refuse_credential,
    refuse_everybody,
    refuse_for_now,
    refuse_scope,
)
from serving.jwt import TokenRefusedError, TokenVerifier
from serving.rate import SECOND_NS, Bucket, Buckets

LOGGER = logging.getLogger("fraud_platform.scorer")

LOOK_NS = SECOND_NS
"""How often a running scorer looks at the key store: a revoked key counts no longer than this."""
_NOTE_NS = 60 * SECOND_NS
_LONGEST_KEY = 80
_NEVER_US = 2**63
_CHECKS_PER_SECOND = 1_000
"""Signatures of tokens not seen before that are checked per second, of all callers together: some
tenths of a millisecond each, so that nobody can keep the loop busy with them."""
_SUSPECTS_PER_SECOND = 100
"""The same for all addresses together that sent too many wrong signatures: behind one address (a
proxy's) there may be good callers too, so they are checked still, but by the way."""
_KEY_BEGINS = b"fp_"
ANYBODY = Caller("anonymous", frozenset(SCOPES), None)

_NO_CREDENTIAL = "This scorer answers callers that it knows"
_WRONG_KEY = "The API key is not valid"


class _Held:
    """One API key as the request path needs it."""

    __slots__ = ("bucket", "caller", "digest", "ends_us", "is_revoked", "used")

    def __init__(self, key: ApiKey, bucket: Bucket) -> None:
        self.digest = bytes.fromhex(key.digest)
        self.caller = Caller(key.subject, frozenset(key.scopes), key.id)
        self.is_revoked = key.revoked_us is not None
        self.ends_us = _NEVER_US if key.expires_us is None else key.expires_us
        if self.is_revoked:
            self.ends_us = -1
        self.bucket = bucket
        self.used = False


class Access:
    """Admits callers, one per request; used by one thread.

    Args:
        settings: the policy, and where the keys are.
        clock: microseconds since 1970-01-01 UTC, for the ends of keys and tokens.
        ticks: a clock that never goes back, nanoseconds, for limits.

    Attributes:
        problem: what keeps the scorer from believing any credential; None: nothing does.

    Raises:
        PermanentError: the configuration of signed tokens is wrong, or its file of keys.
        UnavailableError: that file cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], int],
        ticks: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        policy = settings.access
        self._policy = policy
        self._clock = clock
        self._ticks = ticks
        self._store = KeyStore(settings.access_dir)
        self._tokens = _verifier(settings, ticks)
        self._is_open = _may_be_open(settings)
        self._was_there = False
        self._held: dict[bytes, _Held] = {}
        self._nobody = os.urandom(32)
        self._signature: object = None
        self._next_look = self._next_note = 0
        self._subjects = Buckets(rate=policy.requests_per_second, burst=policy.burst)
        self._strangers = Buckets(rate=policy.requests_per_second, burst=policy.burst)
        self._failures = Buckets(rate=policy.failures_per_second, burst=policy.failure_burst)
        self._forgeries = Buckets(rate=policy.failures_per_second, burst=policy.failure_burst)
        self._checks = Bucket(rate=_CHECKS_PER_SECOND, burst=_CHECKS_PER_SECOND)
        self._suspect_checks = Bucket(rate=_SUSPECTS_PER_SECOND, burst=_SUSPECTS_PER_SECOND)
        self.problem: str | None = None
        self._look(self._ticks())

    @property
    def is_open(self) -> bool:
        """Whether callers need no credential; once there was a key store, they always do."""
        return self._is_open

    def admit(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        client_host: str | None,
        scope: str,
        *others: str,
    ) -> Caller:
        """Who sent this request, if they may do this now.

        Args:
            headers: of the ASGI scope: names in lower case.
            client_host: the other end's address.
            scope: what the route needs, of `SCOPES`.
            others: scopes that would do as well.

        Raises:
            RefusedError: 401 for no or a wrong credential, 403 for a missing scope, 429 for too
                many requests, 503 while no credential can be checked.
        """
        caller = self.known(headers, client_host)
        if scope not in caller.scopes and caller.scopes.isdisjoint(others):
            refuse_scope(scope)
        return caller

    def known(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        client_host: str | None,
        *,
        by_password: bool = False,
    ) -> Caller:
        """Who sent this request, whatever they may do.

        Args:
            headers: of the ASGI scope: names in lower case.
            client_host: the other end's address.
            by_password: whether a credential may come as the password of HTTP Basic (RFC 7617),
                as a browser sends it.

        Raises:
            RefusedError: as `admit`, except 403.
        """
        now = self._ticks()
        if now >= self._next_look:
            self._look(now)
        if self._is_open:
            if wait := self._strangers.take(_address(client_host), now):
                refuse_for_now(wait)
            return ANYBODY
        if self.problem is not None:
            refuse_everybody()
        text = self._credential(headers, client_host, now, by_password)
        if text[:3] == _KEY_BEGINS:
            held = self._held_by(text, client_host, now)
            wait, caller = held.bucket.take(now), held.caller
        else:
            caller = self._bearer(text, client_host, now)
            wait = self._subjects.take(caller.subject, now)
        if wait:
            refuse_for_now(wait)
        return caller

    def charge(self, caller: Caller, client_host: str | None, count: int) -> None:
        """Count a batch as what it is: `count` requests beside the one that was admitted.

        The batch itself is served; its caller waits the longer for the next request.
        """
        now = self._ticks()
        if caller is ANYBODY:
            self._strangers.owe(_address(client_host), count, now)
        elif caller.key_id is None:
            self._subjects.owe(caller.subject, count, now)
        elif (held := self._held.get(caller.key_id.encode())) is not None:
            held.bucket.owe(count, now)

    def _credential(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        client_host: str | None,
        now: int,
        by_password: bool,
    ) -> bytes:
        """The one credential of a request."""
        found = None
        for name, value in headers:
            if name == b"authorization":
                is_password = by_password and value[:6].lower() == b"basic "
                text = _password(value[6:]) if is_password else _bearer_of(value)
            elif name == b"x-api-key":
                text = value
            else:
                continue
            if found is not None:
                self._refuse("Only one credential can count: send one header", client_host, now)
            found = text
        if found is None:
            refuse_credential(_NO_CREDENTIAL, given=False)
        return found

    def _held_by(self, text: bytes, client_host: str | None, now: int) -> _Held:
        """The key that this text is, if it counts now."""
        if len(text) > _LONGEST_KEY:
            self._refuse(_WRONG_KEY, client_host, now)
        held = self._held.get(text[-52:-44])
        digest = self._nobody if held is None else held.digest
        # An unknown id costs the same comparison as a wrong secret.
        is_right = compare_digest(hashlib.sha256(text).digest(), digest)
        if held is None or not is_right:
            self._refuse(_WRONG_KEY, client_host, now)
        if self._clock() >= held.ends_us:
            # Who has the right text may know that it was right once.
            what = "was revoked" if held.is_revoked else "has expired"
            self._refuse(f"The API key {what}", client_host, now)
        held.used = True
        return held

    def _bearer(self, token: bytes, client_host: str | None, now: int) -> Caller:
        """The caller whom a signed token names."""
        if self._tokens is None:
            self._refuse(_WRONG_KEY, client_host, now)
        now_us = self._clock()
        if (caller := self._tokens.remembered(token, now_us)) is not None:
            return caller
        if self._tokens.is_waiting:
            refuse_everybody()
        try:
            self._tokens.refuse_hopeless(token, now_us)
        except TokenRefusedError as error:
            # Cheap, and 401 tells a good caller's client to get a fresh token.
            refuse_credential(str(error), given=True)
        address = _address(client_host)
        checks = self._suspect_checks if self._forgeries.wait(address, now) else self._checks
        if wait := checks.take(now):
            refuse_for_now(wait)
        try:
            return self._tokens.verify(token, now_us)
        except TokenRefusedError as error:
            if wait := self._forgeries.take(address, now):
                refuse_for_now(wait)
            refuse_credential(str(error), given=True)

    def _refuse(self, message: str, client_host: str | None, now: int) -> NoReturn:
        """401, or 429 to an address that guesses; good credentials from there still count."""
        if wait := self._failures.take(_address(client_host), now):
            refuse_for_now(wait)
        refuse_credential(message, given=True)

    def _look(self, now: int) -> None:
        """What is due about once a second: new keys, new public keys, and notes of use."""
        self._next_look = now + LOOK_NS
        if self._policy.required == "never" and self._is_open:
            return
        if self._tokens is not None:
            self._tokens.look()
        try:
            if self._store.signature() != self._signature:
                self._take(self._store.read())
        except KeyStoreError as error:
            self._stop(error.message)
        if now >= self._next_note:
            self._next_note = now + _NOTE_NS
            self._note_use()

    def _take(self, keys: Keys) -> None:
        """Let these keys count, and only these; what each caller still owes stays."""
        if keys.signature is None:
            if self._was_there:
                self._stop(f"found that the key store {self._store.path} is gone")
            return
        self._is_open, self._was_there = False, True
        if self.problem is not None:
            LOGGER.warning("The key store can be read again: %d keys", len(keys.keys))
        buckets = {held.caller.key_id: held.bucket for held in self._held.values()}
        usable = [key for key in keys.keys.values() if not _is_odd(key)]
        self._held = {key.id.encode(): _Held(key, self._bucket(key, buckets)) for key in usable}
        self.problem, self._signature = None, keys.signature

    def _bucket(self, key: ApiKey, known: Mapping[str | None, Bucket]) -> Bucket:
        rate, burst = self._policy.requests_per_second, self._policy.burst
        if key.requests_per_second is not None:
            rate = key.requests_per_second
        if key.burst is not None:
            burst = key.burst
        bucket = known.get(key.id)
        return (
            Bucket(rate=rate, burst=burst)
            if bucket is None
            else bucket.resized(rate=rate, burst=burst)
        )

    def _stop(self, problem: str) -> None:
        """Believe nobody until the store can be read again."""
        if problem != self.problem:
            LOGGER.error("Every request is refused: %s", problem)
        self.problem, self._signature = problem, ()
        self._is_open, self._was_there = False, True

    def _note_use(self) -> None:
        """Write down, in the background, which keys were used."""
        used = {h.caller.key_id for h in self._held.values() if h.used and h.caller.key_id}
        if not used:
            return
        for held in self._held.values():
            held.used = False
        arguments = (self._store, used, self._clock())
        threading.Thread(target=_note, args=arguments, name="key-uses", daemon=True).start()


def require_access(settings: Settings) -> str:
    """Make sure that a scorer with these settings may listen where it wants to.

    Returns:
        A line for the start log: who is let in.

    Raises:
        KeyStoreError: the key store is damaged.
        PermanentError: anybody on the network could ask, or nobody could.
    """
    host, policy = settings.scorer_host, settings.access
    _verifier(settings, time.monotonic_ns)
    if policy.required == "never":
        if not is_loopback(host):
            raise PermanentError(
                f"found FRAUD_ACCESS__REQUIRED=never and the address {host}, expected a loopback"
                " address: the scorer would answer everybody on the network",
                hint="unset FRAUD_ACCESS__REQUIRED, or FRAUD_SCORER_HOST=127.0.0.1",
            )
        return f"access: open to everybody on {host}, as FRAUD_ACCESS__REQUIRED=never demands"
    stored = KeyStore(settings.access_dir).read()
    if stored.keys or policy.issuer:
        issuer = f", and tokens of {policy.issuer}" if policy.issuer else ""
        return f"access: by API key, {len(stored.keys)} in the store{issuer}"
    if stored.signature or policy.required == "always" or not is_loopback(host):
        raise PermanentError(
            f"found no API key and no issuer of tokens, expected one of them to listen on {host}",
            hint="fraud-platform keys create --subject checkout --scope score, or set"
            " FRAUD_ACCESS__ISSUER",
        )
    return (
        f"access: open to everybody on {host}, since there is no API key"
        " (fraud-platform keys create)"
    )


def _may_be_open(settings: Settings) -> bool:
    if settings.access.required == "always" or not is_loopback(settings.scorer_host):
        return False
    return settings.access.required == "never" or not settings.access.issuer


def _verifier(settings: Settings, ticks: Callable[[], int]) -> TokenVerifier | None:
    policy = settings.access
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
    if not policy.issuer:
        return None
    if not policy.jwks and secret is None:
        raise PermanentError(
            "found an issuer of tokens and neither FRAUD_ACCESS__JWKS nor FRAUD_JWT_SECRET,"
            " expected one of them: its signatures could not be checked"
        )
    keys = SigningKeys(policy.jwks, ticks=ticks) if policy.jwks else None
    if keys is not None and keys.is_file:
        keys.load()
    return TokenVerifier(policy, keys=keys, secret=secret)


def _is_odd(key: ApiKey) -> bool:
    """Whether a key cannot count for its limits or its scopes, however it came into the file."""
    problem = key.limit_problem
    if {*key.scopes} >= APART:
        problem = "it allows admin and approve"
    if problem:
        LOGGER.error("The API key %s is refused: %s", key.id, problem)
    return problem is not None


def _note(store: KeyStore, used: set[str], now_us: int) -> None:
    try:
        store.note_use(used, now_us)
    except OSError as error:
        LOGGER.warning("When keys were last used was not noted: %s", error.strerror)


def _bearer_of(value: bytes) -> bytes:
    return value[7:] if value[:7].lower() == b"bearer " else b""


def _password(told: bytes) -> bytes:
    """The password of HTTP Basic; the name beside it does not count."""
    try:
        return base64.b64decode(told, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _address(client_host: str | None) -> str:
    """Whom a limit by address means: for IPv6 the network that one customer has (RFC 6177)."""
    if client_host is None or ":" not in client_host:
        return client_host or ""
    try:
        return str(ipaddress.ip_network((client_host.partition("%")[0], 64), strict=False))
    except ValueError:
        return client_host
