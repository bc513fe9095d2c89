"""Who may ask the scorer for what: every route, every role, every state of a key; and the pages of
the audit, which a browser opens and which write down every look."""

import base64
import json
import time
from dataclasses import replace

import httpx
import pytest
from litestar import Request, Response, get, post
from litestar.params import FromPath

from fraud_platform.access import ApiKey, digest_of, id_of
from fraud_platform.adapters.audit_log import AuditLog, audit_log_of
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.errors import AuditUnavailableError
from fraud_platform.events import microseconds
from fraud_platform.roles import ROLE_NAMES, ROLES
from serving.app import create_app
from serving.looks import record_look
from serving.scopes import is_page, needs, refuse_undeclared
from tests.e2e.scorer_process import home_at
from tests.integration.scorer.asgi import JSON, calling

EVERYBODY = set(ROLE_NAMES) | {"nobody"}
READERS = {"analyst", "ml_engineer", "approver", "auditor", "operator", "service"}
ROUTES = {
    ("GET", "/"): EVERYBODY,
    ("GET", "/health/live"): EVERYBODY,
    ("GET", "/health/ready"): EVERYBODY,
    ("GET", "/schema"): EVERYBODY,
    ("GET", "/schema/openapi.json"): EVERYBODY,
    ("GET", "/metrics"): READERS | {"admin"},
    ("POST", "/v1/decisions"): {"scorer", "service"},
    ("POST", "/v1/decisions/batch"): {"scorer", "service"},
    ("GET", "/v1/decisions/{transaction_id:str}"): READERS,
    ("GET", "/v1/decisions/{transaction_id:str}/explanation"): READERS - {"operator", "service"},
    ("POST", "/v1/labels"): {"labeler", "service"},
    ("GET", "/v1/models"): READERS | {"admin"},
    ("GET", "/v1/audits"): READERS | {"labeler"},
    ("GET", "/audit/shown/{name:str}"): {"auditor"},
    ("GET", "/proposals"): {"approver"},
    ("GET", "/proposals/{name:str}"): {"approver"},
    ("POST", "/proposals/{name:str}"): {"approver"},
}
"""Who may use a route, in the words of roles. Routes below /audit that are not here are for
auditors alone."""


@get("/audit/shown/{name:str}", opt=needs("audit"))
async def shown(request: Request, name: FromPath[str]) -> Response[str]:
    """Stands for a page of the audit."""
    await record_look(request, f"decision:{name}")
    return Response(f"<p>{name}</p>", media_type="text/html")


@pytest.fixture
def clock(now):
    return lambda: microseconds(now)


@pytest.fixture
def key(settings, clock):
    """Makes a key and returns its text."""

    def build(*scopes, subject="ann", **more):
        def make(text):
            made = ApiKey(
                id=id_of(text),
                environment="live",
                digest=digest_of(text),
                subject=subject,
                scopes=scopes,
                created_us=0,
                expires_us=clock() + 10**12,
            )
            return replace(made, **more)

        return KeyStore(settings.access_dir).create(make, environment="live")[0]

    return build


@pytest.fixture
def edge(settings, publish, clock, key):
    """A scorer with one page of the audit more; it has a key, so it knows whom it answers."""
    publish("1")
    key("score", subject="checkout")
    free = replace(settings.access, failures_per_second=0)
    app = create_app(settings.model_copy(update={"access": free}), clock=clock)
    app.register(shown)
    refuse_undeclared(app.routes)
    with calling(app) as caller:
        yield caller


def bearer(key):
    return [("authorization", f"Bearer {key}")]


def basic(key, user="ann"):
    return [("authorization", "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode())]


def acts(settings, action):
    return [row for row in audit_log_of(settings).rows() if row.action == action]


def expected(method, path):
    audits_own = {"auditor"} if path.startswith("/audit") else set()
    return ROUTES.get((method, path), audits_own)


def callers(key, clock):
    """Everybody who could come, with what they show; the first word is the role that it proves."""
    keys = {role: key(*ROLES[role], subject=role) for role in ROLE_NAMES}
    yield "nobody", "no key", []
    for role, active in keys.items():
        ended = key(*ROLES[role], subject=f"{role} of old", expires_us=clock() - 1)
        revoked = key(*ROLES[role], subject=f"{role} of old", revoked_us=clock() - 1)
        yield role, "right", bearer(active)
        yield "nobody", f"bad, {role}", bearer(active[:20])
        yield "nobody", f"wrong secret, {role}", bearer(active[:-4] + "0000")
        yield "nobody", f"expired, {role}", bearer(ended)
        yield "nobody", f"revoked, {role}", bearer(revoked)


def test_every_route_answers_whom_the_table_says_and_nobody_else(edge, key, clock):
    everybody = list(callers(key, clock))
    time.sleep(1.1)  # the scorer looks for new keys once a second
    routes = [
        (method, route.path)
        for route in edge._app.routes
        for method in route.methods - {"OPTIONS", "HEAD"}
    ]
    assert set(ROUTES) <= set(routes), "the table names a route that is gone"
    cells, wrong = 0, []
    for method, path in routes:
        address = path.replace("{transaction_id:str}", "t0").replace(":str}", "}")
        for role, what, headers in everybody:
            status = edge.send(method, address, [b""], [JSON, *headers]).status
            if status == 429:  # written refusals are limited; a second is enough
                time.sleep(11)
                status = edge.send(method, address, [b""], [JSON, *headers]).status
            known = what == "right"
            refused = 403 if known else 401
            right = (
                status not in (401, 403, 429)
                if role in expected(method, path)
                else status == refused
            )
            cells += 1
            if not right:
                wrong.append((method, path, role, what, status))
    told = {"test": "T-RBAC routes", "cells": cells, "right": cells - len(wrong)}
    print(json.dumps(told | {"routes": len(routes), "callers": len(everybody)}))
    assert not wrong
    assert cells == len(routes) * (5 * len(ROLE_NAMES) + 1)


# --- the pages of the audit


def test_a_browser_is_asked_for_a_password_on_the_audits_pages_and_nowhere_else(edge):
    page = edge.get("/audit/shown/t1")
    assert page.status == 401
    assert page.header("www-authenticate").startswith("Basic realm=")
    for path in ("/v1/models", "/v1/decisions/t0", "/metrics"):
        assert edge.get(path).header("www-authenticate") == 'Bearer realm="fraud_platform"'


def test_a_key_counts_as_a_password_for_a_page_and_never_for_the_api(edge, key):
    auditor = key(*ROLES["auditor"])
    time.sleep(1.1)
    page = edge.get("/audit/shown/t1", basic(auditor, "whoever"))
    assert (page.status, page.text) == (200, "<p>t1</p>")
    assert edge.get("/audit/shown/t1", bearer(auditor)).status == 200
    assert edge.get("/v1/models", basic(auditor)).status == 401
    assert edge.get("/v1/models", bearer(auditor)).status == 200


def test_only_what_is_read_takes_a_password():
    @post("/audit/acts", opt=needs("audit"))
    async def act() -> str:
        return ""

    @get("/v1/audit", opt=needs("audit"))
    async def elsewhere() -> str:
        return ""

    assert is_page(shown)
    assert not is_page(act)
    assert not is_page(elsewhere)


@pytest.mark.parametrize("told", ["Basic", "Basic %%%", "Basic YW5u", "basic OmFubg==", "Digest a"])
def test_what_is_no_password_is_refused(edge, told):
    assert edge.get("/audit/shown/t1", [("authorization", told)]).status == 401


def test_every_look_is_written_down_with_who_at_what_and_from_where(edge, key, settings):
    auditor = key(*ROLES["auditor"], subject="aud")
    time.sleep(1.1)
    edge.get("/audit/shown/t1", basic(auditor))
    (row,) = acts(settings, "audit.read")
    assert (row.actor, row.role, row.object, row.origin) == ("aud", "auditor", "decision:t1", "api")
    assert json.loads(row.facts) == {"address": "127.0.0.1", "key": auditor[8:16]}


def test_a_laptop_without_keys_shows_its_pages_and_writes_the_looks_down(settings, publish, clock):
    publish("1")
    app = create_app(settings, clock=clock)
    app.register(shown)
    with calling(app) as open_to_all:
        assert open_to_all.get("/audit/shown/t1").status == 200
    (row,) = acts(settings, "audit.read")
    assert (row.actor, row.role) == ("anonymous", "local")


def test_refused_looks_are_written_down_and_the_first_question_of_a_browser_is_none(
    edge, key, settings
):
    analyst = key(*ROLES["analyst"], subject="ann")
    time.sleep(1.1)
    assert edge.get("/audit/shown/t1").status == 401
    assert edge.get("/audit/shown/t1", basic(analyst[:-4] + "0000")).status == 401
    assert edge.get("/audit/shown/t1", basic(analyst)).status == 403
    found = [(row.actor, row.role, row.outcome) for row in acts(settings, "access.refused")]
    assert found == [("unknown", "", "refused"), ("ann", "analyst", "refused")]
    assert not acts(settings, "audit.read")


def test_nobody_fills_the_audit_log_by_being_refused(edge, settings):
    statuses = [edge.get("/audit/shown/t1", bearer("nonsense")).status for _ in range(300)]
    assert set(statuses) == {401, 429}
    assert len(acts(settings, "access.refused")) == statuses.count(401) < 200


def test_what_cannot_be_written_down_is_not_shown(edge, key, monkeypatch):
    auditor, analyst = key(*ROLES["auditor"]), key(*ROLES["analyst"])
    time.sleep(1.1)

    def away(*_):
        raise AuditUnavailableError("found /srv/secret/audit.db full")

    monkeypatch.setattr(AuditLog, "record", away)
    for one in (auditor, analyst):
        page = edge.get("/audit/shown/t1", basic(one))
        assert (page.status, page.json()["error"]) == (503, "audit_unavailable")
        assert "secret" not in page.text
    assert edge.get("/v1/models", bearer(analyst)).status == 200, "the rest goes on"


# --- a scorer as a process


def test_a_revoked_key_is_refused_by_a_running_scorer_within_five_seconds(settings, publish, key):
    publish("1")
    reader = key("read", expires_us=None)
    store = KeyStore(settings.access_dir)
    took, used = [], [reader]
    with home_at(settings.home) as home, httpx.Client(base_url=home.start().url) as client:
        for _ in range(5):
            headers = {"authorization": f"Bearer {reader}"}
            assert client.get("/v1/models", headers=headers).status_code == 200
            store.change(reader[8:16], lambda one: replace(one, revoked_us=1))
            revoked = time.monotonic()
            while client.get("/v1/models", headers=headers).status_code != 401:
                assert time.monotonic() < revoked + 60, "never noticed"
                time.sleep(0.005)
            took.append(round(time.monotonic() - revoked, 3))
            reader = key("read", expires_us=None)
            used.append(reader)
            client.get("/audit", headers=bearer(reader))
            while client.get("/v1/models", headers=bearer(reader)).status_code != 200:
                assert time.monotonic() < revoked + 60, "never let in"
                time.sleep(0.05)
    files = [path.read_bytes() for path in settings.home.rglob("*") if path.is_file()]
    found = [one for one in used if any(one[17:].encode() in content for content in files)]
    told = {"test": "T-KEYS", "seconds": took, "worst": max(took), "bound": 5}
    print(json.dumps(told | {"files": len(files), "keys": len(used), "found": len(found)}))
    assert not found, "a key stands in a file of the home"
    assert max(took) <= 5
