"""The pages of the audit as a browser gets them, over a scorer that lives."""

import asyncio
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from litestar.testing import TestClient
from pydantic import SecretStr

from fraud_platform.adapters import log_horizon
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.merkle import root
from fraud_platform.card_number import token
from fraud_platform.events import microseconds
from serving import telling
from serving.app import assemble, build_scorer

VERIFIER = Path(__file__).parents[3] / "deploy" / "verify_audit.py"


@pytest.fixture
def client(settings, publish, payment, now, monkeypatch):
    """A scorer whose first model has decided on twelve payments; it gives no look up."""
    monkeypatch.setattr(telling, "LONGEST_SECONDS", 600.0)
    monkeypatch.setattr(telling, "LONGEST_WAIT_SECONDS", 600.0)
    publish("1")
    parts = build_scorer(settings, lambda: microseconds(now))
    with TestClient(assemble(parts)) as client:
        deadline = time.monotonic() + 30
        while parts.champion.ruling.version != "1":
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)
        for number in range(12):
            told = payment(number, card_id="card-of-the-page" if number == 3 else "card-1")
            assert client.post("/v1/decisions", json=told).status_code == 200
        yield client


class Reader(HTMLParser):
    """What a page shows, and whether its marks are closed."""

    VOID = frozenset({"meta", "input", "line", "rect", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert tag != "script"
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.links += [value for name, value in attrs if name == "href"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def page(client, address: str) -> Reader:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return Reader(answer.text)


def test_the_page_of_a_decision_says_all_of_it_and_that_it_is_equal(client):
    shown = page(client, "/audit/decisions/t3")
    for text in (
        "Decision dec_4",
        "Replayed just now: equal (67 values).",
        "The model scored",
        "Its own cuts: review from 0.300000",
        "card_payment_count_1h",
        "source",
        "Model card: purpose",
        "Who proposed, approved or moved it",
    ):
        assert text in shown.text, text
    assert "card-of-the-page" not in shown.text
    assert "…page" in shown.text


def test_a_payment_is_found_by_card_model_answer_and_day(client):
    assert page(client, "/audit").text.count("card-1") == 0, "no token whole"
    shown = page(client, "/audit?card=card-of-the-page&model=1&since=2026-03-01&until=2026-03-02")
    assert shown.links == ["/audit/decisions/t3"]
    assert "Decision dec_4" in page(client, shown.links[0]).text
    assert page(client, "/audit?id=dec_4").links == ["/audit/decisions/t3"]
    assert page(client, "/audit?model=7").links == []


def test_every_look_is_written_down_before_it_is_shown(client, settings):
    page(client, "/audit?card=card-of-the-page")
    page(client, "/audit/decisions/t3")
    looks = [r for r in audit_log_of(settings).rows() if r.action == "audit.read"]
    assert [row.object for row in looks] == ["search:card", "decision:t3"]
    assert not any("card-of-the-page" in str(row) for row in looks)


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/audit/decisions/nobody", 404, "unknown_decision"),
        ("/audit?card=4111111111111111", 422, "card_number_refused"),
        ("/audit?since=yesterday", 422, "invalid_field"),
        ("/audit?model=card-of-the-page-typed-here", 422, "invalid_field"),
        ("/audit?outcome=card-of-the-page", 422, "invalid_field"),
        (f"/audit?id={'x' * 300}", 422, "invalid_field"),
        ("/audit/decisions/nobody/proof", 404, "unknown_decision"),
    ],
)
def test_what_cannot_be_told_is_refused_with_why(client, address, status, code):
    answer = client.get(address)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert "4111111111111111" not in answer.text


def test_a_token_typed_where_an_id_belongs_is_written_down_covered(client, settings):
    page(client, "/audit?id=card-of-the-page")
    assert client.get("/audit/decisions/card-of-the-page").status_code == 404
    assert client.get("/audit/decisions/card-of-the-page/proof").status_code == 404
    for named in ("t3", "dec_4"):
        page(client, f"/audit?id={named}")
    looks = [r for r in audit_log_of(settings).rows() if r.action in ("audit.read", "audit.prove")]
    assert not any("card-of-the-page" in str(row) for row in looks)
    assert [row.told.get("asked_id", row.object) for row in looks] == [
        *("…page", "decision:…page", "transaction:…page", "t3", "dec_4"),
    ]


def test_the_proof_on_the_page_holds_for_whoever_checks_it_alone(client, settings, tmp_path):
    [link] = [one for one in page(client, "/audit/decisions/dec_4").links if "proof" in one]
    answer = client.get(link)
    assert answer.headers["content-disposition"] == 'attachment; filename="proof-4.json"'
    proof, public = tmp_path / "proof.json", settings.audit_dir / "head.key.pub"
    proof.write_bytes(answer.content)
    checked = subprocess.run(
        [sys.executable, VERIFIER, "proof", str(proof), "--public", str(public)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert answer.json()["transaction_id"] == "t3"


def test_a_search_is_written_down_with_what_was_asked_and_the_card_under_a_key(
    settings, now, monkeypatch
):
    for bound in ("LONGEST_SECONDS", "LONGEST_WAIT_SECONDS"):
        monkeypatch.setattr(telling, bound, 600.0)
    key = "a secret key of thirty-two letters"
    keyed = settings.model_copy(update={"token_key": SecretStr(key)})
    address = "/audit?card=card-of-the-page&model=1&until=2026-03-02"
    for one in (settings, keyed):
        with TestClient(assemble(build_scorer(one, lambda: microseconds(now)))) as client:
            page(client, address)
    plain, covered = (r for r in audit_log_of(settings).rows() if r.action == "audit.read")
    for look, card in ((plain, "…page"), (covered, token("card-of-the-page", key.encode()))):
        asked = {name: value for name, value in look.told.items() if name.startswith("asked_")}
        assert asked == {"asked_card": card, "asked_model": "1", "asked_until": "2026-03-02"}


@pytest.mark.parametrize("address", ["/audit/decisions/t3", "/audit?id=t3"])
def test_a_look_that_takes_too_long_is_killed_and_given_up(client, monkeypatch, address):
    begun, start = [], asyncio.create_subprocess_exec

    async def endless(*_, **pipes):
        begun.append(await start("sleep", "600", **pipes))
        return begun[-1]

    monkeypatch.setattr(telling.asyncio, "create_subprocess_exec", endless)
    monkeypatch.setattr(telling, "LONGEST_SECONDS", 3.0)
    answer = client.get(address)
    assert (answer.status_code, answer.json()["error"]) == (503, "look_given_up")
    assert "given up after 3 seconds" in answer.json()["message"]
    assert answer.headers["retry-after"]
    assert [process.returncode for process in begun] == [-9]


def test_why_nothing_can_be_told_stays_inside(client, settings, caplog):
    settings.lineage_path.write_bytes(b"no database at all, and long enough for one" * 40)
    answer = client.get("/audit/decisions/t3")
    assert (answer.status_code, answer.json()["error"]) == (503, "dossier_unavailable")
    assert str(settings.home) not in answer.text
    assert str(settings.lineage_path) in caplog.text


def test_a_look_waits_for_another_only_so_long(client, monkeypatch):
    monkeypatch.setattr(telling, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(telling, "_AT_ONCE", asyncio.Semaphore(0))
    answer = client.get("/audit/decisions/t3")
    assert (answer.status_code, answer.json()["error"]) == (503, "look_given_up")
    assert "Others look just now" in answer.json()["message"]


def test_whatever_a_sender_put_into_an_id_is_text_on_the_page(client, payment):
    name = '<b onload="x">&/'
    told = client.post("/v1/decisions", json=payment(20, transaction_id=name))
    assert told.status_code == 200, told.text
    [link] = page(client, "/audit?id=dec_13").links
    assert re.fullmatch(r"/audit/decisions/%3Cb[^<>/\"]*%2F", link)
    assert name in page(client, link).text


def test_a_browser_is_told_to_run_nothing(client):
    policy = client.get("/audit").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in policy
    assert "unsafe" not in policy


def test_what_retention_deleted_is_said_to_be_purged_by_its_row(client, settings):
    with closing(EventLog(settings.log_path)) as drained:
        drained.drain()
    seals_of(settings).seal()
    with closing(sqlite3.connect(settings.log_path, isolation_level=None)) as log:
        (name,) = log.execute("SELECT log FROM identity").fetchone()
        (seal,) = seals_of(settings).all(name)
        facts = {"first": "1", "last": str(seal.last), "newest_us": "1", "days": "1"}
        told = {"actor": "ann", "role": "", "origin": "test", "before": root([seal.root]).hex()}
        act = Act(action="retention.purge", object=f"log:{name}", facts=facts, **told)
        with audit_log_of(settings).recording(act) as row:
            log_horizon.begin(log, log_horizon.Horizon(row.seq, 1, 1, 1))
            log_horizon.remember(log, [("gone", 1)])
    for address in ("/audit/decisions/gone", "/audit/decisions/gone/proof"):
        answer = client.get(address)
        assert (answer.status_code, answer.json()["error"]) == (410, "purged_decision")
        assert f"by row {row.seq} of the audit log" in answer.json()["message"]
    for address in ("/v1/decisions/gone", "/v1/decisions/gone/explanation"):
        answer = client.get(address)
        assert (answer.status_code, answer.json()["error"]) == (410, "purged_decision")
