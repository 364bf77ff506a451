"""Run every bench, or those named: `python -m bench`, `python -m bench commit read`.

Each is a program of its own with options (`python -m bench.commit --help`), prints the machine and
the versions, measures its peers in the same run, and checks its answers.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
NOT_A_BENCH = {"__main__", "__init__", "machine", "flights_lake"}
# Half an hour each: only when named.
LONG = {"soak"}
# Only where these are, or when named.
TOOLS = {"kafka": ("java", "mvn")}


def main() -> int:
    names = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in NOT_A_BENCH)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure neuralake.")
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=str(names))
    chosen = parser.parse_args().names or [name for name in names if _is_usual(name)]
    failed = [name for name in chosen if not _run(name)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _is_usual(name: str) -> bool:
    missing = [tool for tool in TOOLS.get(name, ()) if shutil.which(tool) is None]
    if missing:
        print(f"{name} is left out: it needs {' and '.join(missing)}", file=sys.stderr)
    return name not in LONG and not missing


def _run(name: str) -> bool:
    print(f"\n== {name}", flush=True)
    command = [sys.executable, "-m", f"bench.{name}"]
    return subprocess.run(command, cwd=FOLDER.parent, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
