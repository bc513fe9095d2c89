"""Golden rows: what a model scored where it was trained, and must score bit for bit everywhere.

What belongs here: their file, and the comparison. The bundle that holds them is `model_bundle`.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fraud_platform.errors import BundleIntegrityError, PermanentError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import Model

_GOLDEN_ARRAYS, _MOST_GOLDEN = 2, 4096


def decode_golden(content: bytes, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The golden rows and their scores; a file that would unpack to more than it is, is refused.

    Args:
        content: of the file, its digest checked.
        path: where it was read, for the message.

    Returns:
        Rows of shape (n, k) and scores of shape (n,), n at least 1.

    Raises:
        BundleIntegrityError: it holds something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = [entry.file_size for entry in archive.infolist()]
            if sum(sizes) > len(content) or len(sizes) != _GOLDEN_ARRAYS:
                raise ValueError(f"{len(sizes)} arrays that unpack to {sum(sizes)} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            features, scores = arrays["features"], arrays["scores"]
    # Whatever a broken archive or array header makes its parser raise.
    except (ArithmeticError, EOFError, LookupError, MemoryError, OSError) as error:
        raise BundleIntegrityError(f"{path} holds no golden rows: {error}.") from error
    except (RuntimeError, SyntaxError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise BundleIntegrityError(f"{path} holds no golden rows: {error}.") from error
    if features.dtype != np.float64 or features.shape[1:] != (len(FEATURE_NAMES),):
        raise BundleIntegrityError(
            f"{path} has features of shape {features.shape} and type {features.dtype}."
        )
    usable = (
        bool(np.all((scores >= 0.0) & (scores <= 1.0))) if scores.dtype == np.float64 else False
    )
    if not usable or scores.shape != features.shape[:1] or not 0 < len(scores) <= _MOST_GOLDEN:
        raise BundleIntegrityError(
            f"{path} has scores of shape {scores.shape} for features of shape {features.shape}; "
            f"expected a number in [0, 1] for each of 1 to {_MOST_GOLDEN} rows."
        )
    return features, scores


def require_golden_bits(
    model: Model, features: NDArray[np.float64], expected: NDArray[np.float64], path: Path
) -> None:
    """Refuse a model that does not give the golden rows their scores, bit for bit.

    Raises:
        BundleIntegrityError: a score differs.
    """
    found = model.score(features)
    if found.tobytes() != expected.tobytes():
        raise BundleIntegrityError(
            f"{path}: {int(np.sum(found != expected))} of {len(expected)} golden rows score "
            "differently here than where the model was trained.",
            hint="use the same library versions and kind of machine on both sides.",
        )


def encode_golden(features: NDArray[np.float64], scores: NDArray[np.float64]) -> bytes:
    """The file of rows and their scores.

    Raises:
        PermanentError: there are no rows.
    """
    if not len(features):
        raise PermanentError("A bundle needs at least one golden row; found none.")
    buffer = io.BytesIO()
    np.savez(buffer, features=features, scores=scores)
    return buffer.getvalue()
