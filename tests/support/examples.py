"""How many examples a property test tries.

Each run of the suite tries a few: what breaks a property at all, a few dozen examples find within
days of runs, because each run draws others. `make chaos` tries many times as many.
"""

from __future__ import annotations

import os

__all__ = ["examples"]

_TIMES = int(os.environ.get("NEURALAKE_EXAMPLES_TIMES", "1"))


def examples(count: int) -> int:
    """`count`, or as many times `count` as NEURALAKE_EXAMPLES_TIMES says."""
    return count * _TIMES
