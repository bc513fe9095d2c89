"""Purging files: days of tables and reports, and finished segments of the journal."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

from fraud_platform.adapters.drain import trim
from fraud_platform.adapters.journal import name_of, numbers
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
from fraud_platform.adapters.retention_class import Due, Kept, digest_of
from fraud_platform.adapters.sealed_folder import replace_file, sha256
from fraud_platform.adapters.tables import PURGED_UNTIL, Tables
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import HistoryChangedError
from fraud_platform.events import moment_of
from fraud_platform.retention import (
    before_us,
    due_days,
    first_kept_day,
    first_needed_day,
    least_days,
)
from fraud_platform.settings import Settings

_KEPT = "training_set_document"
"""What models were trained on: counts and digests, kept as long as the models are."""
LISTS = "retention"
"""Folder of the home with the names and digests of deleted files, by row of the audit log."""


class KeptTables(Kept):
    """The class `tables`: daily tables, training sets and reports.

    Args:
        settings: of the home.
    """

    name, unit = "tables", "files"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tables = Tables(settings.tables_dir)

    @property
    def days(self) -> int | None:
        """Its limit."""
        return self._settings.retention.tables_days

    def oldest(self) -> datetime | None:
        """The oldest day of any table."""
        found = [day for name in self._names() for day in self._tables.days(name)[:1]]
        found += [day for day, _ in self._reports()]
        day = min(found, default=None)
        return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)

    def prepare(self) -> None:
        """Nothing has to be."""

    def due(self, now_us: int) -> Due | None:
        """The days that ended longer ago than the limit and that the newest day is not made of."""
        newest = max(
            (day for name in self._names() for day in self._tables.days(name)), default=None
        )
        if self.days is None or newest is None:
            return None
        needed, _ = least_days(self._settings.labels, self._settings.training)[self.name]
        until = min(first_kept_day(now_us, self.days), first_needed_day(newest, needed))
        files = self._past(until)
        if not files:
            return None
        days = sorted(date.fromisoformat(path.stem) for path in files)
        size = sum(path.stat().st_size for path in files)
        facts = {"days": self.days, "until": until, "first": days[0], "last": days[-1]}
        facts |= {"files": len(files), "bytes": size}
        return Due(
            object="tables",
            digest=digest_of(self._listed(files)),
            count=len(files),
            facts={name: str(value) for name, value in facts.items()},
        )

    def require_intact(self, facts: Mapping[str, str]) -> None:
        """The list of digests is compared again before the first file goes."""

    def carry_out(self, row: Row, require_free: Callable[[], None]) -> None:
        """Keep the list of what goes, tell each table where it begins, and delete."""
        until = date.fromisoformat(row.told["until"])
        place = self._settings.home / LISTS / f"{row.seq}.sha256"
        is_kept = place.exists()
        told = place.read_text("utf-8").splitlines() if is_kept else []
        lines = told or self._listed(self._past(until))
        if digest_of(lines) != row.before:
            raise HistoryChangedError(
                f"found other files than row {row.seq} of the audit log announces, expected those",
                hint="something writes old days; the next purge takes them as they are then",
            )
        if not is_kept:
            replace_file(place, "".join(f"{line}\n" for line in lines).encode())
        for line in lines:
            require_free()
            path = self._settings.home / line.split("  ", 1)[1]
            if path.parent.parent == self._settings.tables_dir:
                mark = {"until": until.isoformat(), "audit_row": row.seq}
                replace_file(path.parent / PURGED_UNTIL, json.dumps(mark).encode())
            path.unlink(missing_ok=True)

    def _past(self, until: date) -> list[Path]:
        root = self._settings.tables_dir
        found = [
            path
            for name in self._names()
            for day in due_days(self._tables.days(name), until=until)
            for path in (root / name).glob(f"{day}.*")
        ]
        return sorted([*found, *(path for day, path in self._reports() if day < until)])

    def _names(self) -> list[str]:
        root = self._settings.tables_dir
        folders = [path.name for path in root.iterdir() if path.is_dir()] if root.exists() else []
        return sorted({*folders} - {_KEPT})

    def _reports(self) -> Iterator[tuple[date, Path]]:
        for path in sorted(self._settings.reports_dir.rglob("????-??-??.*")):
            yield date.fromisoformat(path.stem), path

    def _listed(self, files: list[Path]) -> list[str]:
        """As `sha256sum` writes them."""
        home = self._settings.home
        return [f"{sha256(path.read_bytes())}  {path.relative_to(home)}" for path in files]


class KeptJournal(Kept):
    """The class `journal`: finished segments whose records are in the event log's tables.

    Args:
        settings: of the home.
    """

    name, unit = "journal", "segments"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._disk = FolderDisk(settings.log_path.with_name(JOURNAL_FOLDER))

    @property
    def days(self) -> int | None:
        """Its limit: `journal_keep_days`."""
        return self._settings.journal_keep_days or None

    def oldest(self) -> datetime | None:
        """When the oldest segment was last written."""
        found = [self._disk.modified_us(name_of(number)) for number in self._numbers()]
        return moment_of(min(found)) if found else None

    def prepare(self) -> None:
        """Nothing has to be."""

    def due(self, now_us: int) -> Due | None:
        """Segments that were sealed, and last written before the limit."""
        if self.days is None or not self._settings.log_path.exists():
            return None
        limit_us, here = before_us(now_us, self.days), {*self._numbers()}
        with closing(LogFile(self._settings.log_path)) as file:
            going = [
                seal
                for seal in file.seals()
                if seal.number in here and self._disk.modified_us(name_of(seal.number)) < limit_us
            ]
        if not going:
            return None
        facts = {"days": self.days, "before_us": limit_us, "segments": len(going)}
        facts |= {"first": going[0].number, "last": going[-1].number}
        facts |= {"bytes": sum(seal.bytes for seal in going)}
        return Due(
            object="journal",
            digest=digest_of(f"{seal.sha256}  {name_of(seal.number)}" for seal in going),
            count=len(going),
            facts={name: str(value) for name, value in facts.items()},
        )

    def require_intact(self, facts: Mapping[str, str]) -> None:
        """Only what was sealed with a digest goes."""

    def carry_out(self, row: Row, require_free: Callable[[], None]) -> None:
        """Delete them."""
        require_free()
        with closing(LogFile(self._settings.log_path)) as file:
            trim(self._disk, file, older_than_us=int(row.told["before_us"]))

    def _numbers(self) -> list[int]:
        folder = self._settings.log_path.with_name(JOURNAL_FOLDER)
        return list(numbers(self._disk)) if folder.is_dir() else []
