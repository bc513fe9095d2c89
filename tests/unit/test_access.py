"""Who the scorer lets in: keys, scopes, limits, and what a refusal tells."""

import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.access import (
    SCOPES,
    AccessPolicy,
    ApiKey,
    digest_of,
    id_of,
    is_loopback,
    key_text,
    named_id,
    proven,
)
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.errors import AccessDeniedError, KeyStoreError, PermanentError
from fraud_platform.settings import Settings
from serving.access import Access, require_access
from serving.rate import SECOND_NS, Bucket, Buckets
from serving.refusals import RefusedError

NOW_US = 1_772_000_000_000_000
HOST = "192.0.2.7"
ALL = "0.0.0.0"  # noqa: S104 -- a setting to judge, nothing listens
KEY = re.compile(r"fp_live_[a-z2-9]{8}_[A-Za-z0-9_-]{43}")


@dataclass
class Clocks:
    """Time as a test wants it."""

    us: int = NOW_US
    ns: int = 10**12

    def pass_(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)
        self.ns += round(seconds * SECOND_NS)


@dataclass
class Door:
    """One home with its keys, and the scorer's door on it."""

    home: Path
    host: str = ALL
    policy: AccessPolicy = field(default_factory=AccessPolicy)
    clocks: Clocks = field(default_factory=Clocks)

    def __post_init__(self) -> None:
        self.store = KeyStore(self.home / "access")
        self.settings = Settings(home=self.home, scorer_host=self.host, access=self.policy)

    def key(self, *scopes: str, **more: object) -> str:
        def make(text: str) -> ApiKey:
            key = ApiKey(
                id=id_of(text),
                environment="live",
                digest=digest_of(text),
                subject="checkout",
                scopes=scopes or ("score",),
                created_us=NOW_US,
            )
            return replace(key, **more)

        return self.store.create(make, environment="live")[0]

    def open(self) -> Access:
        return Access(self.settings, clock=lambda: self.clocks.us, ticks=lambda: self.clocks.ns)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"scorer"), (b"authorization", b"Bearer " + key.encode())]


def refusal(access: Access, headers: list[tuple[bytes, bytes]], scope: str = "score", host=HOST):
    with pytest.raises(RefusedError) as error:
        access.admit(headers, host, scope)
    return error.value


def told(error: RefusedError) -> bytes:
    """All that a caller gets to see."""
    return msgspec.json.encode([error.status, error.body, error.headers])


def flipped(text: str, at: int) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


# Limits


@given(
    rate=st.sampled_from([0.5, 1.0, 3.0, 1000.0, 5000.0, 123_456.7]),
    burst=st.integers(1, 30),
    gaps=st.lists(st.integers(0, 3 * SECOND_NS) | st.integers(0, 300_000), max_size=80),
)
@settings(max_examples=150)
def test_in_any_window_a_bucket_admits_at_most_burst_and_rate_times_length(rate, burst, gaps):
    bucket, now, admitted = Bucket(rate=rate, burst=burst), 0, []
    for gap in gaps:
        now += gap
        if bucket.take(now) == 0:
            admitted.append(now)
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            seconds = (admitted[last] - start) / SECOND_NS
            assert last - first + 1 <= burst + rate * seconds + 1e-9


@given(rate=st.floats(0.1, 100_000), burst=st.integers(1, 50), tries=st.integers(1, 120))
def test_who_waits_as_long_as_told_is_admitted_and_not_a_nanosecond_earlier(rate, burst, tries):
    bucket = Bucket(rate=rate, burst=burst)
    waits = [bucket.take(5) for _ in range(tries)]
    assert waits.count(0) == min(burst, tries)
    wait = bucket.wait(5)
    if wait:
        assert bucket.take(5 + wait - 1) == 1
        assert bucket.take(5 + wait) == 0


def test_rounding_never_adds_up_to_more_than_the_rate():
    bucket = Bucket(rate=900_000, burst=1)
    admitted = sum(bucket.take(now) == 0 for now in range(0, SECOND_NS // 10, 101))
    assert admitted <= 90_001


def test_a_rate_of_zero_means_no_limit():
    bucket = Bucket(rate=0, burst=1)
    assert not any(bucket.take(0) for _ in range(1000))


def test_a_bucket_with_other_limits_still_owes_what_it_owed():
    bucket = Bucket(rate=1, burst=10)
    assert [bucket.take(0) for _ in range(10)] == [0] * 10
    assert bucket.resized(rate=2, burst=10).take(0) > 0
    assert bucket.resized(rate=1, burst=10) is bucket


def test_a_million_strangers_take_no_more_memory_than_the_capacity():
    buckets = Buckets(rate=1, burst=1, capacity=100)
    for stranger in range(1_000):
        assert buckets.take(str(stranger), 0) == 0
    assert len(buckets) == 100
    assert buckets.take("999", 0) > 0, "the latest is remembered"
    assert buckets.take("0", 0) == 0, "the one that was silent longest is not"


def test_a_stranger_who_keeps_asking_is_not_forgotten():
    buckets = Buckets(rate=0.001, burst=1, capacity=3)
    assert buckets.take("loud", 0) == 0
    for stranger in range(50):
        buckets.take(str(stranger), 0)
        assert buckets.take("loud", 0) > 0


# Keys


def test_a_key_is_what_secret_scanners_can_find_and_its_id_is_in_it():
    text = key_text("live", bytes(range(40)))
    assert KEY.fullmatch(text)
    assert text[-52:-44] == id_of(text) == named_id(text) == named_id(id_of(text))
    assert named_id(text[:16]) == id_of(text)


@given(st.binary(min_size=40, max_size=40), st.from_regex("[a-z0-9]{1,12}", fullmatch=True))
def test_every_key_that_is_made_can_be_read_back(random, environment):
    assert len(id_of(key_text(environment, random))) == 8


@pytest.mark.parametrize(
    "text", ["", "fp_", "fp_live_short_x", "hunter2" * 9, "fp_LIVE_" + "a" * 52]
)
def test_a_text_that_is_no_key_is_not_repeated_in_the_message(text):
    with pytest.raises(PermanentError) as error:
        id_of(text)
    assert len(text) < 4 or text not in str(error.value)


def test_a_key_lets_its_subject_in_for_its_scopes_only(door):
    key = door.key("score", "read")
    access = door.open()
    caller = access.admit(bearer(key), HOST, "score")
    assert (caller.subject, caller.key_id) == ("checkout", id_of(key))
    assert caller.scopes == {"score", "read"}
    for scope in SCOPES:
        if scope in caller.scopes:
            assert access.admit(bearer(key), HOST, scope) is caller
        else:
            error = refusal(access, bearer(key), scope)
            assert (error.status, error.body.error) == (403, "forbidden")
            assert f'scope="{scope}"' in error.headers["www-authenticate"]


def test_any_of_several_scopes_will_do_and_costs_one_request(door):
    door.policy = AccessPolicy(requests_per_second=1, burst=2)
    door.__post_init__()
    key, access = door.key("admin"), door.open()
    assert access.admit(bearer(key), HOST, "read", "admin").subject == "checkout"
    assert access.admit(bearer(key), HOST, "read", "admin").subject == "checkout"
    assert refusal(access, bearer(key), "read").status == 429


@pytest.mark.parametrize(
    "header",
    [(b"authorization", b"Bearer %s"), (b"authorization", b"bearer %s"), (b"x-api-key", b"%s")],
)
def test_a_key_may_come_in_either_header(door, header):
    key = door.key()
    name, form = header
    assert door.open().admit([(name, form % key.encode())], HOST, "score").key_id == id_of(key)


def test_two_credentials_are_one_too_many_even_if_equal(door):
    key = door.key()
    error = refusal(door.open(), [*bearer(key), (b"x-api-key", key.encode())])
    assert error.status == 401


def test_an_unknown_id_and_a_wrong_secret_get_the_same_answer(door):
    key = door.key()
    access = door.open()
    wrong = told(refusal(access, bearer(flipped(key, len(key) - 1))))
    unknown = told(refusal(access, bearer(f"{key[:8]}zzzzzzzz{key[16:]}")))
    assert wrong == unknown
    assert b"401" in wrong


def test_every_single_wrong_character_is_noticed(door):
    key = door.key()
    door.policy = AccessPolicy(failures_per_second=0)
    door.__post_init__()
    access = door.open()
    for at in range(len(key)):
        assert refusal(access, bearer(flipped(key, at))).status == 401
    assert access.admit(bearer(key), HOST, "score")


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer ", b"Basic dXNlcjpwYXNz", b"Bearer fp_", b"Bearer \xff\xfe",
     b"Bearer fp_" + b"a" * 5000, b"Bearer null", b"Bearer fp_live_aaaaaaaa_"],
)  # fmt: skip
def test_what_is_no_credential_is_refused_and_never_repeated(door, value):
    door.key()
    error = refusal(door.open(), [(b"authorization", value)])
    assert error.status == 401
    assert error.headers["www-authenticate"].startswith("Bearer realm=")
    secret = value.removeprefix(b"Bearer").removeprefix(b"Basic").strip()
    assert len(secret) < 5 or secret not in told(error)


def test_no_credential_at_all_gets_a_challenge_without_an_error_code(door):
    door.key()
    error = refusal(door.open(), [(b"host", b"scorer")])
    assert (error.status, error.headers["www-authenticate"]) == (
        401,
        'Bearer realm="fraud_platform"',
    )


def test_a_key_ends_at_its_moment(door):
    key = door.key(expires_us=NOW_US + 2_000_000)
    access = door.open()
    door.clocks.us += 1_999_999
    assert access.admit(bearer(key), HOST, "score")
    door.clocks.us += 1
    assert "expired" in refusal(access, bearer(key)).body.message


def test_who_lacks_the_right_secret_does_not_learn_that_a_key_has_expired(door):
    key = door.key(expires_us=NOW_US - 1)
    error = refusal(door.open(), bearer(flipped(key, len(key) - 1)))
    assert "expired" not in error.body.message


def test_a_revoked_key_is_refused_after_the_next_look_and_others_are_not(door):
    key, other = door.key(), door.key()
    access = door.open()
    assert access.admit(bearer(key), HOST, "score")
    door.store.change(id_of(key), lambda known: replace(known, revoked_us=NOW_US))
    door.clocks.pass_(1.0)
    assert "revoked" in refusal(access, bearer(key)).body.message
    assert access.admit(bearer(other), HOST, "score")


def test_no_message_and_no_log_line_holds_a_credential(door, caplog):
    caplog.set_level(logging.DEBUG)
    key = door.key(expires_us=NOW_US - 1)
    access = door.open()
    shown = b"".join(
        told(refusal(access, bearer(text))) for text in (key, flipped(key, 50), key + "x", key[3:])
    )
    assert key[17:] not in shown.decode() + caplog.text


# How often


def test_a_key_gets_429_with_the_seconds_to_wait_and_then_is_served_again(door):
    door.policy = AccessPolicy(requests_per_second=0.25, burst=3)
    door.__post_init__()
    key, access = door.key(), door.open()
    for _ in range(3):
        access.admit(bearer(key), HOST, "score")
    error = refusal(access, bearer(key))
    assert (error.status, error.body.error, error.headers) == (
        429,
        "rate_limited",
        {"retry-after": "4"},
    )
    door.clocks.pass_(4)
    assert access.admit(bearer(key), HOST, "score")


def test_a_keys_own_limit_wins_over_the_policys(door):
    key = door.key(requests_per_second=1.0, burst=1)
    free = door.key(requests_per_second=0.0)
    access = door.open()
    access.admit(bearer(key), HOST, "score")
    assert refusal(access, bearer(key)).status == 429
    assert all(access.admit(bearer(free), HOST, "score") for _ in range(20_000))


def test_one_callers_limit_does_not_touch_another(door):
    door.policy = AccessPolicy(requests_per_second=1, burst=1)
    door.__post_init__()
    loud, quiet, access = door.key(), door.key(), door.open()
    access.admit(bearer(loud), HOST, "score")
    assert refusal(access, bearer(loud)).status == 429
    assert access.admit(bearer(quiet), HOST, "score")


def old_store_with(door: Door, key_id: str, rate: float) -> None:
    """The store as an earlier version could write it: an own limit that nobody can keep."""
    door.store.change(key_id, lambda known: replace(known, requests_per_second=rate))


@pytest.mark.parametrize("rate", [1e-310, 5e-324, 1e-9, 0.000_9, -1.0, 1e308])
def test_a_stored_key_with_an_impossible_limit_is_refused_alone_and_can_be_revoked(
    door, rate, caplog
):
    odd, good = door.key(), door.key()
    access = door.open()
    assert access.admit(bearer(odd), HOST, "score")
    old_store_with(door, id_of(odd), rate)
    for opened in (access, door.open()):
        door.clocks.pass_(1.0)
        assert opened.admit(bearer(good), HOST, "score"), "others are served"
        assert refusal(opened, bearer(odd)).status == 401
    assert id_of(odd) in caplog.text
    assert f"requests_per_second={rate}" in caplog.text
    door.store.change(id_of(odd), lambda known: replace(known, revoked_us=NOW_US))


@pytest.mark.parametrize(
    "limits",
    [{"requests_per_second": 1e-310}, {"requests_per_second": 0.000_9}, {"burst": 10_000_001},
     {"burst": 0}, {"requests_per_second": float("nan")}, {"requests_per_second": float("inf")}],
)  # fmt: skip
def test_no_key_is_made_with_a_limit_that_cannot_be_kept(door, limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        door.key(**limits)
    assert door.store.read().signature is None


def test_the_lowest_rate_and_the_largest_burst_are_kept(door):
    key = door.key(requests_per_second=0.001, burst=10_000_000)
    access = door.open()
    assert access.admit(bearer(key), HOST, "score")


def test_a_change_of_the_store_does_not_refill_a_bucket(door):
    door.policy = AccessPolicy(requests_per_second=0.001, burst=1)
    door.__post_init__()
    key, access = door.key(), door.open()
    access.admit(bearer(key), HOST, "score")
    door.key()
    door.clocks.pass_(1.0)
    assert refusal(access, bearer(key)).status == 429


def test_who_guesses_keys_gets_429_and_a_good_key_from_there_is_still_served(door):
    key, access = door.key(), door.open()
    statuses = [refusal(access, bearer(flipped(key, 30))).status for _ in range(200)]
    assert statuses.count(401) == AccessPolicy().failure_burst
    assert set(statuses[AccessPolicy().failure_burst :]) == {429}
    assert access.admit(bearer(key), HOST, "score")
    assert refusal(access, bearer(flipped(key, 30)), host="198.51.100.1").status == 401


def test_addresses_of_one_ipv6_network_count_as_one(door):
    key, access = door.key(), door.open()
    for last in range(AccessPolicy().failure_burst):
        refusal(access, bearer(flipped(key, 30)), host=f"2001:db8::{last:x}")
    assert refusal(access, bearer(flipped(key, 30)), host="2001:db8::ffff").status == 429
    assert refusal(access, bearer(flipped(key, 30)), host="2001:db8:0:1::1").status == 401


@pytest.mark.parametrize("host", ["127.0.0.1", ALL])
def test_a_batch_counts_as_many_requests_as_it_holds(door, host):
    door.host, door.policy = host, AccessPolicy(requests_per_second=10, burst=5)
    door.__post_init__()
    headers = bearer(door.key()) if host == ALL else []
    access = door.open()
    access.charge(access.admit(headers, HOST, "score"), HOST, 104)
    error = refusal(access, headers)
    assert error.headers["retry-after"] == "11", "101 requests too many at 10 per second"
    door.clocks.pass_(10.1)
    assert access.admit(headers, HOST, "score")


# Open or closed


def test_a_loopback_scorer_without_keys_is_open_until_the_first_key(door):
    door.host = "127.0.0.1"
    door.__post_init__()
    access = door.open()
    assert access.is_open
    assert access.admit([], "127.0.0.1", "admin").subject == "anonymous"
    key = door.key()
    door.clocks.pass_(1.0)
    assert refusal(access, []).status == 401
    assert access.admit(bearer(key), "127.0.0.1", "score")
    assert not access.is_open


def test_an_open_scorer_limits_client_addresses(door):
    door.host, door.policy = "127.0.0.1", AccessPolicy(requests_per_second=1, burst=1)
    door.__post_init__()
    access = door.open()
    access.admit([], "127.0.0.1", "score")
    assert refusal(access, [], host="127.0.0.1").status == 429
    assert access.admit([], "127.0.0.2", "score")


def test_revoking_the_last_key_does_not_open_the_door(door):
    door.host = "127.0.0.1"
    door.__post_init__()
    key = door.key()
    door.store.change(id_of(key), lambda known: replace(known, revoked_us=NOW_US))
    assert refusal(door.open(), []).status == 401


def test_a_store_that_vanishes_closes_the_door_and_one_that_returns_opens_it(door, caplog):
    door.host = "127.0.0.1"
    door.__post_init__()
    key = door.key()
    access = door.open()
    away = door.store.path.rename(door.store.path.with_suffix(".away"))
    door.clocks.pass_(1.0)
    assert refusal(access, bearer(key)).status == 503
    door.clocks.pass_(1.0)
    assert refusal(access, []).status == 503
    assert caplog.text.count("Every request is refused") == 1, "said once, not every second"
    away.rename(door.store.path)
    door.clocks.pass_(1.0)
    assert access.admit(bearer(key), HOST, "score")


def test_without_any_key_nobody_is_let_in_beyond_loopback(door):
    assert refusal(door.open(), []).status == 401


@pytest.mark.parametrize(
    ("host", "required", "expected"),
    [
        ("127.0.0.1", "auto", "open to everybody"),
        ("127.0.0.1", "never", "open to everybody"),
        (ALL, "auto", None),
        ("::", "auto", None),
        ("scorer.internal", "auto", None),
        (ALL, "never", None),
        ("127.0.0.1", "always", None),
    ],
)
def test_a_scorer_that_anybody_could_ask_does_not_start(tmp_path, host, required, expected):
    told = Settings(home=tmp_path, scorer_host=host, access=AccessPolicy(required=required))
    if expected:
        assert expected in require_access(told)
        return
    with pytest.raises(PermanentError, match="expected") as error:
        require_access(told)
    assert "Hint:" in str(error.value)


def test_one_key_is_enough_to_start_anywhere(door):
    door.key()
    assert require_access(door.settings) == "access: by API key, 1 in the store"


def test_never_is_refused_beyond_loopback_even_with_keys(door):
    door.policy = AccessPolicy(required="never")
    door.__post_init__()
    door.key()
    with pytest.raises(PermanentError, match="never"):
        require_access(door.settings)
    assert refusal(door.open(), []).status == 401, "and the door itself does not believe it"


def test_a_damaged_store_keeps_the_scorer_from_starting(door):
    door.key()
    door.store.path.write_text("{}", "utf-8")
    with pytest.raises(KeyStoreError, match=r"keys\.json"):
        require_access(door.settings)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")),
        *((host, False) for host in (ALL, "::", "10.0.0.1", "", "localhost.evil")),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host, answer):
    assert is_loopback(host) is answer


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"burst": 0}, "burst=0"),
        ({"requests_per_second": -1}, "requests_per_second=-1"),
        ({"requests_per_second": float("nan")}, "requests_per_second=nan"),
        ({"requests_per_second": 1e-310}, "requests_per_second=1e-310"),
        ({"failures_per_second": 0.000_9}, "failures_per_second=0.0009"),
        ({"burst": 10_000_001}, "burst=10000001"),
        ({"failure_burst": 0}, "failure_burst=0"),
        ({"environment": "Live!"}, "environment='Live!'"),
        ({"algorithms": ("none",)}, "none"),
        ({"algorithms": ("HS256",)}, "HS256"),
        ({"issuer": "x"}, "audience=''"),
        ({"jwks": "x"}, "issuer=''"),
        ({"leeway_seconds": 301}, "leeway_seconds=301"),
        ({"key_days": 0}, "key_days=0"),
        ({"key_days": 91, "longest_key_days": 90}, "longest_key_days=90"),
        ({"longest_key_days": 3_651}, "longest_key_days=3651"),
    ],
)
def test_a_policy_out_of_bounds_is_refused_by_name(given, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        AccessPolicy(**given)


PROVEN = key_text("live", bytes(range(40)))
STORED = ApiKey(
    id=id_of(PROVEN),
    environment="live",
    digest=digest_of(PROVEN),
    subject="ann",
    scopes=("audit",),
    created_us=0,
    expires_us=NOW_US,
)


@given(st.one_of(st.text(), st.from_regex(r"fp_[a-z]{4}_[a-z2-9]{8}_[A-Za-z0-9_-]{43}")))
def test_no_other_text_is_a_key(text):
    assert proven(PROVEN, {STORED.id: STORED}, NOW_US - 1) is STORED
    with pytest.raises(AccessDeniedError, match="not valid"):
        proven(text, {STORED.id: STORED}, NOW_US - 1)


@given(st.integers(0, len(PROVEN) - 1), st.characters(max_codepoint=0x7F))
def test_nor_is_a_key_with_one_other_character(at, other):
    text = PROVEN[:at] + other + PROVEN[at + 1 :]
    if text != PROVEN:
        with pytest.raises(AccessDeniedError) as error:
            proven(text, {STORED.id: STORED}, NOW_US - 1)
        assert text[17:] not in str(error.value)


@pytest.mark.parametrize(
    ("record", "found"),
    [(STORED, "is expired"), (replace(STORED, revoked_us=1), "is revoked")],
    ids=["expired", "revoked"],
)
def test_a_key_that_has_ended_is_none(record, found):
    with pytest.raises(AccessDeniedError, match=found):
        proven(PROVEN, {record.id: record}, NOW_US)


def test_a_key_that_holds_admin_and_approve_counts_for_nothing_however_it_came(door):
    key = door.key("approve", subject="ann")

    def forged(one: ApiKey) -> ApiKey:
        return replace(one, scopes=("approve", "admin"))

    door.store.change(id_of(key), forged)
    with pytest.raises(RefusedError) as refusal:
        door.open().admit([(b"authorization", b"Bearer " + key.encode())], HOST, "admin")
    assert refusal.value.status == 401
