"""T-AUD-4 and T-AUD-5: every act that is to be recorded is, and none happens unrecorded."""

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from click.testing import CliRunner

from fraud_platform.adapters import model_roles
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.file_acts import export
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.heal_ledger import ACTS, HealLedger
from fraud_platform.adapters.live_file import Live, live_path, write_live
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import DOCKET
from fraud_platform.adapters.operator import operator_of
from fraud_platform.adapters.policy_watch import tell_policies
from fraud_platform.adapters.tables import Tables
from fraud_platform.adapters.world_file import write_world
from fraud_platform.audit_log.acts import ACTIONS
from fraud_platform.cli import main
from fraud_platform.errors import AuditUnavailableError
from fraud_platform.heal.records import Kind, Record
from fraud_platform.roles import COMMANDS
from fraud_platform.settings import Settings, get_settings
from fraud_platform.simulation.world import World, simulate
from tests.governed_home import FileRoles, settings_of, with_champion

ANNA, BERT = Mandate(by="anna", why="better"), Mandate(by="bert", why="seen")
Step = Callable[[Settings], object]


@dataclass(frozen=True)
class Deed:
    """An act that is to be recorded.

    Attributes:
        do: the act.
        leaves: the actions of its rows.
        first: what must have happened before.
    """

    do: Step
    leaves: tuple[str, ...]
    first: tuple[Step, ...] = field(default=())


def adopt(settings):
    FileRoles(settings).docket.adopt()


def propose(settings):
    FileRoles(settings).propose("2", ANNA)


def vote(settings, answer="approve"):
    FileRoles(settings).docket.vote("2", answer, BERT)


def promote(settings):
    FileRoles(settings).promote("2", BERT)


def challenge(settings):
    FileRoles(settings).set_challenger("2", BERT)


def by_hand(settings):
    FileRoles(settings)._client.set_registered_model_alias("fraud", "champion", "3")


def publish(settings):
    FileRoles(settings).publish(BERT, anew=True)


def die_on_the_way(settings):
    with (
        mock.patch.object(model_roles, "write_deployment", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        promote(settings)


def tell_what_decides(settings):
    write_live(live_path(settings.home), Live(written_us=1, configuration={"a": "b"}))


def write_a_file(settings):
    frame = simulate(World(days=1, customers=20, terminals=10))
    write_world(frame, settings.home / "world.parquet")


def cli(*arguments: str) -> Step:
    def run(settings):
        told = [one.replace("HOME", str(settings.home)) for one in arguments]
        found = CliRunner().invoke(main, told, catch_exceptions=False, standalone_mode=False)
        if found.exit_code:
            assert "audit log" in found.output
            raise AuditUnavailableError(found.output)
        return found

    return run


def record(kind: Kind) -> Step:
    def append(settings):
        told = Record(kind=kind, event_us=1, now_us=1, rows=1, by="anna", why="so", cause="*")
        HealLedger(settings.heal_ledger_path, governance_of(settings)).append(told)

    return append


def lose_the_docket(settings):
    (settings.models_dir / DOCKET).unlink()


def write_old_days(settings):
    for year in (2020, 2024):
        Tables(settings.tables_dir).write("labels", date(year, 1, 1), pl.DataFrame({"n": [year]}))


def write_a_report(settings):
    export(b"report", settings.home / "r.html", operator_of(settings, "backtest"), settings)


APPROVED = (adopt, propose, vote)
DEEDS: Mapping[str, Deed] = {
    "adopting rules": Deed(adopt, ("proposal.adopt_rules",)),
    "proposing": Deed(propose, ("proposal.propose",), (adopt,)),
    "approving": Deed(vote, ("proposal.approve",), (adopt, propose)),
    "rejecting": Deed(lambda s: vote(s, "reject"), ("proposal.reject",), (adopt, propose)),
    "promoting": Deed(promote, ("model.promote",), APPROVED),
    "rolling back": Deed(
        lambda s: FileRoles(s).roll_back("2", BERT), ("model.roll_back",), (*APPROVED, promote)
    ),
    "challenging": Deed(challenge, ("model.challenge",), (adopt,)),
    "dismissing": Deed(
        lambda s: FileRoles(s).dismiss("2", BERT), ("model.dismiss",), (adopt, challenge)
    ),
    "giving cards": Deed(
        lambda s: FileRoles(s).set_canary(0.1, BERT), ("model.canary",), (*APPROVED, challenge)
    ),
    "publishing": Deed(publish, ("model.publish",), (adopt,)),
    "breaking the glass": Deed(
        lambda s: FileRoles(s).break_glass("2", ANNA),
        ("proposal.propose", "model.break_glass"),
        (adopt,),
    ),
    "finding a move by hand": Deed(
        publish, ("model.found", "model.restore", "model.publish"), (adopt, by_hand)
    ),
    "finishing a move": Deed(
        publish, ("model.complete", "model.publish"), (*APPROVED, die_on_the_way)
    ),
    "ordering a mode": Deed(
        cli("mode", "closed", "--reason", "a fire", "--by", "anna"), ("mode.order",)
    ),
    "pausing": Deed(cli("heal", "pause", "--by", "anna", "--why", "so"), ("heal.paused",)),
    "resuming": Deed(cli("heal", "resume", "--by", "anna", "--why", "so"), ("heal.resumed",)),
    "killing": Deed(cli("heal", "kill", "--by", "anna", "--why", "so"), ("heal.killed",)),
    "lifting": Deed(
        cli("heal", "kill", "--lift", "--by", "anna", "--why", "so"),
        ("heal.killed", "orders.lift"),
    ),
    "approving a configuration": Deed(
        cli("heal", "configuration", "--approve", "--by", "anna", "--why", "so"),
        ("configuration.approve",),
        (tell_what_decides,),
    ),
    "noticing policies": Deed(
        lambda s: tell_policies(s, governance_of(s), origin="test"), ("policy.change",)
    ),
    "taking a file in": Deed(
        cli("ingest", "HOME/world.parquet", "--mapping", "HOME/world.mapping.yaml"),
        ("log.ingest",),
        (write_a_file,),
    ),
    "accepting a restore": Deed(
        cli("accept-restore", "--by", "anna", "--reason", "so"),
        ("restore.accept", "proposal.adopt_rules"),
        (adopt, lose_the_docket),
    ),
    "holding": Deed(cli("retention", "hold", "a lawsuit"), ("retention.hold",)),
    "releasing": Deed(
        cli("retention", "release", "it is over"),
        ("retention.release",),
        (cli("retention", "hold", "a lawsuit"),),
    ),
    "purging": Deed(cli("retention", "purge"), ("retention.purge",), (write_old_days,)),
    "writing a report out": Deed(write_a_report, ("report.export",)),
    **{f"record {kind}": Deed(record(kind), (f"heal.{kind}",)) for kind in sorted(ACTS)},
}

OTHERS = ("access.", "audit.", "key.", "log.seal")
"""Acts with tests of their own."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    with_champion(tmp_path)
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    monkeypatch.setenv("FRAUD_PROMOTION__APPROVAL_REQUIRED", "true")
    monkeypatch.setenv("FRAUD_RETENTION__TABLES_DAYS", "365")
    monkeypatch.delenv("FRAUD_OPERATOR_KEY", raising=False)
    get_settings.cache_clear()
    yield settings_of(tmp_path)
    get_settings.cache_clear()


def prepared(home: Settings, deed: Deed) -> Settings:
    for step in deed.first:
        step(home)
    return home


def content(home: Settings) -> dict[str, str]:
    """Every file of a home but the audit log and locks."""
    files = [path for path in home.home.rglob("*") if path.is_file() and path.suffix != ".lock"]
    aside = (".users", ".lock", ".registry.lock", ".docket.lock")
    return {
        str(path.relative_to(home.home)): sha256(path.read_bytes()).hexdigest()
        for path in files
        if "audit" not in path.relative_to(home.home).parts[0] and path.name not in aside
    }


@pytest.mark.parametrize("name", DEEDS)
def test_what_cannot_be_recorded_does_not_happen(home, name):
    deed = DEEDS[name]
    before = content(prepared(home, deed))
    if home.audit_dir.exists():
        home.audit_dir.rename(home.home / "audit.away")
    home.audit_dir.write_text("a file where a folder belongs", "utf-8")
    with pytest.raises(AuditUnavailableError):
        deed.do(home)
    assert content(home) == before
    print(json.dumps({"test": "T-AUD-4", "act": name, "acts": len(DEEDS), "changed": 0}))


@pytest.mark.parametrize("name", DEEDS)
def test_every_act_leaves_its_rows_and_no_others(home, name):
    deed = DEEDS[name]
    prepared(home, deed)
    audit = audit_log_of(home)
    last = max((row.seq for row in audit.rows(RowFilter())), default=0)
    deed.do(home)
    rows = list(audit.rows(RowFilter(after=last)))
    begun = [row for row in rows if row.outcome == "begun"]
    assert tuple(dict.fromkeys(row.action for row in begun)) == deed.leaves
    ended = {row.begun: row.outcome for row in rows if row.begun}
    assert all(ended[row.seq] == "done" for row in begun), "each is settled"
    assert all(row.actor for row in rows)


def test_every_declared_act_is_tried():
    declared = {action for action in ACTIONS if not action.startswith(OTHERS)}
    seen = {action for deed in DEEDS.values() for action in deed.leaves}
    assert declared == seen
    print(json.dumps({"test": "T-AUD-5", "declared": len(declared), "seen": len(seen)}))


LEAVES = {
    "accept-restore": "restore.accept",
    "approve": "proposal.approve",
    "audit seal": "log.seal",
    "demo": "",  # makes a home of its own, and moves models through the assets
    "heal approve": "heal.approved",
    "heal configuration --approve": "configuration.approve",
    "heal kill": "heal.killed",
    "heal pause": "heal.paused",
    "heal reject": "heal.rejected",
    "heal resume": "heal.resumed",
    "heal tick": "heal.planned",
    "ingest": "log.ingest",
    "journal repair": "",  # sets aside what nobody can read; the journal tells of it
    "keys create": "key.create",
    "keys list": "",  # reads
    "keys revoke": "key.revoke",
    "keys rotate": "key.rotate",
    "mode ORDER": "mode.order",
    "models canary": "model.canary",
    "models promote": "model.promote",
    "models promote --break-glass": "model.break_glass",
    "models promote VERSION": "model.promote",
    "models publish": "model.publish",
    "models roll-back": "model.roll_back",
    "propose": "proposal.propose",
    "reject": "proposal.reject",
    "retention hold": "retention.hold",
    "retention purge": "retention.purge",
}
"""Command that changes something -> the act that the audit log has of it, or "" and why not."""


def test_every_command_that_changes_something_says_what_the_audit_log_has_of_it():
    changing = {"propose", "approve", "operate", "admin"}
    commands = {name for name, scopes in COMMANDS.items() if changing & set(scopes)}
    assert commands == set(LEAVES)
    assert {action for action in LEAVES.values() if action} <= set(ACTIONS)
    print(json.dumps({"test": "T-AUD-5", "commands": len(commands), "undeclared": 0}))


def test_nothing_of_the_platform_moves_models_or_orders_modes_past_the_audit_log():
    calls = [
        (path.name, call)
        for folder in ("fraud_platform", "sensors", "assets", "serving")
        for path in Path(folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    ]
    registries = [name for name, call in calls if call.func.id == "ModelRegistry"]
    assert registries == ["model_registry.py"], "in registry_of"
    orders = [call for _, call in calls if call.func.id == "write_order"]
    assert len(orders) == 4
    assert all(len(call.args) == 3 for call in orders)
