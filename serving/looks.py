"""Who looked at what of the audit: written down before they see it, and when they are refused.

A look that cannot be written down does not happen.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection

from fraud_platform.access import Caller
from fraud_platform.adapters.audit_log import AuditLog
from fraud_platform.audit_log.acts import Act
from fraud_platform.roles import role_of
from serving.access import Access
from serving.denials import refuse_for_now, refuse_scope
from serving.rate import Buckets
from serving.refusals import RefusedError

PAGES = "/audit"
"""Below this path are the pages of the audit; a browser may show its key as a password there."""
_CHALLENGE = 'Basic realm="fraud_platform audit", charset="UTF-8"'
_STRANGER = Caller("unknown", frozenset(), None)
_REFUSED_PER_SECOND = 5
_REFUSED_AT_ONCE = 50
"""Refused looks of one address that are written down: nobody fills the audit log by asking."""
_LOG = "audit_log"


class Looks:
    """Admits to the pages of the audit.

    Args:
        access: who may do what.
        log: where looks are written down.
        ticks: a clock that never goes back, nanoseconds.
    """

    def __init__(
        self, access: Access, log: AuditLog, *, ticks: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._access = access
        self._log = log
        self._ticks = ticks
        self._refused = Buckets(rate=_REFUSED_PER_SECOND, burst=_REFUSED_AT_ONCE)

    async def admit(
        self, connection: ASGIConnection[Any, Any, Any, Any], scopes: tuple[str, ...]
    ) -> Caller:
        """The caller, if its credential has one of the scopes; it may come as a password.

        Raises:
            RefusedError: 401, 403, 429 or 503.
            AuditUnavailableError: a refusal cannot be written down.
        """
        connection.scope["state"][_LOG] = self._log
        host = connection.client.host if connection.client else None
        headers = list(connection.scope["headers"])
        try:
            caller = self._access.known(headers, host, by_password=True)
        except RefusedError as refusal:
            if refusal.status == 401:
                refusal.headers["www-authenticate"] = _CHALLENGE
                if any(name in (b"authorization", b"x-api-key") for name, _ in headers):
                    await self._note_refusal(connection, _STRANGER, refusal.body.message)
            raise
        if caller.scopes.isdisjoint(scopes):
            await self._note_refusal(connection, caller, f"lacks the scope {scopes[0]}")
            refuse_scope(scopes[0])
        return caller

    async def _note_refusal(
        self, connection: ASGIConnection[Any, Any, Any, Any], caller: Caller, why: str
    ) -> None:
        host = connection.client.host if connection.client else ""
        if wait := self._refused.take(host, self._ticks()):
            refuse_for_now(wait)
        route = getattr(connection.scope.get("route_handler"), "paths", {PAGES})
        act = _look("access.refused", f"page:{min(route)}", caller, host, reason=why)
        await asyncio.to_thread(self._log.record, act, "refused")


async def record_look(
    request: Request[Any, Any, Any],
    looked_at: str,
    asked: Mapping[str, str] | None = None,
    *,
    action: str = "audit.read",
) -> None:
    """Write down that an admitted caller looks at something, before it is shown.

    Args:
        request: of a page below `PAGES`.
        looked_at: what is shown, for example `decision:t1`.
        asked: what was looked for, by field; no token of a card whole.
        action: `audit.prove` where a proof is taken away.

    Raises:
        AuditUnavailableError: it cannot be written down, so it must not be shown.
    """
    state = request.scope["state"]
    host = request.client.host if request.client else ""
    act = _look(action, looked_at, state["caller"], host, asked=asked or {})
    await asyncio.to_thread(state[_LOG].record, act)


def _look(
    action: str,
    looked_at: str,
    caller: Caller,
    host: str,
    *,
    reason: str = "",
    asked: Mapping[str, str] = MappingProxyType({}),
) -> Act:
    facts = {"address": host} | ({"key": caller.key_id} if caller.key_id else {})
    facts |= {f"asked_{name}": value for name, value in asked.items()}
    return Act(
        actor=caller.subject,
        role=role_of(caller.scopes),
        action=action,
        object=looked_at,
        origin="api",
        reason=reason,
        facts=facts,
    )
