"""Which fallbacks are deployed beside which champion: its own, whatever moved it there."""

import shutil

import pytest
from msgspec.structs import replace

from fraud_platform.adapters.deployment import Deployment, read_deployment, write_deployment
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_roles import ModelRoles
from fraud_platform.errors import BundleIntegrityError, PermanentError
from fraud_platform.fallbacks import FALLBACKS, fallback_version
from tests.small_bundles import trained, write_small_bundle

ANN = Mandate(by="ann")


class Client:
    """MLflow's aliases in memory, of the versions that it knows."""

    def __init__(self, *versions):
        self.aliases, self.versions = {}, versions

    def get_registered_model(self, name):
        return self

    def get_model_version(self, name, version):
        if version not in self.versions:
            raise PermanentError(f"MLflow knows no version {version}")

    def set_registered_model_alias(self, name, alias, version):
        self.aliases[alias] = version

    def delete_registered_model_alias(self, name, alias):
        del self.aliases[alias]


class Roles(ModelRoles):
    _client = Client("1", "2")


@pytest.fixture
def roles(tmp_path, monkeypatch):
    """Two versions; the first has all fallbacks, the second only one."""
    monkeypatch.setattr(Roles, "_client", Client("1", "2"))
    for version in ("1", "2"):
        write_small_bundle(tmp_path, version, trained(int(version)))
    for name, groups in FALLBACKS.items():
        write_small_bundle(tmp_path, fallback_version("1", name), trained(3), without=groups)
    write_small_bundle(tmp_path, "2-without-money", trained(4), without=("money",))
    return Roles(tmp_path)


def fallbacks(roles):
    return {name: p.version for name, p in read_deployment(roles.models_dir).fallbacks.items()}


OF_ONE = {name: f"1-without-{name}" for name in FALLBACKS}


def test_a_champion_is_deployed_with_its_own_fallbacks_and_a_roll_back_restores_those(roles):
    roles.promote("1", ANN)
    assert fallbacks(roles) == OF_ONE
    roles.promote("2", ANN)
    assert fallbacks(roles) == {"money": "2-without-money"}
    roles.roll_back(mandate=ANN)
    assert fallbacks(roles) == OF_ONE


def test_a_recalibration_keeps_the_fallbacks_of_its_trees(roles, tmp_path, monkeypatch):
    monkeypatch.setattr(Roles, "_client", Client("1", "3"))
    write_small_bundle(tmp_path, "3", trained(1), review=0.4, trees_of="1")
    roles.promote("1", ANN)
    roles.promote("3", ANN)
    assert fallbacks(roles) == OF_ONE
    roles.roll_back(mandate=ANN)
    assert fallbacks(roles) == OF_ONE


def test_a_challenger_brings_no_fallbacks_of_its_own(roles):
    roles.promote("2", ANN)
    roles.set_challenger("1", ANN)
    assert fallbacks(roles) == {"money": "2-without-money"}


def test_fallbacks_that_were_trained_later_are_published(roles, tmp_path):
    shutil.rmtree(tmp_path / "2-without-money")
    roles.promote("2", ANN)
    assert fallbacks(roles) == {}
    write_small_bundle(tmp_path, "2-without-context", trained(4), without=("context",))
    before = read_deployment(tmp_path).sequence
    roles.publish(ANN)
    assert fallbacks(roles) == {"context": "2-without-context"}
    assert read_deployment(tmp_path).sequence == before + 1


def test_a_fallback_whose_manifest_is_damaged_keeps_no_champion_from_its_role(roles, tmp_path):
    (tmp_path / "1-without-money" / "manifest.json").write_bytes(b"{")
    roles.promote("1", ANN)
    assert read_deployment(tmp_path).champion.version == "1"
    (tmp_path / "1-without-context" / "manifest.json").unlink()
    roles.publish(ANN)
    assert "context" not in fallbacks(roles)


def test_a_fallback_can_have_no_role_of_its_own(roles):
    roles.promote("1", ANN)
    with pytest.raises(PermanentError, match="1-without-money"):
        roles.promote("1-without-money", ANN)
    assert read_deployment(roles.models_dir).champion.version == "1"


def test_a_deployment_of_before_is_read_and_a_path_out_of_the_folder_is_not(roles, tmp_path):
    roles.promote("1", ANN)
    found = read_deployment(tmp_path)
    write_deployment(tmp_path, replace(found, fallbacks={}))
    text = (tmp_path / "deployment.json").read_bytes().replace(b',"fallbacks":{}', b"")
    assert b"fallbacks" not in text
    (tmp_path / "deployment.json").write_bytes(text)
    assert read_deployment(tmp_path) == replace(found, fallbacks={})
    evil = replace(found.champion, path="../x")
    write_deployment(tmp_path, Deployment(fallbacks={"money": evil}))
    with pytest.raises(BundleIntegrityError):
        read_deployment(tmp_path)
