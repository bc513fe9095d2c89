"""Votes in a browser: the same domain code, refusals and audit rows as on the command line."""

import re
import time
from dataclasses import replace

import pytest
from litestar.testing import TestClient

from fraud_platform.access import ApiKey, digest_of, id_of
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.adapters.model_bundle import manifest_digest
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.approvals import Standing
from fraud_platform.roles import ROLES
from serving.app import create_app
from tests.governed_home import FileRoles, settings_of, with_champion
from tests.integration.scorer.test_audit_pages import Reader
from tests.small_bundles import trained, write_small_bundle


@pytest.fixture
def home(tmp_path):
    with_champion(tmp_path)
    settings = settings_of(tmp_path)
    free = replace(settings.access, failures_per_second=0)
    return settings.model_copy(update={"access": free})


@pytest.fixture
def asked(home):
    """Digest of what anna proposed."""
    return FileRoles(home).propose("2", Mandate(by="anna", why="better <b>& cheaper"))


def key_of(home, subject, role):
    def make(text):
        return ApiKey(
            id=id_of(text),
            environment="live",
            digest=digest_of(text),
            subject=subject,
            scopes=ROLES[role],
            created_us=0,
        )

    return KeyStore(home.access_dir).create(make, environment="live")[0]


@pytest.fixture
def keys(home):
    told = {"bert": "approver", "anna": "approver", "eve": "auditor"}
    return {name: key_of(home, name, role) for name, role in told.items()}


@pytest.fixture
def client(home, keys):
    with TestClient(create_app(home)) as client:
        yield client


def form_of(client, digest, key):
    """The page as somebody sees it, and the proof in its form."""
    answer = client.get(f"/proposals/{digest}", auth=("me", key))
    assert answer.status_code == 200, answer.text
    found = re.search(r'name="proof" value="([0-9a-f]{64})"', answer.text)
    return Reader(answer.text), found and found[1]


def send(client, digest, key, **fields):
    return client.post(
        f"/proposals/{digest}", auth=("me", key), data=fields, follow_redirects=False
    )


def standing(home, digest):
    return FileRoles(home).docket.cases()[digest].standing(time.time_ns() // 1000)


def votes(home):
    rows = audit_log_of(home).rows(RowFilter(action="proposal.*"))
    return [(r.action, r.actor, r.origin, r.outcome) for r in rows if r.origin == "api"]


def test_a_vote_in_the_browser_counts_and_is_recorded_as_on_the_command_line(
    home, asked, keys, client
):
    shown = Reader(client.get("/proposals", auth=("me", keys["bert"])).text)
    assert shown.links == [f"/proposals/{asked}"]
    page, proof = form_of(client, asked, keys["bert"])
    for text in ("model:2", "anna", "better <b>& cheaper", "0 of 1", asked):
        assert text in page.text, text
    told = send(client, asked, keys["bert"], answer="approve", reason="seen", proof=proof)
    assert (told.status_code, told.headers["location"]) == (303, f"/proposals/{asked}")
    assert standing(home, asked) is Standing.APPROVED
    assert votes(home) == [
        ("proposal.approve", "bert", "api", "begun"),
        ("proposal.approve", "bert", "api", "done"),
    ]
    assert "1 of 1" in form_of(client, asked, keys["bert"])[0].text


def test_whoever_proposed_it_is_refused_as_on_the_command_line_and_the_log_has_it(
    home, asked, keys, client
):
    proof = form_of(client, asked, keys["anna"])[1]
    told = send(client, asked, keys["anna"], answer="approve", reason="mine", proof=proof)
    assert told.status_code == 422
    assert "anna proposed or made it; another must approve it" in told.json()["message"]
    assert votes(home) == [("proposal.approve", "anna", "api", "refused")]
    assert standing(home, asked) is Standing.WAITING


@pytest.mark.parametrize("forged", ["", "0" * 64, "é", "another's", "another proposal's"])
def test_a_form_that_another_site_sends_does_nothing(home, asked, keys, client, forged):
    if forged == "another's":
        forged = form_of(client, asked, keys["anna"])[1]
    if forged == "another proposal's":
        other = FileRoles(home).propose("3", Mandate(by="anna"))
        forged = form_of(client, other, keys["bert"])[1]
    told = send(client, asked, keys["bert"], answer="approve", reason="so", proof=forged)
    assert (told.status_code, told.json()["error"]) == (403, "foreign_form")
    assert (votes(home), standing(home, asked)) == ([], Standing.WAITING)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"answer": "maybe", "reason": "so"}, 422),
        ({"answer": "approve", "reason": " "}, 422),
        ({"answer": "approve"}, 422),
    ],
    ids=["no answer", "blank reason", "no reason"],
)
def test_a_vote_without_an_answer_or_a_reason_is_refused(home, asked, keys, client, fields, code):
    proof = form_of(client, asked, keys["bert"])[1]
    assert send(client, asked, keys["bert"], proof=proof, **fields).status_code == code
    as_json = client.post(f"/proposals/{asked}", auth=("me", keys["bert"]), json=fields)
    assert as_json.status_code == 415
    assert standing(home, asked) is Standing.WAITING


def test_only_who_may_approve_sees_the_pages_and_refused_looks_are_written_down(
    home, asked, keys, client
):
    stranger = client.get("/proposals")
    assert (stranger.status_code, stranger.headers["www-authenticate"][:5]) == (401, "Basic")
    assert client.get("/proposals", auth=("me", keys["eve"])).status_code == 403
    assert send(client, asked, keys["eve"], answer="approve", reason="so").status_code == 403
    refused = list(audit_log_of(home).rows(RowFilter(action="access.refused")))
    assert [(row.actor, row.object[:15]) for row in refused] == [("eve", "page:/proposals")] * 2


def test_without_keys_nobody_can_be_told_apart_and_nobody_votes(home, asked):
    with TestClient(create_app(home)) as client:
        proof = re.search(r'value="([0-9a-f]{64})"', client.get(f"/proposals/{asked}").text)[1]
        told = client.post(
            f"/proposals/{asked}", data={"answer": "approve", "reason": "so", "proof": proof}
        )
    assert (told.status_code, told.json()["error"]) == (403, "no_person")
    assert standing(home, asked) is Standing.WAITING


def test_a_docket_that_was_changed_is_told_without_naming_files(home, asked, keys, client):
    path = home.models_dir / "proposals.jsonl"
    path.write_bytes(path.read_bytes() + b"no line\n")
    told = client.get("/proposals", auth=("me", keys["bert"]))
    assert (told.status_code, told.json()["error"]) == (503, "docket_damaged")
    assert str(home.home) not in told.text


def test_a_voter_sees_which_fallbacks_are_approved_with_it(home, keys, client):
    write_small_bundle(home.models_dir, "2-without-money", trained(7), without=("money",))
    asked = FileRoles(home).propose("2", Mandate(by="anna"))
    page, _ = form_of(client, asked, keys["bert"])
    assert "fallback without money" in page.text
    assert manifest_digest(home.models_dir / "2-without-money") in page.text


def test_a_proposal_that_is_over_shows_no_form(home, asked, keys, client):
    FileRoles(home).docket.vote("2", "reject", Mandate(by="bert", why="no"))
    page, proof = form_of(client, asked, keys["bert"])
    assert proof is None
    assert "rejected" in page.text
    assert "Nothing waits" in client.get("/proposals", auth=("me", keys["bert"])).text
