"""A registry that has lost its database deposes nobody."""

import pytest

from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.errors import RegistryUnavailableError
from tests.registered import registered_versions


@pytest.mark.parametrize(
    "move",
    [
        lambda roles: roles.publish(),
        lambda roles: roles.roll_back("2"),
        lambda roles: roles.dismiss("3"),
        lambda roles: roles.set_challenger("1"),
    ],
    ids=["publish", "roll_back", "dismiss", "set_challenger"],
)
def test_a_registry_without_any_role_leaves_every_role_as_it_was(tmp_path, move):
    home = tmp_path / "home"
    roles = registered_versions(home, 2)
    roles.promote("1")
    roles.promote("2")
    before, entries = read_deployment(roles.models_dir), roles.history()
    lost = ModelRegistry(None, tmp_path / "another", roles.models_dir)
    with pytest.raises(RegistryUnavailableError, match="expected champion 2, previous_champion 1"):
        move(lost)
    assert read_deployment(roles.models_dir) == before
    assert roles.history() == entries
    assert roles.roll_back("2") == "1", "with its database back it goes on"
