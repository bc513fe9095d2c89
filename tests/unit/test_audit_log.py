"""The audit log's tree, rows and heads: known answers, and what must hold for all."""

import json
import time
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.adapters.sealed_records import leaf_of
from fraud_platform.adapters.signatures import Signer, is_signed
from fraud_platform.audit_log.acts import ACTIONS, ROUTINE, Act, one_line, shown
from fraud_platform.audit_log.heads import Head, parse_head, parse_heads, signed_head
from fraud_platform.audit_log.merkle import (
    consistency,
    grown,
    inclusion,
    is_consistent,
    is_included,
    leaf_hash,
    root,
    root_of,
)
from fraud_platform.audit_log.rows import MacKey, next_row, start_of
from fraud_platform.errors import PermanentError

SIZES = 200
"""All pairs up to here; 300 takes a minute."""

# Entries and roots of the reference trees of RFC 6962's own test suite (certificate-transparency,
# kept by transparency-dev/merkle).
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_roots_are_those_of_the_reference_trees():
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    assert [root(leaves[:size]).hex() for size in range(9)] == ROOTS


def test_the_proofs_are_those_of_the_reference_trees():
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    assert [hash_.hex()[:8] for hash_ in inclusion(leaves, 5)] == [
        "bc1a0643",
        "ca854ea1",
        "d37ee418",
    ]
    assert [hash_.hex()[:8] for hash_ in inclusion(leaves[:3], 2)] == ["fac54203"]
    assert [hash_.hex()[:8] for hash_ in consistency(leaves, 6)] == [
        "0ebc5d34",
        "ca854ea1",
        "d37ee418",
    ]
    assert [hash_.hex()[:8] for hash_ in consistency(leaves[:5], 2)] == ["5f083f0a", "bc1a0643"]


def test_all_proofs_hold_and_no_other(capsys):
    started, checked = time.process_time(), 0
    leaves = [leaf_hash(bytes([size % 256, size // 256])) for size in range(SIZES)]
    roots = [root(leaves[:size]) for size in range(SIZES + 1)]
    for size in range(1, SIZES + 1):
        for old in range(1, size + 1):
            path = inclusion(leaves[:size], old - 1)
            assert is_included(leaves[old - 1], old - 1, size, path, roots[size])
            assert not is_included(leaves[old - 2], old - 1, size, path, roots[size]) or size == 1
            path = consistency(leaves[:size], old)
            assert is_consistent(old, size, roots[old], roots[size], path)
            assert not is_consistent(old, size, roots[old - 1], roots[size], path)
            checked += 2
    seconds = time.process_time() - started
    with capsys.disabled():
        figures = {"test": "T-AUD-6", "sizes": SIZES, "proofs": checked, "cpu_s": round(seconds, 1)}
        print(json.dumps(figures))


@given(st.lists(st.binary(max_size=4), max_size=40), st.data())
def test_a_proof_that_is_cut_or_changed_proves_nothing(entries, data):
    leaves = [leaf_hash(entry) for entry in (*entries, b"last", b"one more")]
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = inclusion(leaves, index)
    at = data.draw(st.integers(0, len(path) - 1))
    for wrong in (path[:at], [*path, path[at]], [*path[:at], bytes(32), *path[at + 1 :]]):
        assert not is_included(leaves[index], index, len(leaves), wrong, root(leaves))


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=70))
def test_the_frontier_has_one_root_for_each_bit_of_the_size(entries):
    frontier = ()
    for size, entry in enumerate(entries):
        frontier = grown(frontier, size, leaf_hash(entry))
    assert len(frontier) == len(entries).bit_count()
    assert root_of(frontier) == root([leaf_hash(entry) for entry in entries])


def _act(**told: object) -> Act:
    facts = {"actor": "ann", "role": "", "action": "audit.head", "object": "log", "origin": "cli"}
    return Act(**facts | told)


@given(st.text(max_size=8).map(one_line), st.text(max_size=8).map(one_line))
def test_two_acts_have_one_leaf_only_if_they_are_the_same(reason, before):
    key, tail = MacKey(0, bytes(32)), start_of("log")
    told = {"outcome": "done", "begun": 0, "at_us": 0, "key": key}
    one = next_row(tail, _act(reason=reason, before=before), **told)
    other = next_row(tail, _act(reason=reason + before), **told)
    assert (one.chain == other.chain) == (before == "")


def test_the_key_of_an_earlier_epoch_cannot_be_found():
    key = MacKey(0, bytes(32)).at(3)
    assert key.at(5) == MacKey(0, bytes(32)).at(5)
    with pytest.raises(ValueError, match="epoch 3"):
        key.at(2)
    assert "0000" not in repr(key)


def test_a_head_is_a_signed_note_that_says_what_it_was_made_of():
    signer = Signer(bytes(32))
    told = {"size": 7, "root": bytes(32), "at_us": 5, "previous": "", "signer": signer}
    head = signed_head("log", **told)
    assert head.note.splitlines()[:3] == [
        "fraud-platform/audit/log",
        "7",
        b64encode(bytes(32)).decode(),
    ]
    assert head.is_by(signer.public, is_signed)
    assert not head.is_by(Signer(b"1" * 32).public, is_signed)
    assert list(parse_heads(head.note * 2)) == [head, head]


@given(st.integers(0, 400), st.characters(codec="utf-8"))
def test_a_head_with_another_character_is_not_signed(at, character):
    signer = Signer(bytes(32))
    head = signed_head("log", size=7, root=bytes(32), at_us=5, previous="", signer=signer)
    at %= len(head.note)
    changed = head.note[:at] + character + head.note[at + 1 :]
    assert changed == head.note or not _is_signed(changed, signer)


def _is_signed(note: str, signer: Signer) -> bool:
    try:
        found: Head = parse_head(note)
    except (PermanentError, ValueError):
        return False
    return found.is_by(signer.public, is_signed)


@pytest.mark.parametrize(
    "told",
    [
        {"reason": "card 4111 1111 1111 1111"},
        {"facts": {"card": "4111111111111111"}},
        {"reason": "x" * 5_000},
        {"object": "model:4111\n"},
        {"facts": {"4111\x1b[2K": ""}},
        {"actor": "4111\udcff"},
        {"before": "4111\u202e"},
    ],
    ids=["card number", "card number in a fact", "too long", "line", "escape", "half", "turned"],
)
def test_an_act_with_a_card_number_or_a_book_is_refused_without_its_text(told):
    with pytest.raises(PermanentError) as refused:
        _act(**told)
    assert "4111" not in str(refused.value)


@given(st.text(max_size=20))
def test_a_text_of_somebody_is_recordable_as_one_line_and_shown_as_one(text):
    assert _act(reason=one_line(text)).reason == shown(one_line(text))
    assert len(shown(text).splitlines()) <= 1


def test_an_act_needs_a_name_that_means_something():
    with pytest.raises(ValueError, match="ACTIONS"):
        _act(action="model.whatever")
    with pytest.raises(ValueError, match="nobody"):
        _act(actor="")


def test_the_actions_are_sorted_and_the_routine_ones_are_among_them():
    assert list(ACTIONS) == sorted(ACTIONS)
    assert set(ACTIONS) >= ROUTINE


def test_a_record_has_the_same_leaf_in_whatever_order_its_columns_came():
    one = {"transaction": {"amount_minor": 5, "card_id": "c"}, "decision": {"score": 0.5}}
    other = {"decision": {"score": 0.5}, "transaction": {"card_id": "c", "amount_minor": 5}}
    assert leaf_of(one) == leaf_of(other)
    assert leaf_of(one) != leaf_of({"transaction": one["transaction"]})
