"""Which models a scorer holds: one small file, replaced as a whole.

What belongs here: the form of `deployment.json`, reading and writing it. Who may move it is
`model_registry`, its only writer; what the pointers name is verified by `model_bundle`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fraud_platform.adapters.sealed_folder import read_regular, replace_file, require_plain_name
from fraud_platform.errors import BundleIntegrityError, PermanentError

DEPLOYMENT = "deployment.json"


class Pointer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which bundle has a role.

    Attributes:
        version: the bundle's version.
        path: its folder, relative to the folder of the pointer.
        manifest_digest: SHA-256 of its manifest's bytes.
    """

    version: str
    path: str
    manifest_digest: str


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The roles of the models at one moment.

    Attributes:
        sequence: grows with every write, so that a move there and back is still seen.
        champion: decides, or None before the first promotion.
        challenger: scores along without deciding, but for the canary's cards; or None.
        previous: the champion before, to fall back to; or None.
        canary_share: share of the cards on which the challenger decides, in [0, 1].
        fallbacks: what stands in for the champion when features are not to be used, by what it
            does without; scorers ask the bundles for that.
    """

    sequence: int = 0
    champion: Pointer | None = None
    challenger: Pointer | None = None
    previous: Pointer | None = None
    canary_share: float = 0.0
    fallbacks: Mapping[str, Pointer] = {}

    def __post_init__(self) -> None:
        if not 0.0 <= self.canary_share <= 1.0:
            raise ValueError(f"found canary_share={self.canary_share}, expected one in [0, 1]")


def read_deployment(models_dir: Path) -> Deployment:
    """The deployment in force; without any role while nothing was published.

    Raises:
        BundleIntegrityError: the file is no deployment.
        UnavailableError: the disk does not answer.
    """
    path = models_dir / DEPLOYMENT
    if not os.path.lexists(path):  # a link that leads nowhere is damage, not absence
        return Deployment()
    try:
        found = msgspec.json.decode(read_regular(path), type=Deployment)
        roles = (found.champion, found.challenger, found.previous)
        for pointer in (*roles, *found.fallbacks.values()):
            if pointer is not None:
                require_plain_name(pointer.path)
    except (msgspec.MsgspecError, UnicodeDecodeError, PermanentError) as error:
        raise BundleIntegrityError(
            f"{path} is no deployment: {error}.",
            hint="write it again: `fraud-platform models publish`.",
        ) from error
    return found


def write_deployment(models_dir: Path, deployment: Deployment) -> None:
    """Replace the file; a reader sees the old one or the new one, also after a power cut.

    Callers hold the registry's lock.
    """
    replace_file(models_dir / DEPLOYMENT, msgspec.json.encode(deployment))
