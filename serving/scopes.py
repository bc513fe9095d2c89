"""Which key may use which route: every route names its scope, and one without does not start.

Who a caller is, is `access`; here stands only what a route demands.
"""

from collections.abc import Sequence
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import BaseRoute, HTTPRoute

from fraud_platform.access import SCOPES, Caller, Scope
from fraud_platform.adapters.audit_log import AuditLog
from fraud_platform.errors import PermanentError
from serving.access import Access
from serving.docs import KEY_SCHEME
from serving.looks import PAGES, Looks

OPEN = "open"
"""For a route that answers everybody: it tells nothing about payments, models or files."""
VOTES = "/proposals"
"""Below this path people vote in a browser; each form proves that it is ours."""
_SCOPES = frozenset({*SCOPES, OPEN})
_KEY = "scope"


def needs(*scopes: Scope) -> dict[str, Any]:
    """The declaration of a route that a key with any of these scopes may use.

    Examples:
        >>> needs("read", "admin")
        {'scope': ('read', 'admin')}
    """
    return {_KEY: scopes}


def for_everybody() -> dict[str, Any]:
    """The declaration of a route that needs no key."""
    return {_KEY: (OPEN,)}


class Guard:
    """Admits a request to an ordinary handler; for `Litestar(guards=...)`.

    Args:
        access: who may do what.
        log: where looks at the audit are written down.
    """

    def __init__(self, access: Access, log: AuditLog) -> None:
        self._access = access
        self._looks = Looks(access, log)

    async def __call__(
        self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        """Admit the caller or raise its refusal."""
        if _is_options(handler):
            return
        scopes = declared(handler)
        if is_page(handler):
            connection.scope["state"]["caller"] = await self._looks.admit(connection, scopes)
        elif OPEN not in scopes:
            connection.scope["state"]["caller"] = admitted(self._access, connection, scopes)


def admitted(
    access: Access, connection: ASGIConnection[Any, Any, Any, Any], scopes: tuple[str, ...]
) -> Caller:
    """The caller, if its key has one of the scopes.

    Raises:
        RefusedError: 401, 403, 429 or 503.
    """
    host = connection.client.host if connection.client else None
    return access.admit(list(connection.scope["headers"]), host, *scopes)


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Who sent a request that a `Guard` admitted."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def charge(request: Request[Any, Any, Any], access: Access, count: int) -> None:
    """Count a batch of an admitted caller as the requests that it holds."""
    host = request.client.host if request.client else None
    access.charge(caller_of(request), host, count - 1)


def declared(handler: BaseRouteHandler) -> tuple[str, ...]:
    """The scopes of a route, or nothing where it does not say."""
    scopes: tuple[str, ...] = handler.opt.get(_KEY, ())
    return scopes if set(scopes) <= _SCOPES else ()


def is_page(handler: BaseRouteHandler) -> bool:
    """Whether a browser opens a route by itself: a page of the audit, or one that takes votes."""
    if not isinstance(handler, HTTPRouteHandler):
        return False
    scopes, methods = declared(handler), set(handler.http_methods)
    is_read = "audit" in scopes and methods == {"GET"}
    is_vote = "approve" in scopes and methods <= {"GET", "POST"}
    return (is_read and all(_is_below(path, PAGES) for path in handler.paths)) or (
        is_vote and all(_is_below(path, VOTES) for path in handler.paths)
    )


def refuse_undeclared(routes: Sequence[BaseRoute]) -> None:
    """Deny by default: a route that does not say who may use it does not start.

    Raises:
        PermanentError: a route declares no scope, or one that does not exist.
    """
    for route in routes:
        for handler in _handlers(route):
            if not _is_options(handler) and not declared(handler):
                raise PermanentError(
                    f"found the route {route.path} without a scope, expected one of "
                    f"{', '.join(sorted(_SCOPES))}",
                    hint="declare it with opt=needs(...) or opt=for_everybody()",
                )


def document_keys(routes: Sequence[BaseRoute]) -> None:
    """Say in the OpenAPI document which routes need a key: all that declare a scope."""
    for route in routes:
        for handler in _handlers(route):
            if isinstance(handler, HTTPRouteHandler) and OPEN not in declared(handler):
                handler.security = [{KEY_SCHEME: []}]


def _is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder's or of something in it.

    Examples:
        >>> _is_below("/audit/decisions", "/audit"), _is_below("/auditors", "/audit")
        (True, False)
    """
    return path == folder or path.startswith(f"{folder}/")


def _handlers(route: BaseRoute) -> list[BaseRouteHandler]:
    if isinstance(route, HTTPRoute):
        return list(route.route_handlers)
    return [route.route_handler]  # type: ignore[attr-defined]  # ASGI and websocket routes have one


def _is_options(handler: BaseRouteHandler) -> bool:
    """Whether this is Litestar's own answer to OPTIONS, which names methods only."""
    return isinstance(handler, HTTPRouteHandler) and set(handler.http_methods) == {"OPTIONS"}
