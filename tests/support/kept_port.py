"""A port that a server may leave and take again: meanwhile the system gives it to nobody."""

from __future__ import annotations

import random
import socket
from pathlib import Path

__all__ = ["kept_port"]

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST = 10_000, 32_767


def kept_port() -> int:
    """A free port of 127.0.0.1, below those that connections and port 0 get where there are any."""
    last = min(_LAST, int(_RANGE.read_text().split()[0]) - 1) if _RANGE.exists() else _LAST
    for port in random.SystemRandom().sample(range(_FIRST, max(last, _FIRST + 1000)), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("None of a hundred ports is free.")
