"""What is acknowledged and not committed yet: read together with the table, or followed."""

from neuralake.live.follow import follow, follow_async
from neuralake.live.follower import Followed, Follower, Position, Start
from neuralake.live.frame import live_frame
from neuralake.live.tail import TailPage, existing, read_page, read_tail, together

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
