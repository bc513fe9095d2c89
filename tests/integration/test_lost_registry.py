"""A registry that has lost its database deposes nobody."""

import pytest

from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.errors import RegistryUnavailableError
from tests.registered import registered_versions


def test_a_registry_without_any_role_leaves_every_role_as_it_was(tmp_path):
    roles = registered_versions(tmp_path / "home", 2)
    roles.promote("1")
    roles.promote("2")
    before, entries = read_deployment(roles.models_dir), roles.history()
    lost = ModelRegistry(None, tmp_path / "another", roles.models_dir)
    for move in (lost.publish, lost.roll_back, lambda: lost.dismiss("3")):
        with pytest.raises(RegistryUnavailableError, match="champion 2, previous_champion 1"):
            move()
    assert read_deployment(roles.models_dir) == before
    assert roles.history() == entries
    assert roles.roll_back("2") == "1", "with its database back it goes on"
