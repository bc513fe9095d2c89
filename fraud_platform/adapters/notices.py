"""Pages: calling a person by webhook and by mail, signed, within a bounded time.

What belongs here: delivery. When a person is called is the heal policy. A page that cannot be
delivered is told in its answer and in `alerts.jsonl`, never by an exception: healing goes on.
Receivers check the signature as docs/how-to/receive-a-page.md shows.
"""

import hmac
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.utils import formatdate
from functools import partial

import httpx
import msgspec

from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.settings import Settings

ALERTS = "alerts"
"""The way to a file, which calls nobody."""
TIMESTAMP, SIGNATURE = "X-Fraud-Timestamp", "X-Fraud-Signature"
_MOST_TRIES = 4
_FIRST_PAUSE = 0.25
"""Seconds before the second try; each further pause is twice as long."""
_TRY_AGAIN = frozenset({408, 425, 429})
"""Answers besides 5xx after which a webhook is asked again."""
_LONGEST_SUBJECT = 120
_UNFOLDED = policy.default.clone(max_line_length=998)
"""A folded signature is read with a space in front; 998 is what RFC 5322 allows."""
Send = Callable[[float], None]
"""Sends a page within so many seconds, or raises."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is told.

    Attributes:
        act_id: the act that pages; the same page sent twice is one.
        at_us: when it was asked for, microseconds UTC by the clock of the wall.
        cause: the diagnosis.
        text: one sentence.
        facts: numbers and names that a person needs to look further; no card's data.
    """

    act_id: str
    at_us: int
    cause: str
    text: str
    facts: Mapping[str, str | int | float | None] = {}


@dataclass(frozen=True)
class Delivery:
    """What became of a page on one way.

    Attributes:
        way: "alerts", "webhook" or "mail".
        why: what went wrong; empty: it was delivered.
    """

    way: str
    why: str = ""

    @property
    def is_done(self) -> bool:
        """Whether it was delivered."""
        return not self.why


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """How pages are mailed.

    Attributes:
        host: name or address.
        port: of the submission service.
        sender: address that mails come from.
        recipients: addresses that they go to.
        login: user and password, or None.
    """

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    login: tuple[str, str] | None = field(default=None, repr=False)


class RefusedError(Exception):
    """An answer that is no delivery.

    Args:
        told: what was answered, in few words; never the answer's body.
        may_pass: whether the same may work a moment later.
    """

    def __init__(self, told: str, *, may_pass: bool) -> None:
        super().__init__(told)
        self.may_pass = may_pass


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a page: HMAC-SHA256 (RFC 2104) over its time, a dot and its body.

    Args:
        secret: shared with the receiver.
        timestamp: seconds since 1970 UTC, in decimal digits.
        body: the bytes that the receiver gets.

    Examples:
        >>> sign(b"secret", "1767225600", b"{}")[:23]
        'sha256=fa7eaa06bf97d781'
    """
    return f"sha256={hmac.digest(secret, timestamp.encode() + b'.' + body, 'sha256').hex()}"


class Notices:
    """The ways to a person.

    Args:
        alerts: where every page is written, and each that was not delivered.
        secret: what pages are signed with.
        webhook: address that they are posted to, or None.
        mail: how they are mailed, or None.
        seconds: how long a page may take on all ways together.
    """

    def __init__(
        self,
        alerts: Alerts,
        secret: bytes = b"",
        *,
        webhook: str | None = None,
        mail: MailServer | None = None,
        seconds: float = 10.0,
    ) -> None:
        self._alerts = alerts
        self._secret = secret
        self._webhook = webhook
        self._mail = mail
        self._seconds = seconds

    def page(self, notice: Notice) -> tuple[Delivery, ...]:
        """Call a person on every way there is, at the same time; never raises.

        Paging twice for one act is known by the act's id: header `Idempotency-Key`, `Message-ID`.

        Returns:
            What became of it, the file of alerts first.
        """
        found = [self._written("page", notice, notice.text)]
        found += _all_tried(dict(self._ways(notice)), self._seconds)
        for delivery in found:
            if not delivery.is_done and delivery.way != ALERTS:
                told = f"The page was not delivered by {delivery.way}: {delivery.why}."
                self._written("page_failed", notice, told)
        return tuple(found)

    def _ways(self, notice: Notice) -> Iterator[tuple[str, Send]]:
        if self._webhook is not None:
            yield "webhook", partial(_post, self._webhook, self._secret, notice)
        if self._mail is not None:
            yield "mail", partial(_mail, self._mail, self._secret, notice)

    def _written(self, kind: str, notice: Notice, text: str) -> Delivery:
        facts: dict[str, object] = {"act_id": notice.act_id, "cause": notice.cause, **notice.facts}
        try:
            self._alerts.write(kind=kind, text=text, facts=facts, at=notice.at_us / 1e6)
        except OSError as error:
            return Delivery(ALERTS, error.strerror or type(error).__name__)
        return Delivery(ALERTS)


def notices_of(settings: Settings) -> Notices:
    """The ways to a person that the settings name."""
    url, secret = settings.notice_webhook_url, settings.notice_secret
    return Notices(
        Alerts(settings.alerts_path),
        secret.get_secret_value().encode() if secret else b"",
        webhook=url.get_secret_value() if url else None,
        mail=_mail_server(settings),
        seconds=settings.notice_seconds,
    )


def _mail_server(settings: Settings) -> MailServer | None:
    if settings.notice_smtp_host is None:
        return None
    user, password = settings.notice_smtp_user, settings.notice_smtp_password
    return MailServer(
        host=settings.notice_smtp_host,
        port=settings.notice_smtp_port,
        sender=settings.notice_mail_from,
        recipients=tuple(part.strip() for part in settings.notice_mail_to.split(",")),
        login=(user, password.get_secret_value() if password else "") if user else None,
    )


def _all_tried(ways: Mapping[str, Send], seconds: float) -> list[Delivery]:
    """Try all ways at once; whoever has not answered in time is left behind."""
    deadline = time.monotonic() + seconds
    why: dict[str, str] = {}
    threads = []
    for way, send in ways.items():
        # Threads of no pool: neither a name that does not resolve nor an answer that trickles in
        # has a time-out of its own, and none of them may keep the process from ending.
        target = partial(_try, send, deadline, why, way)
        threads.append(threading.Thread(target=target, name=f"page by {way}", daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {seconds:g} s"
    return [Delivery(way, why.get(way, late)) for way in ways]


def _try(send: Send, deadline: float, why: dict[str, str], way: str) -> None:
    """Send, again while that may help; `why[way]` is the newest failure, empty once it is sent."""
    for attempt in range(_MOST_TRIES):
        try:
            send(max(0.1, deadline - time.monotonic()))
            why[way] = ""
            return
        except Exception as error:  # noqa: BLE001 -- told, whatever it was: healing goes on
            why[way] = _told(error)
            pause = _FIRST_PAUSE * 2**attempt
            if not _may_pass(error) or time.monotonic() + pause >= deadline:
                return
        time.sleep(pause)


def _post(url: str, secret: bytes, notice: Notice, seconds: float) -> None:
    timestamp, body = str(int(time.time())), msgspec.json.encode(notice)
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": notice.act_id,
        TIMESTAMP: timestamp,
        SIGNATURE: sign(secret, timestamp, body),
    }
    context = ssl.create_default_context()
    # Streamed: the body of the answer is not even read.
    with (
        httpx.Client(verify=context, timeout=seconds) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        status = answer.status_code
    if not 200 <= status < 300:
        raise RefusedError(f"it answered {status}", may_pass=status >= 500 or status in _TRY_AGAIN)


def _mail(server: MailServer, secret: bytes, notice: Notice, seconds: float) -> None:
    message = _message(server, secret, notice)
    smtp = smtplib.SMTP(server.host, server.port, timeout=seconds)
    try:
        smtp.starttls(context=ssl.create_default_context())
        if server.login is not None:
            smtp.login(*server.login)
        refused = smtp.send_message(message, server.sender, server.recipients)
        with suppress(OSError, smtplib.SMTPException):  # it has the mail by now
            smtp.quit()
    finally:
        smtp.close()
    if refused:
        told = f"it refused {len(refused)} of {len(server.recipients)} recipients"
        raise RefusedError(told, may_pass=False)


def _message(server: MailServer, secret: bytes, notice: Notice) -> EmailMessage:
    """The mail: a text for people, and the signature over it in the headers."""
    timestamp = str(int(time.time()))
    facts = {"cause": notice.cause, "act": notice.act_id, **notice.facts}
    lines = [notice.text, "", *(f"{name}: {value}" for name, value in facts.items())]
    text = "".join(f"{_one_line(line)}\n" for line in lines)
    message = EmailMessage(_UNFOLDED)
    message["From"] = server.sender
    message["To"] = ", ".join(server.recipients)
    message["Subject"] = f"fraud_platform: {_one_line(notice.text)[:_LONGEST_SUBJECT]}"
    message["Date"] = formatdate(notice.at_us / 1e6)
    message["Message-ID"] = f"<{sha256(notice.act_id.encode())}@fraud-platform>"
    message[TIMESTAMP] = timestamp
    message[SIGNATURE] = sign(secret, timestamp, text.encode())
    message.set_content(text, cte="base64")  # nothing on the way breaks its lines otherwise
    return message


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _told(error: Exception) -> str:
    """What went wrong, without any address, secret or answer: those stand in its message."""
    if isinstance(error, RefusedError):
        return str(error)
    if _is_certificate(error):
        return "its certificate is not trusted"
    if codes := _mail_codes(error):
        return f"it answered {', '.join(map(str, codes))}"
    return type(error).__name__


def _may_pass(error: Exception) -> bool:
    if _is_certificate(error):
        return False
    if isinstance(error, RefusedError):
        return error.may_pass
    if codes := _mail_codes(error):
        return max(codes) < 500
    is_lasting = isinstance(error, smtplib.SMTPNotSupportedError)  # it knows no STARTTLS
    return isinstance(error, httpx.TransportError | OSError) and not is_lasting


def _mail_codes(error: Exception) -> list[int]:
    """What a mail server answered, by RFC 5321: 4xx may pass, 5xx will not."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return sorted({code for code, _ in error.recipients.values()})
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
