"""What a model's card says, what it must say, and how it reads."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

from fraud_platform.adapters.model_card_page import card_description, card_markdown, card_page
from fraud_platform.errors import DataContractError
from fraud_platform.labels import LabelPolicy
from fraud_platform.model_card import (
    REQUIRED,
    CardApproval,
    decode_card,
    encode_card,
    missing_fields,
    require_whole,
)
from fraud_platform.model_card_facts import FAILURE_MODES, data_of
from fraud_platform.training_document import LeftOut, SliceDocument, TrainingSetDocument
from fraud_platform.training_set import TrainingPolicy
from tests.blank_cards import GROUPED, blanked
from tests.small_bundles import trained
from tests.small_cards import small_card

ROOT = Path(__file__).parents[2]
CARD = small_card(trained(1))


def test_a_card_tells_everything_that_is_asked_for():
    assert missing_fields(CARD) == ()
    assert require_whole(CARD) is CARD


@pytest.mark.parametrize("path", [*REQUIRED, *GROUPED])
def test_a_card_without_a_required_field_is_refused_and_the_field_is_named(path):
    with pytest.raises(DataContractError, match=rf"does not tell {path}\n"):
        require_whole(blanked(CARD, path))


def test_a_figure_that_is_no_number_tells_nothing_and_zero_does():
    empty = msgspec.structs.replace(CARD, metrics={**CARD.metrics, "recall": float("nan")})
    assert missing_fields(empty) == ("metrics.recall",)
    none = msgspec.structs.replace(CARD, metrics={**CARD.metrics, "recall": 0.0})
    assert missing_fields(none) == ()


def test_parts_of_the_traffic_are_asked_for_only_where_the_rows_can_be_cut():
    bare = msgspec.structs.replace(CARD, segments=(), fairness=())
    assert missing_fields(bare) == ("segments", "fairness")
    assert missing_fields(msgspec.structs.replace(bare, groups=())) == ()
    assert missing_fields(msgspec.structs.replace(bare, unjudged=bare.groups)) == ()


def test_every_part_has_its_counts_and_what_is_too_small_to_judge_has_no_rate():
    rows = {part.column: 0 for part in CARD.segments}
    for part in CARD.segments:
        rows[part.column] += part.rows
        assert (part.recall, part.false_positive_rate) == (None, None)
    assert set(rows.values()) == {4}
    assert {one.verdict for one in CARD.fairness} == {"cannot judge"}


def test_a_card_comes_back_from_its_file():
    assert decode_card(encode_card(CARD)) == CARD
    with pytest.raises(DataContractError, match="found no model card"):
        decode_card(b"{}")


def test_a_card_reads_the_same_for_people_on_a_page_and_in_text():
    decided = CardApproval(act="approve", by="ann", at="2026-01-02T03:04:05+00:00", why="<better>")
    card = msgspec.structs.replace(CARD, version="7", approvals=(decided,))
    page, text = card_page(card).html(), card_markdown(card)
    for told in (page, text):
        assert "Model card of version 7" in told
        assert CARD.lineage.model_digest in told
        assert "2026-01-02T03:04:05+00:00" in told
        assert "<better>" not in told
    assert "<script" not in page
    assert "Plots" not in page


def test_a_description_is_cut_between_lines_where_a_registry_has_no_room():
    long = msgspec.structs.replace(CARD, features=tuple(f"feature_{n}" for n in range(900)))
    told = card_description(long)
    assert len(told) < 5_000
    assert told.endswith("model_card.md among the run's artifacts.\n")
    assert card_description(CARD) == card_markdown(CARD) or len(card_markdown(CARD)) > 4_900


def test_a_training_set_is_told_from_its_document():
    part = SliceDocument(
        name="train",
        first_day=date(2026, 1, 1),
        last_day=date(2026, 1, 9),
        rows=100,
        frauds=3,
        weighted_frauds=3.0,
        effective_sample_size=100.0,
        amount_minor=5,
    )
    left = LeftOut(why="unit_change", since=datetime(2026, 1, 3, tzinfo=UTC), until=None, rows=8)
    told = TrainingSetDocument(
        as_of=datetime(2026, 1, 17, tzinfo=UTC),
        slices=(part,),
        training=TrainingPolicy(),
        labels=LabelPolicy(),
        feature_names=("a",),
        feature_spec_digest="f",
        inputs={},
        rows_digest="r",
        left_out=(left,),
    )
    found = data_of(told)
    assert (found.period, found.training_set_digest) == ("2026-01-01 to 2026-01-09", told.digest)
    assert found.left_out == ("8 payments from 2026-01-03 00:00 UTC, because of unit_change",)
    assert (found.slices[0].rows, found.slices[0].frauds) == (100, 3)


def test_what_a_model_cannot_see_is_what_the_healing_benchmark_says_it_does_not_see():
    results = json.loads((ROOT / "docs/benchmarks/healing.json").read_text())["results"]
    ours = [run for run in results if run["policy"] == "diagnosis"]
    for mode in FAILURE_MODES:
        runs = [run for run in ours if run["scenario"] == mode.name]
        named = sum(run["diagnosed"] == run["truth_cause"] for run in runs)
        assert named < len(runs), mode.name
        assert f"{named} of {len(runs)} runs" in mode.what
