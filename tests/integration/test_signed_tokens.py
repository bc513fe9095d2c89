"""Signed tokens with real keys, and an issuer that is a real server: what counts, what does not."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from fraud_platform.access import AccessPolicy
from fraud_platform.adapters.signing_keys import SigningKeys
from fraud_platform.errors import FraudPlatformError, PermanentError
from fraud_platform.roles import ROLE_NAMES, ROLES
from fraud_platform.settings import Settings
from serving.access import Access, require_access
from serving.refusals import RefusedError

NOW = 1_772_000_000
HOST = "192.0.2.7"
SECRET = "a shared secret of sixty-four characters, which is long enough.."  # noqa: S105 -- of this test only
CLAIMS = {
    "iss": "https://id.example",
    "aud": "fraud-scorer",
    "sub": "ana",
    "scope": "openid score read",
    "exp": NOW + 600,
    "nbf": NOW - 5,
}
PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KINDS = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 -- on purpose
OTHER = ec.generate_private_key(ec.SECP256R1())


def public(algorithm: str, key: Any = None, **more: object) -> dict[str, object]:
    key = key or PRIVATE[algorithm]
    jwk = json.loads(KINDS[algorithm].to_jwk(key.public_key()))
    return jwk | {"kid": algorithm.lower()} | more


def key_set(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": keys or [public(name) for name in PRIVATE]}).encode()


def signed(algorithm: str = "ES256", key: Any = None, header: Any = None, **claims: object) -> str:
    told = {k: v for k, v in (CLAIMS | claims).items() if v is not None}
    headers = {"kid": algorithm.lower()} | (header or {})
    key = PRIVATE[algorithm] if key is None else key
    return jwt.encode(told, key, algorithm=algorithm, headers=headers)


@dataclass
class Door:
    """A scorer's door that believes an issuer."""

    home: Path
    jwks: str
    secret: str | None = None
    us: int = NOW * 1_000_000
    ns: int = 10**12
    policy: dict[str, object] = field(default_factory=dict)

    def settings(self) -> Settings:
        told = {"issuer": CLAIMS["iss"], "audience": CLAIMS["aud"], "jwks": self.jwks}
        return Settings(
            home=self.home,
            access=AccessPolicy(**(told | self.policy)),
            jwt_secret=self.secret and SecretStr(self.secret),
        )

    def open(self) -> Access:
        return Access(self.settings(), clock=lambda: self.us, ticks=lambda: self.ns)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    (tmp_path / "jwks.json").write_bytes(key_set())
    return Door(
        tmp_path,
        str(tmp_path / "jwks.json"),
        policy={"failures_per_second": 0, "roles_claim": "roles"},
    )


def ask(access: Access, token: str | bytes, scope: str = "score") -> Any:
    text = token.encode() if isinstance(token, str) else token
    return access.admit([(b"authorization", b"Bearer " + text)], HOST, scope)


def refused(access: Access, token: str | bytes, scope: str = "score") -> RefusedError:
    with pytest.raises(RefusedError) as error:
        ask(access, token, scope)
    return error.value


def in_time(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return held


# What counts


@pytest.mark.parametrize("algorithm", list(PRIVATE))
def test_a_token_of_the_issuer_lets_its_subject_in_for_its_scopes(door, algorithm):
    access = door.open()
    for _ in range(2):  # checked, then remembered
        caller = ask(access, signed(algorithm))
        assert (caller.subject, caller.scopes, caller.key_id) == ("ana", {"score", "read"}, None)
    assert refused(access, signed(algorithm), "label").status == 403


@pytest.mark.parametrize(
    "claims",
    [{"aud": ["other", "fraud-scorer"]}, {"scope": ["score", 7, "x"]}, {"exp": NOW + 0.5}],
)
def test_lists_and_fractions_of_seconds_are_read(door, claims):
    assert ask(door.open(), signed(**claims)).subject == "ana"


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_role_in_a_token_gives_what_it_gives_in_a_key(door, role):
    access = door.open()
    assert ask(access, signed(scope="score", roles=[role])).scopes == {"score", *ROLES[role]}
    assert ask(access, signed(scope="score", roles=f"staff {role}")).scopes == {
        "score",
        *ROLES[role],
    }


@pytest.mark.parametrize("told", [["Auditor"], ["root", 7, None], {"auditor": True}, 1, "", []])
def test_what_names_no_role_gives_nothing(door, told):
    assert ask(door.open(), signed(scope="score", roles=told)).scopes == {"score"}


@pytest.mark.parametrize(
    "claims",
    [
        {"roles": ["admin", "approver"]},
        {"scope": "admin approve"},
        {"scope": "score admin", "roles": ["approver"]},
    ],
)
def test_no_token_both_gives_out_keys_and_approves(door, claims):
    told = refused(door.open(), signed(**claims))
    assert (told.status, "admin and approve" in told.body.message) == (401, True)


def test_roles_stand_in_the_claim_that_is_set_or_nowhere(door):
    door.policy["roles_claim"] = "groups"
    assert "audit" in ask(door.open(), signed(groups=["auditor"], roles=["scorer"])).scopes
    del door.policy["roles_claim"]
    assert "audit" not in ask(door.open(), signed(roles=["auditor"])).scopes


def test_another_claim_may_hold_the_scopes(door):
    door.policy["scope_claim"] = "permissions"
    token = signed(scope="admin", permissions=["score"])
    assert ask(door.open(), token).scopes == {"score"}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iss": "https://id.evil"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "billing"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"exp": NOW - 31}, "expired"),
        ({"exp": None}, "lacks the time exp"),
        ({"nbf": NOW + 31}, "not count yet"),
        ({"nbf": str(NOW)}, "lacks the time nbf"),
        ({"nbf": True}, "lacks the time nbf"),
        ({"exp": 10**13}, "out of range"),
        ({"exp": True}, "lacks the time exp"),
        ({"exp": float("nan")}, "lacks the time exp"),
        ({"exp": float("inf")}, "lacks the time exp"),
        ({"exp": str(NOW + 60)}, "lacks the time exp"),
        ({"sub": None}, "no subject"),
        ({"sub": ""}, "no subject"),
        ({"sub": "x" * 65}, "no subject"),
        ({"sub": "a\nb"}, "no subject"),
    ],
)
def test_a_claim_that_is_missing_or_wrong_is_told(door, claims, expected):
    # PyJWT would not write all of these, so the payload is signed as bytes.
    told = {k: v for k, v in (CLAIMS | claims).items() if v is not None}
    token = jwt.PyJWS().encode(
        json.dumps(told).encode(), PRIVATE["ES256"], algorithm="ES256", headers={"kid": "es256"}
    )
    error = refused(door.open(), token)
    assert error.status == 401
    assert expected in error.body.message
    assert token.split(".")[2] not in error.body.message


def test_a_token_need_not_say_from_when_on_it_counts(door):
    assert ask(door.open(), signed(nbf=None)).subject == "ana"


@pytest.mark.parametrize(
    "kind", ["JWT", "jwt", "Jwt", "at+jwt", "at+JWT", "AT+JWT", "application/at+jwt"]
)
def test_the_kind_of_a_token_is_told_without_case(door, kind):
    assert ask(door.open(), signed(header={"typ": kind})).subject == "ana"


@pytest.mark.parametrize("kind", [5, ["JWT"], "", "id+jwt", "jwt ", "\uff4awt"])
def test_another_kind_of_token_does_not_count(door, kind):
    start = unsigned({"alg": "ES256", "kid": "es256", "typ": kind})
    assert "demands" in refused(door.open(), start).body.message


def test_a_token_without_scopes_is_known_and_may_do_nothing(door):
    for scope in (None, "", "root", 5, {"score": True}):
        assert refused(door.open(), signed(scope=scope)).status == 403


def test_a_remembered_token_ends_when_it_says(door):
    access, token = door.open(), signed(exp=NOW + 10)
    assert ask(access, token)
    door.us += 40_000_000 - 1
    assert ask(access, token)
    door.us += 1
    assert "expired" in refused(access, token).body.message


# What forgers try


def unsigned(header: dict[str, object], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(CLAIMS).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", None, ["ES256"], 5])
def test_a_token_that_needs_no_signature_is_refused(door, name):
    assert refused(door.open(), unsigned({"alg": name, "kid": "es256"})).status == 401


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_public_key_is_never_used_as_a_shared_secret(door, algorithm, secret):
    door.secret = secret
    pem = (
        PRIVATE[algorithm]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    access = door.open()
    for forged_with in (pem, pem.strip(), key_set(public(algorithm))):
        start = unsigned({"alg": "HS256", "kid": algorithm.lower()}).rpartition(".")[0]
        mac = hmac.digest(forged_with, start.encode(), hashlib.sha256)
        token = f"{start}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        assert refused(access, token).status == 401


def test_a_shared_secret_counts_only_when_it_is_configured(door):
    token = signed("HS256", SECRET)
    assert "in a way" in refused(door.open(), token).body.message
    door.secret = SECRET
    assert ask(door.open(), token).subject == "ana"
    assert ask(door.open(), signed("ES256")).subject == "ana", "beside the public keys"


def test_a_key_signs_only_in_its_own_way(door):
    token = signed("ES256", header={"kid": "rs256"})
    assert "not known" in refused(door.open(), token).body.message


def test_an_algorithm_that_is_not_allowed_is_refused(door):
    door.policy["algorithms"] = ("EdDSA",)
    access = door.open()
    assert refused(access, signed("ES256")).status == 401
    assert ask(access, signed("EdDSA"))


def test_a_signature_of_somebody_else_is_refused(door):
    assert "signature" in refused(door.open(), signed("ES256", OTHER)).body.message


@pytest.mark.parametrize(
    "header",
    [{"kid": None}, {"kid": 5}, {"kid": "nobody"}, {"crit": ["exp"]}, {"typ": "logout+jwt"},
     {"jwk": public("ES256", OTHER), "kid": "mine"}, {"jku": "https://evil", "kid": "mine"}],
)  # fmt: skip
def test_a_header_cannot_bring_its_own_key_or_demands(door, header):
    told = {"alg": "ES256", "kid": "es256"} | header
    key = OTHER if "mine" in header.values() else PRIVATE["ES256"]
    start = unsigned(told).rpartition(".")[0]
    raw = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(start.encode(), key)
    token = f"{start}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"
    assert refused(door.open(), token).status == 401


def test_a_token_that_says_how_its_payload_is_written_is_refused(door):
    start = unsigned({"alg": "ES256", "kid": "es256", "b64": True})
    assert "demands" in refused(door.open(), start).body.message


def test_no_single_changed_character_of_a_token_counts(door):
    access, token = door.open(), signed("EdDSA")
    ask(access, token)
    for at in range(0, len(token) - 1, 5):  # the last one has bits that mean nothing
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert refused(access, changed).status == 401


@given(st.binary(max_size=300) | st.lists(st.binary(max_size=80)).map(b".".join))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_more_than_a_refusal(door, text):
    access = door.open()
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in text.split(b".")]
    for token in (text, b".".join(parts)):
        if not token.startswith(b"fp_"):
            assert refused(access, token).status == 401


@pytest.mark.parametrize("deep", ["[" * 50_000, '{"a":' * 2_000, "9" * 5_000])
def test_a_hostile_header_or_payload_is_a_refusal(door, deep):
    access = door.open()
    part = base64.urlsafe_b64encode(deep.encode()).decode()
    good = signed().split(".")
    assert refused(access, ".".join([part, good[1], good[2]])).status == 401
    assert refused(access, ".".join([good[0], part, good[2]])).status == 401


HOPELESS = {
    "garbage": "garbage",
    "another issuer": signed("ES256", OTHER, iss="https://id.evil"),
    "another audience": signed("ES256", OTHER, aud="billing"),
    "expired": signed(exp=NOW - 600),
    "unknown key": signed("ES256", OTHER, header={"kid": "nobody"}),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_hopeless_tokens_lock_nobody_out_that_shares_their_address(door, name):
    door.policy = {"failures_per_second": 1.0, "failure_burst": 10}
    access = door.open()
    statuses = [refused(access, HOPELESS[name]).status for _ in range(3_000)]
    assert set(statuses) == {401}, "a client gets a fresh token on 401, not on 429"
    assert ask(access, signed()).subject == "ana"


def test_neither_guessed_keys_nor_missing_credentials_lock_tokens_out(door):
    door.policy = {"failures_per_second": 1.0, "failure_burst": 10}
    access = door.open()
    for _ in range(100):
        refused(access, f"fp_live_aaaaaaaa_{'A' * 43}")
        with pytest.raises(RefusedError) as error:
            access.admit([], HOST, "score")
        assert error.value.status == 401
    assert ask(access, signed()).subject == "ana"


def test_who_sends_bad_signatures_gets_429_and_a_good_token_from_there_is_still_served(door):
    door.policy = {"failures_per_second": 1.0, "failure_burst": 10}
    access, good = door.open(), signed()
    ask(access, good)
    statuses = [refused(access, signed("ES256", OTHER, n=n)).status for n in range(30)]
    assert statuses == [401] * 10 + [429] * 20
    assert ask(access, good), "a token that was right before needs no signature check"
    assert ask(access, signed(n=1)), "the address may be a proxy's"


def test_bad_signatures_of_one_address_cost_a_bounded_share_and_touch_no_other(door, monkeypatch):
    door.policy = {"failures_per_second": 1.0, "failure_burst": 10}
    access, good = door.open(), signed()
    ask(access, good)
    forged, checks, verify = signed("ES256", OTHER), [], access._tokens.verify
    monkeypatch.setattr(
        access._tokens, "verify", lambda *told: (checks.append(told), verify(*told))[1]
    )
    for _ in range(3_000):
        refused(access, forged)
    assert len(checks) == 10 + 100, "its own, and those of all suspects together"
    assert ask(access, good)
    elsewhere = [(b"authorization", b"Bearer " + signed(n=1).encode())]
    assert access.admit(elsewhere, "198.51.100.1", "score").subject == "ana"
    assert refused(access, signed(n=2)).headers["retry-after"] == "1"
    door.ns += 10**9
    assert ask(access, signed(n=2))


def test_signatures_checked_per_second_are_bounded_over_all_addresses(door, monkeypatch):
    access, forged, checks = door.open(), signed("EdDSA", n=1)[:-8] + "AAAAAAAA", []
    verify = access._tokens.verify
    monkeypatch.setattr(
        access._tokens, "verify", lambda *told: (checks.append(told), verify(*told))[1]
    )
    for n in range(1_500):
        with pytest.raises(RefusedError):
            access.admit([(b"authorization", b"Bearer " + forged.encode())], f"h{n}", "score")
    assert len(checks) == 1_000


def test_the_memory_of_right_tokens_is_bounded_and_holds_no_token(door, monkeypatch):
    monkeypatch.setattr("serving.jwt._MOST_REMEMBERED", 5)
    access = door.open()
    for n in range(20):
        ask(access, signed("EdDSA", n=n))
    remembered = access._tokens._remembered
    assert len(remembered) == 5
    assert all(len(name) == 32 for name in remembered)


# Where the keys come from


class _Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked += 1
        server.gate.wait(10)
        self.send_response(server.status)
        self.end_headers()
        self.wfile.write(server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[Any]:
    """A server with a key set, whose answers a test can hold back."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Issuer)
    server.asked, server.status, server.content = 0, 200, key_set()
    server.gate = threading.Event()
    server.gate.set()
    server.url = f"http://127.0.0.1:{server.server_port}/jwks"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def remote(tmp_path: Path, issuer: Any) -> Door:
    return Door(tmp_path, issuer.url, policy={"failures_per_second": 0, "roles_claim": "roles"})


def idle(access: Access) -> bool:
    """Whether no fetch is under way: one that is keeps the next from starting."""
    return not access._tokens._keys._busy.locked()


def loaded(access: Access) -> bool:
    return not access._tokens.is_waiting and idle(access)


def test_keys_are_fetched_without_holding_up_a_request(remote, issuer):
    issuer.gate.clear()
    started = time.perf_counter()
    access = remote.open()
    error = refused(access, signed())
    assert time.perf_counter() - started < 2, "the issuer has not answered yet"
    assert (error.status, error.headers["retry-after"]) == (503, "1")
    issuer.gate.set()
    assert in_time(lambda: loaded(access))
    assert ask(access, signed()).subject == "ana"


def test_a_new_key_of_the_issuer_is_refused_once_and_known_soon(remote, issuer):
    access = remote.open()
    assert in_time(lambda: loaded(access))
    token = signed("ES256", OTHER, header={"kid": "new"})
    remote.ns += 11 * 10**9
    issuer.content = key_set(public("ES256"), public("ES256", OTHER, kid="new"))
    assert refused(access, token).status == 401
    assert in_time(lambda: access._tokens._keys.version == 2)
    assert ask(access, token).subject == "ana"


def test_unknown_keys_make_no_more_than_one_fetch_in_ten_seconds(remote, issuer):
    access = remote.open()
    assert in_time(lambda: loaded(access))
    for _ in range(3):
        remote.ns += 11 * 10**9
        for n in range(5):
            refused(access, signed(header={"kid": f"unknown {n}"}))
            assert in_time(lambda: idle(access))
    assert issuer.asked == 4


def test_a_key_that_the_issuer_takes_back_counts_no_longer_nor_what_it_signed(remote, issuer):
    access, token = remote.open(), signed("RS256")
    assert in_time(lambda: loaded(access))
    assert ask(access, token)
    issuer.content = key_set(public("ES256"))
    remote.ns += 301 * 10**9
    ask(access, token)  # still remembered: the fetch goes on in the background
    assert in_time(lambda: access._tokens._keys.version == 2 and idle(access))
    remote.ns += 10**9
    assert refused(access, token).status == 401
    assert ask(access, signed("ES256"))


@pytest.mark.parametrize("broken", [(500, b""), (200, b"<html>"), (200, b'{"keys": []}')])
def test_an_issuer_in_trouble_leaves_the_last_good_keys_for_a_day(remote, issuer, broken):
    access = remote.open()
    assert in_time(lambda: loaded(access))
    ask(access, signed())
    issuer.status, issuer.content = broken
    remote.ns += 301 * 10**9
    assert ask(access, signed(n=1))
    assert in_time(lambda: access._tokens.problem is not None)
    assert ask(access, signed(n=2))
    remote.ns += 86_400 * 10**9
    assert refused(access, signed()).status == 503
    assert in_time(lambda: idle(access)), "or the fetch of the broken set stands for the next one"
    issuer.status, issuer.content = 200, key_set()
    remote.ns += 11 * 10**9
    assert refused(access, signed()).status == 503
    assert in_time(lambda: loaded(access))
    assert access._tokens.problem is None
    assert ask(access, signed())


@pytest.mark.parametrize(
    "entry",
    [
        public("RS256", WEAK),
        public("ES256", use="enc"),
        public("ES256", alg="RS256"),
        public("ES256", key_ops=["sign"]),
        public("ES256") | {"kid": None},
        public("ES256") | {"x": "AAAA"},
        json.loads(KINDS["EdDSA"].to_jwk(PRIVATE["EdDSA"])) | {"kid": "private"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {"kty": "EC", "crv": "P-521", "kid": "x"},
        {},
    ],
    ids=(  # keys are made anew in each process, and tests must have the same names in all
        *("weak", "for encryption", "for another algorithm", "for signing", "nameless"),
        *("off the curve", "private", "shared", "another curve", "empty"),
    ),
)
def test_a_key_that_is_weak_secret_or_for_something_else_is_left_out(tmp_path, entry):
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(entry))
    with pytest.raises(PermanentError, match="none with a kid"):
        SigningKeys(str(path), ticks=lambda: 0).load()
    path.write_bytes(key_set(entry, public("EdDSA")))
    keys = SigningKeys(str(path), ticks=lambda: 0)
    keys.load()
    assert set(keys._keys) == {"eddsa"}


# Configuration


@pytest.mark.parametrize(
    ("jwks", "secret", "expected"),
    [
        ("", None, "neither FRAUD_ACCESS__JWKS nor FRAUD_JWT_SECRET"),
        ("", "short", "of 5 characters"),
        ("", "-----BEGIN PUBLIC KEY-----" + "x" * 40, "no key of a pair"),
        ("http://id.example/jwks", None, "expected https"),
        ("missing.json", None, "found no keys in missing.json"),
    ],
)
def test_a_scorer_that_could_not_check_tokens_does_not_start(tmp_path, jwks, secret, expected):
    door = Door(tmp_path, jwks, secret)
    with pytest.raises(FraudPlatformError, match=expected) as error:
        require_access(door.settings())
    assert secret is None or secret not in str(error.value)


def test_an_issuer_is_enough_to_listen_beyond_loopback_and_closes_loopback(door):
    told = door.settings().model_copy(update={"scorer_host": "192.0.2.1"})
    assert (
        require_access(told)
        == "access: by API key, 0 in the store, and tokens of https://id.example"
    )
    access = door.open()
    assert not access.is_open
    with pytest.raises(RefusedError) as error:
        access.admit([], "127.0.0.1", "score")
    assert error.value.status == 401
