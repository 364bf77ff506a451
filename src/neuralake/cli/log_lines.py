"""What the parts log, a line each: text for people, or JSON objects for programs.

A JSON line has `time` (UTC, RFC 3339), `level`, `part`, `logger`, `message`, what it is about
(`table`, `partition`, `position`, `version`), and `trace` where a fault of ours is told.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

__all__ = ["JsonLine", "TextLine", "is_json_line", "json_line"]

_ABOUT = ("table", "partition", "position", "version")


class TextLine(logging.Formatter):
    """Lines that may hold texts of strangers, and may go to a terminal.

    A level is named where it matters: for warnings and errors. `up` looks for it there.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        from neuralake.cli.terminal import printable

        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        return printable(level + super().format(record))


class JsonLine(logging.Formatter):
    """One JSON object a line, of the part that it is made for."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        about = {name: getattr(record, name) for name in _ABOUT if hasattr(record, name)}
        if record.exc_info:
            about["trace"] = self.formatException(record.exc_info)
        return json_line(
            record.created,
            self._part,
            record.getMessage(),
            level=record.levelname,
            logger=record.name,
            **about,
        )


def json_line(at_s: float, part: str, message: str, *, level: str = "INFO", **facts: object) -> str:
    """A line as `JsonLine` writes them. `at_s` is in Unix seconds."""
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    line = {"time": at.replace("+00:00", "Z"), "level": level, "part": part, **facts}
    # Escaped by JSON, control characters reach no terminal.
    return msgspec.json.encode(line | {"message": message}).decode()


def is_json_line(line: str) -> bool:
    """Whether `line` is an object already."""
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except msgspec.DecodeError:
        return False
