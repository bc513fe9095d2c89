"""What is asked when somebody scrapes: the models in memory, the mirror, the process."""

import gc

from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from fraud_platform.adapters.deployment import Deployment, read_deployment
from fraud_platform.adapters.mirror_status import MirrorStatus, status_path, write_status
from serving.app import create_app
from tests.small_bundles import deploy, pointer_to


def samples(page: str) -> dict[tuple[str, ...], float]:
    """Value by name and sorted label values."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_metrics_name_the_models_by_role_and_the_one_that_was_refused(settings, publish):
    first, second = publish("1"), publish("2")
    broken = pointer_to(second)
    (second / "model.ubj").write_bytes(b"no model")
    deploy(
        settings.models_dir,
        Deployment(champion=pointer_to(first), challenger=broken, canary_share=0.25),
    )
    assert read_deployment(settings.models_dir).challenger == broken
    with TestClient(create_app(settings)) as client:
        found = samples(client.get("/metrics").text)
        ready = client.get("/health/ready").json()
    (info,) = [name for name in found if name[0] == "fraud_model_info"]
    assert {"champion", "1"} < set(info)
    assert found["fraud_model_refused", "challenger"] == 1
    assert found["fraud_canary_share",] == 0.25
    assert found["fraud_model_fallbacks_total",] == 0
    assert found["fraud_model_look_failures_total",] == 0
    assert ready["status"] == "ready"
    assert any(problem.startswith("challenger: ") for problem in ready["problems"])


def test_metrics_say_how_far_the_mirror_is_and_nothing_that_it_does_not_know(settings):
    place = status_path(settings.log_path)
    with TestClient(create_app(settings)) as client:
        assert "fraud_mirror" not in client.get("/metrics").text
        write_status(place, MirrorStatus("running", at=9.0, pid=1, behind_rows=7, conflicts=0))
        found = samples(client.get("/metrics").text)
    assert found["fraud_mirror_behind_rows",] == 7
    assert found["fraud_mirror_conflicts",] == 0
    assert ("fraud_mirror_behind_seconds",) not in found


def test_metrics_of_the_process_are_there_while_it_runs_and_cost_nothing_afterwards(settings):
    callbacks = list(gc.callbacks)
    with TestClient(create_app(settings)) as client:
        found = samples(client.get("/metrics").text)
    assert found["fraud_gc_pause_seconds_count",] > 0
    assert found["process_open_fds",] > 0
    assert found["fraud_run_queue_seconds_total",] >= 0
    assert gc.callbacks == callbacks
