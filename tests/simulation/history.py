"""What truly happened to the table, seen from beside the store, and what must be true of it.

The history sees each file at the moment when the store takes it or lets it go, whatever the process
that asked is told. It replays the log by itself, with as little of the engine as possible, and
judges each step at once: a commit by the rows it brings, a removal by who may still need the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.simulation.ledger import Ledger
from tests.simulation.rows import SITES, ids_in_file, site_of
from tests.simulation.world import Violation

from neuralake.storage import MemoryStore

__all__ = ["Ages", "History", "Live", "Version"]

_ENTRY = re.compile(r"_delta_log/(\d{20})\.json")
_CHECKPOINT = re.compile(r"_delta_log/(\d{20})\.checkpoint[^/]*")
# Clocks of processes differ by a few seconds, and tombstones carry the time of their writer's.
_SKEW_S = 5.0


@dataclass(frozen=True, slots=True)
class Ages:
    """What the table and the settings promise, in seconds."""

    deleted_file_retention_s: float
    log_retention_s: float
    orphan_age_s: float


@dataclass(frozen=True, slots=True)
class Live:
    """A live data file of a version."""

    path: str
    site: str
    modified_ms: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """The table at a version. `live` by path; `tombstones`: deletion time (ms) by path."""

    number: int
    stored_s: float
    live: dict[str, Live]
    txns: dict[str, int]
    tombstones: dict[str, int]

    def files(self) -> list[Live]:
        """In the order of their rows."""
        return sorted(self.live.values(), key=lambda file: (file.modified_ms, file.path))

    def ids(self, site: str | None = None) -> list[int]:
        """The rows of a partition (or of all) in the order that readers are promised."""
        files = (file for file in self.files() if site in (None, file.site))
        return [number for file in files for number in file.ids]


@dataclass(slots=True)
class _Stored:
    """A data file in the store. `ids` is read when somebody first asks."""

    data: bytes
    owner: str
    stored_s: float
    ids: tuple[int, ...] | None = None


@dataclass(slots=True)
class _Entry:
    """The actions of a log entry, by kind."""

    adds: list[dict[str, Any]] = field(default_factory=list)
    removes: list[dict[str, Any]] = field(default_factory=list)
    txns: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> _Entry:
        lines = [json.loads(line) for line in data.splitlines()]
        return cls(
            *([line[kind] for line in lines if kind in line] for kind in ("add", "remove", "txn"))
        )

    @property
    def changes_rows(self) -> bool:
        return any(action["dataChange"] for action in (*self.adds, *self.removes))


class History:
    """See the module. Every method raises Violation for what must not be."""

    def __init__(
        self,
        store: MemoryStore,
        ledger: Ledger,
        ages: Ages,
        now_s: Callable[[], float],
        *,
        by_locks: bool,
    ) -> None:
        self.store, self.ledger, self.ages, self._now_s = store, ledger, ages, now_s
        self._by_locks = by_locks
        self.versions: list[Version] = []
        self._files: dict[str, _Stored] = {}
        self._entries: dict[int, bytes] = {}
        # Those that are in the store now, and the same as when they were committed.
        self._present: set[int] = set()
        self.ghosts = 0
        self._ever_live: set[str] = set()

    @property
    def newest(self) -> Version:
        return self.versions[-1]

    def readable(self, version: int) -> bool:
        """Whether the retention promises that `version` can be read now.

        A version is as old as the entry after it: until then it was the newest.
        """
        if version == self.newest.number:
            return True
        age_s = self._now_s() - self.versions[version + 1].stored_s
        return age_s < min(self.ages.log_retention_s, self.ages.deleted_file_retention_s) - _SKEW_S

    def readable_versions(self) -> list[int]:
        return [version for version in range(len(self.versions)) if self.readable(version)]

    def ids_of(self, name: str) -> tuple[int, ...]:
        """The rows of the data file `name`, which may be gone by now."""
        stored = self._files[name]
        if stored.ids is None:
            stored.ids = tuple(ids_in_file(stored.data))
        return stored.ids

    def is_as_stored(self, name: str, data: bytes) -> bool:
        """Whether the data file `name` was stored with exactly this."""
        return self._files[name].data == data

    def idle_files(self) -> list[str]:
        """Data files in the store that the newest version does not have."""
        live = {unquote(path) for path in self.newest.live}
        stored = (file.name for file in self.store.files())
        return [name for name in stored if name in self._files and name not in live]

    def took(self, name: str, data: bytes, owner: str) -> None:
        """The store took `name` from process `owner`."""
        if match := _ENTRY.fullmatch(name):
            self._entry(int(match[1]), data, owner)
        elif name.endswith(".parquet") and "/_" not in f"/{name}":
            self._files[name] = _Stored(data, owner, self._now_s())

    def decided(self, file_name: str, temp_path: str, owner: str) -> None:
        """The lock table gave the version of `file_name` to the entry in `temp_path`."""
        number, data = int(file_name[:20]), self.store.read(f"_delta_log/{temp_path}")
        if number < len(self.versions):
            # The item of that version had expired; what comes of it is judged by `took`. Clean-up
            # may have taken the sleeper's file: whoever repairs finds the entry, or later ones.
            return
        if data is None:
            raise Violation(f"{owner} took version {number}, but {temp_path} is not there.")
        self._commit(number, data, owner)

    def removed(self, name: str, owner: str) -> None:
        """The store is about to let go of `name`, asked by process `owner`."""
        if name in self._files:
            self._let_go(name, owner)
        elif match := _ENTRY.fullmatch(name):
            self._present.discard(int(match[1]))

    def check_log(self) -> None:
        """The log can be read to its end by whoever knows nothing but the store."""
        newest, checkpoints = self.newest.number, self._checkpoints()
        # Taken in the lock table and not yet put: any reader puts it.
        there = self._present | (set(range(newest, newest + 1)) if self._by_locks else set())
        oldest = newest
        while oldest > 0 and self.readable(oldest - 1):
            oldest -= 1
        start = max((c for c in checkpoints if c <= oldest), default=-1)
        if missing := [v for v in range(start + 1, newest + 1) if v not in there]:
            raise Violation(
                f"Versions {oldest} to {newest} must be readable, but the entries {missing} are "
                f"gone (checkpoints: {sorted(checkpoints)})."
            )

    def _entry(self, number: int, data: bytes, owner: str) -> None:
        known = self._entries.get(number)
        if known is None:
            if self._by_locks:
                raise Violation(f"{owner} put entry {number}, which has no item in the lock table.")
            self._commit(number, data, owner)
        elif known != data:
            if number in self._present:
                raise Violation(f"{owner} put another entry {number} in place of the first.")
            # A sleeper found the name free after clean-up. Nobody reads that entry; whoever takes
            # it for a commit is caught at its acknowledgement.
            self.ghosts += 1
            return
        self._present.add(number)

    def _commit(self, number: int, data: bytes, owner: str) -> None:
        if number < len(self.versions):
            raise Violation(f"{owner} made version {number} a second time.")
        if number > len(self.versions):
            raise Violation(f"{owner} made version {number} after {len(self.versions) - 1}.")
        before = self.versions[-1] if self.versions else Version(-1, 0.0, {}, {}, {})
        entry = _Entry.of(data)
        txns = dict(before.txns)
        for txn in entry.txns:
            if txn["version"] <= txns.get(txn["appId"], -1):
                raise Violation(
                    f"Version {number} by {owner} repeats transaction {txn['version']} of "
                    f"{txn['appId']}, which is at {txns[txn['appId']]}."
                )
            txns[txn["appId"]] = txn["version"]
        live, tombstones = dict(before.live), dict(before.tombstones)
        for remove in entry.removes:
            if live.pop(remove["path"], None) is None:
                raise Violation(f"Version {number} by {owner} removes {remove['path']}: not live.")
            tombstones[remove["path"]] = remove["deletionTimestamp"]
        for add in entry.adds:
            live[add["path"]] = self._added(number, add, owner)
        after = Version(number, self._now_s(), live, txns, tombstones)
        self._ever_live.update(unquote(add["path"]) for add in entry.adds)
        self._judge(before, after, entry, owner)
        self._entries[number] = data
        self.versions.append(after)

    def _added(self, number: int, add: dict[str, Any], owner: str) -> Live:
        path, name = add["path"], unquote(add["path"])
        if name in self._ever_live:
            raise Violation(f"Version {number} by {owner} adds {path} a second time.")
        held = self.store.read(name)
        if held is None:
            raise Violation(f"Version {number} by {owner} adds {path}, which is not there.")
        ids = self.ids_of(name)
        rows = json.loads(add["stats"])["numRecords"]
        if len(held) != add["size"] or len(ids) != rows:
            raise Violation(f"Version {number} by {owner}: size or rows of {path} are wrong.")
        site = add["partitionValues"]["site"]
        if any(site_of(i) != site for i in ids):
            raise Violation(f"Version {number} by {owner}: {path} has rows of another partition.")
        return Live(path, site, add["modificationTime"], ids)

    def _judge(self, before: Version, after: Version, entry: _Entry, owner: str) -> None:
        who = f"version {after.number} by {owner}"
        sites = sorted({add["partitionValues"]["site"] for add in entry.adds})
        if not entry.changes_rows:
            sites = sorted({*sites, *(before.live[r["path"]].site for r in entry.removes)})
            for site in sites:
                if before.ids(site) != after.ids(site):
                    raise Violation(
                        f"{who} changes no rows, it says, but {site} had {before.ids(site)} and "
                        f"has {after.ids(site)}."
                    )
            return
        txns = {txn["appId"]: (before.txns.get(txn["appId"]), txn["version"]) for txn in entry.txns}
        if entry.removes:
            partitions = {s: (before.ids(s), after.ids(s)) for s in SITES}
            self.ledger.judge_purge(who, partitions, txns)
            return
        added = {}
        for site in sites:
            files = [after.live[a["path"]] for a in entry.adds]
            added[site] = [i for file in files if file.site == site for i in file.ids]
            if after.ids(site) != before.ids(site) + added[site]:
                raise Violation(f"{who} does not put its rows of {site} behind all others.")
        self.ledger.judge(who, added, txns)

    def _let_go(self, name: str, owner: str) -> None:
        path = next((p for p in self.newest.tombstones if unquote(p) == name), None)
        stored = self._files[name]
        if any(unquote(p) == name for p in self.newest.live):
            raise Violation(f"{owner} removes {name}, which is live.")
        if path is not None:
            age_s = self._now_s() - self.newest.tombstones[path] / 1000
            if age_s < self.ages.deleted_file_retention_s - _SKEW_S:
                raise Violation(f"{owner} removes {name}, replaced only {age_s:.0f} s ago.")
        elif owner != stored.owner:
            age_s = self._now_s() - stored.stored_s
            if age_s < self.ages.orphan_age_s - _SKEW_S:
                raise Violation(
                    f"{owner} removes {name}, which {stored.owner} made only {age_s:.0f} s ago."
                )

    def _checkpoints(self) -> set[int]:
        names = (f"_delta_log/{name}" for name in self.store.names("_delta_log"))
        return {int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name))}
