"""docs/how-to/roles-and-keys.md: its commands run, and its tables are the code's."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.cli import main
from fraud_platform.roles import COMMANDS, OPEN, ROLES
from fraud_platform.settings import Settings, get_settings
from serving.app import create_app
from serving.scopes import declared

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "roles-and-keys.md"
TEXT = PAGE.read_text("utf-8")
LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
]


def cells(line):
    """The cells of a table's row: the words in backticks of each."""
    return [re.findall(r"`([^`]+)`", cell) for cell in line.strip("|\n").split("|")]


def rows(head):
    """The rows of the table whose head begins so."""
    table = TEXT.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [cells(line) for line in table.splitlines()[2:]]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def said(monkeypatch, line, keys):
    """What one line of the page prints; the comment of a line names whose key it means."""
    text, _, comment = line.partition("#")
    whose = comment.strip().removeprefix("the key of ").strip()
    if text.startswith("export "):
        monkeypatch.setenv("FRAUD_OPERATOR_KEY", keys[whose])
        return ""
    words = text.split()[1:]
    words = [keys[whose][8:16] if word == "ID" else word for word in words]
    get_settings.cache_clear()
    done = CliRunner().invoke(main, words)
    get_settings.cache_clear()
    assert done.exit_code == 0, (line, done.output)
    if words[:2] == ["keys", "create"]:
        keys[words[words.index("--subject") + 1]] = done.stdout.strip()
    return done.stdout


def test_the_commands_of_the_page_do_what_it_says(home, monkeypatch):
    keys = {}
    printed = [said(monkeypatch, line, keys) for line in LINES]
    assert set(keys) == {"root@example", "ann", "bob", "eve", "nightly-ingest", "checkout"}
    stored = KeyStore(home / "access").read().keys
    assert stored[keys["bob"][8:16]].revoked_us is not None
    assert len(stored) == 7, "one of them by rotation"
    assert "nightly-ingest" in "".join(printed)
    done = [r for r in audit_log_of(Settings(home=home)).rows() if r.outcome == "done"]
    assert {(r.actor, r.role) for r in done[1:]} == {("root@example", "admin")}
    assert done[0].role == "local"
    assert [r.action for r in done][-2:] == ["key.rotate", "key.revoke"]


def test_the_table_of_roles_is_the_codes():
    assert {role[0]: tuple(scopes) for role, scopes, _ in rows("role")} == ROLES


def test_the_table_of_commands_is_the_codes():
    *told, everything_else = rows("scope")
    table = {command: set(scopes) for scopes, commands in told for command in commands}
    assert everything_else[0] == ["read"]
    doors = {"models promote"}  # the door of its two lines
    needed = {n: set(s) for n, s in COMMANDS.items() if s not in (("read",), (OPEN,))}
    assert table == {n: s for n, s in needed.items() if n not in doors}
    opened = re.search(r"\n(`serve`.*?) need no key", TEXT, re.DOTALL).group(1)
    assert set(re.findall(r"`([^`]+)`", opened)) == {n for n, s in COMMANDS.items() if s == (OPEN,)}


def test_the_table_of_routes_is_the_codes(tmp_path):
    told = {
        tuple(route.split(" ")): set(scopes) for routes, scopes in rows("route") for route in routes
    }
    app = create_app(Settings(home=tmp_path))
    for route in app.routes:
        path = re.sub(r":\w+}", "}", route.path)
        for handler in route.route_handlers:
            for method in set(handler.http_methods) - {"OPTIONS"}:
                scopes = set(declared(handler))
                if scopes != {OPEN} and not path.startswith("/audit"):
                    assert told[(method, path)] == scopes, path
    assert told[("GET", "/audit/...")] == {"audit"}
