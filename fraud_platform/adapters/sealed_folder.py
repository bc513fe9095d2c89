"""Folders and files that appear whole, stay as they are, and are read back byte for byte.

What belongs here: durability of what is written once. What the bytes mean is `model_bundle`.
"""

import hashlib
import os
import shutil
import stat
import uuid
from errno import EISDIR, ELOOP, ENOENT, ENOTDIR, ENXIO
from pathlib import Path

from fraud_platform.errors import BundleIntegrityError, PermanentError, UnavailableError

MOST_BYTES = 1 << 30
"""No sealed file is larger; a reader that takes anything can be made to take all memory."""
_NO_FILE = frozenset({EISDIR, ELOOP, ENOENT, ENOTDIR, ENXIO})


def sha256(content: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(content).hexdigest()


def read_regular(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        BundleIntegrityError: it is missing, a link, no file, or larger than `most_bytes`.
        UnavailableError: the disk does not answer.
    """
    try:
        # A link would let the content change behind the verified folder; a pipe would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BundleIntegrityError(f"{path} is missing or no regular file.")
            if found.st_size > most_bytes:
                raise BundleIntegrityError(
                    f"{path} has {found.st_size} bytes; expected at most {most_bytes}."
                )
            return file.read(most_bytes)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise BundleIntegrityError(f"{path} is missing or no regular file.") from error
        raise UnavailableError(f"{path} cannot be read: {error.strerror}.") from error


def require_plain_name(name: str) -> None:
    """Refuse a name that could lead out of its folder or hide in it.

    Raises:
        PermanentError: it is empty, starts with a dot, or holds other than letters, digits, `-`,
            `_` and `.`.
    """
    if (
        not name
        or name.startswith(".")
        or not name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise PermanentError(f"{name!r} is no version; expected letters, digits, '-', '_', '.'.")


def publish_folder(parent: Path, name: str, files: dict[str, bytes], *, seal: str) -> Path:
    """Write a folder of files, whole or not at all; the same content again changes nothing.

    Args:
        parent: where the folder goes; made if absent.
        name: the folder's name.
        files: file name -> content.
        seal: the file whose content stands for all (it holds the others' digests).

    Raises:
        PermanentError: the folder exists with another seal.
    """
    target = parent / name
    if target.exists():
        return _same_or_refused(target, seal, files[seal])
    part = parent / f".{name}.{uuid.uuid4().hex}"
    part.mkdir(parents=True)
    for file_name, content in files.items():
        _write_durably(part / file_name, content)
    sync_folder(part)
    try:
        part.rename(target)
    except OSError:
        shutil.rmtree(part)
        if not target.exists():
            raise
        # Another process published this version between the look and the rename.
        return _same_or_refused(target, seal, files[seal])
    sync_folder(parent)
    return target


def _same_or_refused(target: Path, seal: str, content: bytes) -> Path:
    if read_regular(target / seal) != content:
        raise PermanentError(
            f"{target} already holds another bundle; a version is written once.",
            hint="register the model again to get a new version.",
        )
    return target


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace a file; a reader sees the old or the new content, also after a power cut.

    Args:
        path: the file; its folder is made if absent.
        content: all of it.
        mode: who may read and write it, before the process' umask; 0o600 for its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    _write_durably(part, content, mode)
    part.replace(path)
    sync_folder(path.parent)


def _write_durably(path: Path, content: bytes, mode: int = 0o666) -> None:
    # With its mode from the start: a secret is at no moment open to others.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make what appeared in a folder, or left it, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
