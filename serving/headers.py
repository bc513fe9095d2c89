"""Headers that every answer carries, so that browsers and proxies do nothing clever with it."""

import base64
import hashlib

from litestar.types import Message, Scope

from serving.docs import STYLE

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]
_PAGE = [
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'".encode(),
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
