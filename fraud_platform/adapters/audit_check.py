"""The check of a home's audit log, and of the event log against what was sealed of it.

A check without a finding leaves where it ended, `verified.json` beside the log (`audit_mark`): the
next one may begin there.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from fraud_platform.adapters.audit_anchor import Anchor, whole_heads
from fraud_platform.adapters.audit_keys import AuditKeys, read_key, read_publics
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_mark import Basis, read_mark, write_mark
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.control_runs import note_run
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_seals import BadRange, Compared, seals_of
from fraud_platform.adapters.sealed_folder import read_regular
from fraud_platform.adapters.signatures import is_signed
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.diagnosis import Finding
from fraud_platform.audit_log.heads import parse_head, parse_heads
from fraud_platform.audit_log.rows import Tail
from fraud_platform.audit_log.verification import AuditReport, Checked, Trust, verified
from fraud_platform.controls import Control
from fraud_platform.errors import FraudPlatformError, PermanentError
from fraud_platform.settings import Settings

_MOST_BYTES = 1 << 30
_ON_ITS_WAY_SECONDS = 1.0
"""A first head that was signed a moment ago may not be copied yet."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a check goes by.

    Attributes:
        anchors: files with heads that were kept elsewhere, beside the anchor of the settings.
        first_key: the first key of the MACs; None: the one beside the log, if it is still there.
        public: the public keys of the heads, the newest last; None: those beside the log.
        whole: whether to begin at the first row even where an earlier check ended further on.
        turn: with the end of an earlier check, the hour of the day: of the ranges of the event log
            that were compared then, only those whose turn it is are; None: all. Once a day, at
            hour 0, every row of the audit log is read.
    """

    anchors: Sequence[Path] = ()
    first_key: Path | None = None
    public: Path | None = None
    whole: bool = True
    turn: int | None = None


@dataclass(frozen=True, kw_only=True)
class AuditCheck:
    """What a check found.

    Attributes:
        log: about the audit log.
        ranges: about the event log: each sealed range that it does not hold any more.
        compared: so many ranges of the event log were read.
        purged: so many stand there no more because retention deleted them, as announced.
        remarks: what the one who reads this should see to.
    """

    log: AuditReport
    ranges: tuple[BadRange, ...]
    compared: int
    purged: int
    remarks: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing was found."""
        return self.log.is_intact and not self.ranges

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; first the audit log."""
        found = [self.log.finding.to_text()] if self.log.finding else []
        return (*found, *(one.to_text() for one in self.ranges))


def recorded_check(settings: Settings, act: Callable[..., Act], wanted: Wanted) -> AuditCheck:
    """Check the audit log, and the event log against its seals; the audit log says by whom.

    A finding calls a person.

    Args:
        settings: of the home.
        act: makes the act of an action and an object: `Operator.act` does.
        wanted: what the check goes by.

    Raises:
        PermanentError: a key or an anchor cannot be read.
        AuditUnavailableError: the audit log cannot be read, or the check cannot be recorded.
        LogUnavailableError: the event log cannot be read.
    """
    now_us = time.time_ns() // 1_000
    try:
        check = check_audit_log(settings, wanted)
        if check.log.is_intact:  # whoever changed it gets no row after theirs
            told = act(action="audit.verify", object="log")
            audit_log_of(settings).record(told, outcome="intact" if check.is_intact else "damaged")
    except FraudPlatformError as error:
        note_run(settings, Control.AUDIT_CHECK, error.message, now_us)
        raise
    note_run(settings, Control.AUDIT_CHECK, next(iter(check.findings), None), now_us)
    return check


def check_audit_log(settings: Settings, wanted: Wanted) -> AuditCheck:
    """Check the audit log, and the event log against its seals.

    Raises:
        PermanentError: a key or an anchor cannot be read.
        AuditUnavailableError: the audit log cannot be read.
        LogUnavailableError: the event log cannot be read.
    """
    audit = audit_log_of(settings)
    kept = _kept_heads(settings, audit.store.tail().name, wanted.anchors)
    tail = audit.store.tail()  # behind what was kept: that has no head of rows that it lacks
    keys = AuditKeys(settings.audit_dir)
    first_key = wanted.first_key or (keys.first_path if keys.first_path.exists() else None)
    *former, public = keys.publics if wanted.public is None else read_publics(wanted.public)
    basis = Basis(public, first_key is not None, any(kept))
    mark = settings.audit_dir / "verified.json"
    ended = None if wanted.whole else read_mark(mark, tail.name, basis)
    since = None if wanted.turn == 0 else ended  # what was read may be changed afterwards
    trust = Trust(
        public=public,
        former=former,
        is_signed=is_signed,
        first_key=read_key(first_key) if first_key else None,
        anchors=[head for text in kept for head in parse_heads(_from(text, since))],
    )
    report = verified(
        # Others go on writing: the log is checked up to where it ended a moment ago. Rows that
        # somebody put behind its end without the platform stop the next act that is recorded.
        lambda after: audit.rows(RowFilter(after=after, before=tail.size + 1)),
        # With the head that an earlier check ended at: the next one stands on it.
        audit.store.heads(above=_size(since) - 1, upto=tail.head_size),
        tail,
        trust,
        since=since,
    )
    if report.is_intact and (finding := _anchor_finding(settings, tail)):
        report = replace(report, finding=finding, checked=None)
    compared = _compared(settings, _size(ended), wanted.turn)
    check = AuditCheck(
        log=report,
        ranges=compared.bad,
        compared=compared.ranges,
        purged=compared.purged,
        remarks=tuple(_remarks(settings, keys, trust, wanted, is_whole=ended is None)),
    )
    if not check.is_intact:
        mark.unlink(missing_ok=True)  # until it is well again every check begins at the start
    elif report.checked is not None:
        write_mark(mark, report.checked, basis, keys.signer)
    return check


def _size(ended: Checked | None) -> int:
    """The row that an earlier check ended at; 0: there is none."""
    return 0 if ended is None else parse_head(ended.note).size


def _compared(settings: Settings, after: int, turn: int | None) -> Compared:
    if settings.log_path.exists():
        with closing(EventLog(settings.log_path)) as log:
            log.drain()
    return seals_of(settings).compare(after=after, turn=turn)


def _remarks(
    settings: Settings, keys: AuditKeys, trust: Trust, wanted: Wanted, *, is_whole: bool
) -> list[str]:
    """What weakens the check, or the log."""
    told = []
    if is_whole and not wanted.whole:
        told.append(
            "no earlier check, signed and going by as much as this one, ended further on: the log"
            " was checked from its first row"
        )
    if keys.first_path.exists():
        told.append(
            f"the first key of the MACs is still in {keys.first_path}: take it away, and show it to"
            " the next check with --first-key"
        )
    if trust.first_key is None:
        told.append("MACs were not checked: show the first key with --first-key")
    if not trust.anchors:
        told.append(
            "no head from elsewhere was compared: whether the end was cut off is not known;"
            " set FRAUD_AUDIT__ANCHOR_DIR"
        )
    if wanted.public is None:
        told.append("the public key is the one beside the log: keep a copy, and show it (--public)")
    return told


def _anchor_finding(settings: Settings, tail: Tail) -> Finding | None:
    """Whether the anchor's folder is this log's: a log that was made anew has another name."""
    if not settings.audit.anchor_dir:
        return None
    anchor = Anchor(Path(settings.audit.anchor_dir))
    last = max(1, tail.size)
    if set(anchor.paths) - {anchor.path(tail.name)}:
        return Finding("replaced", 1, last)
    if tail.head_size and not anchor.size(tail.name):
        time.sleep(_ON_ITS_WAY_SECONDS)
        return None if anchor.size(tail.name) else Finding("not anchored", 1, last)
    return None


def _kept_heads(settings: Settings, name: str, files: Sequence[Path]) -> list[str]:
    """The texts of heads that were kept elsewhere."""
    found = list(files)
    if settings.audit.anchor_dir:
        ours = Anchor(Path(settings.audit.anchor_dir)).path(name)
        found += [ours] if ours.exists() else []
    texts = []
    for path in found:
        content = read_regular(path, most_bytes=_MOST_BYTES)
        texts.append(whole_heads(content).decode("utf-8", "replace"))
        if not texts[-1] and path in files:
            raise PermanentError(f"found no head of an audit log in {path}, expected one or more")
    return texts


def _from(text: str, since: Checked | None) -> str:
    """Heads from the one on that an earlier check ended at, where it is among them."""
    return text if since is None else text[max(0, text.rfind(since.note)) :]
