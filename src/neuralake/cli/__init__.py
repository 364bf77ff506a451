"""The `neuralake` command: every part of the platform, from a terminal or a script.

Answers go to standard output, everything else to standard error. An error is a few lines that say
what was asked, what was found and what helps; its exit code is that of `errors.outcome`.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that the process was started with, and end the process."""
    from neuralake.cli.app import app

    app()
