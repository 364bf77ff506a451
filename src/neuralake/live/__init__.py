"""What is acknowledged and not committed yet: read together with the table, or followed."""

from neuralake.live.frame import live_frame
from neuralake.live.tail import TailPage, existing, read_page, read_tail, together

__all__ = ["TailPage", "existing", "live_frame", "read_page", "read_tail", "together"]
