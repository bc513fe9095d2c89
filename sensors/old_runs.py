"""`python -m sensors.old_runs FOLDER oldest|list|delete [BEFORE_US]`: Dagster's finished runs.

Answers in JSON. Runs that made what is still the newest content of an asset, or of a partition of
one, stay whatever their age: by them Dagster knows what is there, and would ask for it anew.
"""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

_PAGE = 200
_US = 1_000_000


def past(instance: dg.DagsterInstance, before_us: int) -> list[dg.RunRecord]:
    """Finished runs that were made and ended before a moment, oldest first."""
    moment = datetime.fromtimestamp(before_us / _US, UTC)
    told = dg.RunsFilter(created_before=moment, statuses=list(_FINISHED))
    needed = set(_newest(instance))
    return [
        record
        for record in instance.get_run_records(told, order_by="create_timestamp", ascending=True)
        if (record.end_time or 0) * _US < before_us and record.dagster_run.run_id not in needed
    ]


def delete(instance: dg.DagsterInstance, records: list[dg.RunRecord]) -> None:
    """Delete runs with their events and what they printed."""
    for record in records:
        run_id = record.dagster_run.run_id
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)


_FINISHED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)


def _newest(instance: dg.DagsterInstance) -> Iterator[str]:
    """The runs that made what is the newest content of every asset and partition."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for key in instance.all_asset_keys():
        event = instance.get_latest_materialization_event(key)
        if event is not None:
            yield event.run_id
        ids = list(instance.get_latest_storage_id_by_partition(key, kind).values())
        for start in range(0, len(ids), _PAGE):
            some = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[start : start + _PAGE])
            for record in instance.fetch_materializations(some, limit=_PAGE).records:
                yield record.run_id


def main(folder: str, what: str, before_us: str = "0") -> dict[str, object]:
    """Carry out what is asked of the instance whose `dagster.yaml` is in a folder."""
    with dg.DagsterInstance.from_config(folder) as instance:
        if what == "oldest":
            found = instance.get_run_records(limit=1, order_by="create_timestamp", ascending=True)
            return {"oldest_us": int(found[0].create_timestamp.timestamp() * _US) if found else 0}
        records = past(instance, int(before_us))
        made = [int(record.create_timestamp.timestamp() * _US) for record in records]
        if what == "delete":
            delete(instance, records)
        return {
            "runs": [record.dagster_run.run_id for record in records],
            "first_us": min(made, default=0),
            "last_us": max(made, default=0),
        }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201 -- the answer
