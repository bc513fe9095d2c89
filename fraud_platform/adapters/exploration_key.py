"""The secret that exploration draws with: one file in the home, made once, its owner's alone.

Whoever reads it can compute which payments will be let through. Whoever loses it can prove no
earlier draw: it belongs into the backup of the home.
"""

import os
import re
import secrets
import stat
from pathlib import Path

from fraud_platform.errors import PermanentError
from fraud_platform.selective_labels import ExplorationPolicy, Explorer

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def explorer_at(path: Path, policy: ExplorationPolicy) -> Explorer | None:
    """What draws by this policy with the home's key, which is made if there is none.

    Args:
        path: the key's file.
        policy: the policy in force.

    Returns:
        None where the policy draws nothing; no key is made then.

    Raises:
        PermanentError: the file cannot be used, or others may read it.
    """
    if policy.is_on and not path.exists():
        _make(path)
    return known_explorer(path, policy)


def known_explorer(path: Path, policy: ExplorationPolicy) -> Explorer | None:
    """The same for whoever only looks: None, too, where there is no key.

    Raises:
        PermanentError: the file cannot be used, or others may read it.
    """
    if not policy.is_on or not path.exists():
        return None
    return Explorer(policy, _read(path))


def _make(path: Path) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)  # whole or not at all, and never over another's
        except FileExistsError:
            pass  # another process was first: its key is the key
        finally:
            part.unlink()
        _settle(path.parent)
    except OSError as error:
        raise _unusable(path, f"cannot be made ({error.strerror})") from error


def _settle(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(65)
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error
    if mode & _OTHERS:
        raise _unusable(path, f"is open to others (mode {stat.S_IMODE(mode):o})")
    if not re.fullmatch(rb"[0-9a-f]{64}", content):
        raise _unusable(path, "is not what this platform writes")
    return bytes.fromhex(content.decode())


def _unusable(path: Path, what: str) -> PermanentError:
    return PermanentError(
        f"found that the key of exploration {path} {what}, expected 64 hex digits of its owner's",
        hint="chmod 600; or put back a copy; or switch FRAUD_EXPLORATION__* off. A new key makes"
        " earlier draws unprovable",
    )
