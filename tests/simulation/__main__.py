"""Replay a seed: `python -m tests.simulation SEED [STEPS]` prints its trace and what failed.

`python -m tests.simulation --seeds FIRST:LAST` tries many and stops at the first that fails.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from tests.simulation.run import simulate


def main(arguments: list[str]) -> int:
    if arguments[0] == "--seeds":
        first, last = map(int, arguments[1].split(":"))
        failed = 0
        counts: Counter[str] = Counter()
        began_s = time.perf_counter()
        for seed in range(first, last):
            outcome = simulate(seed)
            counts += outcome.counts
            if outcome.failure is not None:
                failed += 1
                print(
                    f"seed {seed}: {type(outcome.failure).__name__}: {outcome.failure}", flush=True
                )
            if failed == 10:
                last = seed + 1
                break
        took_s = time.perf_counter() - began_s
        print(f"{(last - first) / took_s:.1f} seeds/s", counts.most_common(40))
        return 0
    outcome = simulate(int(arguments[0]), steps_max=int(arguments[1]) if arguments[1:] else None)
    print("\n".join(outcome.trace))
    if outcome.failure is not None:
        import traceback

        traceback.print_exception(outcome.failure)
    print(outcome.digest, outcome.counts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
