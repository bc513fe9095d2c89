"""What the drain seals: decisions enter the audit log by themselves."""

import fcntl
import logging

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.log_seals import MOST_POSITIONS, LogSeals
from fraud_platform.settings import Settings
from serving.drain_loop import Sealing
from tests.integration.sealed_logs import log_of


def test_the_drain_seals_full_ranges_at_once_and_the_rest_once_a_minute(tmp_path):
    settings = Settings(home=tmp_path)
    log_of(settings, MOST_POSITIONS + 10)
    sealing, log = Sealing(settings), audit_log_of(settings)
    sealing.follow()
    sealed = [row.told["last"] for row in log.rows()]
    assert sealed == [str(MOST_POSITIONS), str(MOST_POSITIONS + 10)]
    assert log.store.tail().head_size == 2
    log_of(settings, 20, start=MOST_POSITIONS + 10)
    sealing.follow()
    assert log.store.tail().size == 2


def test_a_broken_audit_log_is_told_once_and_does_not_stop_the_drain(tmp_path, caplog):
    settings = Settings(home=tmp_path)
    log_of(settings, 3)
    settings.audit_dir.write_text("no folder")
    sealing = Sealing(settings)
    with caplog.at_level(logging.ERROR):
        sealing.follow()
        sealing.follow()
    assert [record.message[:27] for record in caplog.records] == ["the event log is not sealed"]


def test_two_that_seal_make_one_seal(tmp_path):
    settings = Settings(home=tmp_path)
    log_of(settings, 3)
    seals = [LogSeals(settings.log_path, audit_log_of(settings), settings.audit_dir)] * 2
    assert [one.seal() for one in seals] == [3, 0]


def test_the_drain_does_not_wait_for_somebody_else_who_seals(tmp_path):
    settings = Settings(home=tmp_path)
    log_of(settings, 3)
    sealing, log = Sealing(settings), audit_log_of(settings)
    settings.audit_dir.mkdir()
    with (settings.audit_dir / "seal.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sealing.follow()
        assert list(log.rows()) == []
    Sealing(settings).follow()
    assert [row.told["last"] for row in log.rows()] == ["3"]
