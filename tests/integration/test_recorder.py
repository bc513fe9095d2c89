"""What the witness of the tables records of a step; the graph around it is in test_lineage."""

from datetime import date
from types import SimpleNamespace

from assets.recorder import Recorder
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.lineage_store import LineageStore
from fraud_platform.adapters.tables import StoredFile, Tables
from fraud_platform.lineage import MODEL
from fraud_platform.settings import Settings
from tests.small_bundles import trained, write_small_bundle

DAY = date(2026, 1, 7)
STEP = SimpleNamespace(run_id="r1", step=SimpleNamespace(key="challenger"), assets_def=None)


def test_only_a_bundle_that_the_step_sealed_is_made_in_it(tmp_path):
    """Version 1 is of before lineage was kept, or of a step that ended without a document."""
    settings = Settings(home=tmp_path)
    store = LineageStore(settings.lineage_path)
    recorder = Recorder(store, EventLog(settings.log_path), settings)
    write_small_bundle(settings.models_dir, "1", trained(1))
    with recorder.during(STEP):
        recorder.has_read(StoredFile("training_set", DAY, tmp_path / "rows", "abc"))
        write_small_bundle(settings.models_dir, "2", trained(2))
        Tables(settings.tables_dir, recorder).write_document("challenger", DAY, {"version": "2"})
    [made] = store.records("challenger", DAY.isoformat())
    assert [node.part for node in made.inputs] == ["2", DAY.isoformat()]
    assert made.inputs[0].kind == MODEL
    [before] = store.records(MODEL, "1")
    assert (before.inputs, before.run_id) == ((), "")
