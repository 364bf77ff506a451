"""The live files of a table, kept current entry by entry, for a process that looks often.

The first look replays the log; each later one reads only the entries that are new. Which partitions
changed since they were last found in order is remembered, so that the others cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

from neuralake.clock import Clock
from neuralake.delta.actions import Action, Add, Remove
from neuralake.delta.commit import TableLog
from neuralake.delta.log import Entry
from neuralake.delta.snapshot import DataFile, data_file, snapshot
from neuralake.storage import LogStore

__all__ = ["LiveFiles"]

# As a handle of the log: entries are cleaned up after days at the earliest, and who slept for an
# hour does not trust that the entry after its own is the newest.
_STALE_S = 1800.0

_Key = tuple[str | None, ...]


class LiveFiles:
    """The files of the table in `store`; see the module. For one thread.

    Raises:
        UnknownName: no table is there.
        UnsupportedFeature: the table needs what we do not implement.
    """

    def __init__(self, store: LogStore, *, clock: Clock, write_s_max: float) -> None:
        found = snapshot(store)
        self.log = TableLog(store, clock=clock, log=found.log, write_s_max=write_s_max)
        """The handle that reads the entries, and commits on top of what was read."""
        self._clock = clock
        self._state = self.log.state
        self.version = found.version
        # By the decoded path: writers may encode the same one differently.
        self._partitions: dict[_Key, dict[str, DataFile]] = {}
        self._keys: dict[str, _Key] = {}
        self._changed: set[_Key] = set()
        for file in found.files:
            self._put(file)
        self.catch_up_log()

    def catch_up(self) -> bool:
        """Read what is new; False if that is not enough and this must be made anew.

        It is not if the table's schema or properties changed, or if we slept for long.
        """
        if (
            max(now - seen for now, seen in zip(self._now_s(), self._seen_s, strict=True))
            > _STALE_S
        ):
            return False
        self.catch_up_log()
        return self.is_current()

    def catch_up_log(self) -> None:
        """Read the entries that are new."""
        self.log.catch_up(self.note)
        self._seen_s = self._now_s()

    def is_current(self) -> bool:
        """Whether all that the handle has read is known here, and the table is as described."""
        return self.log.state is self._state and self.log.version == self.version

    def note(self, entry: Entry) -> None:
        """Take over an entry that the handle has read."""
        # An entry may replace a path's deletion vector: removed and added, in any order.
        self._take(line.remove for line in entry.lines if line.remove is not None)
        self._take(line.add for line in entry.lines if line.add is not None)
        self.version = entry.version

    def note_own(self, version: int, actions: Sequence[Action]) -> None:
        """Take over our own commit, which the handle does not read again."""
        self._take(action for action in actions if isinstance(action, Remove))
        self._take(action for action in actions if isinstance(action, Add))
        self.version = version

    def has(self, file: DataFile) -> bool:
        """Whether `file` is live as it was: also its deleted rows are the same."""
        name = unquote(file.path)
        key = self._keys.get(name)
        return key is not None and self._partitions[key][name] is file

    def are_there(self, files: Iterable[DataFile]) -> bool:
        """Whether the newest version of the table has `files`, by the log read anew."""
        there = {unquote(file.path) for file in snapshot(self.log.store).files}
        return there.issuperset(unquote(file.path) for file in files)

    def changed(self) -> Iterator[tuple[tuple[str | None, ...], list[DataFile]]]:
        """The files of each partition that changed since `settle` was last called for it."""
        for key in sorted(self._changed, key=str):
            yield key, [*self._partitions.get(key, {}).values()]

    def settle(self, partition: tuple[str | None, ...]) -> None:
        """Leave `partition` out of `changed` until an entry touches it."""
        self._changed.discard(partition)
        if not self._partitions.get(partition, {"": None}):
            del self._partitions[partition]

    def _take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Add):
                self._put(self._data_file(action))
            elif isinstance(action, Remove):
                self._drop(unquote(action.path))

    def _put(self, file: DataFile) -> None:
        name, key = unquote(file.path), tuple(file.partition.values())
        self._drop(name)
        self._partitions.setdefault(key, {})[name] = file
        self._keys[name] = key
        self._changed.add(key)

    def _drop(self, name: str) -> None:
        key = self._keys.pop(name, None)
        if key is not None:
            del self._partitions[key][name]
            self._changed.add(key)

    def _data_file(self, add: Add) -> DataFile:
        return data_file(add, self._state)

    def _now_s(self) -> tuple[float, float]:
        return self._clock.now_s(), self._clock.monotonic_s()
