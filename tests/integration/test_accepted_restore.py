"""A home whose files are older than its audit log: nothing moves until an admin accepts that."""

import os
import shutil
import signal
from uuid import uuid4

import pytest
from click.testing import CliRunner

from fraud_platform.adapters.accepted_restore import RESTORED, accept_restore
from fraud_platform.adapters.approved_moves import unconfirmed, undo
from fraud_platform.adapters.audit_log import AuditLog
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.approvals import Standing
from fraud_platform.cli import main
from fraud_platform.errors import HistoryDamagedError, PermanentError
from fraud_platform.heal.records import EVERYTHING, Kind, Record
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.settings import get_settings
from tests.apart import APART
from tests.governed_home import FileRoles, outcomes, serving, settings_of, with_champion

ANNA, BERT, ROOT = (Mandate(by=one, why="seen") for one in ("anna", "bert", "root@example"))


@pytest.fixture
def home(tmp_path):
    with_champion(tmp_path)
    settings = settings_of(tmp_path)
    FileRoles(settings).propose("3", ANNA)
    return settings


def restored(settings, folder, acts):
    """The folder as it was before these acts, which the audit log goes on to know."""
    copy = settings.home / f"backup-{uuid4()}"
    shutil.copytree(settings.home / folder, copy)
    acts()
    shutil.rmtree(settings.home / folder)
    copy.rename(settings.home / folder)


def older_models(settings):
    def acts():
        roles = FileRoles(settings)
        roles.docket.vote("3", "reject", BERT)
        roles.propose("2", ANNA)
        roles.docket.vote("2", "approve", BERT)
        roles.promote("2", BERT)
        roles.roll_back("2", BERT)

    restored(settings, "models", acts)


def test_who_accepts_older_models_is_told_what_is_lost_and_roles_move_again(home):
    older_models(home)
    with pytest.raises(HistoryDamagedError, match="accept-restore"):
        FileRoles(home).publish(ANNA)
    lost = [row.action for row in accept_restore(home, ROOT)]
    assert lost == [
        "proposal.reject",
        "proposal.propose",
        "proposal.approve",
        "model.promote",
        "model.roll_back",
    ]
    FileRoles(home).set_challenger("2", ANNA)
    assert (serving(home), outcomes(home, RESTORED)) == ({"champion": "1"}, ["begun", "done"])
    with pytest.raises(PermanentError, match="nothing is lost"):
        accept_restore(home, ROOT)


def test_what_was_open_before_is_over_for_its_rejection_may_be_lost(home):
    older_models(home)
    accept_restore(home, ROOT)
    roles = FileRoles(home)
    assert roles.docket.find("3").is_given_up
    assert roles.docket.standing(Standing.WAITING, "model") == ()
    with pytest.raises(PermanentError, match="overtaken"):
        roles.docket.vote("3", "approve", BERT)
    roles.propose("3", ANNA)
    roles.docket.vote("3", "approve", BERT)
    roles.promote("3", BERT)
    assert serving(home) == {"champion": "3"}


def test_who_loses_stricter_rules_of_approval_gets_no_looser_ones(tmp_path):
    with_champion(tmp_path)
    restored(
        settings_of(tmp_path), "models", lambda: FileRoles(settings_of(tmp_path)).docket.adopt()
    )
    loose = settings_of(tmp_path, PromotionPolicy())
    with pytest.raises(PermanentError, match="lost rules of approval must be set first"):
        accept_restore(loose, ROOT)
    accept_restore(settings_of(tmp_path), ROOT)
    assert FileRoles(loose).docket.adopt().is_required


def heard(settings, kind):
    told = Record(kind=kind, event_us=1, now_us=1, rows=1, by="anna", why="so", cause="*")
    HealLedger(settings.heal_ledger_path, governance_of(settings)).append(told)


def test_an_older_heal_ledger_is_accepted_and_healing_waits_for_a_person(home):
    heard(home, Kind.REVIVED)
    restored(home, "heal", lambda: heard(home, Kind.KILLED))
    with pytest.raises(HistoryDamagedError):
        heard(home, Kind.RESUMED)
    assert [row.action for row in accept_restore(home, ROOT)] == ["heal.killed"]
    assert EVERYTHING in HealLedger(home.heal_ledger_path).state().paused
    assert FileRoles(home).docket.find("3").is_given_up is False
    heard(home, Kind.RESUMED)


def test_a_backup_that_is_restored_once_more_must_be_accepted_once_more(home):
    heard(home, Kind.REVIVED)

    def first():
        older_models(home)
        restored(home, "heal", lambda: heard(home, Kind.KILLED))
        accept_restore(home, ROOT)

    restored(home, "heal", lambda: restored(home, "models", first))
    for act in (lambda: heard(home, Kind.RESUMED), lambda: FileRoles(home).docket.adopt()):
        with pytest.raises(HistoryDamagedError):
            act()
    accept_restore(home, ROOT)
    assert FileRoles(home).docket.find("3").is_given_up
    assert EVERYTHING in HealLedger(home.heal_ledger_path).state().paused


def test_an_older_history_alone_is_seen_after_models_were_accepted(home):
    older_models(home)
    accept_restore(home, ROOT)
    history = home.models_dir / "history.jsonl"
    history.write_bytes(b"")
    with pytest.raises(HistoryDamagedError):
        FileRoles(home).publish(ANNA)


def dying_acceptance(home):
    append = AuditLog._append

    def dying(log, act, *, outcome, begun):
        if (act.action, outcome) == (RESTORED, "done"):
            os.kill(os.getpid(), signal.SIGKILL)
        return append(log, act, outcome=outcome, begun=begun)

    AuditLog._append = dying
    accept_restore(home, ROOT)


def test_an_acceptance_that_is_killed_before_its_last_row_is_settled_by_what_the_files_have(home):
    older_models(home)
    child = APART.Process(target=dying_acceptance, args=(home,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert outcomes(home, RESTORED) == ["begun"]
    with pytest.raises(PermanentError, match="nothing is lost"):
        accept_restore(home, ROOT)
    assert outcomes(home, RESTORED) == ["begun", "done"]


def test_a_promotion_without_approval_whose_proposal_is_lost_is_undone(home):
    path = home.models_dir / "proposals.jsonl"
    before = path.read_bytes()
    FileRoles(home).break_glass("3", Mandate(by="zoe", why="a fire"))
    path.write_bytes(before)
    accept_restore(home, ROOT)
    assert serving(home) == {"champion": "3"}
    undo(FileRoles(home), unconfirmed(FileRoles(home)))
    assert serving(home) == {"champion": "1"}


def test_what_was_promoted_without_approval_is_not_approved_by_losing_the_proposals(home):
    FileRoles(home).break_glass("3", Mandate(by="zoe", why="a fire"))
    (home.models_dir / "proposals.jsonl").unlink()
    accept_restore(home, ROOT)
    roles = FileRoles(home)
    assert not roles.clearance.may_decide(read_deployment(home.models_dir).champion)
    assert undo(roles, unconfirmed(roles)) == "1"


def test_the_command_wants_a_reason_names_each_act_and_calls_people(home, monkeypatch):
    monkeypatch.setenv("FRAUD_HOME", str(home.home))
    monkeypatch.setenv("FRAUD_PROMOTION__APPROVAL_REQUIRED", "true")
    monkeypatch.delenv("FRAUD_OPERATOR_KEY", raising=False)
    get_settings.cache_clear()
    older_models(home)
    run = CliRunner()
    assert run.invoke(main, ["accept-restore"]).exit_code == 2
    assert run.invoke(main, ["accept-restore", "--reason", " "]).exit_code == 1
    told = run.invoke(main, ["accept-restore", "--reason", "the disk died", "--by", "root"])
    assert told.exit_code == 0, told.output
    assert "model.roll_back model:1 by bert: seen" in told.output
    assert "root gives up 5 acts" in home.alerts_path.read_text()
    get_settings.cache_clear()
