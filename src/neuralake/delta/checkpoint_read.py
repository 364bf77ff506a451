"""Read a checkpoint of any kind: one file, several parts, or with sidecars; Parquet or JSON.

Sections "Checkpoint Specs" and "Sidecar Files" of the Delta protocol. What is small (protocol,
metadata, transactions, domains) is read at once; the rows of the table's files stay in the store
until they are asked for, and then come in batches of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuralake.delta.actions import DomainMetadata, MetaData, ProtocolAction, TxnAction
from neuralake.delta.checkpoint_names import SIDECARS, CheckpointName
from neuralake.delta.checkpoint_schema import TYPES, fit, from_json, optional
from neuralake.delta.log import FOLDER
from neuralake.errors import CommitConflict, NeedsAttention
from neuralake.storage import LogStore

__all__ = ["Checkpoint", "UnreadableCheckpoint", "read_checkpoint"]

_BATCH_ROWS = 16_384
_SMALL = ("protocol", "metaData", "txn", "domainMetadata", "sidecar")


class UnreadableCheckpoint(Exception):
    """A checkpoint is missing, torn or not one; an older one, or the entries, may do."""


class _Missing(UnreadableCheckpoint):
    """A file of it is not there."""


@dataclass(slots=True)
class Checkpoint:
    """The state of a table at `version`, its files still in the store."""

    store: LogStore
    name: CheckpointName
    protocol: ProtocolAction
    metadata: MetaData
    txns: dict[str, TxnAction] = field(default_factory=dict)
    domains: dict[str, DomainMetadata] = field(default_factory=dict)
    sidecars: tuple[str, ...] = ()
    newest_ms: int = 0
    """No file in it has a later modification time."""

    @property
    def version(self) -> int:
        return self.name.version

    def rows(self, kind: str, fields: Sequence[str] | None = None) -> Iterator[pa.StructArray]:
        """The `add` or `remove` actions, as batches of structs with `fields` (None: all).

        Raises:
            CommitConflict: it was cleaned up since it was found; read again.
            NeedsAttention: its rows are damaged.
        """
        wanted = TYPES[kind] if fields is None else optional(TYPES[kind], fields)
        try:
            for name in self._files():
                yield from _rows(self.store, name, kind, wanted)
        except _Missing as error:
            raise CommitConflict(
                f"Checkpoint {self.version} of {self.store.uri} is gone: the log was cleaned up "
                f"since it was opened ({error}). Read again.",
                version=self.version,
            ) from error
        except UnreadableCheckpoint as error:
            raise NeedsAttention(
                f"Checkpoint {self.version} of {self.store.uri} is damaged: {error}. Remove it if "
                f"an older one, or every log entry, is there; else restore it from a backup.",
                version=self.version,
            ) from error

    def _files(self) -> list[str]:
        # With sidecars all of the files are in them, and none in the checkpoint itself.
        if self.sidecars:
            return [f"{SIDECARS}/{name}" for name in self.sidecars]
        return [f"{FOLDER}/{name}" for name in self.name.files]


def read_checkpoint(store: LogStore, name: CheckpointName) -> Checkpoint:
    """The checkpoint `name`, whole: every part and sidecar of it is there.

    Raises:
        UnreadableCheckpoint: it is not.
        Unavailable: the store failed.
    """
    found = _Found()
    for file in name.files:
        path = f"{FOLDER}/{file}"
        if file.endswith(".json"):
            _from_json(found, _read(store, path))
        else:
            _from_parquet(found, store, path)
    if found.protocol is None or found.metadata is None:
        raise UnreadableCheckpoint(f"{name.files[0]} has no protocol or no metadata")
    for sidecar in found.sidecars:
        with _parquet(store, f"{SIDECARS}/{sidecar}") as file:
            found.newest_ms = max(found.newest_ms, _newest_ms(file))
    return Checkpoint(
        store,
        name,
        found.protocol,
        found.metadata,
        found.txns,
        {domain.domain: domain for domain in found.domains.values() if not domain.removed},
        tuple(found.sidecars),
        found.newest_ms,
    )


class _Sidecar(msgspec.Struct):
    path: str


class _Add(msgspec.Struct, rename="camel"):
    modification_time: int = 0


class _Line(msgspec.Struct, rename="camel"):
    """What is small of a line; the fields of files are skipped."""

    protocol: ProtocolAction | None = None
    meta_data: MetaData | None = None
    txn: TxnAction | None = None
    domain_metadata: DomainMetadata | None = None
    sidecar: _Sidecar | None = None
    add: _Add | None = None


_LINES = msgspec.json.Decoder(_Line)


@dataclass(slots=True)
class _Found:
    protocol: ProtocolAction | None = None
    metadata: MetaData | None = None
    txns: dict[str, TxnAction] = field(default_factory=dict)
    domains: dict[str, DomainMetadata] = field(default_factory=dict)
    sidecars: list[str] = field(default_factory=list)
    newest_ms: int = 0

    def take(self, line: _Line) -> None:
        self.protocol = line.protocol or self.protocol
        self.metadata = line.meta_data or self.metadata
        if line.txn is not None:
            self.txns[line.txn.app_id] = line.txn
        if line.domain_metadata is not None:
            self.domains[line.domain_metadata.domain] = line.domain_metadata
        if line.sidecar is not None:
            # The path is relative to the folder of sidecars; some writers give all of it.
            self.sidecars.append(line.sidecar.path.rsplit("/", 1)[-1])
        if line.add is not None:
            self.newest_ms = max(self.newest_ms, line.add.modification_time)


def _from_json(found: _Found, data: bytes) -> None:
    try:
        for line in _LINES.decode_lines(data):
            found.take(line)
    except msgspec.DecodeError as error:
        raise UnreadableCheckpoint(str(error)) from error


def _from_parquet(found: _Found, store: LogStore, path: str) -> None:
    with _parquet(store, path) as file:
        there = [name for name in _SMALL if name in file.schema_arrow.names]
        columns = _columns(file, {name: TYPES[name] for name in there})
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=columns)
            for name in there:
                for chunk in rows[name].chunks:
                    if chunk.null_count < len(chunk):
                        _take_structs(found, name, fit(chunk, TYPES[name]))
        found.newest_ms = max(found.newest_ms, _newest_ms(file))


def _take_structs(found: _Found, name: str, structs: pa.StructArray) -> None:
    for action in structs.to_pylist(maps_as_pydicts="strict"):
        try:
            # Absent and null are one in a checkpoint, but not for fields with a default.
            plain = {key: value for key, value in action.items() if value is not None}
            found.take(msgspec.convert({name: plain}, _Line))
        except msgspec.ValidationError as error:
            raise UnreadableCheckpoint(f"a {name} action is not one: {error}") from error


def _newest_ms(file: pq.ParquetFile) -> int:
    """An upper bound of the modification times in `file`."""
    path = "add.modificationTime"
    place = next(
        (i for i in range(len(file.schema)) if file.schema.column(i).path == path),
        None,
    )
    newest = 0
    for group in range(file.num_row_groups) if place is not None else ():
        statistics = file.metadata.row_group(group).column(place).statistics
        if statistics is not None and statistics.has_min_max:
            newest = max(newest, statistics.max)
            continue
        times = pc.struct_field(file.read_row_group(group, columns=[path])["add"], 0)
        newest = max(newest, pc.max(times).as_py() or 0)
    return newest


def _rows(store: LogStore, path: str, kind: str, wanted: pa.StructType) -> Iterator[pa.StructArray]:
    if path.endswith(".json"):
        lines = msgspec.json.Decoder().decode_lines(_read(store, path))
        yield from_json([line[kind] for line in lines if line.get(kind) is not None], wanted)
        return
    with _parquet(store, path) as file:
        if kind not in file.schema_arrow.names:
            return
        columns = _columns(file, {kind: wanted})
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            rows = batch.column(0)
            if rows.null_count < len(rows):
                yield fit(rows, wanted)


def _columns(file: pq.ParquetFile, wanted: dict[str, pa.StructType]) -> list[str]:
    """The columns to read for `wanted`: never the statistics and values in parsed form."""
    return [
        f"{name}.{inner.name}"
        for name, kind in wanted.items()
        for inner in file.schema_arrow.field(name).type
        if kind.get_field_index(inner.name) >= 0
    ]


@contextmanager
def _parquet(store: LogStore, path: str) -> Iterator[pq.ParquetFile]:
    with store.open(path) as file:
        if file is None:
            raise _Missing(f"{path} is missing")
        try:
            yield pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableCheckpoint(f"{path} cannot be read: {error}") from error


def _read(store: LogStore, path: str) -> bytes:
    data = store.read(path)
    if data is None:
        raise _Missing(f"{path} is missing")
    return data
