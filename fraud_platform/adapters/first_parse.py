"""The first parse of a model file happens in a child process.

What belongs here: starting the child, its time limit, and turning its end into a reason. What the
child does is `parse_child`. A digest proves that bytes are the ones that were sealed, not that a
native parser survives them: whoever can write a folder can seal a file that kills its reader.
"""

import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fraud_platform.adapters import parse_child
from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.errors import BundleIntegrityError, UnavailableError

TIME_LIMIT_SECONDS = 20.0
"""Longest wait for the child by the clock; its processor time is limited by itself."""
_SHARED_OBJECTS = {"xgboost": "libxgboost.so", "lightgbm": "lib_lightgbm.so"}
_MOST_REMEMBERED = 256

_survived: dict[str, None] = {}
"""Digests of what a child of this process has parsed well: the same bytes need no second child."""


def parse_in_child(
    library: str,
    payload: bytes,
    rows: NDArray[np.float32],
    expected: NDArray[np.float64],
) -> None:
    """Let a child parse a model, score its golden rows and compute contributions.

    Args:
        library: "xgboost" or "lightgbm".
        payload: the model file, its digest checked.
        rows: shape (n, k), the golden rows as the libraries see them.
        expected: shape (n,), the scores they must get.

    Raises:
        BundleIntegrityError: the child died, hung, refused the file, or scored otherwise.
        UnavailableError: no child could be started.
    """
    kind = np.dtype(np.float32 if library == "xgboost" else np.float64)
    matrix = np.ascontiguousarray(rows, dtype=kind).tobytes()
    name = sha256(b"".join((library.encode(), payload, matrix, expected.tobytes())))
    if name in _survived:
        return
    task = {
        "library": library,
        "shared_object": str(shared_object(library)),
        "model_bytes": len(payload),
        "rows": rows.shape[0],
        "columns": rows.shape[1],
    }
    answer = _asked(b"".join((json.dumps(task).encode(), b"\n", payload, matrix)))
    if "scores" not in answer:
        raise _refusal(f"refuses it: {answer.get('refused', 'no scores')}")
    told = bytes.fromhex(answer["scores"])
    whole = told[: len(told) // kind.itemsize * kind.itemsize]
    found = np.frombuffer(whole, dtype=kind).astype(np.float64)
    if found.tobytes() != expected.tobytes():
        differing = len(expected) if found.shape != expected.shape else np.sum(found != expected)
        raise BundleIntegrityError(
            f"{int(differing)} of {len(expected)} golden rows score differently here than where "
            "the model was trained.",
            hint="use the same library versions and kind of machine on both sides.",
        )
    if len(_survived) >= _MOST_REMEMBERED:
        _survived.pop(next(iter(_survived)))
    _survived[name] = None


def shared_object(library: str) -> Path:
    """The library's native code, found without importing the library.

    Raises:
        UnavailableError: it is not installed as expected.
    """
    found = importlib.util.find_spec(library)
    folders = found.submodule_search_locations if found is not None else None
    path = Path(folders[0]) / "lib" / _SHARED_OBJECTS[library] if folders else None
    if path is None or not path.is_file():
        raise UnavailableError(
            f"The native code of {library} was not found at {path}.",
            hint="install the locked dependencies.",
        )
    return path


def _asked(task: bytes) -> dict[str, str]:
    """Run the child on a task; its answer, or the way it ended."""
    # -I and -S: neither the environment nor the working directory can put code into the child.
    command = [sys.executable, "-I", "-S", parse_child.__file__]
    with tempfile.TemporaryFile() as output:  # a file, so that the child's limit holds for it
        try:
            ended = subprocess.run(  # noqa: S603 -- our own program
                command,
                input=task,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env={"OMP_NUM_THREADS": "1"},
                timeout=TIME_LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _refusal(f"gave no answer within {TIME_LIMIT_SECONDS:g} s") from None
        except OSError as error:
            raise UnavailableError(
                f"No child process could be started: {error.strerror}."
            ) from error
        if ended.returncode:
            raise _refusal(_way_out(ended.returncode))
        return _parsed(output)


def _parsed(output: IO[bytes]) -> dict[str, str]:
    output.seek(0)
    try:
        answer = json.loads(output.read())
        if not (isinstance(answer, dict) and all(isinstance(v, str) for v in answer.values())):
            raise TypeError("no object of texts")
        bytes.fromhex(answer.get("scores", ""))
    except (ValueError, TypeError) as error:
        raise _refusal("answered something that is no answer") from error
    return answer


def _way_out(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _refusal(what: str) -> BundleIntegrityError:
    return BundleIntegrityError(
        f"The model file is not safe to load: a child process that parsed it first {what}.",
        hint="train and publish again, or roll back.",
    )
