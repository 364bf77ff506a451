"""Runs a command only as long as the process that started this one lives.

Usage: lifeline_child.py COMMAND…, in a process group of its own, with a pipe as standard input.
When the other end of the pipe closes, however its holder ended, the whole group is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> None:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # The command's end is ours, with its exit code (a signal's number is 128 more, as in a shell).
    threading.Thread(target=lambda: os._exit(child.wait() & 0xFF), daemon=True).start()
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
