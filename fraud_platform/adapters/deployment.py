"""Which models a scorer holds: one small file, replaced as a whole.

What belongs here: the form of `deployment.json`, reading and writing it. Who may move it is
`model_registry`, its only writer; `promotion_signature` checks who signed its roles, `model_bundle`
what the pointers name.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fraud_platform.adapters.sealed_folder import read_regular, replace_file, require_plain_name
from fraud_platform.errors import BundleIntegrityError, PermanentError

DEPLOYMENT = "deployment.json"
FORMAT = 2
"""Of the file as it is written here; files from before signatures name none."""


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


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a promotion says of one role, and signs.

    Attributes:
        role: "champion", "challenger", "previous" or "fallback_<name>".
        version: the bundle's version.
        manifest_digest: SHA-256 of its manifest's bytes.
        canary_share: the challenger's share of the cards; 0 for every other role.
        policy_digest: of the policy that it was promoted under; None: none was named.
        proposal: digest of the proposal that was approved; None: it needed none.
        by: who moved the role.
        at_us: when, microseconds since 1970 UTC.
        key_id: of the key that signs (`signatures.key_id`).
    """

    role: str
    version: str
    manifest_digest: str
    canary_share: float = 0.0
    policy_digest: str | None = None
    proposal: str | None = None
    by: str
    at_us: int
    key_id: str


class Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement with its signature.

    Attributes:
        statement: what is said.
        signature: Ed25519 over its canonical form, base64.
    """

    statement: Statement
    signature: str


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
        signatures: role -> what the promotion signed of it; a role without one is refused.
        format: of the file.
    """

    sequence: int = 0
    champion: Pointer | None = None
    challenger: Pointer | None = None
    previous: Pointer | None = None
    canary_share: float = 0.0
    fallbacks: Mapping[str, Pointer] = {}
    signatures: Mapping[str, Signed] = {}
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not 0.0 <= self.canary_share <= 1.0:
            raise ValueError(f"found canary_share={self.canary_share}, expected one in [0, 1]")
        if self.format > FORMAT:
            raise ValueError(f"found format {self.format}, expected at most {FORMAT}")

    def roles(self) -> dict[str, Pointer]:
        """The roles that are given, the most urgent first."""
        found = {"champion": self.champion, "previous": self.previous}
        found["challenger"] = self.challenger
        found |= {fallback_role(name): pointer for name, pointer in self.fallbacks.items()}
        return {role: pointer for role, pointer in found.items() if pointer is not None}


def fallback_role(name: str) -> str:
    """The role of a deployed fallback.

    Examples:
        >>> fallback_role("money")
        'fallback_money'
    """
    return f"fallback_{name}"


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
        for pointer in found.roles().values():
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
