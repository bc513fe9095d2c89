"""The run that purges: what is past its limit goes, every night."""

import time
from functools import partial

import dagster as dg

from fraud_platform.adapters.retention_run import PurgeReport, purge
from fraud_platform.audit_log.acts import Act
from fraud_platform.settings import Settings


@dg.op(out=dg.Out(dg.Nothing))
def purge_what_is_due(
    context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.Output[None]:
    """Delete what is past its limit; the audit log says so before, and this run says how much."""
    act = partial(Act, actor="platform", role="", origin=f"dagster run {context.run_id}")
    report = purge(settings, act, time.time_ns() // 1_000)
    context.log.info(_told(report))
    return dg.Output(None, metadata=_metadata(report))


@dg.job(description="What is past its limit goes: log, tables, journal and runs.")
def retention() -> None:
    """Purge a home."""
    purge_what_is_due()


def _told(report: PurgeReport) -> str:
    if report.hold:
        return f"nothing is purged: {report.hold}"
    if report.purged:
        return ", ".join(f"{one.name}: {one.count} {one.unit}" for one in report.purged)
    limits = {name: days for name, days in report.limits.items() if days is not None}
    return f"nothing is past its limit, days: {limits}" if limits else "no class has a limit"


def _metadata(report: PurgeReport) -> dict[str, int | str]:
    found: dict[str, int | str] = {"hold": report.hold, "settled": len(report.settled)}
    for name, days in report.limits.items():
        found[f"{name}_limit"] = "for ever" if days is None else f"{days} days"
    for one in report.purged:
        found |= {f"{one.name}_{one.unit}": one.count, f"{one.name}_audit_row": one.audit_row}
    return found
