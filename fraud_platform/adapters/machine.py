"""What a training ran on: the kind of processor, and the locked dependencies.

What belongs here: reading these two facts. What they mean for a model made again is `reproduction`.
"""

import platform
from pathlib import Path

from fraud_platform.adapters.sealed_folder import sha256

_PROCESSOR = Path("/proc/cpuinfo")
_LOCK = Path(__file__).parents[2] / "requirements.lock"
_TELLING = ("avx", "avx2", "fma", "avx512f", "asimd", "sve")
"""Extensions by which compiled sums may round otherwise."""


def machine_kind() -> str:
    """The processor's family and those of its extensions that may change a rounding.

    For instance `x86_64 avx avx2 fma`.
    """
    try:
        told = _PROCESSOR.read_text(errors="replace")
    except OSError:  # no Linux
        told = ""
    flags = {
        word
        for line in told.splitlines()
        if line.startswith(("flags", "Features"))
        for word in line.split()
    }
    return " ".join((platform.machine(), *(flag for flag in _TELLING if flag in flags)))


def lock_digest() -> str | None:
    """SHA-256 of `requirements.lock` beside the code; None where the code came without it."""
    return sha256(_LOCK.read_bytes()) if _LOCK.is_file() else None
