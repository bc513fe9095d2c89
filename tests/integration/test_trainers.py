"""Who trained a model is sealed into it, and cannot approve it, whoever proposes it."""

from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from assets.candidates import STARTED_BY_TAG, Candidate, lineage, trainer_of
from fraud_platform.access import ApiKey, digest_of, id_of
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.errors import PermanentError
from fraud_platform.roles import ROLES
from fraud_platform.settings import Settings
from tests.governed_home import FileRoles, settings_of, with_champion
from tests.small_bundles import trained, write_small_bundle
from tests.small_reports import small_report


def test_who_trained_a_model_cannot_approve_what_another_proposes(tmp_path):
    with_champion(tmp_path)
    settings = settings_of(tmp_path)
    write_small_bundle(settings.models_dir, "9", trained(9), trained_by="tess")
    roles = FileRoles(settings)
    digest = roles.propose("9", Mandate(by="anna", why="better"))
    with pytest.raises(PermanentError, match="Tess proposed or made it"):
        roles.docket.vote(digest, "approve", Mandate(by="Tess"))
    roles.docket.vote(digest, "approve", Mandate(by="bert"))


def run_of(**tags):
    return SimpleNamespace(run_id="r1", tags=tags)


def key_of(settings, subject, role):
    def make(text):
        told = {"environment": "live", "created_us": 0, "scopes": ROLES[role]}
        return ApiKey(id=id_of(text), digest=digest_of(text), subject=subject, **told)

    text, _ = KeyStore(settings.access_dir).create(make, environment="live")
    return settings.model_copy(update={"operator_key": SecretStr(text)})


@pytest.mark.parametrize(
    ("subject", "role", "tag", "trainer"),
    [
        ("anna", "ml_engineer", "zoe", "anna"),
        ("nightly", "service", "zoe", "zoe"),
        ("nightly", "service", None, "dagster run r1"),
        (None, None, "zoe", "zoe"),
    ],
)
def test_a_key_says_who_trains_and_a_tag_only_where_no_persons_key_does(
    tmp_path, subject, role, tag, trainer
):
    settings = Settings(home=tmp_path)
    settings = key_of(settings, subject, role) if subject else settings
    assert trainer_of(run_of(**({STARTED_BY_TAG: tag} if tag else {})), settings) == trainer


def test_a_key_that_counts_for_nothing_names_nobody(tmp_path):
    settings = Settings(home=tmp_path, operator_key=SecretStr("fp_live_x_y"))
    assert trainer_of(run_of(), settings) == "dagster run r1"


def test_a_candidate_takes_its_trainer_into_the_bundle(tmp_path):
    found = Candidate(trained(1), small_report(), None, "run-1", "tess")
    told = lineage(found, "2026-01-01T00:00:00Z", "0" * 64, Settings(home=tmp_path))
    assert told.trained_by == "tess"
