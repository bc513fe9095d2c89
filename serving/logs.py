"""How the scorer's log looks: for people, or one JSON object per line.

Neither form shows what an exception says, only its kind and where it came from: what it says may
quote a request.
"""

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure_logs(form: Literal["text", "json"]) -> None:
    """Send this process's log to stderr in one form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else Plain())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class Plain(logging.Formatter):
    """One line for people; a failure adds where it came from."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 -- the name is logging's
        """The failure's kind and the lines it passed, without what it says."""
        return "\n".join(_failure(ei))


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, event, message, and a failure's kind and places.

    The event is the place that speaks, as `module.function`, or the record's own `event`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", f"{record.module}.{record.funcName}"),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["failure"] = _failure(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _failure(ei: _ExcInfo) -> list[str]:
    if ei[0] is None:
        return []
    frames = traceback.extract_tb(ei[2])
    return [
        ei[0].__name__,
        *(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames),
    ]
