"""A running scorer reads its model anew when it is told to, and never takes a damaged one."""

import os

import pytest

from fraud_platform.errors import BundleIntegrityError
from tests.e2e.healed_home import asked, newest
from tests.e2e.scorer_process import home_at, wait_for
from tests.e2e.traffic import Traffic
from tests.registered import registered_versions

SEED = int(os.environ.get("FRAUD_SEED", "1"))
AGAIN = "its models are read again"


def test_a_running_scorer_reads_its_model_again_and_decides_with_it(tmp_path):
    with home_at(tmp_path / "home") as home:
        registry = registered_versions(home.path, 1)
        registry.promote("1")
        scorer, traffic = home.start(), Traffic(SEED)
        asked(scorer, traffic, 100)
        registry.publish()
        registry.publish(anew=True)
        wait_for(lambda: AGAIN in scorer.words, "the scorer to read it again")
        assert {answer["model_version"] for answer in newest(scorer, traffic)} == {"1"}
        model = home.models_dir / "1" / "model.ubj"
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
        with pytest.raises(BundleIntegrityError):
            registry.publish(anew=True)
        assert {answer["model_version"] for answer in newest(scorer, traffic)} == {"1"}
        assert scorer.words.count(AGAIN) == 1
