"""The commands of proposals and votes, on a home with a real registry."""

import fcntl
import json

import pytest
from click.testing import CliRunner

from fraud_platform import approval_commands
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.model_registry import registry_of
from fraud_platform.adapters.orders_file import write_orders
from fraud_platform.cli import main
from fraud_platform.errors import PermanentError
from fraud_platform.orders import Orders
from fraud_platform.settings import get_settings
from tests.registered import registered_versions


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home whose champion is version 1, that asks for approval from now on."""
    registered_versions(tmp_path, 3).promote("1")
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    monkeypatch.setenv("FRAUD_PROMOTION__APPROVAL_REQUIRED", "true")
    monkeypatch.delenv("FRAUD_OPERATOR_KEY", raising=False)
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def run(*arguments, by="bert", code=0):
    found = CliRunner().invoke(main, [*arguments, "--reason", "seen", "--by", by])
    assert found.exit_code == code, found.output
    return found.output


def proposals(*options):
    found = CliRunner().invoke(main, ["proposals", *options])
    assert found.exit_code == 0, found.output
    return found.output


def champion(home):
    return read_deployment(home / "models").champion.version


def test_what_one_proposes_another_approves_or_turns_down(home, monkeypatch):
    assert "Nothing waits" in proposals()
    digest = run("propose", "2", by="anna").strip()
    (told,) = json.loads(proposals("--json"))
    assert (told["digest"], told["standing"], told["proposer"]) == (digest, "waiting", "anna")
    assert "anna proposed or made it" in run("approve", "2", by="anna", code=1)
    assert "champion: 2" in run("approve", digest[:12])
    run("propose", "3", by="anna")
    assert "rejected, reject by bert of 1" in run("reject", "3")
    assert "nobody approved version 3" in run("models", "promote", "3", code=1)
    assert champion(home) == "2"
    standings = [one["standing"] for one in json.loads(proposals("--json", "--all"))]
    assert standings == ["done", "rejected"]


def test_a_vote_counts_while_the_registry_is_away(home, monkeypatch):
    digest = run("propose", "2", by="anna").strip()
    monkeypatch.setenv("FRAUD_MLFLOW_URI", "sqlite:////nonexistent/registry.db")
    get_settings.cache_clear()
    told = run("approve", digest)
    assert "approved, approve by bert of 1" in told
    assert "The vote counts; the promotion waits: " in told
    assert champion(home) == "1"
    monkeypatch.delenv("FRAUD_MLFLOW_URI")
    get_settings.cache_clear()
    assert "champion: 2" in run("models", "promote", "2")


def test_who_breaks_the_glass_says_why_calls_people_and_is_confirmed_by_another(home):
    registry_of(get_settings()).publish(Mandate(by="anna"))
    told = run("models", "promote", "2", "--break-glass", by="zoe")
    assert "to confirm within 24 hours: fraud-platform approve" in told
    assert "zoe promotes version 2 without approval" in (home / "alerts.jsonl").read_text()
    assert champion(home) == "2"
    digest = told.split()[-1]
    assert "zoe proposed or made it" in run("approve", digest, by="zoe", code=1)
    assert "approved, approve by bert" in run("approve", digest)


def test_two_open_proposals_of_one_version_are_named_by_their_digests(home):
    first = run("propose", "2", by="anna").strip()
    second = registry_of(get_settings()).propose("2", Mandate(by="zoe", evidence="e" * 64))
    told = run("approve", "2", code=1)
    assert "found 2 open proposals of version 2" in told.lower()
    assert first[:12] in told
    assert second[:12] in told
    assert champion(home) == "1"
    run("reject", second)
    assert "champion: 2" in run("approve", "2")


def test_what_is_approved_while_learning_is_frozen_waits(home):
    run("propose", "2", by="anna")
    write_orders(home / "orders.json", Orders(learning_frozen=True))
    told = run("approve", "2")
    assert "The vote counts; the promotion waits: learning is frozen" in told
    assert champion(home) == "1"


def test_while_a_home_is_emptied_nothing_that_was_approved_is_carried_out(home, monkeypatch):
    run("propose", "2", by="anna")
    case = Docket(home / "models", governance_of(get_settings())).find("2")
    with (home / ".users").open("w") as emptied:
        fcntl.flock(emptied, fcntl.LOCK_EX)
        with pytest.raises(PermanentError, match="in use by"):
            approval_commands._carry_out(get_settings(), case)
    assert champion(home) == "1"


def test_a_reason_writes_nothing_over_what_others_are_shown(home):
    registry_of(get_settings()).propose("2", Mandate(by="anna", why="so\r\x1b[2Kmodel:2 (refresh)"))
    assert "so\\x0d\\x1b[2Kmodel:2" in proposals()
    assert "\x1b" not in run("approve", "2")
