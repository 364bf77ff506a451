"""Small file systems for tests of full disks. Skips where none may be made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(
    folder: Path, kind: str, options: str, *, source: Path | str = "none"
) -> Iterator[Path]:
    """A file system of `kind` at `folder`, which is made."""
    folder.mkdir()
    mount = ["mount", "-t", kind, "-o", options, str(source), str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
