"""A table whose writers take turns through a lock table, as Spark's and deltalake 1.5's do.

A commit of version N: write the entry aside, put an item for N if there is none, put `N.json` if it
is not there, complete the item. The second step decides: from then on the commit takes place, and
whoever meets the unfinished item, a reader too, does the rest. All of them write the bytes of the
one file that the item names, and only where nothing is, so that repeating a step, or waking up in
front of it a week later, changes nothing.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol, runtime_checkable

from neuralake.clock import Clock, SystemClock
from neuralake.errors import (
    Conflict,
    NeedsAttention,
    NeuralakeError,
    Unavailable,
    UnsupportedFeature,
)
from neuralake.storage.locks import LockEntry, Locks
from neuralake.storage.protocol import (
    AlreadyThere,
    Bytes,
    LogStore,
    OutcomeUnknown,
    Sink,
    StoredFile,
)

__all__ = ["CoordinatedStore"]

_log = logging.getLogger(__name__)

_FOLDER = "_delta_log"
_ENTRY = re.compile(rf"{_FOLDER}/(\d{{20}})\.json")
_TEMPORARY = re.compile(rf"{_FOLDER}/\.tmp/(\d{{20}})\.json\.")
# As Spark: longer than any pause between putting the item and looking for N.json, in a sane world;
# in another one the look, and the put where nothing is, still hold.
_EXPIRE_S = 24 * 3600
# Finished entries in a row, newest first, after which nothing unfinished is expected behind them:
# a version is only begun when the one before it is there.
_FINISHED_MAX = 20


@runtime_checkable
class _Counted(Protocol):
    @property
    def requests(self) -> Counter[str]: ...


class CoordinatedStore:
    """`files` with its log entries taken by turns through `locks`; see the module.

    Args:
        files: where the table's files are.
        locks: shared by every writer of the table.
        table_path: how the table's writers spell its URL in the lock table; another spelling is
            another table there, and then commits are lost.
    """

    def __init__(
        self,
        files: LogStore,
        locks: Locks,
        *,
        table_path: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._files, self._locks = files, locks
        self._table_path = table_path if table_path is not None else files.uri
        self._clock = clock or SystemClock()
        # The newest version whose N.json this store has seen; benign if two threads race for it.
        self._seen = -1

    def spelled(self, table_path: str) -> CoordinatedStore:
        """The same store with another spelling of the table in the lock table."""
        return CoordinatedStore(self._files, self._locks, table_path=table_path, clock=self._clock)

    @property
    def uri(self) -> str:
        return self._files.uri

    @property
    def coordination(self) -> str:
        return "dynamodb"

    @property
    def lock_table(self) -> str:
        """The name of the lock table."""
        return self._locks.name

    @property
    def table_path(self) -> str:
        """The table's key in the lock table."""
        return self._table_path

    @property
    def locks(self) -> Locks:
        """The lock table itself, for those who repair it."""
        return self._locks

    @property
    def requests(self) -> Counter[str]:
        """Requests made so far by kind, to both servers."""
        parts = (self._files, self._locks)
        return sum((part.requests for part in parts if isinstance(part, _Counted)), Counter())

    @property
    def storage_options(self) -> Mapping[str, str]:
        return self._files.storage_options

    @property
    def stamp_age_s_max(self) -> float:
        return self._files.stamp_age_s_max

    # What has nothing to do with turns.

    def put(self, files: Mapping[str, Bytes]) -> None:
        self._files.put(files)

    def create(self, name: str) -> AbstractContextManager[Sink]:
        return self._files.create(name)

    def open(self, name: str) -> AbstractContextManager[BinaryIO | None]:
        return self._files.open(name)

    def stamp(self, name: str) -> str | None:
        return self._files.stamp(name)

    def names(self, folder: str, *, after: str = "") -> list[str]:
        return self._files.names(folder, after=after)

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        return self._files.files(folder)

    def remove(self, names: Iterable[str]) -> None:
        self._files.remove(names)

    def settle(self) -> None:
        self._files.settle()

    def check(self) -> None:
        """Make sure that the bucket can be written to and the lock table be asked.

        Raises:
            SettingsError: one of them is not there, or may not be used.
        """
        probe = f"_neuralake/probe-{uuid.uuid4().hex}"
        self._files.put({probe: b"probe"})
        self._files.remove([probe])
        self._locks.get(self._table_path, _base(_name(0)))

    # A commit, step by step. Each step is a method, so that tests can stop between any two.

    def put_if_absent(self, name: str, data: Bytes) -> None:
        version = _version(name)
        if version is None:
            self._files.put_if_absent(name, data)
            return
        self._finish_before(version)
        entry = self._write_aside(name, data)
        self._take(entry)
        self._publish(entry, data)
        self._complete(entry)
        self._saw(version)

    def _finish_before(self, version: int) -> None:
        """A version may be taken when the one before it can be read: a log has no gaps."""
        before = version - 1
        if before <= self._seen:
            return
        name = _name(before)
        if self._files.stamp(name) is None:
            entry = self._locks.get(self._table_path, _base(name))
            if entry is None or entry.complete:
                return  # Cleaned up: its checkpoint stands for it.
            self.repair(entry)
        self._saw(before)

    def _write_aside(self, name: str, data: Bytes) -> LockEntry:
        base = _base(name)
        entry = LockEntry(self._table_path, base, f".tmp/{base}.{uuid.uuid4()}")
        self._files.put({_temp(entry): data})
        return entry

    def _take(self, entry: LockEntry) -> None:
        """Put the item; when this returns, the commit takes place whatever happens to us."""
        try:
            self._locks.put_if_absent(entry)
        except OutcomeUnknown:
            raise  # The item may come to be, and needs its file.
        except AlreadyThere:
            self._files.remove([_temp(entry)])
            self._help(entry)
            raise
        except NeuralakeError:
            self._files.remove([_temp(entry)])
            raise

    def _help(self, lost: LockEntry) -> None:
        """Finish the commit that was quicker, so that it can be read."""
        winner = self._locks.get(lost.table_path, lost.file_name)
        if winner is None:
            return
        if not winner.complete:
            self.repair(winner)
        elif self._files.stamp(_entry(winner)) is None and not self._is_behind(winner):
            raise NeedsAttention(
                f"The lock table {self.lock_table!r} says that {lost.file_name} of "
                f"{self._table_path} was committed, but neither it nor a later one is there: the "
                f"table was deleted. Remove its entries with `neuralake storage doctor`, or wait a "
                f"day.",
                table_path=self._table_path,
                name=lost.file_name,
            )

    def _publish(self, entry: LockEntry, data: Bytes) -> None:
        """Put `N.json`. The item is there: no failure from here on says that nothing was stored."""
        name = _entry(entry)
        try:
            found = self._put_entry(name, data)
        except NeuralakeError as error:
            raise OutcomeUnknown(
                f"{name} is taken for this commit in {self.lock_table!r}, but could not be put: "
                f"the next reader or writer does it. {error}",
                name=name,
            ) from error
        if found is None or found == data:
            return
        # Another entry is there: its item expired while we slept, or it was put outside the lock.
        # The file goes before the item: a rival that finds both would copy it over N.json.
        self._files.remove([_temp(entry)])
        self._complete(entry)
        raise AlreadyThere(f"{name} is already there.", name=name)

    def _put_entry(self, name: str, data: Bytes) -> bytes | None:
        """Put `name` where nothing is; None if that was done, else the bytes that are there.

        Looked for first, because some stores know no conditional put and overwrite.
        """
        if self._files.stamp(name) is None:
            try:
                self._files.put_if_absent(name, data)
            except UnsupportedFeature:
                self._files.put({name: data})
            except (AlreadyThere, OutcomeUnknown):
                if (found := self._files.read(name)) is None:
                    raise
                return found
            return None
        return self._files.read(name) or b""

    def _complete(self, entry: LockEntry) -> None:
        """Mark the item complete. The commit does not hang on it: others would find and do it."""
        try:
            self._locks.complete(entry, expire_s=int(self._clock.now_s()) + _EXPIRE_S)
        except NeuralakeError as error:
            _log.info("%s stays unfinished for now: %s", entry.file_name, error)

    # What others left.

    def read(self, name: str) -> bytes | None:
        data, version = self._files.read(name), _version(name)
        if version is None:
            return data
        if data is None:
            entry = self._locks.get(self._table_path, _base(name))
            if entry is None:
                return None
            if not entry.complete:
                self.repair(entry)
            # Put between our look at the files and our look at the lock table.
            data = self._files.read(name)
        if data is not None:
            self._saw(version)
        return data

    def recover(self) -> None:
        unfinished: list[LockEntry] = []
        finished = 0
        for entry in self._locks.newest(self._table_path):
            if entry.complete:
                finished += 1
                if finished == _FINISHED_MAX:
                    break
            else:
                unfinished.append(entry)
        for entry in reversed(unfinished):
            self.repair(entry)

    def repair(self, entry: LockEntry) -> None:
        """Do the rest of the unfinished commit `entry`, as anybody may; repeating it is harmless.

        Raises:
            NeedsAttention: neither its temporary file nor its log entry is there.
            Unavailable: a server does not answer; the commit stays unfinished.
        """
        name = _entry(entry)
        data = self._files.read(_temp(entry))
        if data is not None:
            try:
                # What is there now stays, whoever put it: readers may have seen it.
                self._put_entry(name, data)
            except Conflict as error:
                raise Unavailable(f"Could not finish {name}: {error}", name=name) from error
        elif self._files.stamp(name) is None:
            self._check_lost(entry)
            return
        self._complete(entry)

    def _check_lost(self, entry: LockEntry) -> None:
        """Raise unless another process finished or gave up `entry`, or the log is past it."""
        now = self._locks.get(entry.table_path, entry.file_name)
        if now is None or now.complete or now.temp_path != entry.temp_path:
            return
        if self._is_behind(entry):
            self._complete(entry)
            return
        raise NeedsAttention(
            f"Version {entry.file_name[:20].lstrip('0') or '0'} of {entry.table_path} is taken in "
            f"the lock table {self.lock_table!r}, but its temporary file "
            f"{_temp(entry)} is gone, and so is {_entry(entry)}. If nobody can bring the file back "
            f"(bucket versioning), give the version up with `neuralake storage doctor`: that "
            f"commit was then never made.",
            table_path=entry.table_path,
            name=entry.file_name,
        )

    def _is_behind(self, entry: LockEntry) -> bool:
        """Whether later versions are there: a sleeper took one that was cleaned up long ago."""
        later = self._files.names(_FOLDER, after=entry.file_name)
        return any(name[:20].isdigit() for name in later)

    def leftovers(self, *, older_than_s: float) -> list[str]:
        """Temporary files of this and other engines that no unfinished commit needs.

        One of ours for a version that nobody has committed stays, however old: its writer may wake
        up, take the version and die, and then everybody needs the file.

        Unfinished commits, however far behind, are finished first where that is possible: one whose
        entry can be read hinders nobody, and would otherwise stay for ever.

        `older_than_s` must exceed the longest pause of a writer between writing its file and
        putting its item: else the file of a commit in the making is named.
        """
        before_s = self._clock.now_s() - older_than_s
        kept = set()
        for entry in [*self._locks.newest(self._table_path)]:
            if not entry.complete:
                try:
                    self.repair(entry)
                except NeedsAttention as error:
                    kept.add(f"{_FOLDER}/{entry.temp_path}")
                    _log.warning("%s", error)
        listed = [*self._files.files(_FOLDER)]
        newest = max((_version(file.name) or 0 for file in listed), default=0)
        return [
            file.name
            for file in listed
            if _is_temporary(file.name)
            and file.modified_s < before_s
            and file.name not in kept
            and (_temporary_version(file.name) or 0) <= newest
        ]

    def _saw(self, version: int) -> None:
        self._seen = max(self._seen, version)


def _version(name: str) -> int | None:
    """The version whose log entry `name` is; None for any other file."""
    found = _ENTRY.fullmatch(name)
    return int(found[1]) if found else None


def _name(version: int) -> str:
    return f"{_FOLDER}/{version:020d}.json"


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _entry(entry: LockEntry) -> str:
    return f"{_FOLDER}/{entry.file_name}"


def _temp(entry: LockEntry) -> str:
    """The temporary file of `entry`: ours and Spark's in `.tmp/`, deltalake's right in the log."""
    parts = entry.temp_path.split("/")
    if not all(parts) or {".", ".."} & {*parts} or not _ENTRY.fullmatch(_entry(entry)):
        raise NeedsAttention(
            f"The lock table has an entry of {entry.table_path} that no Delta writer made: "
            f"{entry.file_name!r} with the temporary file {entry.temp_path!r}.",
            table_path=entry.table_path,
            name=entry.file_name,
        )
    return f"{_FOLDER}/{entry.temp_path}"


def _temporary_version(name: str) -> int | None:
    """The version that a temporary file is for; None: its name does not say."""
    found = _TEMPORARY.match(name)
    return int(found[1]) if found else None


def _is_temporary(name: str) -> bool:
    rest = name.removeprefix(f"{_FOLDER}/")
    return rest.startswith(".tmp/") or (
        rest.startswith("_commit_") and rest.endswith(".json.tmp") and "/" not in rest
    )
