"""Nobody gives out keys and approves, under whatever name."""

import pytest
from click.testing import CliRunner

from fraud_platform.cli import main
from fraud_platform.settings import get_settings
from tests.governed_home import FileRoles, settings_of


@pytest.fixture
def key(tmp_path, monkeypatch):
    """Makes a key, and from the first one on shows the admin's."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    monkeypatch.delenv("FRAUD_OPERATOR_KEY", raising=False)
    get_settings.cache_clear()

    def make(subject, role, code=0):
        words = ["keys", "create", "--subject", subject, "--role", role]
        found = CliRunner().invoke(main, words)
        assert found.exit_code == code, found.output
        return found

    first = make("anna", "admin").stdout.strip().splitlines()[0]
    monkeypatch.setenv("FRAUD_OPERATOR_KEY", first)
    get_settings.cache_clear()
    yield make
    get_settings.cache_clear()


def test_an_admin_gets_no_approvers_key_under_a_further_name_of_theirs(key, tmp_path, monkeypatch):
    FileRoles(settings_of(tmp_path, aliases=("a.smith=anna",))).docket.adopt()
    assert "admin and approve together" in key("A.Smith", "approver", code=1).output
    key("bert", "approver")


def test_who_sets_the_environment_drops_no_further_names_that_are_in_force(
    key, tmp_path, monkeypatch
):
    FileRoles(settings_of(tmp_path, aliases=("a.smith=anna",))).docket.adopt()
    monkeypatch.setenv("FRAUD_APPROVALS__ALIASES", "[]")
    get_settings.cache_clear()
    assert "admin and approve together" in key("a.smith", "approver", code=1).output
