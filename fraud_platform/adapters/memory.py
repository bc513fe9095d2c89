"""How much memory this process holds, and held at most."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def resident_mb() -> int:
    """Resident memory now, MiB; 0 where the system does not tell (it is not Linux)."""
    return _status("VmRSS")


def peak_mb() -> int:
    """Largest resident memory since `restart_peak`, or of the process's life, MiB."""
    if found := _status("VmHWM"):
        return found
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def restart_peak() -> None:
    """Forget the peak so far; without effect where the system cannot."""
    try:
        _CLEAR.write_text("5")  # the kernel's word for it
    except OSError:
        return


def _status(name: str) -> int:
    """One line of the kernel's account of this process, MiB; 0 without it."""
    if not _STATUS.exists():
        return 0
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return next((int(words[1]) // 1024 for words in lines if words[0] == f"{name}:"), 0)
