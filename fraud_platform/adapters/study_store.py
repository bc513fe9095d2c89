"""Finished trials on disk: a training that was killed goes on where it was.

What belongs here: one file per search, replaced whole after each trial, and the lock that keeps two
trainings from making the same one at the same time. What a trial is, and why going on gives the
same model, is `search`.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from fraud_platform.adapters.lock_file import locked
from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.errors import UnavailableError
from fraud_platform.search import Trial


class StudyFile:
    """A `search.Study` of one search, durable after each trial; made by `StudyStore`.

    The first line is the digest of the second, which holds the trials.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trials = _read(path)

    def trials(self) -> tuple[Trial, ...]:
        """What is finished, by number."""
        return self._trials

    def add(self, trial: Trial) -> None:
        """Keep one more; it is on the disk when this returns.

        Raises:
            UnavailableError: the disk refuses.
        """
        trials = (*self._trials, trial)
        content = msgspec.json.encode(trials)
        try:
            replace_file(self._path, f"{sha256(content)}\n".encode() + content)
        except OSError as error:
            raise UnavailableError(f"{self._path} cannot be written: {error.strerror}.") from error
        self._trials = trials

    def seconds(self) -> float:
        """A clock that only goes forward."""
        return time.monotonic()


class StudyStore:
    """The searches of one home.

    Args:
        folder: their files, a few kilobytes each; may be deleted while nothing is trained.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def study(self, key: str) -> Iterator[StudyFile]:
        """The search of this name (`model.study_key`), for one training at a time.

        Another process that makes the same search is waited for; what it finished is then there.

        Raises:
            UnavailableError: the disk refuses.
        """
        lock = self._folder / f"{key}.lock"
        with ExitStack() as held:
            try:
                held.enter_context(locked(lock))
            except OSError as error:
                raise UnavailableError(f"{lock} cannot be locked: {error.strerror}.") from error
            yield StudyFile(self._folder / f"{key}.json")


def _read(path: Path) -> tuple[Trial, ...]:
    """The trials of a file; none if it is absent, damaged or of another version of the code."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}.") from error
    if digest.decode("ascii", "replace") != sha256(content):
        return _made_again(path, "is damaged")
    try:
        return msgspec.json.decode(content, type=tuple[Trial, ...])
    except msgspec.DecodeError:
        return _made_again(path, "was written by another version")


def _made_again(path: Path, what: str) -> tuple[Trial, ...]:
    logging.getLogger(__name__).warning(f"{path} {what}: its trials are made again.")
    return ()
