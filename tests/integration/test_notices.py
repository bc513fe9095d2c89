"""Pages to people, through a real HTTP server and a real mail server, both with TLS."""

import ipaddress
import json
import re
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.notices import (
    Delivery,
    MailServer,
    Notice,
    Notices,
    notices_of,
    sign,
)
from fraud_platform.processes import free_port
from fraud_platform.settings import Settings

SHARED = "a secret of thirty-two characters"
PASSWORD = SHARED[::-1]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "receive-a-page.md"
NOTICE = Notice(
    act_id="act-7",
    at_us=1_767_225_600_000_000,
    cause="unit_change",
    text="The amounts are a hundred times as large as they were.\nNobody changed a model.",
    facts={"factor": 100.0, "feature": "amount", "rows": 3_000},
)
DELIVERED = (Delivery("alerts"), Delivery("webhook"))


def is_genuine(*page: object) -> bool:
    """What the documentation gives to receivers."""
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    found: dict[str, Callable[..., bool]] = {}
    exec(snippet, found)  # noqa: S102 -- it is the page that is tested
    return found["is_genuine"](*page)


@dataclass
class Receiver:
    """A webhook: what it got, and what it answers, the last answer for ever."""

    answers: list[int] = field(default_factory=lambda: [200])
    pause: float = 0.0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.got.append((dict(request.headers), body))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        time.sleep(self.pause)
        request.send_response(status)
        request.send_header("Location", self.url)
        request.end_headers()
        request.wfile.write(b"hunter2 is what this body says")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate of this machine's own addresses, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "certificate.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "certificate.pem", folder / "key.pem"


def served_with(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def receiver(certificate) -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = served_with(certificate).wrap_socket(server.socket, server_side=True)
    found.url = f"https://127.0.0.1:{server.server_address[1]}/pages"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def trusted(certificate, monkeypatch) -> None:
    """As an installation trusts its own authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))


@pytest.fixture
def alerts(tmp_path) -> Alerts:
    return Alerts(tmp_path / "alerts.jsonl")


@pytest.fixture
def webhook(alerts, receiver, trusted) -> Notices:
    return Notices(alerts, SHARED.encode(), webhook=receiver.url, seconds=5)


# --- webhook -----------------------------------------------------------------------------------


def test_a_page_is_posted_signed_and_written_down(webhook, receiver, alerts):
    assert webhook.page(NOTICE) == DELIVERED
    ((headers, body),) = receiver.got
    assert json.loads(body)["facts"] == NOTICE.facts
    assert headers["Idempotency-Key"] == "act-7"
    (alert,) = alerts.read()
    assert (alert["kind"], alert["text"], alert["factor"]) == ("page", NOTICE.text, 100.0)


@pytest.mark.parametrize("harm", ["none", "body", "time", "secret", "replayed"])
def test_the_receiver_of_the_documentation_takes_genuine_pages_only(webhook, receiver, harm):
    webhook.page(NOTICE)
    ((headers, body),) = receiver.got
    sent = headers["X-Fraud-Timestamp"]
    assert is_genuine(
        SHARED + "x" * (harm == "secret"),
        sent + "0" * (harm == "time"),
        headers["X-Fraud-Signature"],
        body + b" " * (harm == "body"),
        int(sent) + 10 + 1_000 * (harm == "replayed"),
    ) is (harm == "none")


@pytest.mark.parametrize("passing", [500, 503, 429])
def test_what_may_pass_is_tried_again_under_the_same_key(webhook, receiver, passing):
    receiver.answers = [passing, passing, 204]
    assert webhook.page(NOTICE) == DELIVERED
    assert [headers["Idempotency-Key"] for headers, _ in receiver.got] == ["act-7"] * 3


@pytest.mark.parametrize(("lasting", "tries"), [(404, 1), (302, 1), (500, 4)])
def test_a_page_that_is_not_taken_is_told_and_stops_nothing(
    webhook, receiver, alerts, caplog, lasting, tries
):
    receiver.answers = [lasting]
    (_, failed) = webhook.page(NOTICE)
    assert failed == Delivery("webhook", f"it answered {lasting}")
    assert len(receiver.got) == tries
    told = alerts.read()[1]
    assert (told["kind"], told["act_id"]) == ("page_failed", "act-7")
    assert "hunter2" not in json.dumps(alerts.read()) + caplog.text, "answers are not repeated"


def test_nobody_waits_longer_than_was_set(alerts, receiver, trusted):
    receiver.pause = 3
    began = time.monotonic()
    (_, failed) = Notices(alerts, b"s", webhook=receiver.url, seconds=0.4).page(NOTICE)
    assert time.monotonic() - began < 1.5
    assert failed.why in ("no answer within 0.4 s", "ReadTimeout")


def test_an_answer_that_trickles_in_is_not_waited_for(alerts):
    """A time-out of each read alone would wait as long as bytes come."""

    class Trickle(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(30):
                    time.sleep(0.1)
                    self.request.sendall(b"x")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began = time.monotonic()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        (_, failed) = Notices(alerts, b"s", webhook=address, seconds=0.5).page(NOTICE)
        waited = time.monotonic() - began
        server.shutdown()
    assert failed == Delivery("webhook", "no answer within 0.5 s")
    assert waited < 1.5


def test_a_certificate_that_nobody_vouches_for_ends_it_at_once(alerts, receiver):
    (_, failed) = Notices(alerts, b"s", webhook=receiver.url).page(NOTICE)
    assert failed == Delivery("webhook", "its certificate is not trusted")
    assert not receiver.got


def test_a_receiver_that_is_away_is_told(alerts):
    (_, failed) = Notices(alerts, b"s", webhook="http://127.0.0.1:9/", seconds=1).page(NOTICE)
    assert failed == Delivery("webhook", "ConnectError")


@pytest.mark.parametrize("address", ["http://[", "gopher://127.0.0.1/", "https://"])
def test_an_address_that_is_none_is_told(alerts, address):
    (_, failed) = Notices(alerts, b"s", webhook=address, seconds=1).page(NOTICE)
    assert not failed.is_done


def test_alerts_that_cannot_be_written_do_not_keep_a_page_back(tmp_path, receiver, trusted):
    (tmp_path / "alerts.jsonl").mkdir()
    alerts = Alerts(tmp_path / "alerts.jsonl")
    written, sent = Notices(alerts, b"s", webhook=receiver.url).page(NOTICE)
    assert (written.why, sent.why) == ("Is a directory", "")


# --- mail --------------------------------------------------------------------------------------


@dataclass
class Mailbox:
    """What a mail server took; what it answers to a mail."""

    got: list[bytes] = field(default_factory=list)
    answers: list[str] = field(default_factory=lambda: ["250 OK"])
    server: MailServer | None = None

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802 -- aiosmtpd's
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.startswith("250"):
            self.got.append(envelope.content)
        return answer


@pytest.fixture
def start_mailbox(certificate) -> Iterator[Callable[..., Mailbox]]:
    started = []

    def start(*, has_tls: bool = True) -> Mailbox:
        mailbox = Mailbox()
        options = {"tls_context": served_with(certificate), "require_starttls": True}
        controller = Controller(
            mailbox,
            hostname="127.0.0.1",
            port=free_port(),
            authenticator=lambda _s, _se, _e, _m, given: AuthResult(
                success=(given.login, given.password) == (b"anna", PASSWORD.encode()), handled=False
            ),
            **(options if has_tls else {}),
        )
        controller.start()
        started.append(controller)
        mailbox.server = MailServer(
            host="127.0.0.1",
            port=controller.port,
            sender="fraud@example.com",
            recipients=("oncall@example.com", "risk@example.com"),
            login=("anna", PASSWORD) if has_tls else None,
        )
        return mailbox

    yield start
    for controller in started:
        controller.stop()


@pytest.mark.parametrize("answers", [["250 OK"], ["451 later", "250 OK"]], ids=["once", "again"])
def test_a_page_is_mailed_signed_through_starttls(alerts, start_mailbox, trusted, answers):
    mailbox = start_mailbox()
    mailbox.answers = answers
    ways = Notices(alerts, SHARED.encode(), mail=mailbox.server).page(NOTICE)
    assert ways == (Delivery("alerts"), Delivery("mail"))
    mail = message_from_bytes(mailbox.got[0], policy=policy.default)
    text = mail.get_content()
    assert mail["To"] == "oncall@example.com, risk@example.com"
    assert mail["Subject"].startswith("fraud_platform: The amounts are a hundred times")
    assert "factor: 100.0\n" in text
    sent = mail["X-Fraud-Timestamp"]
    body = text.replace("\r\n", "\n").encode()
    assert is_genuine(SHARED, sent, mail["X-Fraud-Signature"], body, int(sent))


def test_the_same_act_is_the_same_mail(alerts, start_mailbox, trusted):
    mailbox = start_mailbox()
    notices = Notices(alerts, SHARED.encode(), mail=mailbox.server)
    notices.page(NOTICE)
    notices.page(NOTICE)
    ids = [message_from_bytes(mail, policy=policy.default)["Message-ID"] for mail in mailbox.got]
    assert len(ids) == 2
    assert len(set(ids)) == 1


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("full", "it answered 552"),
        ("no starttls", "SMTPNotSupportedError"),
        ("password", "it answered 535"),
        ("certificate", "its certificate is not trusted"),
    ],
)
def test_a_mail_that_is_not_taken_is_told(
    alerts, start_mailbox, certificate, monkeypatch, harm, why
):
    if harm != "certificate":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    mailbox = start_mailbox(has_tls=harm != "no starttls")
    server = mailbox.server
    if harm == "full":
        mailbox.answers = ["552 no room"]
    if harm == "password":
        server = MailServer(**{**vars(server), "login": ("anna", "guessed")})
    assert Notices(alerts, b"s", mail=server).page(NOTICE)[1] == Delivery("mail", why)
    assert not mailbox.got
    assert alerts.read()[1]["kind"] == "page_failed"


# --- settings ----------------------------------------------------------------------------------


def test_the_settings_name_the_ways(tmp_path, receiver, start_mailbox, trusted):
    mailbox = start_mailbox()
    settings = Settings(
        home=tmp_path,
        notice_webhook_url=receiver.url,
        notice_smtp_host="127.0.0.1",
        notice_smtp_port=mailbox.server.port,
        notice_smtp_user="anna",
        notice_smtp_password=PASSWORD,
        notice_mail_from="fraud@example.com",
        notice_mail_to="oncall@example.com,risk@example.com",
        notice_secret=SHARED,
    )
    assert all(way.is_done for way in notices_of(settings).page(NOTICE))
    assert (len(receiver.got), len(mailbox.got)) == (1, 1)


def test_without_any_way_a_page_is_an_alert(tmp_path):
    settings = Settings(home=tmp_path)
    assert notices_of(settings).page(NOTICE) == (Delivery("alerts"),)
    assert Alerts(settings.alerts_path).read()[0]["act_id"] == "act-7"


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"notice_webhook_url": "http://pager.example.com/"}, "without https"),
        ({"notice_webhook_url": "https://pager.example.com/secret-path"}, "0 characters"),
        (
            {"notice_webhook_url": "https://x.example/secret-path", "notice_secret": "hidden"},
            "6 characters",
        ),
        ({"notice_smtp_host": "smtp.example.com"}, "notice_mail_from"),
    ],
    ids=["plain", "unsigned", "weak", "to nobody"],
)
def test_a_way_that_nobody_could_trust_is_refused_without_showing_secrets(tmp_path, told, found):
    with pytest.raises(ValueError, match=found) as refusal:
        Settings(home=tmp_path, **told)
    assert "hidden" not in str(refusal.value)
    assert "secret-path" not in str(refusal.value)


def test_a_signature_covers_the_time(tmp_path):
    assert sign(b"s", "1", b"2") != sign(b"s", "12", b"")
