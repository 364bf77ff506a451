"""How a process lets the others of its machine see what it did: a small file, written anew.

Each part of a platform writes `metrics/<part>-<pid>.json` in the lake's state folder once a
second, and removes it when it ends. Whoever shows the numbers of all parts reads the folder. A part
that was killed leaves its file; such a file grows old, and is not read then.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from neuralake.clock import Clock, SystemClock
from neuralake.telemetry.series import Series, Telemetry

__all__ = ["Told", "shared", "told"]

_log = logging.getLogger(__name__)

_FOLDER = "metrics"
_INTERVAL_S = 1.0
# A machine that swaps delays a thread by seconds. Older than this, nobody writes it any more.
_STALE_S = 15.0


class Told(msgspec.Struct, frozen=True):
    """What one process of a part did since it started."""

    part: str
    """`serve`, `write`, `compact` or `vacuum`."""
    pid: int
    told_s: float
    """Unix seconds."""
    series: list[Series]


@contextmanager
def shared(
    folder: Path, part: str, telemetry: Telemetry, *, clock: Clock | None = None
) -> Iterator[None]:
    """Within the block, `telemetry` can be read by other processes of the lake.

    Args:
        folder: the lake's state folder. Where it cannot be written, nothing is told, and a warning
            logged: a full disk stops no part.
    """
    clock = clock or SystemClock()
    file = folder / _FOLDER / f"{part}-{os.getpid()}.json"
    stop = threading.Event()

    telemetry.gauge("process_start_time_seconds", clock.now_s())

    def run() -> None:
        failed = False
        while True:
            try:
                if (held_bytes := _held_bytes()) is not None:
                    telemetry.gauge("process_resident_memory_bytes", held_bytes)
                _write(file, Told(part, os.getpid(), clock.now_s(), telemetry.series()))
                failed = False
            except OSError as error:
                if not failed:
                    _log.warning("metrics of %s cannot be written to %s: %s", part, file, error)
                failed = True
            if clock.wait_s(_INTERVAL_S, stop):
                return

    thread = threading.Thread(target=run, name=f"metrics {part}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(OSError):
            file.unlink()


def told(folder: Path, *, clock: Clock | None = None) -> list[Told]:
    """What each process that runs on the lake told last, by part and process."""
    now_s = (clock or SystemClock()).now_s()
    found = []
    for file in sorted((folder / _FOLDER).glob("*-*.json")):
        try:
            one = msgspec.json.decode(file.read_bytes(), type=Told)
        except (OSError, msgspec.DecodeError):
            continue  # It has just ended, or what is there is not ours.
        if abs(now_s - one.told_s) <= _STALE_S:
            found.append(one)
        else:
            # Its process was killed. A paused one writes it anew when it goes on.
            with suppress(OSError):
                file.unlink()
    return found


def _held_bytes() -> int | None:
    """Resident memory of this process, where the system tells it (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _write(file: Path, one: Told) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".aside")
    aside.write_bytes(msgspec.json.encode(one))
    aside.replace(file)
