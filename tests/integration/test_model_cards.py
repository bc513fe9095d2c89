"""No version without a whole card; it is sealed with it and shown wherever somebody looks."""

import json
import time
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from fraud_platform.adapters.hash_chain import Chain
from fraud_platform.adapters.model_bundle import (
    Evidence,
    Lineage,
    load_bundle,
    read_card,
    read_manifest,
)
from fraud_platform.adapters.model_cards import card_for, card_of_version
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import DOCKET, Line
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.approvals import Vote
from fraud_platform.cli import main
from fraud_platform.errors import BundleIntegrityError, DataContractError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model_card import REQUIRED, ModelCard, decode_card
from fraud_platform.settings import Settings, get_settings
from tests.blank_cards import GROUPED, blanked
from tests.integration.test_hostile_bundles import sealed_again
from tests.small_bundles import trained, write_small_bundle
from tests.small_cards import MAPS, small_card
from tests.small_reports import small_report
from tests.small_training import AS_OF, trained_home

MODEL = trained(1)
PROVENANCE = Provenance(training_set_digest="d" * 64, trained_as_of="2026-01-22T00:00:00+00:00")


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> ModelRegistry:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    return ModelRegistry(None, settings.mlflow_dir, settings.models_dir)


def register(registry: ModelRegistry, card: ModelCard | None) -> str:
    run = registry.log_training(MODEL, small_report(), PROVENANCE)
    lineage = Lineage(
        review_threshold=0.3,
        decline_threshold=0.8,
        trained_as_of=PROVENANCE.trained_as_of,
        training_set_digest=PROVENANCE.training_set_digest,
        run_id=run,
        report={},
    )
    rows = np.abs(np.random.default_rng(3).normal(size=(20, len(FEATURE_NAMES)))) * 3_000
    reference = pl.DataFrame(rows, schema=list(FEATURE_NAMES))
    evidence = Evidence(calibration=MAPS, golden=rows, reference=reference, card=card)
    return registry.register(MODEL, lineage, evidence)


def test_a_registration_without_any_one_field_is_refused_and_leaves_nothing(registry):
    """T-CARD: each required field, one after the other, and no card at all."""
    refused, whole = 0, small_card(MODEL)
    for path in (*REQUIRED, *GROUPED):
        with pytest.raises(DataContractError) as caught:
            register(registry, blanked(whole, path))
        refused += caught.value.message.endswith(f" {path}")
    with pytest.raises(DataContractError, match="without a card"):
        register(registry, None)
    fields = len(REQUIRED) + len(GROUPED)
    print(json.dumps({"test": "T-CARD", "fields": fields, "refused_by_name": refused}))
    assert refused == fields
    assert list(registry.models_dir.glob("*")) == []


def test_a_version_has_its_card_in_its_bundle_and_in_the_registry(registry):
    version = register(registry, small_card(MODEL))
    folder = registry.models_dir / version
    card = read_card(folder)
    assert card == msgspec.structs.replace(small_card(MODEL), version=version)
    assert {"card.json", "card.md"} < set(read_manifest(folder).files)
    assert load_bundle(folder).model == MODEL
    found = registry._client.get_model_version("fraud", version)
    assert found.description.startswith(f"# Model card of version {version}")
    shown = {entry.path for entry in registry._client.list_artifacts(found.run_id)}
    assert {"model_card.md", "model_card.json"} <= shown


def test_a_card_that_was_changed_is_no_card_and_its_bundle_no_bundle(registry):
    folder = registry.models_dir / register(registry, small_card(MODEL))
    path = folder / "card.json"
    path.write_bytes(path.read_bytes().replace(b"Not for decisions on credit", b"Good for credit!"))
    with pytest.raises(BundleIntegrityError, match="SHA-256"):
        read_card(folder)
    with pytest.raises(BundleIntegrityError, match="SHA-256"):
        load_bundle(folder)


def test_a_bundle_cannot_lose_half_of_its_card(registry):
    folder = registry.models_dir / register(registry, small_card(MODEL))
    (folder / "card.md").unlink()
    sealed_again(folder)
    with pytest.raises(BundleIntegrityError, match=r"card\.md"):
        load_bundle(folder)


def test_a_bundle_from_before_cards_still_loads(tmp_path):
    folder = write_small_bundle(tmp_path, "1", MODEL)
    assert read_card(folder) is None
    assert load_bundle(folder).model == MODEL


@pytest.fixture
def home(registry, monkeypatch) -> Path:
    home = registry.models_dir.parent
    monkeypatch.setenv("FRAUD_HOME", str(home))
    get_settings.cache_clear()
    yield home
    get_settings.cache_clear()


def test_a_card_says_which_votes_did_not_count_and_what_led_to_nothing(registry):
    version = register(registry, small_card(MODEL))
    digest = registry.propose(version, Mandate(by="anna", why="better"))
    forged = Vote(proposal=digest, answer="approve", subject="anna", at_us=time.time_ns() // 1000)
    Chain(registry.models_dir / DOCKET, Line).append([Line(said=forged)])
    registry.docket.vote(digest, "reject", Mandate(by="bert", why="no"))
    told = card_of_version(registry.models_dir, version).approvals
    assert [(one.act, one.by) for one in told] == [
        ("propose (rejected)", "anna"),
        ("approve (did not count)", "anna"),
        ("reject", "bert"),
    ]


def test_the_command_prints_the_card_with_what_was_decided_since(registry, home):
    version = register(registry, small_card(MODEL))
    proposal = registry.propose(version, Mandate(by="run", why="the gates say so"))
    registry.docket.vote(proposal, "approve", Mandate(by="ann", why="it is better"))
    registry.promote(version, Mandate(by="approvals"))
    text = CliRunner().invoke(main, ["models", "card", version])
    assert text.output.startswith(f"# Model card of version {version}")
    assert "it is better" in text.output
    told = decode_card(
        CliRunner().invoke(main, ["models", "card", version, "--json"]).output.encode()
    )
    assert [(one.act, one.by) for one in told.approvals] == [
        ("propose", "run"),
        ("approve", "ann"),
        ("promote", "approvals"),
    ]
    page = CliRunner().invoke(main, ["models", "card", version, "--html"]).output
    assert page.startswith("<!doctype html>")
    assert "ann" in page


def test_the_command_says_that_a_version_has_no_card(registry, home):
    write_small_bundle(registry.models_dir, "900", MODEL)
    found = CliRunner().invoke(main, ["models", "card", "900"])
    assert found.exit_code == 1
    assert "Version 900 has no card" in found.output


def test_a_card_tells_the_training_set_and_less_once_its_document_is_gone(tmp_path):
    settings = trained_home(tmp_path / "home")
    facts = read_manifest(settings.models_dir / "1")
    card = card_for(settings, MODEL, small_report(), MAPS, facts)
    assert [part.name for part in card.data.slices] == ["train", "delay", "test"]
    assert card.lineage.recipe == facts.recipe
    for path in settings.tables_dir.glob("training_set_document/*"):
        path.unlink()
    again = card_for(settings, MODEL, small_report(), MAPS, facts)
    assert (again.data.slices, again.data.period) == ((), f"up to {AS_OF.isoformat()}")


def test_new_cuts_of_old_trees_tell_the_training_of_the_trees(tmp_path):
    settings = trained_home(tmp_path / "home")
    facts = msgspec.structs.replace(
        read_manifest(settings.models_dir / "1"),
        trees_of="1",
        recipe=None,
        trained_as_of="2026-05-01T00:00:00+00:00",
    )
    card = card_for(settings, MODEL, small_report(), MAPS, facts)
    assert card.lineage.trees_of == "1"
    assert card.lineage.recipe.seed == 5
    assert card.data.as_of == AS_OF.isoformat()
