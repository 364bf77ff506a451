"""A table's folder on a local file system: durable puts, and link(2) as the one atomic step.

A put that fails leaves nothing under the asked name. Leftovers of a killed process are hidden
`.tmp` files, which no Delta reader looks at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from neuralake.errors import NeedsAttention, Unavailable, UnsupportedFeature
from neuralake.storage.protocol import AlreadyThere, Bytes, Sink, StoredFile

__all__ = ["LocalStore"]

# A log begins with entry 0: a later one must not bring back a folder that was deleted.
_LATER_ENTRY = re.compile(r"/_delta_log/\.(?!0{20})\d{20}\.json\.[^/]*$")
_WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# What open(2) with O_EXCL and fsync(2) answer where a file system does not know them.
_NO_CREATE = {errno.EOPNOTSUPP, errno.ENOSYS}
# What link(2) answers where the file system has no hard links (FAT, some network mounts).
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


_Item = TypeVar("_Item")
# Threads that wait for the disk; they start when first used.
_POOL = ThreadPoolExecutor(8, thread_name_prefix="neuralake-store")


class LocalStore:
    """A folder of the local file system with hard links and fsync.

    A new entry is written aside, synced, then linked to its name: link(2) fails if the name exists,
    and a name never shows half a file. Rename would replace an entry without an error.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = str(Path(folder).absolute())

    @property
    def uri(self) -> str:
        return self._folder

    @property
    def coordination(self) -> str:
        return "local"

    @property
    def storage_options(self) -> Mapping[str, str]:
        return {}

    @property
    def stamp_age_s_max(self) -> float:
        return 0.0

    def put_if_absent(self, name: str, data: Bytes) -> None:
        path = self._path(name)
        parent, base = os.path.split(path)
        aside = f"{parent}/.{base}.{uuid.uuid4().hex}.tmp"
        try:
            self._write_new(aside, data)
            try:
                self._link(aside, path)
            except OSError:
                # Some file systems answer with an error after they made the link.
                if not self._is_same(aside, path):
                    raise
            finally:
                # Whatever happens to the leftover says nothing about the entry.
                self._forget(aside)
        except FileExistsError as error:
            raise AlreadyThere(f"{name!r} is already there.", name=name) from error
        except OSError as error:
            raise _unavailable(error, name) from error
        try:
            self._sync_folder(parent)
        except OSError as error:
            raise NeedsAttention(
                f"{path} was written, but its folder could not be synced ({error.strerror}): it "
                f"may not survive power loss. Check the disk.",
                name=name,
            ) from error

    def put(self, files: Mapping[str, Bytes]) -> None:
        paths = {self._path(name): data for name, data in files.items()}
        parents = {os.path.dirname(path) for path in paths}  # noqa: PTH120 hot path
        made: list[str] = []
        errors = [*_at_once(lambda item: self._try_write(*item, made), paths.items())]
        if not any(errors):
            errors = [*_at_once(self._try_sync, parents)]
        for error in errors:
            if error is not None:
                for path in made:
                    self._forget(path)
                raise _unavailable(error, next(iter(files))) from error

    def _try_write(self, path: str, data: Bytes, made: list[str]) -> OSError | None:
        """Write one file, and add it to `made` if nothing was there before."""
        try:
            self._write_new(path, data)
        except FileExistsError:
            return self._try_replace(path, data)
        except OSError as error:
            return error
        made.append(path)
        return None

    def _try_replace(self, path: str, data: Bytes) -> OSError | None:
        parent, base = os.path.split(path)
        aside = f"{parent}/.{base}.{uuid.uuid4().hex}.tmp"
        try:
            self._write_new(aside, data)
            os.replace(aside, path)  # noqa: PTH105 as the rest of this class
        except OSError as error:
            self._forget(aside)
            return error
        return None

    def _try_sync(self, folder: str) -> OSError | None:
        try:
            self._sync_folder(folder)
        except OSError as error:
            return error
        return None

    def read(self, name: str) -> bytes | None:
        try:
            with open(self._path(name), "rb") as file:  # noqa: PTH123 hot path
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable(f"Cannot read {name!r}: {error.strerror}.", name=name) from error

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO | None]:
        try:
            file = open(self._path(name), "rb")  # noqa: PTH123, SIM115 closed below; hot path
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        except OSError as error:
            raise Unavailable(f"Cannot read {name!r}: {error.strerror}.", name=name) from error
        with file:
            yield file

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Sink]:
        path = self._path(name)
        parent, base = os.path.split(path)
        aside = f"{parent}/.{base}.{uuid.uuid4().hex}.tmp"
        try:
            if not os.path.isdir(parent):  # noqa: PTH112 as the rest of this class
                self._make_folder(parent)
            with open(aside, "xb") as file:  # noqa: PTH123 as the rest of this class
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)  # noqa: PTH105 as the rest of this class
            self._sync_folder(parent)
        except OSError as error:
            self._forget(aside)
            raise _unavailable(error, name) from error
        except BaseException:
            self._forget(aside)
            raise

    def stamp(self, name: str) -> str | None:
        try:
            found = os.stat(self._path(name))  # noqa: PTH116 hot path
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable(f"Cannot look at {name!r}: {error.strerror}.", name=name) from error
        return f"{found.st_dev}-{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"

    def names(self, folder: str, *, after: str = "") -> list[str]:
        try:
            with os.scandir(self._path(folder)) as entries:
                return sorted(
                    entry.name for entry in entries if entry.name > after and entry.is_file()
                )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise Unavailable(f"Cannot list {folder!r}: {error.strerror}.", name=folder) from error

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        start = self._path(folder).rstrip("/")
        for parent, _, names in os.walk(start, onerror=_refuse_listing):
            for name in names:
                path = f"{parent}/{name}"
                try:
                    found = os.stat(path, follow_symlinks=False)  # noqa: PTH116 hot path
                except FileNotFoundError:
                    continue  # Removed meanwhile.
                except OSError as error:
                    raise Unavailable(f"Cannot look at {path}: {error.strerror}.") from error
                yield StoredFile(path[len(self._folder) + 1 :], found.st_size, found.st_mtime)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._forget(self._path(name))

    def settle(self) -> None:
        try:
            self._sync_folder(self._path("_delta_log"))
        except OSError as error:
            raise _unavailable(error, "_delta_log") from error

    def recover(self) -> None:
        """Nothing to do: a commit here is one step."""

    # The single steps, apart so that the crash tests can stop a process between any two of them.

    def _write_new(self, path: str, data: Bytes) -> None:
        try:
            file = os.open(path, _WRITE_NEW, 0o666)
        except FileNotFoundError:
            if _LATER_ENTRY.search(path):
                raise
            self._make_folder(os.path.dirname(path))  # noqa: PTH120 hot path
            file = os.open(path, _WRITE_NEW, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            self._forget(path)
            raise
        finally:
            os.close(file)

    def _make_folder(self, path: str) -> None:
        """Make `path` and the folders above it, each durable in its parent."""
        parent = os.path.dirname(path)  # noqa: PTH120 hot path
        if not os.path.isdir(parent):  # noqa: PTH112 hot path
            self._make_folder(parent)
        # Perhaps made meanwhile by another; it is synced too: the other may not have come to that.
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102 hot path
        self._sync_folder(parent)

    def _link(self, aside: str, path: str) -> None:
        os.link(aside, path)

    def _unlink(self, path: str) -> None:
        os.unlink(path)  # noqa: PTH108 hot path

    def _is_same(self, one: str, other: str) -> bool:
        try:
            return os.path.samefile(one, other)  # noqa: PTH121 hot path
        except OSError:
            return False

    def _sync_folder(self, path: str) -> None:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _forget(self, path: str) -> None:
        try:
            self._unlink(path)
        except OSError:
            return  # An unreferenced file is harmless; vacuum takes it.

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _at_once(
    step: Callable[[_Item], OSError | None], items: Collection[_Item]
) -> Iterable[OSError | None]:
    """`step` of each item; of several at the same time, so that their syncs share disk flushes.

    20 files of one commit: 5 ms instead of 73 ms on ext4.
    """
    if len(items) == 1:
        return [step(item) for item in items]
    return _POOL.map(step, items)


def _refuse_listing(error: OSError) -> None:
    # Half a listing would look like a whole one.
    if not isinstance(error, FileNotFoundError):
        raise Unavailable(f"Cannot list {error.filename}: {error.strerror}.") from error


def _unavailable(error: OSError, name: str) -> Exception:
    if error.errno in _NO_LINKS and error.filename2 is not None:
        return UnsupportedFeature(
            f"Cannot commit {name!r}: the file system of {error.filename2} has no hard links "
            f"({error.strerror}). Put the lake on a local disk with ext4, XFS, APFS or the like.",
            features=["hard links"],
        )
    if error.errno in _NO_CREATE:
        return UnsupportedFeature(
            f"Cannot store {name!r}: the file system of {error.filename} has no atomic create or "
            f"no sync ({error.strerror}). Put the lake on a local disk with ext4, XFS, APFS or the "
            f"like.",
            features=["atomic create"],
        )
    return Unavailable(
        f"Cannot store {name!r}: {error.strerror}. Nothing was stored.",
        name=name,
        reason=error.strerror,
        code=errno.errorcode.get(error.errno or 0, ""),
    )
