"""The state at the end of the log: from the newest snapshot, or from all that windows can see."""

import asyncio
import logging

from fraud_platform.adapters.drain import Recovery
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import LATENESS, LOOKBACK

LOGGER = logging.getLogger("fraud_platform.scorer")

CHUNK = 2_000
"""Events folded between two turns of the loop."""


async def folded(log: EventLog, snapshots: StateSnapshots) -> tuple[FeatureRings, int]:
    """A fresh state with the whole log folded in; the loop goes on turning meanwhile.

    Returns:
        The state, and how many log positions were not in the snapshot it started from.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    rings = await _started(log, snapshots)
    after_seq = start = rings.last_seq
    newest = log.newest_event_timestamp()
    since = None if newest is None else newest - LOOKBACK - LATENESS
    while events := log.follow(after_seq, since=since, limit=CHUNK):
        for event in events:
            rings.apply(event)
        after_seq = events[-1].seq
        await asyncio.sleep(0)
    LOGGER.info("folded the log from position %d to %d", start, after_seq)
    return rings, after_seq - start


async def _started(log: EventLog, snapshots: StateSnapshots) -> FeatureRings:
    for path in snapshots.of(log):
        rings = await asyncio.to_thread(snapshots.load, path)
        if rings is not None:
            LOGGER.info("took the snapshot %s", path.name)
            return rings
    return FeatureRings()


def tell_of(recovery: Recovery) -> None:
    """Say what a recovery of the journal dropped, for those who look for a cause."""
    tail = recovery.tail
    if tail.bytes:
        LOGGER.warning(
            "dropped a torn tail of %d bytes behind byte %d of %s: nobody was told of it",
            *(tail.bytes, tail.at.offset, tail.file),
        )
