"""The commands `fraud-platform journal ...`: is the scorer's journal sound, and what if not.

Thin: a command opens the log of the settings, calls one thing and prints.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fraud_platform.errors import PermanentError
from fraud_platform.settings import get_settings

if TYPE_CHECKING:
    from fraud_platform.adapters.journal_disk import FolderDisk
    from fraud_platform.adapters.log_file import LogFile


@click.group()
def journal() -> None:
    """Look at the scorer's journal, verify it, repair it."""


@journal.command()
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def status(as_json: bool) -> None:
    """Say how much is in the journal, and how far it is drained."""
    from fraud_platform.adapters.drain import is_drained
    from fraud_platform.adapters.journal import numbers

    disk, log = _parts()
    position, last_seq = log.drained()
    facts = {
        "segments": len(numbers(disk)),
        "sealed": len(log.seals()),
        "drained_segment": position.segment,
        "drained_offset": position.offset,
        "last_seq": last_seq,
        "is_drained": is_drained(disk, log),
    }
    text = "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
    click.echo(json.dumps(facts, indent=1) if as_json else text)


@journal.command()
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def verify(as_json: bool) -> None:
    """Read every segment, and compare the sealed ones with their recorded digests.

    Exit code 0 if all bytes are what was written; else 1.
    """
    from fraud_platform.adapters.journal_check import examine

    found = examine(*_parts())
    if as_json:
        click.echo(json.dumps([asdict(segment) for segment in found], indent=1))
    else:
        for one in found:
            problem = "" if one.problem is None else f"  {one.problem}"
            size = f"{one.records:,} records  {one.bytes:,} bytes"
            click.echo(f"{one.file}  {one.state}  {size}{problem}")
        click.echo(f"{len(found)} segments, {sum(s.problem is not None for s in found)} damaged")
    sys.exit(1 if any(segment.problem is not None for segment in found) else 0)


@journal.command()
@click.option("--yes", is_flag=True, help="Do it; without, only say so.")
def repair(yes: bool) -> None:
    """Set damaged segments aside, keep what is provably in sequence, and say what is lost."""
    from fraud_platform.adapters.journal_check import repair as mend

    disk, log = _parts()
    if not yes:
        raise click.UsageError(
            "this renames damaged segments to *.damaged and goes on behind them;"
            " `fraud-platform journal verify` says which; repeat with --yes"
        )
    with _owned():
        done = mend(disk, log)
    click.echo(f"set aside: {', '.join(done.set_aside) or 'nothing'}")
    click.echo(f"kept behind the damage: {done.kept} records")
    click.echo(f"lost: {_ranges(done.lost) or 'no sound record'}")


@contextmanager
def _owned() -> Iterator[None]:
    """No scorer runs and nobody appends while the block lasts."""
    from fraud_platform.adapters.drain import append_lock
    from fraud_platform.adapters.ledger import OWNER_LOCK

    disk, _ = _parts()
    with closing(disk.lock(OWNER_LOCK)) as owner:
        if not owner.acquire(seconds=0):
            raise PermanentError(
                "found a scorer running on this home, expected none during a repair",
                hint="stop `fraud-platform serve` first",
            )
        with append_lock(disk):
            yield


def _parts() -> "tuple[FolderDisk, LogFile]":
    from fraud_platform.adapters.journal_disk import FolderDisk
    from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile

    path = get_settings().log_path
    if not path.exists():
        raise PermanentError(
            f"found no event log at {path}, expected one with a journal beside it",
            hint="name the home: FRAUD_HOME=...",
        )
    return FolderDisk(path.with_name(JOURNAL_FOLDER)), LogFile(path)


def _ranges(seqs: tuple[int, ...]) -> str:
    if not seqs:
        return ""
    places = f"{len(seqs)} records at log positions {seqs[0]} to {seqs[-1]}"
    return f"{places}; they are in the files set aside"
