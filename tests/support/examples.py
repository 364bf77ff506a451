"""How many examples a property test tries, and which.

Each run of the suite tries the same few, so that it fails by what was changed and by nothing else.
`make chaos` looks for what they do not show: it draws others each time, and many times as many.
"""

from __future__ import annotations

import os

__all__ = ["IS_SEARCHING", "examples"]

_TIMES = int(os.environ.get("NEURALAKE_EXAMPLES_TIMES", "1"))
IS_SEARCHING = "NEURALAKE_EXAMPLES_TIMES" in os.environ
"""Whether each run draws others."""


def examples(count: int) -> int:
    """`count`, or as many times `count` as NEURALAKE_EXAMPLES_TIMES says."""
    return count * _TIMES
