"""Run the whole platform: as a tree of processes (`Supervisor`) or in threads (`Platform`)."""

from __future__ import annotations

from neuralake.supervise.embedded import Platform
from neuralake.supervise.lifeline import stop_event
from neuralake.supervise.lock import LakeLock, running_pid
from neuralake.supervise.parts import PARTS, run_part
from neuralake.supervise.servers import run_servers
from neuralake.supervise.state import UpState, read_state
from neuralake.supervise.tree import Supervisor

__all__ = [
    "PARTS",
    "LakeLock",
    "Platform",
    "Supervisor",
    "UpState",
    "read_state",
    "run_part",
    "run_servers",
    "running_pid",
    "stop_event",
]
