"""What the parts of a platform say, as lines of one terminal or log: when, who, how bad, what.

A warning or error that comes again and again (a part that cannot start, say) is shown three times
and then once a minute with a count; numbers in it do not make it another one. All else is shown.
As JSON every line is written, as it came: programs count for themselves.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.text import Text

from neuralake.cli.log_lines import is_json_line, json_line
from neuralake.clock import Clock, SystemClock

__all__ = ["PartLines"]

_SHOWN_AT_ONCE = 3
_AGAIN_S = 60.0
_KINDS_MAX = 1000
_STYLES = {"ERROR": "bold red", "Error:": "bold red", "WARNING": "yellow"}
_NUMBER = re.compile(r"\d+")


@dataclass
class _Seen:
    times: int
    shown_s: float
    last_s: float


class PartLines:
    """Prints lines of parts. Use it from any thread."""

    def __init__(
        self, console: Console, *, as_json: bool = False, clock: Clock | None = None
    ) -> None:
        self._console, self._as_json = console, as_json
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], _Seen] = {}

    def show(self, part: str, line: str) -> None:
        """Print what `part` wrote, in one piece."""
        if self._as_json:
            # A part's own lines are objects; what it or its libraries print besides is made one.
            whole = line if is_json_line(line) else json_line(self._clock.now_s(), part, line)
            with self._lock:
                self._console.file.write(whole + "\n")
                self._console.file.flush()
            return
        level, blank, rest = line.partition(" ")
        style = _STYLES.get(level, "")
        with self._lock:
            times = self._times(part, line) if style else 1
            if times is None:
                return
            at = datetime.fromtimestamp(self._clock.now_s()).astimezone()
            text = Text.assemble(
                (f"{at:%H:%M:%S} {part:>8} | ", "dim"),
                (level, style),
                blank + rest,
                f" ({times:,} times so far)" if times > _SHOWN_AT_ONCE else "",
            )
            self._console.print(text, soft_wrap=True)

    def _times(self, part: str, line: str) -> int | None:
        """How often the line has come, or None if it is not to be shown now."""
        now_s = self._clock.monotonic_s()
        key = (part, _NUMBER.sub("#", line))
        seen = self._seen.get(key)
        if seen is None or now_s - seen.last_s > _AGAIN_S:
            if len(self._seen) >= _KINDS_MAX:
                self._seen.clear()  # Nothing is lost by it but the counts.
            seen = self._seen[key] = _Seen(times=0, shown_s=now_s, last_s=now_s)
        seen.times, seen.last_s = seen.times + 1, now_s
        if seen.times > _SHOWN_AT_ONCE and now_s - seen.shown_s < _AGAIN_S:
            return None
        seen.shown_s = now_s
        return seen.times
