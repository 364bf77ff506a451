"""The state of a table at a version, from its log alone, on any store.

The newest checkpoint, then the entries after it (section "Action Reconciliation" of the Delta
protocol). What is small is read at once: protocol, metadata, transactions, domains. The files of
the table stay unread until somebody asks, so opening costs the same for ten files or a million.
`_last_checkpoint` is believed only as far as the log bears it out; a listing that shows an entry
and misses an older one is made again; an entry that is really missing stops everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from neuralake.delta.actions import (
    DomainMetadata,
    MetaData,
    ProtocolAction,
    TxnAction,
    damaged,
)
from neuralake.delta.checkpoint_names import (
    CheckpointName,
    complete_checkpoints,
    hinted,
)
from neuralake.delta.checkpoint_read import Checkpoint, UnreadableCheckpoint, read_checkpoint
from neuralake.delta.file_actions import FileActions
from neuralake.delta.log import (
    FOLDER,
    MissingEntry,
    entry_name,
    entry_version,
    raw_entries_after,
)
from neuralake.errors import NeedsAttention, UnknownName
from neuralake.storage import LogStore

__all__ = ["LogState", "replay"]

# A gap that is still there after so many listings is real.
_LISTINGS_MAX = 20


@dataclass
class LogState:
    """A version of a table; see the module."""

    version: int
    protocol: ProtocolAction
    metadata: MetaData
    txns: dict[str, TxnAction]
    domains: dict[str, DomainMetadata]
    """Domain metadata by domain, without removed ones."""
    newest_ms: int
    """No live file has a later modification time (Unix milliseconds); 0: there was none yet."""
    timestamp_ms: int | None
    """When the version was committed, as its writer says; None: its entry does not say."""
    in_commit_ms: int | None
    """Its in-commit timestamp, where the table has them."""
    checkpoint: Checkpoint | None
    """What it was read from, if not from entry 0."""
    entries: list[bytes]
    """The entries after that, as they are stored."""

    @cached_property
    def files(self) -> FileActions:
        """The table's files and tombstones; computed when first asked for."""
        return FileActions(self.checkpoint, self.entries)

    def advanced(self, entries: Sequence[tuple[int, bytes]]) -> LogState:
        """This state with the next `entries` on top of it, each with its version.

        Raises:
            NeedsAttention: one is damaged.
        """
        tail = _Tail(
            "",
            self.checkpoint,
            self.protocol,
            self.metadata,
            dict(self.txns),
            dict(self.domains),
            self.newest_ms,
            entries=[*self.entries],
        )
        for version, data in entries:
            tail.take(version, data)
        return tail.state(entries[-1][0])


def replay(store: LogStore, version: int | None = None) -> LogState:
    """The state of the table in `store`, now or as of `version`.

    Raises:
        UnknownName: there is no table, or no such `version` of it (any more); with `kind`, `name`.
        NeedsAttention: an entry is damaged or missing, or no checkpoint can be read.
        Unavailable: the store failed.
    """
    store.recover()
    reason = ""
    for attempt in range(_LISTINGS_MAX):
        try:
            base = _hinted_base(store, version) if attempt == 0 else None
            return _on(store, base or _listed_base(store, version), version)
        except _Moved as moved:
            reason = str(moved)
    raise NeedsAttention(
        f"The log of {store.uri} cannot be read: {reason}. Restore what is missing from a backup; "
        f"no commit is made on top of it.",
        uri=store.uri,
    )


class _Moved(Exception):
    """The log is not as it looked: cleaned up meanwhile, listed torn, or really damaged."""


@dataclass(frozen=True, slots=True)
class _Base:
    checkpoint: Checkpoint | None
    known: int
    """A version that exists: what was read must reach it."""
    listed: bool


def _hinted_base(store: LogStore, version: int | None) -> _Base | None:
    """The checkpoint that `_last_checkpoint` points at, or a newer one; None: make a listing."""
    name = hinted(store)
    if name is None or (version is not None and name.version > version):
        return None
    if not store.stamp_age_s_max:
        # A folder on disk is listed whole, however many entries it has: ask for entries by name.
        return _read_first(store, [name], known=name.version, listed=False)
    # An object store lists what comes after a name, and that is quicker than asking for each.
    names = store.names(FOLDER, after=f"{name.version:020d}.json")
    newer = [found for found in complete_checkpoints(names) if _is_wanted(found, version)]
    return _read_first(store, [*newer, name], known=_newest(names, name.version), listed=True)


def _listed_base(store: LogStore, version: int | None) -> _Base:
    names = store.names(FOLDER)
    known = _newest(names, -1)
    if known < 0:
        uri = store.uri
        raise UnknownName(f"There is no Delta table at {uri}.", kind="table", name=uri, known=[])
    if version is not None and version < 0:
        raise _no_version(store, version, known, "versions count from 0")
    wanted = [found for found in complete_checkpoints(names) if _is_wanted(found, version)]
    base = _read_first(store, wanted, known=known, listed=True)
    if base is not None:
        return base
    if version is not None and version <= known and store.stamp(entry_name(0)) is None:
        raise _no_version(store, version, known, "the log entries of that time are gone")
    return _Base(None, known, listed=True)


def _read_first(
    store: LogStore, names: list[CheckpointName], *, known: int, listed: bool
) -> _Base | None:
    for name in names:
        try:
            return _Base(read_checkpoint(store, name), known, listed)
        except UnreadableCheckpoint:
            continue  # An older one will do, with more entries.
    return None


def _on(store: LogStore, base: _Base, version: int | None) -> LogState:
    """Read the entries on top of `base`.

    Raises:
        _Moved: they do not reach what is known to exist.
    """
    checkpoint = base.checkpoint
    first = -1 if checkpoint is None else checkpoint.version
    tail = _Tail.on(store.uri, checkpoint)
    if checkpoint is not None:
        # For its time; and clean-up removes the oldest first: while it is there, so are the later.
        own = store.read(entry_name(first))
        if own is not None:
            tail.take_time(own, first)
        elif not base.listed:
            raise _Moved(f"log entry {first} is missing")
    known = base.known if base.listed else None
    last = version if known is None else known if version is None else min(known, version)
    try:
        for found, data in raw_entries_after(store, first, known=known, last=last):
            tail.take(found, data)
    except MissingEntry as error:
        raise _Moved(f"log entry {error.version} is missing") from error
    reached = first + len(tail.entries)
    asked = base.known if version is None else min(base.known, version)
    if reached < asked or (not base.listed and _has_gap(store, reached, version)):
        raise _Moved(f"log entry {reached + 1} is missing")
    if version is not None and reached < version:
        raise _no_version(store, version, reached, f"the newest is {reached}")
    return tail.state(reached)


def _has_gap(store: LogStore, reached: int, version: int | None) -> bool:
    """Whether a later entry than the one after `reached` is there, and that one is not."""
    if version is not None and reached >= version:
        return False
    later = store.stamp(entry_name(reached + 2)) is not None
    return later and store.stamp(entry_name(reached + 1)) is None


def _newest(names: list[str], at_least: int) -> int:
    versions = (entry_version(name) for name in names)
    checkpoints = (found.version for found in complete_checkpoints(names))
    found = [version for version in versions if version is not None]
    return max([at_least, *found, *checkpoints])


def _is_wanted(name: CheckpointName, version: int | None) -> bool:
    return version is None or name.version <= version


def _no_version(store: LogStore, version: int, newest: int, why: str) -> UnknownName:
    return UnknownName(
        f"There is no version {version} of {store.uri}: {why}.",
        kind="version",
        name=str(version),
        known=[],
        newest=newest,
    )


class _Add(msgspec.Struct, rename="camel"):
    modification_time: int


class _Info(msgspec.Struct, rename="camel"):
    timestamp: int | None = None
    in_commit_timestamp: int | None = None


class _Line(msgspec.Struct, rename="camel"):
    """What is small of a line: the fields of files are skipped, which is most of the work."""

    protocol: ProtocolAction | None = None
    meta_data: MetaData | None = None
    txn: TxnAction | None = None
    domain_metadata: DomainMetadata | None = None
    commit_info: _Info | None = None
    add: _Add | None = None


_LINES = msgspec.json.Decoder(_Line)


@dataclass
class _Tail:
    """The small state, kept up to date entry by entry."""

    uri: str
    checkpoint: Checkpoint | None = None
    protocol: ProtocolAction | None = None
    metadata: MetaData | None = None
    txns: dict[str, TxnAction] = field(default_factory=dict)
    domains: dict[str, DomainMetadata] = field(default_factory=dict)
    newest_ms: int = 0
    info: _Info = field(default_factory=_Info)
    entries: list[bytes] = field(default_factory=list)

    @classmethod
    def on(cls, uri: str, checkpoint: Checkpoint | None) -> _Tail:
        if checkpoint is None:
            return cls(uri)
        return cls(
            uri,
            checkpoint,
            checkpoint.protocol,
            checkpoint.metadata,
            dict(checkpoint.txns),
            dict(checkpoint.domains),
            checkpoint.newest_ms,
        )

    def take_time(self, data: bytes, version: int) -> None:
        """Only the time of the entry that the checkpoint is of."""
        self.info = _Info()
        for line in _decode(data, version, self.uri):
            self.info = line.commit_info or self.info

    def take(self, version: int, data: bytes) -> None:
        self.entries.append(data)
        self.info = _Info()
        for line in _decode(data, version, self.uri):
            self.protocol = line.protocol or self.protocol
            self.metadata = line.meta_data or self.metadata
            self.info = line.commit_info or self.info
            if line.add is not None:
                self.newest_ms = max(self.newest_ms, line.add.modification_time)
            if line.txn is not None:
                self.txns[line.txn.app_id] = line.txn
            if line.domain_metadata is not None:
                self.domains[line.domain_metadata.domain] = line.domain_metadata

    def state(self, version: int) -> LogState:
        if self.protocol is None or self.metadata is None:
            raise NeedsAttention(
                f"The log of {self.uri} has no protocol or no metadata up to version {version}.",
                uri=self.uri,
                version=version,
            )
        return LogState(
            version,
            self.protocol,
            self.metadata,
            self.txns,
            {name: domain for name, domain in self.domains.items() if not domain.removed},
            self.newest_ms,
            self.info.timestamp,
            self.info.in_commit_timestamp,
            self.checkpoint,
            self.entries,
        )


def _decode(data: bytes, version: int, uri: str) -> list[_Line]:
    try:
        lines = _LINES.decode_lines(data)
    except msgspec.DecodeError as error:
        raise damaged(uri, version, str(error)) from error
    if not lines:
        raise damaged(uri, version, "it is empty")
    return lines
