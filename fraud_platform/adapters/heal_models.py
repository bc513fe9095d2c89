"""Readings of the deployed models: their files, their stored rows, and the version before.

What belongs here: loading what the readings need. How they judge is `heal.probes` and `heal.clues`.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from fraud_platform.adapters.deployment import Deployment, Pointer
from fraud_platform.adapters.heal_window import Newest
from fraud_platform.adapters.live_file import Live
from fraud_platform.adapters.model_bundle import (
    MANIFEST,
    Bundle,
    load_pointed,
    manifest_digest,
    read_manifest,
)
from fraud_platform.adapters.model_history import effective, read_history
from fraud_platform.adapters.sealed_folder import read_regular, sha256
from fraud_platform.decision import Thresholds
from fraud_platform.errors import BundleIntegrityError
from fraud_platform.heal import clues, probes
from fraud_platform.heal.configuration import cuts_of
from fraud_platform.heal.evidence import Reading, Signal, Standing
from fraud_platform.heal.reference import MonitorPolicy, blind

IN_MEMORY = "in memory"
"""What a scorer says that it decides with."""


def usable(models_dir: Path, pointer: Pointer | None) -> Bundle | None:
    """The bundle of a pointer, kept in memory under its digest; None if it cannot be used."""
    if pointer is None:
        return None
    try:
        return _held(str(models_dir), pointer)
    except BundleIntegrityError:
        return None


def artifact(models_dir: Path, deployment: Deployment, live: Live | None) -> Reading:
    """Are files and memory what the deployment names?

    Args:
        models_dir: folder of the bundles.
        deployment: who has which role.
        live: what a scorer that is alive says, or None.
    """
    pointers = [p for p in (deployment.champion, *deployment.fallbacks.values()) if p is not None]
    expected = {pointer.version: pointer.manifest_digest for pointer in pointers}
    found = {pointer.version: _sound(models_dir / pointer.path) for pointer in pointers}
    champion = deployment.champion
    if champion is not None and live is not None and live.model_version == champion.version:
        told = _model_digest(models_dir / champion.path)
        if told is not None:
            expected[IN_MEMORY], found[IN_MEMORY] = told, live.model_digest
    return probes.artifact(expected, found)


def golden(
    models_dir: Path, pointer: Pointer, policy: MonitorPolicy, artifact: Reading, span: int
) -> Reading:
    """Does the champion, read anew from its files, score its stored rows as it did?

    Args:
        models_dir: folder of the bundles.
        pointer: to the champion.
        policy: the bound.
        artifact: what its files looked like; when that changes they are read again at once.
        span: number of the span of time; in another one they are read again.
    """
    return _golden(str(models_dir), pointer, policy, (artifact.standing, artifact.subjects, span))


@lru_cache(maxsize=1)
def _golden(
    models_dir: str, pointer: Pointer, policy: MonitorPolicy, because: tuple[object, ...]
) -> Reading:
    try:
        fresh = load_pointed(Path(models_dir), pointer)  # compares them to the bit
    except BundleIntegrityError as error:
        return Reading(
            signal=Signal.GOLDEN_ROWS,
            standing=Standing.BREACHED,
            subjects=(pointer.version,),
            why=error.message,
        )
    held = usable(Path(models_dir), pointer) or fresh
    recorded, scores = (bundle.model.score(fresh.golden) for bundle in (fresh, held))
    return probes.golden_rows(recorded, scores, policy)


def replay(
    champion: Bundle | None, previous: Bundle | None, newest: Newest, policy: MonitorPolicy
) -> Reading:
    """Does the champion disturb more of the newest payments than the one before would?"""
    if champion is None or previous is None:
        return blind(Signal.REPLAY, "there are not two versions to compare")
    now, before = (
        np.asarray(bundle.model.score(newest.matrix) >= bundle.manifest.review_threshold)
        for bundle in (champion, previous)
    )
    return clues.replay(now, before, policy, newest.cards)


def last_change(models_dir: Path) -> dict[str, int]:
    """When another model came to decide, microseconds UTC of the wall."""
    now: str | None = None
    changed: dict[str, int] = {}
    for entry in effective(read_history(models_dir)):
        champion = entry.deployment.champion
        if champion is not None and champion.version != now:
            now, changed["model"] = champion.version, entry.at_us
    return changed


def cuts(models_dir: Path, version: str | None) -> dict[str, str]:
    """The registered cuts of a version; none where no model decides.

    Raises:
        BundleIntegrityError: its manifest is damaged.
    """
    if version is None:
        return {}
    manifest = read_manifest(models_dir / version)
    return cuts_of(Thresholds(manifest.review_threshold, manifest.decline_threshold))


@lru_cache(maxsize=3)
def _held(models_dir: str, pointer: Pointer) -> Bundle:
    return load_pointed(Path(models_dir), pointer)


def _sound(folder: Path) -> str | None:
    """The digest of the manifest if every file is what it says; else None."""
    try:
        files = read_manifest(folder).files.items()  # its own entry is checked by reading it
        if any(sha256(read_regular(folder / n)) != told for n, told in files if n != MANIFEST):
            return None
        return manifest_digest(folder)
    except BundleIntegrityError:
        return None


def _model_digest(folder: Path) -> str | None:
    try:
        return read_manifest(folder).model_digest
    except BundleIntegrityError:
        return None
