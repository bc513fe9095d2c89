"""The order of a mode, as a file between an operator and the scorers."""

import pytest
from click.testing import CliRunner

from fraud_platform.adapters.mode_order import ModeOrder, read_order, write_order
from fraud_platform.cli import main
from fraud_platform.errors import PermanentError
from fraud_platform.modes import Mode
from fraud_platform.settings import get_settings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def test_without_a_file_nothing_is_restricted(tmp_path):
    assert read_order(tmp_path / "mode.json").mode is Mode.NORMAL


def test_an_order_comes_back_as_it_was_written(tmp_path):
    order = ModeOrder(mode=Mode.CLOSED, reason="key leak", ordered_by="ann", ordered_us=7)
    write_order(tmp_path / "home" / "mode.json", order)
    assert read_order(tmp_path / "home" / "mode.json") == order


@pytest.mark.parametrize("content", [b"", b"{", b'{"mode": "degraded"}', b'{"mood": "closed"}'])
def test_what_is_no_order_is_an_error_and_not_a_mode(tmp_path, content):
    (tmp_path / "mode.json").write_bytes(content)
    with pytest.raises(PermanentError, match="no order of a mode"):
        read_order(tmp_path / "mode.json")


def test_the_command_orders_a_mode_and_tells_it(home):
    run = CliRunner().invoke
    ordered = run(main, ["mode", "rules_only", "--reason", "model in doubt"])
    assert ordered.exit_code == 0, ordered.output
    shown = run(main, ["mode"])
    assert "rules_only" in shown.output
    assert "model in doubt" in shown.output
    assert read_order(get_settings().mode_path).mode is Mode.RULES_ONLY


def test_a_restriction_needs_a_reason(home):
    refused = CliRunner().invoke(main, ["mode", "closed"])
    assert refused.exit_code == 2
    assert not get_settings().mode_path.exists()
