"""Roles are signed by whoever promotes, with one key or, while it is replaced, with two."""

import json
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from fraud_platform.adapters.deployment import (
    DEPLOYMENT,
    Deployment,
    read_deployment,
    write_deployment,
)
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.promotion_signature import (
    SIGNING_KEY,
    Authority,
    canonical,
    keys_of,
    sign_roles,
    untrusted,
)
from tests.registered import registered_versions
from tests.small_bundles import pointer_to, trained, write_small_bundle

replace = msgspec.structs.replace
BOSS = Authority(by="ann", proposal="p" * 64, policy_digest="c" * 64)


@pytest.fixture
def models_dir(tmp_path) -> Path:
    for number in (1, 2):
        write_small_bundle(tmp_path / "models", str(number), trained(number))
    return tmp_path / "models"


@pytest.fixture
def signed(models_dir) -> Deployment:
    champion, challenger = (pointer_to(models_dir / name) for name in ("1", "2"))
    roles = Deployment(champion=champion, challenger=challenger, canary_share=0.1)
    roles = replace(roles, fallbacks={"money": challenger})
    return sign_roles(models_dir, roles, BOSS)


def why(deployment: Deployment, models_dir: Path) -> dict[str, str]:
    return untrusted(deployment, keys_of(models_dir))


def test_what_the_promotion_signed_is_trusted_and_says_on_whose_word(models_dir, signed):
    write_deployment(models_dir, signed)
    assert why(read_deployment(models_dir), models_dir) == {}
    told = read_deployment(models_dir).signatures["champion"].statement
    assert (told.by, told.proposal, told.policy_digest) == ("ann", "p" * 64, "c" * 64)
    assert set(signed.signatures) == {"champion", "challenger", "fallback_money"}


def test_what_is_signed_is_one_line_of_purpose_and_canonical_json(signed):
    line, document = canonical(signed.signatures["champion"].statement).split(b"\n", 1)
    assert line == b"fraud_platform promotion 1"
    assert list(json.loads(document)) == sorted(json.loads(document))
    assert b": " not in document


def test_a_role_is_not_trusted_when_anything_that_was_signed_is_otherwise(models_dir, signed):
    stranger = sign_roles(models_dir.parent / "other" / "models", signed, BOSS)
    own, foreign = signed.signatures["champion"], stranger.signatures["champion"]
    broken = {
        "nobody signed it": {},
        "signed by key": {"champion": foreign},
        "says role challenger": {"champion": signed.signatures["challenger"]},
        "the signature is not that": {"champion": replace(own, signature=foreign.signature)},
        "says version 3": {"champion": replace(own, statement=replace(own.statement, version="3"))},
        "says manifest_digest 0": {
            "champion": replace(own, statement=replace(own.statement, manifest_digest="0" * 64))
        },
    }
    for expected, signatures in broken.items():
        found = why(replace(signed, signatures=signatures, challenger=None), models_dir)
        assert expected in found["champion"], found
        assert "models publish" in found["champion"]


@pytest.mark.parametrize("field", ["by", "proposal", "policy_digest", "at_us"])
def test_no_word_of_a_statement_can_be_changed(field, models_dir, signed):
    own = signed.signatures["champion"]
    told = replace(own.statement, **{field: 7 if field == "at_us" else "another"})
    forged = {**signed.signatures, "champion": replace(own, statement=told)}
    assert list(why(replace(signed, signatures=forged), models_dir)) == ["champion"]


@pytest.mark.parametrize("signature", ["", "?", "AAAA", "é"])
def test_a_signature_that_is_none_is_refused_and_nothing_else(signature, models_dir, signed):
    own = signed.signatures["champion"]
    forged = {**signed.signatures, "champion": replace(own, signature=signature)}
    assert list(why(replace(signed, signatures=forged), models_dir)) == ["champion"]


def test_the_share_of_a_canary_is_signed_too(models_dir, signed):
    found = why(replace(signed, canary_share=1.0), models_dir)
    assert list(found) == ["challenger"]
    assert "canary_share" in found["challenger"]


def test_a_key_is_replaced_while_two_public_keys_count(models_dir, signed):
    keys = keys_of(models_dir)
    (keys / f"{SIGNING_KEY}.pub").rename(keys / "before.pub")
    (keys / SIGNING_KEY).unlink()
    champion = Deployment(champion=signed.champion)
    anew = sign_roles(models_dir, champion, BOSS, signed)
    assert anew.signatures["champion"] != signed.signatures["champion"]
    assert (why(signed, models_dir), why(anew, models_dir)) == ({}, {})
    (keys / "before.pub").unlink()
    assert set(why(signed, models_dir)) == set(signed.roles())
    assert why(anew, models_dir) == {}


def test_a_scorer_needs_the_public_key_alone(models_dir, signed, tmp_path):
    shutil.copytree(keys_of(models_dir), tmp_path / "pinned")
    (tmp_path / "pinned" / SIGNING_KEY).unlink()
    assert untrusted(signed, tmp_path / "pinned") == {}
    assert set(untrusted(signed, tmp_path / "nowhere")) == set(signed.roles())


def test_what_still_holds_is_not_signed_again(models_dir, signed):
    moved = replace(signed, canary_share=0.5, signatures={})
    again = sign_roles(models_dir, moved, Authority(by="ben"), signed)
    signers = {role: found.statement.by for role, found in again.signatures.items()}
    assert signers == {"champion": "ann", "challenger": "ben", "fallback_money": "ann"}


def test_every_move_of_the_registry_is_signed_with_who_moved_it(tmp_path):
    registry = registered_versions(tmp_path, 2)
    registry.promote("1", Mandate(by="ann"))
    registry.promote("2", Mandate(by="ben"))
    found = read_deployment(registry.models_dir)
    assert untrusted(found, keys_of(registry.models_dir)) == {}
    assert {r: s.statement.by for r, s in found.signatures.items()} == {
        "champion": "ben",
        "previous": "ben",
    }
    registry.roll_back(mandate=Mandate(by="cat"))
    assert read_deployment(registry.models_dir).signatures["champion"].statement.by == "cat"


def test_an_approved_proposal_and_the_rules_stand_in_what_is_signed(tmp_path):
    registry = registered_versions(tmp_path, 1)
    proposal = registry.propose("1", Mandate(by="ann"))
    registry.docket.vote(proposal, "approve", Mandate(by="ben"))
    registry.promote("1", Mandate(by="approvals"))
    told = read_deployment(registry.models_dir).signatures["champion"].statement
    assert (told.proposal, told.by) == (proposal, "approvals")
    assert told.policy_digest == registry.docket.rules().digest


def test_publish_signs_a_home_from_before_signatures_and_only_once(tmp_path):
    registry = registered_versions(tmp_path, 1)
    registry.promote("1")
    path = registry.models_dir / DEPLOYMENT
    document = json.loads(path.read_bytes())
    del document["signatures"], document["format"]
    path.write_text(json.dumps(document))
    found = read_deployment(registry.models_dir)
    assert "nobody signed it" in why(found, registry.models_dir)["champion"]
    registry.publish()
    signed = read_deployment(registry.models_dir)
    assert why(signed, registry.models_dir) == {}
    registry.publish()
    assert read_deployment(registry.models_dir) == signed


def test_the_private_key_is_its_owners_alone(tmp_path):
    registry = registered_versions(tmp_path, 1)
    registry.promote("1")
    key = keys_of(registry.models_dir) / SIGNING_KEY
    assert key.stat().st_mode & 0o077 == 0
    assert key.read_bytes() not in (registry.models_dir / DEPLOYMENT).read_bytes()


def test_what_a_signature_costs_a_scorer_is_little(models_dir, signed):
    untrusted(signed, keys_of(models_dir))
    started = time.process_time()
    for number in range(100):
        own = signed.signatures["champion"]
        statement = replace(own.statement, at_us=number)
        untrusted(
            Deployment(
                champion=signed.champion,
                signatures={"champion": replace(own, statement=statement)},
            ),
            keys_of(models_dir),
        )
    fresh_ms = 10 * (time.process_time() - started)
    started = time.process_time()
    for _ in range(100):
        untrusted(signed, keys_of(models_dir))
    known_ms = 10 * (time.process_time() - started)
    print(json.dumps({"test": "T-MOD-1", "fresh_ms": fresh_ms, "known_ms": known_ms}))
    assert fresh_ms < 5
