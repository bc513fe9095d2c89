"""Who gave a model its role: the promotion signs it, and a scorer believes nobody else.

What belongs here: what is signed of a role, and why a role is not to be trusted. A digest says that
bytes are those that somebody sealed; the signature says that this somebody was the promotion, which
a trainer, or whoever may write the folder of models, is not. Keys and signatures as such are
`signatures`; where the signed statements stand is `deployment`.
"""

import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from fraud_platform.adapters.deployment import Deployment, Signed, Statement
from fraud_platform.adapters.signatures import is_signed, public_keys, signer_at

SIGNING_KEY = "signing"
_DOMAIN = b"fraud_platform promotion 1\n"
"""In front of what is signed: no other document of the platform can pass for a statement."""
_SIGN_ANEW = "`fraud-platform models publish` signs anew where the promotion's key is"
_REMEMBERED = 256


@dataclass(frozen=True)
class Authority:
    """On whose word roles move.

    Attributes:
        by: a person or a run.
        proposal: digest of the proposal that was approved, or None.
        policy_digest: of the policy in force, or None.
    """

    by: str
    proposal: str | None = None
    policy_digest: str | None = None


@dataclass(frozen=True)
class Depot:
    """Where a scorer finds its models, and whose word it takes for their roles.

    Attributes:
        models_dir: folder of the bundles and the deployment.
        keys_dir: folder of the public keys that count.
    """

    models_dir: Path
    keys_dir: Path


def keys_of(models_dir: Path) -> Path:
    """The folder of the promotion's keys in the home of a folder of models.

    In it are the private key `signing`, on the hosts that promote only, and every public key that
    counts, `*.pub`: two while a key is replaced.
    """
    return models_dir.parent / "keys" / "promotion"


def sign_roles(
    models_dir: Path,
    deployment: Deployment,
    authority: Authority,
    before: Deployment | None = None,
) -> Deployment:
    """The deployment with a valid signature on every role; those of before that hold stay.

    Args:
        models_dir: folder of the bundles; the home's key signs, and is made if there is none.
        deployment: the roles.
        authority: on whose word.
        before: what was deployed, if it is known.

    Raises:
        PermanentError: the key is open to others, or can be neither read nor made.
    """
    signer = signer_at(keys_of(models_dir) / SIGNING_KEY)
    held = {signer.key_id: signer.public}
    at_us = time.time_ns() // 1000
    known = {} if before is None else before.signatures
    told = msgspec.structs.replace(deployment, signatures=known)
    signatures: dict[str, Signed] = {}
    for role, pointer in deployment.roles().items():
        if _problem(told, role, held) is None:
            signatures[role] = known[role]
            continue
        statement = Statement(
            role=role,
            version=pointer.version,
            manifest_digest=pointer.manifest_digest,
            canary_share=_share(deployment, role),
            policy_digest=authority.policy_digest,
            proposal=authority.proposal,
            by=authority.by,
            at_us=at_us,
            key_id=signer.key_id,
        )
        signature = b64encode(signer.sign(canonical(statement))).decode()
        signatures[role] = Signed(statement=statement, signature=signature)
    return msgspec.structs.replace(deployment, signatures=signatures)


def untrusted(deployment: Deployment, keys_dir: Path) -> dict[str, str]:
    """The roles that the promotion did not sign as they are, and why each is not to be trusted.

    Args:
        deployment: what is deployed.
        keys_dir: folder of the public keys that count; private ones are not needed.

    Raises:
        PermanentError: a file of the folder holds no key.
    """
    keys = public_keys(keys_dir)
    found = {role: _problem(deployment, role, keys) for role in deployment.roles()}
    return {
        role: f"version {deployment.roles()[role].version} is not to be trusted as {role}: {why}"
        for role, why in found.items()
        if why is not None
    }


def canonical(statement: Statement) -> bytes:
    """The bytes that are signed: a line that names their meaning, then JSON with sorted keys."""
    return _DOMAIN + msgspec.json.encode(statement, order="sorted")


def _problem(deployment: Deployment, role: str, keys: Mapping[str, bytes]) -> str | None:
    """Why a role does not count; None for one that is signed as it is."""
    pointer, signed = deployment.roles()[role], deployment.signatures.get(role)
    if signed is None:
        return f"nobody signed it; {_SIGN_ANEW}"
    told = signed.statement
    expected = {
        "role": role,
        "version": pointer.version,
        "manifest_digest": pointer.manifest_digest,
        "canary_share": _share(deployment, role),
    }
    for name, value in expected.items():
        if (found := getattr(told, name)) != value:
            return f"what is signed says {name} {found}, the deployment {value}; {_SIGN_ANEW}"
    return _problem_of_key(signed, keys)


def _problem_of_key(signed: Signed, keys: Mapping[str, bytes]) -> str | None:
    """Why a signature is none of the promotion's, or None."""
    told = signed.statement
    if told.key_id not in keys:
        pinned = ", ".join(keys) or "none"
        return f"it is signed by key {told.key_id[:16]}, pinned are: {pinned}; {_SIGN_ANEW}"
    if not _is_genuine(canonical(told), signed.signature, keys[told.key_id]):
        return f"the signature is not that of key {told.key_id}; {_SIGN_ANEW}"
    return None


def _share(deployment: Deployment, role: str) -> float:
    """What the role alone does not tell of how much it decides."""
    return deployment.canary_share if role == "challenger" else 0.0


@lru_cache(maxsize=_REMEMBERED)
def _is_genuine(content: bytes, signature: str, public: bytes) -> bool:
    try:
        return is_signed(content, b64decode(signature, validate=True), public)
    except ValueError:
        return False
