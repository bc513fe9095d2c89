"""What a manifest says of the training beside its rows."""

import msgspec
import pytest

from fraud_platform.model import ModelPolicy
from fraud_platform.recipe import Recipe, recipe_of, why_unclean


def recipe(commit: str | None) -> Recipe:
    return recipe_of(ModelPolicy(seed=3, threads=2), commit, lock_digest=None, machine="x86_64")


@pytest.mark.parametrize("told", ["c0ffee-dirty", "c0ffee+"])
def test_code_that_differs_from_its_commit_is_marked_however_that_is_written(told):
    found = recipe(told)
    assert (found.code_commit, found.is_dirty) == ("c0ffee", True)
    assert "changed since commit c0ffee" in why_unclean(found)


def test_clean_code_has_nothing_against_it():
    assert why_unclean(recipe("c0ffee")) is None


@pytest.mark.parametrize("none", [None, recipe(None), recipe("unknown")])
def test_code_that_nobody_named_is_not_clean(none):
    assert why_unclean(none) == "nobody knows which code trained it"


def test_a_recipe_comes_back_from_a_manifest():
    told = recipe("c0ffee")
    assert (told.seed, told.threads) == (3, 2)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Recipe) == told
