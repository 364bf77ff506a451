"""Write checkpoints: the state of a version in one Parquet file, so that opening is quick.

Sections "Checkpoints" and "Last Checkpoint File" of the Delta protocol. A checkpoint is copied from
the one before it, batch by batch, with the entries since put in their places: the memory that it
takes is in proportion to those entries, not to the table. It changes nothing about the table, and
one that was not finished is not there. Log entries are kept: `cleanup.py` removes them.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import MetaData, decode_entry
from neuralake.delta.checkpoint_names import LAST_CHECKPOINT, CheckpointName, hinted
from neuralake.delta.checkpoint_read import UnreadableCheckpoint, read_checkpoint
from neuralake.delta.checkpoint_schema import TYPES, from_json
from neuralake.delta.coordination import check_coordination
from neuralake.delta.log import FOLDER, entry_name
from neuralake.delta.properties import Properties
from neuralake.delta.protocol import TableState
from neuralake.delta.replay import LogState, replay
from neuralake.errors import CommitConflict, NeedsAttention, UnsupportedFeature
from neuralake.storage import LogStore, Sink, as_store

__all__ = ["checkpoint", "checkpoint_if_due", "point_at"]

_INTERVAL = "delta.checkpointInterval"
# Row groups are what a reader holds at once, and have a description each.
_GROUP_ROWS = 32_768
# See `checkpoint_if_due`: about 5 ms of work for a commit.
_ROWS_PER_COMMIT = 5_000
_COLUMNS = ("protocol", "metaData", "txn", "domainMetadata", "add", "remove")


def checkpoint(at: str | LogStore, *, clock: Clock | None = None) -> int:
    """Write a checkpoint of the newest version, durably, and return that version.

    Nothing is written if it is there already.

    Raises:
        UnknownName: no table is there.
        UnsupportedFeature: the table needs what we do not implement.
        CommitConflict: another table took its place meanwhile.
        Unavailable: the store failed; the table is as it was.
    """
    store = as_store(at)
    log = replay(store)
    check_coordination(log.metadata.configuration, store)
    state = TableState.of(log.protocol, log.metadata)
    _check_statistics_form(state.metadata)
    if log.checkpoint is not None and log.checkpoint.version == log.version:
        point_at(store, log.checkpoint.name, state.metadata)
        return log.version
    retention_s = state.properties.deleted_file_retention_s
    expired_ms = int(((clock or SystemClock()).now_s() - retention_s) * 1000)
    name = _name(state, log.version)
    written = _write(store, log, name, expired_ms=expired_ms)
    _check(store, name, log, written)
    point_at(store, name, state.metadata, written)
    return log.version


def checkpoint_if_due(
    at: str | LogStore, *, commits: int, clock: Clock | None = None
) -> int | None:
    """Write a checkpoint if `commits` versions came since the last one; its version, or None.

    A large checkpoint waits for more commits, one for every 5,000 rows in it, so that what is
    rewritten for a commit is bounded. The table's own `delta.checkpointInterval` goes before both;
    a change of it is noticed at the next checkpoint. Costs a few look-ups by name when none is due.
    """
    store = as_store(at)
    hint = hinted(store)
    since = 0 if hint is None else hint.version
    pointer = _pointer(store)
    due = since + (_interval(store, pointer) or max(commits, pointer.size // _ROWS_PER_COMMIT))
    # Without a pointer, and with the first entry cleaned up, where the log ends is not known.
    is_lost = hint is None and store.stamp(entry_name(0)) is None
    if not is_lost and store.stamp(entry_name(due)) is None:
        return None
    return checkpoint(store, clock=clock)


def point_at(
    store: LogStore, name: CheckpointName, metadata: MetaData, written: _Written | None = None
) -> None:
    """Let `_last_checkpoint` name this checkpoint, unless it names this or a newer one."""
    hint = hinted(store)
    if hint is not None and (hint.version > name.version or hint == name):
        return
    interval = metadata.configuration.get(_INTERVAL)
    pointer: dict[str, object] = {"version": name.version, "size": -1}
    if written is not None:
        pointer |= {
            "size": written.rows,
            "sizeInBytes": written.bytes,
            "numOfAddFiles": written.adds,
        }
    if len(name.files) > 1:
        pointer["parts"] = len(name.files)
    if name != CheckpointName.classic(name.version) and len(name.files) == 1:
        v2 = {"path": name.files[0], "sizeInBytes": -1, "modificationTime": 0}
        if written is not None:
            v2["sizeInBytes"] = written.bytes
        pointer["v2Checkpoint"] = v2
    if interval is not None:
        pointer["tags"] = {_INTERVAL: interval}
    store.put({LAST_CHECKPOINT: msgspec.json.encode(pointer)})


@dataclass(slots=True)
class _Written:
    """What a checkpoint holds."""

    rows: int = 0
    adds: int = 0
    bytes: int = 0


class _Counted(io.RawIOBase):
    """A sink as Arrow wants a file, and how many bytes went into it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._sink.write(data)
        self.count += len(data)
        return len(data)

    def tell(self) -> int:
        return self.count


class _Pointer(msgspec.Struct):
    tags: dict[str, str] = {}
    version: int = -1
    size: int = -1
    """Rows of the checkpoint; -1: not known."""


def _pointer(store: LogStore) -> _Pointer:
    try:
        return msgspec.json.decode(store.read(LAST_CHECKPOINT) or b"{}", type=_Pointer)
    except msgspec.DecodeError:
        return _Pointer()


def _interval(store: LogStore, pointer: _Pointer) -> int | None:
    """Commits between checkpoints, by the table's property; None: it says nothing."""
    configuration = dict(pointer.tags)
    if pointer.version < 0:
        # Not one checkpoint yet: the table's first entry has its properties.
        first = store.read(entry_name(0))
        for line in decode_entry(first, version=0, uri=store.uri) if first else ():
            if line.meta_data is not None:
                configuration = dict(line.meta_data.configuration)
    found = {key: text for key, text in configuration.items() if key == _INTERVAL}
    return Properties.of(found).checkpoint_commits


def _name(state: TableState, version: int) -> CheckpointName:
    """A classic one, which every reader knows, unless the table asks for the second form."""
    features = state.protocol.writer_features or []
    if state.properties.checkpoint_policy == "v2" and "v2Checkpoint" in features:
        return CheckpointName(version, (f"{version:020d}.checkpoint.{uuid.uuid4()}.parquet",))
    return CheckpointName.classic(version)


def _check_statistics_form(metadata: MetaData) -> None:
    name = "delta.checkpoint.writeStatsAsJson"
    if metadata.configuration.get(name, "true").lower() == "false":
        raise UnsupportedFeature(
            f"The table keeps statistics in its checkpoints as columns only ({name}=false), which "
            f"neuralake does not write. Set it to true, or write checkpoints with the engine that "
            f"set it.",
            features=[name],
        )


def _write(store: LogStore, log: LogState, name: CheckpointName, *, expired_ms: int) -> _Written:
    with store.create(f"{FOLDER}/{name.files[0]}") as sink:
        written = _write_rows(sink, log, is_v2="-" in name.files[0], expired_ms=expired_ms)
        # A checkpoint in a table that took this one's place would bring the old one back.
        if store.read(entry_name(log.version)) != log.entries[-1]:
            raise CommitConflict(
                f"The table at {store.uri} was deleted or replaced, or its log cleaned up, while "
                f"a checkpoint was written. Try again.",
                version=log.version,
            )
    return written


def _write_rows(sink: Sink, log: LogState, *, is_v2: bool, expired_ms: int) -> _Written:
    names = [*_COLUMNS, "checkpointMetadata", "sidecar"] if is_v2 else [*_COLUMNS]
    schema = pa.schema([(name, TYPES[name]) for name in names])
    written, file, waiting = _Written(), _Counted(sink), [schema.empty_table()]
    with pq.ParquetWriter(pa.PythonFile(file, mode="w"), schema, store_schema=False) as writer:
        for name, rows in _batches(log, is_v2=is_v2, expired_ms=expired_ms):
            waiting.append(_as_rows(name, rows, schema))
            written.rows += len(rows)
            written.adds += len(rows) if name == "add" else 0
            if sum(table.num_rows for table in waiting) >= _GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting = [schema.empty_table()]
        writer.write_table(pa.concat_tables(waiting))
    written.bytes = file.count
    return written


def _batches(
    log: LogState, *, is_v2: bool, expired_ms: int
) -> Iterator[tuple[str, pa.StructArray]]:
    """Every action of the checkpoint, by column."""
    plain = msgspec.to_builtins
    small: dict[str, list[dict[str, object]]] = {
        "protocol": [plain(log.protocol)],
        "metaData": [plain(log.metadata)],
        "txn": [plain(txn) for txn in log.txns.values()],
        "domainMetadata": [plain(domain) for domain in log.domains.values()],
    }
    if is_v2:
        small["checkpointMetadata"] = [{"version": log.version}]
    for name, actions in small.items():
        if actions:
            yield name, from_json(actions, TYPES[name])
    for rows in log.files.adds():
        yield "add", rows
    for rows in log.files.removes():
        # One without a time expired long ago, as other engines have it.
        times = pc.fill_null(rows.field("deletionTimestamp"), 0)
        kept = rows.filter(pc.greater(times, expired_ms))
        if len(kept):
            yield "remove", kept


def _as_rows(name: str, rows: pa.StructArray, schema: pa.Schema) -> pa.Table:
    # Not `pa.nulls`: it puts nulls below, too, where Parquet must have none.
    empty = [None] * len(rows)
    columns = [rows if field.name == name else pa.array(empty, field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _check(store: LogStore, name: CheckpointName, log: LogState, written: _Written) -> None:
    """Read back what readers will find, before they are sent there.

    Raises:
        NeedsAttention: it is not what was written; it was removed.
        CommitConflict: it is not there: we slept, and clean-up has left its version behind.
    """
    try:
        found = read_checkpoint(store, name)
        counted = sum(len(rows) for rows in found.rows("add", ("path",)))
        is_right = (found.protocol, found.metadata, counted) == (
            log.protocol,
            log.metadata,
            written.adds,
        )
    except (UnreadableCheckpoint, NeedsAttention, CommitConflict):
        is_right = False
    if not is_right and any(store.stamp(f"{FOLDER}/{file}") is None for file in name.files):
        raise CommitConflict(
            f"The checkpoint of version {log.version} of {store.uri} was cleaned up before it was "
            f"read back: so much time passed.",
            version=log.version,
        )
    if not is_right:
        store.remove(f"{FOLDER}/{file}" for file in name.files)
        raise NeedsAttention(
            f"The checkpoint of version {log.version} of {store.uri} does not read back as it was "
            f"written. It was removed, and nothing is lost. Check the store.",
            version=log.version,
        )
