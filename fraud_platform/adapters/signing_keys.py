"""The public keys of an issuer of signed tokens (JWKS, RFC 7517), from a file or over HTTPS.

Kept in memory, looked up without waiting, and fetched again by a thread: regularly, and when a
token names a key that is not known, but not more often than every few seconds, since anybody can
send such a token.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import msgspec

from fraud_platform.access import is_loopback
from fraud_platform.errors import FraudPlatformError, PermanentError, UnavailableError

LOGGER = logging.getLogger("fraud_platform.scorer")

_LARGEST = 1024 * 1024
_SECOND_NS = 1_000_000_000
_FEWEST_RSA_BITS = 2048
_TIMEOUT_SECONDS = 5.0
_LONGEST_SECONDS = 30.0


class SigningKeys:
    """The public keys of one issuer.

    Args:
        source: a file, or an https address; http only on this machine.
        ticks: a clock that never goes back, nanoseconds.
        refresh_seconds: how often they are fetched unasked: a key that the issuer takes back counts
            no longer than this, as long as the issuer can be reached.
        gap_seconds: shortest time between two fetches.
        stale_seconds: how long the last good keys count while the issuer cannot be reached.

    Attributes:
        version: grows with every change of the keys.
        problem: why the last fetch failed; None: it did not.

    Raises:
        PermanentError: the address is not https.
    """

    def __init__(
        self,
        source: str,
        *,
        ticks: Callable[[], int],
        refresh_seconds: float = 300.0,
        gap_seconds: float = 10.0,
        stale_seconds: float = 86_400.0,
    ) -> None:
        self._source = source
        self._ticks = ticks
        self._refresh = int(refresh_seconds * _SECOND_NS)
        self._gap = int(gap_seconds * _SECOND_NS)
        self._stale = int(stale_seconds * _SECOND_NS)
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._content = b""
        self._loaded_at: int | None = None
        self._asked_at: int | None = None
        self._busy = threading.Lock()
        self.version = 0
        self.problem: str | None = None
        _check_source(source)

    @property
    def is_file(self) -> bool:
        """Whether the keys are on this machine's disk."""
        return not _is_address(self._source)

    @property
    def are_known(self) -> bool:
        """Whether there are keys that still count."""
        return self._loaded_at is not None and self._ticks() - self._loaded_at < self._stale

    def get(self, key_id: str) -> jwt.PyJWK | None:
        """The key of this id, if it is known now; asks for it in the background otherwise."""
        key = self._keys.get(key_id) if self.are_known else None
        if key is None:
            self._ask()
        return key

    def keep_fresh(self) -> None:
        """Fetch the keys in the background if they are due; returns at once."""
        if self._loaded_at is None or self._ticks() - self._loaded_at >= self._refresh:
            self._ask()

    def load(self) -> None:
        """Fetch the keys now, and wait for them.

        Raises:
            UnavailableError: the file or the issuer cannot be reached.
            PermanentError: what stands there are no keys.
        """
        content = _fetched(self._source)
        if content != self._content:
            self._keys = _parsed(content, self._source)
            self._content = content
            self.version += 1
        self._loaded_at = self._ticks()

    def _ask(self) -> None:
        now = self._ticks()
        if self._asked_at is not None and now - self._asked_at < self._gap:
            return
        if self._busy.acquire(blocking=False):
            self._asked_at = now
            threading.Thread(target=self._load_quietly, name="signing-keys", daemon=True).start()

    def _load_quietly(self) -> None:
        try:
            self.load()
        except FraudPlatformError as error:
            self.problem = error.message
            LOGGER.warning("The issuer's keys stay as they were: %s", error.message)
        else:
            self.problem = None
        finally:
            self._busy.release()


def _is_address(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https")


def _check_source(source: str) -> None:
    address = urlsplit(source)
    if address.scheme == "http" and not is_loopback(address.hostname or ""):
        raise PermanentError(
            "found an http address of the issuer's keys, expected https or a file",
            hint="whoever can change what comes over http could let anybody in",
        )


def _fetched(source: str) -> bytes:
    if not _is_address(source):
        try:
            with Path(source).open("rb") as file:
                return file.read(_LARGEST)
        except OSError as error:
            raise UnavailableError(f"found no keys in {source} ({error.strerror})") from None
    return _downloaded(source)


def _downloaded(address: str) -> bytes:
    import httpx

    content, end = b"", time.monotonic() + _LONGEST_SECONDS
    try:
        with httpx.stream("GET", address, timeout=_TIMEOUT_SECONDS) as answer:
            if answer.status_code != 200:
                raise UnavailableError(f"found status {answer.status_code} at the issuer's keys")
            for part in answer.iter_bytes():
                content += part
                if len(content) > _LARGEST or time.monotonic() > end:
                    raise UnavailableError(
                        f"found no end of the issuer's keys in {_LARGEST} bytes and"
                        f" {_LONGEST_SECONDS:.0f} s"
                    )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kind = type(error).__name__
        raise UnavailableError(f"found no answer at the issuer's keys ({kind})") from None
    return content


def _parsed(content: bytes, source: str) -> Mapping[str, jwt.PyJWK]:
    """The keys that may sign tokens, by id; others in the set are left out."""
    try:
        document = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        entries = msgspec.json.decode(document["keys"], type=list[dict[str, object]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        raise PermanentError(
            f"found no JSON Web Key Set at {source}", hint='expected {"keys": [...]}'
        ) from None
    keys = {key.key_id: key for key in map(_usable, entries) if key is not None and key.key_id}
    if not keys:
        raise PermanentError(
            f"found {len(entries)} keys at {source} and none with a kid that verifies RS256, ES256"
            " or EdDSA"
        )
    return keys


def _usable(entry: dict[str, object]) -> jwt.PyJWK | None:
    """The key if it can only verify: public, for signatures, of a known kind and strong enough."""
    kinds = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
    curve = entry.get("crv") if entry.get("kty") != "RSA" else None
    algorithm = kinds.get((str(entry.get("kty")), curve if curve is None else str(curve)))
    operations = entry.get("key_ops", ["verify"])
    if (
        algorithm is None
        or "d" in entry
        or not isinstance(entry.get("kid"), str)
        or entry.get("use", "sig") != "sig"
        or entry.get("alg", algorithm) != algorithm
        or not (isinstance(operations, list) and "verify" in operations)
    ):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    weak = algorithm == "RS256" and key.key.key_size < _FEWEST_RSA_BITS
    return None if weak else key
