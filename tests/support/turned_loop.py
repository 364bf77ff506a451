"""An event loop whose time is turned by hand, so that nobody waits and bounds are the real ones."""

from __future__ import annotations

import asyncio


class TurnedLoop(asyncio.SelectorEventLoop):
    """Time goes on by itself, and by what is skipped."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s

    async def skip(self, seconds: float) -> None:
        """Let `seconds` pass, and whoever waited for them go on."""
        self.skipped_s += seconds
        for _ in range(5):
            await asyncio.sleep(0)
