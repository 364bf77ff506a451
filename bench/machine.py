"""The machine and the versions that a measurement belongs to; every bench prints this first."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["cpu_s", "describe"]

_LIBRARIES = ("polars", "pyarrow", "deltalake", "datafusion", "starlette", "uvicorn", "msgspec")


def describe(folder: Path | None = None) -> str:
    """CPU, cores, memory, kernel, file system of `folder` (default: here), Python, libraries."""
    libraries = " ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    return "\n".join(
        (
            f"machine: {_cpu()}, {os.cpu_count()} cores, {_memory()}, "
            f"load {os.getloadavg()[0]:.1f}",
            f"system:  {platform.system()} {platform.release()}, "
            f"files on {_file_system(folder or Path.cwd())}",
            f"python:  {sys.version.split()[0]}, sqlite {sqlite3.sqlite_version}",
            f"with:    {libraries}",
        )
    )


def cpu_s(pid: int) -> float:
    """CPU seconds of a running process up to now, all threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _field(file: str, name: str) -> str | None:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def _cpu() -> str:
    return _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory() -> str:
    kib = _field("/proc/meminfo", "MemTotal")
    return f"{int(kib.split()[0]) / 2**20:.0f} GiB" if kib else "memory unknown"


def _file_system(folder: Path) -> str:
    """The type of the nearest mount above `folder`."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    here = folder.resolve()
    above = [
        (len(point), kind)
        for _, point, kind, *_ in map(str.split, mounts)
        if here.is_relative_to(point)
    ]
    return max(above)[1] if above else "unknown"
