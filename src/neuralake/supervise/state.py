"""What runs now, in a small file, so that other commands find the server of this lake.

`<state folder>/up.json` is written whole or not at all. It counts only while the platform's lock is
held: what a killed platform left behind is not believed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from neuralake.supervise.lock import running_pid

__all__ = ["UpState", "read_state", "remove_state", "write_state"]

_FILE_NAME = "up.json"


class UpState(msgspec.Struct, frozen=True, kw_only=True):
    """A running platform: its address, its own pid and those of its parts by name."""

    url: str
    pid: int
    started_s: float
    """Unix seconds."""
    processes: dict[str, int]
    restarts: dict[str, int]


def read_state(folder: Path) -> UpState | None:
    """The platform that runs on this lake now; None if none does."""
    if running_pid(folder) is None:
        return None
    try:
        return msgspec.json.decode((folder / _FILE_NAME).read_bytes(), type=UpState)
    except (OSError, msgspec.DecodeError):
        return None  # Not yet written: the platform is starting.


def write_state(folder: Path, state: UpState) -> None:
    """Replace the state file."""
    aside = folder / f"{_FILE_NAME}.{state.pid}"
    aside.write_bytes(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    aside.replace(folder / _FILE_NAME)


def remove_state(folder: Path) -> None:
    """Remove the state file, if it is there."""
    with contextlib.suppress(OSError):
        (folder / _FILE_NAME).unlink()
