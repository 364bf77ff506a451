"""Batches in a folder: what `send` returned for survives power loss; the next process sends it.

    spool/lock                            held by the one process that uses the folder
    spool/lab.spikes/producer.json        who sends to which queue, the sequence of the oldest batch
    spool/lab.spikes/0000000000000007.sealed    sent at least once, and not acknowledged
    spool/lab.spikes/0000000000000008.open      not sent yet
    spool/lab.spikes/rejected/            what the server refused, if nobody was told

Names say what a batch's state is, and change by renaming: a process that dies at any moment leaves
one state or the other.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote
from weakref import WeakSet

import msgspec

from neuralake.client.batch_file import form_frame, frame, read_batch
from neuralake.client.body import NDJSON, Part
from neuralake.client.options import Rejected
from neuralake.client.shelf import Batch, MemoryShelf, Producer, Shelf, new_producer
from neuralake.errors import NeedsAttention, UsageError

__all__ = ["FolderShelf", "Spool"]

_REJECTED_BYTES_MAX = 256 * 1024 * 1024
_OPEN, _SEALED = ".open", ".sealed"


class Spool:
    """The shelves of all tables, in `folder`; in memory without one.

    Raises:
        UsageError: another process, or another client of this one, uses the folder.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = -1
        if folder is not None:
            _make_folder(folder)
            self._lock = _locked(folder)
            _spools.add(self)

    def tables(self) -> list[str]:
        """Those that an earlier process has sent to."""
        if self._folder is None:
            return []
        folders = (unquote(found.name) for found in self._folder.iterdir() if found.is_dir())
        return sorted(name for name in folders if all(name.partition(".")))

    def shelf(self, table: str) -> Shelf:
        """Where the batches of `table` wait."""
        if self._folder is None:
            return MemoryShelf()
        return FolderShelf(self._folder / quote(table, safe=""), table)

    def close(self) -> None:
        """Let another process use the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class FolderShelf:
    """The batches of one table in files."""

    def __init__(self, folder: Path, table: str) -> None:
        self._folder, self._table = folder, table
        self._handle, self._ordinal, self._length = -1, 0, 0
        self._is_broken = False
        self._rejected_bytes: int | None = None

    def load(self, now_s: float) -> tuple[Producer, list[Batch]]:
        _make_folder(self._folder)
        producer = self._producer()
        files = sorted(path for path in self._folder.iterdir() if path.suffix in (_OPEN, _SEALED))
        batches = [batch for path in files if (batch := self._load(path, producer, now_s))]
        if not batches:
            # All was acknowledged, but how many there were is known only to the files that are
            # gone: begin to count anew.
            producer = new_producer()
            self.restart(producer)
        for before, after in pairwise(batches):
            if after.ordinal != before.ordinal + 1:
                raise NeedsAttention(
                    f"Between batches {before.ordinal} and {after.ordinal} of {self._folder} some "
                    f"are missing: files were removed by hand, or lost. Nothing after them goes.",
                    path=str(self._folder),
                )
        return producer, batches

    def add(self, batch: Batch, part: Part) -> None:
        if self._is_broken:
            raise OSError(f"{self._folder} could not be mended after a failed write")
        content = frame(part.content, part.rows)
        if batch.ordinal == self._ordinal and self._handle >= 0:
            self._append(content)
            return
        self.close()
        path = self._path(batch, _OPEN)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        self._handle, self._ordinal, self._length = handle, batch.ordinal, 0
        try:
            self._append(form_frame(batch.form, self._table) + content)
            _sync_folder(self._folder)
        except BaseException:
            self.close()
            self._is_broken = True
            path.unlink()
            self._is_broken = False
            raise

    def seal(self, batch: Batch) -> None:
        if self._is_broken:
            raise OSError(f"{self._folder} could not be mended after a failed write")
        if batch.ordinal == self._ordinal:
            self.close()
        path = self._path(batch, _OPEN)
        with suppress(FileNotFoundError):  # It was sealed before.
            path.rename(path.with_suffix(_SEALED))
        # The removal of the batch before is synced, too: at most one comes back by a power loss,
        # and the queue remembers more.
        _sync_folder(self._folder)

    def parts(self, batch: Batch) -> list[Part]:
        return read_batch(self._path(batch, _SEALED), is_whole=True).parts

    def remove(self, batch: Batch) -> None:
        if batch.ordinal == self._ordinal:
            self.close()
        for suffix in (_SEALED, _OPEN):
            with suppress(FileNotFoundError):
                self._path(batch, suffix).unlink()

    def replace(self, batch: Batch, parts: Sequence[Part]) -> None:
        content = b"".join(frame(part.content, part.rows) for part in parts)
        path = self._path(batch, _SEALED)
        _write_whole(path, form_frame(batch.form, self._table) + content)

    def restart(self, producer: Producer) -> None:
        _write_whole(self._folder / "producer.json", msgspec.json.encode(producer) + b"\n")

    def keep(self, rejected: Rejected, name: str) -> str:
        folder = self._folder / "rejected"
        _make_folder(folder)
        suffix = ".ndjson" if rejected.form.media_type == NDJSON else ".arrows"
        path = folder / (name + suffix)
        if self._rejected_bytes is None:
            self._rejected_bytes = sum(found.stat().st_size for found in folder.iterdir())
        if self._rejected_bytes > _REJECTED_BYTES_MAX:
            raise NeedsAttention(
                f"{folder} has more than {_REJECTED_BYTES_MAX} bytes of rows that the server "
                f"refuses. Look why, and move them away.",
                path=str(folder),
            )
        form = rejected.form
        _write_whole(path, form.head + rejected.content + form.tail)
        self._rejected_bytes += len(rejected.content)
        _write_whole(path.with_suffix(".txt"), f"{rejected.error.message}\n".encode())
        return str(path)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _append(self, content: bytes) -> None:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self._handle, view) :]
            os.fdatasync(self._handle)
            if not os.fstat(self._handle).st_nlink:
                raise OSError(f"a file was removed from {self._folder} while it was open")
        except BaseException:
            # What is half there would look like a crash's; and the next part comes in its place.
            self._is_broken = True
            os.ftruncate(self._handle, self._length)
            self._is_broken = False
            raise
        self._length += len(content)

    def _load(self, path: Path, producer: Producer, now_s: float) -> Batch | None:
        ordinal = int(path.stem)
        is_sealed = path.suffix == _SEALED
        if ordinal < producer.base_ordinal:  # The crash came before its removal.
            path.unlink()
            return None
        found = read_batch(path, is_whole=is_sealed)
        if not found.parts:
            path.unlink()
            return None
        if found.length < path.stat().st_size:
            os.truncate(path, found.length)
        return Batch(
            ordinal,
            found.parts[0].form,
            now_s,
            rows=sum(part.rows for part in found.parts),
            bytes=sum(len(part.content) for part in found.parts),
            parts=len(found.parts),
            is_doubtful=is_sealed,
        )

    def _producer(self) -> Producer:
        path = self._folder / "producer.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Producer)
        except FileNotFoundError:
            return new_producer()
        except msgspec.MsgspecError as error:
            raise NeedsAttention(f"{path} is damaged: {error}.", path=str(path)) from error

    def _path(self, batch: Batch, suffix: str) -> Path:
        return self._folder / f"{batch.ordinal:016d}{suffix}"


def _make_folder(folder: Path) -> None:
    """Make a folder whose name survives power loss."""
    new = [found for found in (folder, *folder.parents) if not found.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for found in new:
        _sync_folder(found.parent)


def _write_whole(path: Path, content: bytes) -> None:
    """Put `content` in place of what is at `path`: one or the other is there after a crash."""
    aside = path.with_name(f".{path.name}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise UsageError(
            f"The spool {folder} is in use by another client. Each client needs a folder of its "
            f"own: give every process another one.",
            path=str(folder),
        ) from error
    return handle


# A forked child has the lock's handle, too, and would hold the folder for as long as it lives.
_spools: WeakSet[Spool] = WeakSet()


def _let_go() -> None:
    for spool in [*_spools]:
        spool.close()


os.register_at_fork(after_in_child=_let_go)
