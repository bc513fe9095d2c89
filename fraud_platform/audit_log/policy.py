"""Where the audit log is kept, and where its heads are copied."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class AuditPolicy:
    """Where the audit log is kept, and who else gets its heads."""

    url: str = field(default="", repr=False)
    """PostgreSQL that keeps the audit log, prepared with `deploy/postgresql/audit.sql`:
    `postgresql+psycopg2://[user:password@]host:port/database`; empty: SQLite under the home."""
    anchor_dir: str = ""
    """Folder on another volume, or of another owner, that every signed head is copied into; empty:
    none, and then nobody can tell that the end of the log was cut off."""
