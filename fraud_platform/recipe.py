"""What it takes to make a model again beside its rows, and how two models are told apart.

What belongs here: the facts of a training that its parameters do not tell, and one digest for the
trees of either library. Making a model again is `reproduction`.
"""

import hashlib
import json

import msgspec

from fraud_platform.model import Model, ModelPolicy

_DIRTY = ("-dirty", "+")


class Recipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where and how a model was fitted.

    Attributes:
        seed: of the search and of the fit.
        threads: of the fit; they change no bit of a model.
        code_commit: commit of the code, or None if nobody told it.
        is_dirty: whether the code was changed since that commit.
        lock_digest: SHA-256 of the file that locks the dependencies, or None if it was not there.
        machine: kind of processor (`machine.machine_kind`); bits are promised on one kind only.
    """

    seed: int
    threads: int
    code_commit: str | None = None
    is_dirty: bool = False
    lock_digest: str | None = None
    machine: str = ""


def recipe_of(
    policy: ModelPolicy, commit: str | None, *, lock_digest: str | None, machine: str
) -> Recipe:
    """The recipe of a training under a policy.

    Args:
        policy: of the fit.
        commit: as git describes it, with `-dirty` behind it where files differ; None: unknown.
        lock_digest: SHA-256 of the file that locks the dependencies, or None.
        machine: kind of processor.

    Examples:
        >>> found = recipe_of(ModelPolicy(), "c0ffee-dirty", lock_digest=None, machine="x86_64")
        >>> found.code_commit, found.is_dirty
        ('c0ffee', True)
    """
    mark = next((mark for mark in _DIRTY if commit and commit.endswith(mark)), "")
    return Recipe(
        seed=policy.seed,
        threads=policy.threads,
        code_commit=commit.removesuffix(mark) if commit else None,
        is_dirty=bool(mark),
        lock_digest=lock_digest,
        machine=machine,
    )


def why_unclean(recipe: Recipe | None) -> str | None:
    """Why nobody can look up the code that trained a model; None if somebody can.

    Examples:
        >>> why_unclean(Recipe(seed=1, threads=1, code_commit="c0ffee", is_dirty=True))
        'its code was changed since commit c0ffee'
    """
    if recipe is None or recipe.code_commit in (None, "unknown"):
        return "nobody knows which code trained it"
    return f"its code was changed since commit {recipe.code_commit}" if recipe.is_dirty else None


def tree_digest(model: Model) -> str:
    """SHA-256 (hex) of a model's trees alone: of what scores, not of how the file says it.

    XGBoost: the canonical JSON of its `gradient_booster`. LightGBM: its text in front of the block
    `parameters:`, which names the thread count.

    Raises:
        BundleIntegrityError: the payload is no model of its library.
    """
    if model.library == "lightgbm":
        return hashlib.sha256(model.payload.partition(b"\nparameters:")[0].rstrip()).hexdigest()
    learner = json.loads(bytes(model.booster.save_raw("json")))["learner"]
    told = json.dumps(learner["gradient_booster"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()
