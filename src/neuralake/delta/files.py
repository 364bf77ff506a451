"""Data files of a table: rows become Parquet in the store and wait for a commit, and are read back.

Nothing refers to a new file before its commit; without one it is an orphan, which no reader sees,
and which vacuum takes when it is old enough. So a handle remembers when it stored each (`Waiting`),
and refuses to commit one that may be gone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyarrow as pa

from neuralake.clock import Clock
from neuralake.delta.actions import Action, Add, Remove
from neuralake.delta.decode import Decoder
from neuralake.delta.deletion_vector import deleted_rows
from neuralake.delta.halves import encoded
from neuralake.delta.joining import parts_of, write_joined
from neuralake.delta.parquet import EncodedFile, Encoder, Indexed
from neuralake.delta.partition import folder, normalise, split
from neuralake.delta.protocol import TableState
from neuralake.delta.recoding import recoded
from neuralake.delta.row_groups import FooterReader
from neuralake.delta.snapshot import DataFile
from neuralake.errors import NeedsAttention
from neuralake.schema import conform
from neuralake.storage import LogStore, Sink

__all__ = ["DataFiles", "NewFile", "Waiting", "store_name"]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A data file that was stored and waits for its commit."""

    name: str
    partition: dict[str, str | None]
    """Values as the log has them: by physical name, under column mapping."""
    content: EncodedFile

    @property
    def path(self) -> str:
        """Its `add.path`."""
        return quote(self.name, safe="/=-._~")

    def add(
        self, *, modified_ms: int, data_change: bool, tags: dict[str, str | None] | None = None
    ) -> Add:
        return Add(
            path=self.path,
            partition_values=self.partition,
            size=self.content.bytes,
            modification_time=modified_ms,
            data_change=data_change,
            stats=self.content.stats,
            tags=tags,
        )


def _indexed(state: TableState) -> Indexed:
    """Which columns of the table's files have statistics, by its properties."""
    properties = state.properties
    if properties.stats_columns is None:
        return Indexed(leaves_max=properties.indexed_columns_max)
    paths = (state.columns.physical_path(path) for path in properties.stats_columns)
    return Indexed(paths=tuple(path for path in paths if path is not None))


def store_name(path: str) -> str:
    """The name in the store of an `add.path`, which is URL-encoded."""
    return unquote(path)


class Waiting:
    """The files that a handle has stored and no entry mentions yet, and since when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s: dict[str, tuple[float, float]] = {}

    def now_s(self) -> tuple[float, float]:
        # Both clocks: the monotonic one stands still while a laptop sleeps, the other may jump.
        return self._clock.now_s(), self._clock.monotonic_s()

    def note(self, file: NewFile, since_s: tuple[float, float]) -> None:
        self._since_s[file.path] = since_s

    def forget(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._since_s.pop(path, None)

    def age_s(self, actions: Iterable[Action]) -> float:
        """How long ago the storing of the oldest of these that is waiting began; 0: none."""
        now_s, monotonic_s = self.now_s()
        since = [
            self._since_s[action.path]
            for action in actions
            if isinstance(action, Add) and action.path in self._since_s
        ]
        return max((max(now_s - wall, monotonic_s - steady) for wall, steady in since), default=0.0)


class DataFiles:
    """Data files of a table with one schema; a changed table needs another."""

    def __init__(self, store: LogStore, state: TableState, waiting: Waiting) -> None:
        self.state = state
        self._store, self._waiting = store, waiting
        self._columns = state.columns.part(
            [name for name in state.schema.names if name not in state.partition_by]
        )
        self._decoder = Decoder(self._columns)
        # Kept: what it learns of footers pays over many files, and few are joined at once.
        self._footers = FooterReader()
        self._encoder = Encoder(
            self._columns.physical, _indexed(state), label=self._columns.to_physical
        )

    @property
    def schema(self) -> pa.Schema:
        """Columns of the files, as people know them: all but the partition columns."""
        return self._columns.logical

    @property
    def store(self) -> LogStore:
        return self._store

    def fit(self, rows: pa.Table) -> pa.Table:
        """`rows` with exactly the table's columns and what its partitions can hold.

        Raises:
            SchemaMismatch: they do not fit.
            InvalidRows: a partition value has no text form.
        """
        state = self.state
        return normalise(conform(rows, state.schema, name=self._store.uri), state.partition_by)

    def write(self, rows: pa.Table) -> list[NewFile]:
        """Store fitted `rows`, one file per partition value, all durable."""
        label, since_s = uuid.uuid4().hex, self._waiting.now_s()
        files, contents = [], {}
        for i, (values, part) in enumerate(split(rows, self.state.partition_by)):
            content, data = encoded(self._encoder, part)
            logged = self.state.columns.partition_values(values)
            file = NewFile(f"{folder(logged)}part-{i:05d}-{label}.parquet", logged, content)
            files.append(file)
            contents[file.name] = data
        if files:
            self._store.put(contents)
        for file in files:
            self._waiting.note(file, since_s)
        return files

    def write_one(self, partition: dict[str, str | None], batches: Iterable[pa.Table]) -> NewFile:
        """Store `batches` (columns as `schema`) of one partition as one durable file.

        Streams: it holds about one row group (128 MiB) in memory.
        """
        return self.create(partition, lambda sink: self._encoder.encode_into(sink, batches))

    def create(
        self, partition: dict[str, str | None], write: Callable[[Sink], EncodedFile]
    ) -> NewFile:
        """Store what `write` makes of a sink as one durable file of a partition."""
        since_s = self._waiting.now_s()
        logged = self.state.columns.partition_values(partition)
        name = f"{folder(logged)}part-00000-{uuid.uuid4().hex}.parquet"
        with self._store.create(name) as sink:
            content = write(sink)
        file = NewFile(name, logged, content)
        self._waiting.note(file, since_s)
        return file

    def join(
        self,
        partition: dict[str, str | None],
        files: Sequence[DataFile],
        *,
        guard: Callable[[], None] = lambda: None,
    ) -> NewFile | None:
        """Store the rows of `files` of one partition, in order, as one durable file: by copying.

        None if too little of them can be copied as it is; nothing was stored then. `guard` is
        called again and again while it works, and may raise to stop it.
        """

        def name_of(file: DataFile) -> str:
            return store_name(file.path)

        def encode(small: Sequence[DataFile], sink: Sink) -> EncodedFile:
            def batches() -> Iterator[pa.Table]:
                for file in small:
                    for batch in self.read(file):
                        guard()
                        yield batch

            return self._encoder.encode_into(sink, batches())

        def recode(
            small: Sequence[tuple[str, bytes]], names: Sequence[str], by_dictionary: Collection[str]
        ) -> bytes:
            return recoded(self._columns, small, names, by_dictionary=by_dictionary)

        parts = parts_of(files, name_of, self._store, columns=self._columns.physical.names)
        if parts is None:
            return None
        since_s = self._waiting.now_s()
        logged = self.state.columns.partition_values(partition)
        name = f"{folder(logged)}part-00000-{uuid.uuid4().hex}.parquet"
        try:
            with self._store.create(name) as sink:
                content = write_joined(
                    parts,
                    sink,
                    store=self._store,
                    name_of=name_of,
                    encode=encode,
                    recode=recode,
                    guard=guard,
                    footers=self._footers,
                )
        except ValueError:
            return None
        file = NewFile(name, logged, content)
        self._waiting.note(file, since_s)
        return file

    def read(self, file: DataFile, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The live rows of `file` in order, in batches of a few MiB.

        Their columns are those of `schema`, or of these only the `columns`: at least one.

        Raises:
            NeedsAttention: the file is missing (`missing` is True; perhaps only for a reader of an
                old version), damaged, or has other rows than the log says; with `path`.
            SchemaMismatch: it has a value that the table's type cannot hold.
        """
        decoder = self._decoder
        if columns is not None:
            decoder = Decoder(self._columns.part([*columns]))
        vector, rows = file.deletion_vector, 0
        deleted = deleted_rows(vector, self._store, path=file.path) if vector else ()
        with self._store.open(store_name(file.path)) as source:
            if source is None:
                raise NeedsAttention(
                    f"File {file.path} of {self._store.uri} is part of the table, but missing.",
                    path=file.path,
                    missing=True,
                )
            for there, batch in decoder.batches(source, path=file.path, deleted=deleted):
                rows += there
                yield batch
        self._check_rows(file, rows, deleted)

    def tombstone(self, file: DataFile, *, deleted_ms: int, data_change: bool) -> Remove:
        """The action that removes `file` from the table."""
        return Remove(
            path=file.path,
            deletion_timestamp=deleted_ms,
            data_change=data_change,
            extended_file_metadata=True,
            partition_values=self.state.columns.partition_values(file.partition),
            size=file.bytes,
            deletion_vector=file.deletion_vector,
        )

    def _check_rows(self, file: DataFile, rows: int, deleted: Sequence[int]) -> None:
        """Raises NeedsAttention: the log, or the deletion vector, is about another file."""
        said = rows if file.rows is None else file.rows
        if rows == said and (not deleted or deleted[-1] < rows):
            return
        last = f", and its deletion vector names row {deleted[-1]}" if deleted else ""
        raise NeedsAttention(
            f"File {file.path} of {self._store.uri} has {rows} rows, but the log says "
            f"{said}{last}.",
            path=file.path,
            missing=False,
        )

    def remove(self, files: Iterable[NewFile]) -> None:
        """Remove files whose commit certainly does not exist."""
        gone = [*files]
        self._waiting.forget(file.path for file in gone)
        self._store.remove(file.name for file in gone)
