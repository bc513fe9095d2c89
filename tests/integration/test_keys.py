"""API keys as people and scorers meet them: real commands, one file, and what damage does to it."""

import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraud_platform.access import digest_of
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.cli import main
from fraud_platform.errors import KeyStoreError, PermanentError
from fraud_platform.settings import Settings, get_settings
from serving.access import Access
from serving.refusals import RefusedError

PROGRAM = [str(Path(sys.executable).with_name("fraud-platform")), "keys"]
KEY = re.compile(r"fp_live_[a-z2-9]{8}_[A-Za-z0-9_-]{43}")
CREATE = ("create", "--subject", "checkout", "--scope", "score")
HOST = "192.0.2.7"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def keys(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    environment = os.environ | {"FRAUD_HOME": str(home)} | variables
    return subprocess.run(
        [*PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def said(home: Path, *arguments: str) -> str:
    """What the command prints in this process: one of its own takes a second to start."""
    get_settings.cache_clear()
    done = CliRunner().invoke(main, ["keys", *arguments], env={"FRAUD_HOME": str(home)})
    get_settings.cache_clear()
    assert done.exit_code == 0, done.output
    return done.stdout


def made(home: Path, *arguments: str) -> str:
    found = said(home, *(arguments or CREATE)).strip()
    assert KEY.fullmatch(found), "the key alone, for scripts"
    return found


def listed(home: Path) -> list[dict[str, object]]:
    return json.loads(said(home, "list", "--json"))


def opened(home: Path) -> Access:
    settings = Settings(home=home, scorer_host="192.0.2.1")
    return Access(settings, clock=lambda: time.time_ns() // 1_000)


def status(access: Access, key: str, scope: str = "score") -> int:
    try:
        access.admit([(b"authorization", b"Bearer " + key.encode())], HOST, scope)
    except RefusedError as error:
        return error.status
    return 200


def test_a_key_is_shown_once_and_the_home_holds_nothing_that_could_be_used(home):
    key = made(home)
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert key[17:].encode() not in written
    assert digest_of(key).encode() in written
    for shown in (keys(home, "list"), keys(home, "list", "--json")):
        assert key[8:16] in shown.stdout
        assert key[17:] not in shown.stdout + shown.stderr
        assert digest_of(key) not in shown.stdout
    assert status(opened(home), key) == 200


def test_only_the_owner_may_read_or_write_the_file(home):
    made(home)
    made(home)
    path = home / "access" / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {p.name for p in path.parent.iterdir()} == {"keys.json", ".lock"}, "no parts are left"


def test_the_list_says_whose_for_what_and_until_when(home):
    made(home, *CREATE, "--scope", "label", "--expires-days", "30", "--rate", "5", "--burst", "9")
    (row,) = listed(home)
    assert row["scopes"] == ["score", "label"]
    assert (row["subject"], row["state"], row["environment"]) == ("checkout", "active", "live")
    assert (row["requests_per_second"], row["burst"]) == (5, 9)
    assert row["expires"] > row["created"]
    assert row["last_used_hour"] is row["revoked"] is None


def test_commands_that_write_at_once_lose_no_key(home):
    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(lambda _: keys(home, *CREATE).stdout.strip(), range(4)))
    assert all(map(KEY.fullmatch, created)), "the key alone, for scripts"
    assert {row["id"] for row in listed(home)} == {key[8:16] for key in created}
    access = opened(home)
    assert [status(access, key) for key in created] == [200] * 4


def test_many_writers_of_one_process_take_turns_too(home):
    from fraud_platform.access import ApiKey, id_of

    def make(text: str) -> ApiKey:
        return ApiKey(
            id=id_of(text),
            environment="live",
            digest=digest_of(text),
            subject="s",
            scopes=("read",),
            created_us=1,
        )

    def write(_: int) -> str:
        return KeyStore(home / "access").create(make, environment="live")[0]

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(write, range(40)))
    assert set(KeyStore(home / "access").read().keys) == {id_of(key) for key in created}


def test_a_running_scorer_refuses_a_revoked_key_within_five_seconds(home):
    key, other = made(home), made(home)
    access, refused_after = opened(home), []
    assert status(access, key) == 200
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set() and not refused_after:
            if status(access, key) == 401:
                refused_after.append(time.monotonic())
            time.sleep(0.005)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        done = keys(home, "revoke", key[8:16])
        revoked = time.monotonic()
        assert done.returncode == 0, done.stderr
        asking.join(timeout=10)
    finally:
        stop.set()
        asking.join()
    assert refused_after, "never noticed"
    print(f"refused {refused_after[0] - revoked:+.2f} s after the command ended")
    assert refused_after[0] - revoked < 5
    assert status(access, other) == 200


def test_a_new_key_works_in_a_running_scorer(home):
    made(home)
    access = opened(home)
    key = made(home)
    end = time.monotonic() + 60
    while status(access, key) != 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert status(access, key) == 200


def test_after_a_rotation_both_keys_count_until_the_overlap_ends(home):
    old = made(home, *CREATE, "--scope", "read")
    new = made(home, "rotate", old[8:16], "--overlap-hours", "0.0006")
    rows = {row["id"]: row for row in listed(home)}
    assert rows[new[8:16]]["replaces"] == old[8:16]
    assert rows[new[8:16]]["scopes"] == ["score", "read"]
    access = opened(home)
    assert status(access, new) == 200
    end = time.monotonic() + 60
    while status(access, old) == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert (status(access, old), status(access, new)) == (401, 200)
    again = keys(home, "rotate", old[8:16])
    assert again.returncode == 1
    assert "is expired" in again.stderr


def test_a_key_that_was_pasted_whole_is_revoked_and_not_repeated(home):
    key = made(home)
    done = keys(home, "revoke", key)
    assert done.returncode == 0
    assert key[17:] not in done.stdout + done.stderr
    assert status(opened(home), key) == 401


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("revoke", "zzzzzzzz"), 1, "found no key zzzzzzzz"),
        (("revoke", "what?"), 1, "expected an id of 8 characters"),
        (("rotate", "zzzzzzzz"), 1, "found no key zzzzzzzz"),
        (("create", "--subject", "a\nb", "--scope", "score"), 2, "expected 1 to 64 letters"),
        (("create", "--subject", "a", "--scope", "root"), 2, "'root' is not one of"),
        (("create", "--subject", "a"), 2, "neither --role nor --scope"),
        (("create", "--subject", "a", "--scope", "read", "--burst", "0"), 2, "burst=0"),
        (("create", "--subject", "a", "--scope", "read", "--rate", "1e-310"), 2, "0.001 to"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(home, arguments, code, expected):
    done = keys(home, *arguments)
    assert done.returncode == code
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "access" / "keys.json").exists()


def test_every_command_refuses_a_damaged_store_and_leaves_it_as_it_is(home):
    key = made(home)
    path = home / "access" / "keys.json"
    path.write_bytes(path.read_bytes()[:-40])
    damaged = path.read_bytes()
    for arguments in (CREATE, ("list",), ("revoke", key[8:16]), ("rotate", key[8:16])):
        done = keys(home, *arguments)
        assert done.returncode == 1
        assert str(path) in done.stderr
        assert "Hint: put back a copy" in done.stderr
        assert not done.stdout
    assert path.read_bytes() == damaged


def test_no_damage_of_one_byte_or_a_cut_lets_anything_else_be_believed(home):
    made(home, *CREATE, "--expires-days", "3")
    store = KeyStore(home / "access")
    whole, believed = store.path.read_bytes(), store.read().keys
    damages = [whole[:at] for at in range(0, len(whole), 7)]
    damages += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    refused = 0
    for damaged in damages:
        store.path.write_bytes(damaged)
        try:
            assert store.read().keys == believed, "blanks may change, content may not"
        except KeyStoreError:
            refused += 1
    assert refused > 0.7 * len(damages)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_scorer_on_a_foreign_file_lets_nobody_in(home, content):
    key = made(home)
    access = opened(home)
    (home / "access" / "keys.json").write_bytes(content)
    end = time.monotonic() + 60
    while status(access, key) == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert status(access, key) == 503
    assert "keys.json" in access.problem
    assert status(opened(home), key) == 503, "nor does one that starts"


def test_a_file_that_others_may_write_is_not_believed(home):
    key = made(home)
    access = opened(home)
    path = home / "access" / "keys.json"
    path.chmod(0o620)
    with pytest.raises(KeyStoreError, match="can be written by others"):
        KeyStore(home / "access").read()
    time.sleep(1.1)
    assert status(access, key) == 503
    path.chmod(0o600)
    time.sleep(1.1)
    assert status(access, key) == 200, "mended without a restart"


def test_a_home_that_cannot_be_written_is_said_in_one_sentence(tmp_path):
    (tmp_path / "access").write_text("a file where a folder belongs", "utf-8")
    with pytest.raises(PermanentError, match="found no way to write"):
        KeyStore(tmp_path / "access").change("zzzzzzzz", lambda key: key)


def test_the_hour_of_last_use_reaches_the_list(home):
    key, unused = made(home), made(home)
    clock = time.time_ns() // 1_000
    ticks = [0]
    access = Access(
        Settings(home=home, scorer_host="192.0.2.1"), clock=lambda: clock, ticks=lambda: ticks[0]
    )
    assert status(access, key) == 200
    ticks[0] += 61 * 10**9
    assert status(access, key) == 200
    end = time.monotonic() + 60
    while not KeyStore(home / "access").last_used() and time.monotonic() < end:
        time.sleep(0.02)
    hours = {row["id"]: row["last_used_hour"] for row in listed(home)}
    assert hours[key[8:16]].endswith(":00:00Z")
    assert hours[unused[8:16]] is None
    assert key[8:16] in keys(home, "list").stdout


def test_an_environment_is_written_into_new_keys(home):
    done = keys(home, *CREATE, FRAUD_ACCESS__ENVIRONMENT="test")
    assert done.stdout.startswith("fp_test_")
    assert status(opened(home), done.stdout.strip()) == 200
