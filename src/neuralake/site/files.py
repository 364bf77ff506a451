"""Swap a set of files into a folder so that a reader, or a crash, never sees half a file or site.

Each file is written aside and renamed over its target; the caller orders them so that what links
comes after what it links to. A record (`.neuralake-site.json`) lists what we made, first the old
and new names together, at the end the new ones: a file is replaced or removed only if it is in
the record, so nothing of anybody else's is ever touched, also after a crash.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from neuralake.errors import NeedsAttention, UsageError

__all__ = ["RECORD", "Swapped", "swap"]

RECORD = ".neuralake-site.json"
_LOCK = ".neuralake-site.lock"
_ASIDE = ".neuralake-aside"


class _Record(msgspec.Struct, frozen=True):
    format: int = 1
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Swapped:
    """Names relative to the folder."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def swap(folder: Path, files: Mapping[str, bytes]) -> Swapped:
    """Make `folder` hold `files` (by relative name), written in the mapping's order.

    Files that already have these bytes are left alone. Files that an earlier swap made and this
    one does not are removed at the end. Two swaps of one folder wait for each other.

    Raises:
        UsageError: a file of that name is there that we did not make; nothing was written.
        NeedsAttention: the record is damaged, so we cannot know which files are ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        made = set(_read_record(folder).files)
        _refuse_foreign(folder, [name for name in files if name not in made])
        _write_record(folder, made | set(files))
        written, unchanged = [], []
        for name, content in files.items():
            if _has_content(folder / name, content):
                unchanged.append(name)
            else:
                _replace(folder / name, content)
                written.append(name)
        removed = [name for name in sorted(made - set(files)) if _remove(folder, name)]
        _write_record(folder, set(files))
    return Swapped(tuple(written), tuple(unchanged), tuple(removed))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The lock dies with its process, so a crash never blocks the next build.
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_record(folder: Path) -> _Record:
    file = folder / RECORD
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Record)
    except FileNotFoundError:
        return _Record()
    except msgspec.DecodeError as error:
        raise NeedsAttention(
            f"{file} is damaged ({error}), so we cannot tell which files of the site are ours. "
            f"Build into a new folder, or empty this one.",
            path=str(file),
        ) from error


def _write_record(folder: Path, names: set[str]) -> None:
    content = msgspec.json.encode(_Record(files=tuple(sorted(names))))
    if not _has_content(folder / RECORD, content):
        _replace(folder / RECORD, content)


def _refuse_foreign(folder: Path, names: list[str]) -> None:
    for name in names:
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name} is there and was not made by a site build, so it is left alone. "
                f"Choose another folder for the site, or move the file away.",
                path=str(folder / name),
            )


def _has_content(file: Path, content: bytes) -> bool:
    try:
        return file.stat().st_size == len(content) and file.read_bytes() == content
    except FileNotFoundError:
        return False


def _replace(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # One fixed name per target: what a crash leaves behind, the next build writes over.
    aside = file.with_name(f".{file.name}{_ASIDE}")
    with aside.open("wb") as out:
        out.write(content)
        out.flush()
        # Without it, a power cut after the rename can leave an empty page on some file systems.
        os.fsync(out.fileno())
    aside.replace(file)


def _remove(folder: Path, name: str) -> bool:
    file = folder / name
    # The record is a file that people can edit: never follow it out of the folder.
    if not file.resolve().is_relative_to(folder.resolve()):
        return False
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    for parent in file.parents:
        if parent == folder or any(parent.iterdir()):
            break
        parent.rmdir()
    return True
