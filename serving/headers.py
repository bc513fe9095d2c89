"""Headers that every answer carries, so that browsers and proxies do nothing clever with it."""

import base64
import hashlib

from litestar.types import Message, Scope

from fraud_platform.adapters import page
from serving import docs

_STYLES = " ".join(
    f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    for style in (docs.STYLE, page.STYLE)
)
ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]
_PAGE = [
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src {_STYLES}; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'".encode(),
    ),
]


async def add_headers(message: Message, scope: Scope) -> None:
    """Complete the start of an answer; for `Litestar(before_send=...)`."""
    del scope
    if message["type"] != "http.response.start":
        return
    headers = [*message["headers"], *ALWAYS]
    for name, value in headers:
        if name == b"content-type":
            if b"html" in value:
                headers += _PAGE
            break
    message["headers"] = headers
