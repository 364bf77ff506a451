"""What is acknowledged and not committed yet: read together with the table, or followed.

What is made of frames loads on first use: SQL reads tails without Polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuralake.live.follow import follow, follow_async
from neuralake.live.tail import TailPage, existing, read_page, read_tail, together

if TYPE_CHECKING:
    from neuralake.live.follower import Followed, Follower, Position, Start
    from neuralake.live.frame import live_frame

__all__ = [
    "Followed",
    "Follower",
    "Position",
    "Start",
    "TailPage",
    "existing",
    "follow",
    "follow_async",
    "live_frame",
    "read_page",
    "read_tail",
    "together",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "frame" if name == "live_frame" else "follower"
    return getattr(import_module(f"{__name__}.{home}"), name)
