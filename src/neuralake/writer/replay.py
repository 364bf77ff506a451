"""Put rows in the places of dead letters, at most once for each letter, whatever dies in between.

A batch is first claimed and then appended. The claim is a commit to `<uri>_replayed`: the letters'
names and the very bytes that go in their places, under the transaction `batch`, which goes on from
the batch before; of two replays at once one loses there. The append carries the same number as its
transaction in the table itself. Whoever begins a replay completes the batch before, if it was
claimed and its append is missing. So a letter that is claimed is in the table once, and one that is
not can be tried again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.clock import Clock, SystemClock
from neuralake.delta import STREAM_PROPERTIES, TableLog, Txn, create_table
from neuralake.errors import CommitConflict, NeedsAttention, UsageError
from neuralake.records.decode import decoder_of
from neuralake.records.envelopes import message_reader_of
from neuralake.records.letters import reason_of
from neuralake.records.media_types import ARROW, CSV, JSON, NDJSON, PARQUET, TSV
from neuralake.schema import conform
from neuralake.tables import DeltaTable
from neuralake.writer.letter_box import REPLAYED_SCHEMA, LetterBox
from neuralake.writer.stream_table import make_table

__all__ = ["Misfit", "Replacement", "ReplayReport", "Replayer"]

_APP_ID = "neuralake/replay"
_BATCH_LETTERS_MAX = 1000
_BATCH_BYTES_MAX = 32 * 1024 * 1024
_TRIES = 20
_MEDIA = {
    "json": JSON,
    "ndjson": NDJSON,
    "arrow": ARROW,
    "parquet": PARQUET,
    "csv": CSV,
    "tsv": TSV,
}


@dataclass(frozen=True, slots=True)
class Replacement:
    """What goes in the place of the letter `id`: its own bytes, or mended ones."""

    id: str
    value: bytes
    format: str
    attached: str | None = None
    """As of the letter. None: `value` has every column itself."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A replacement that does not fit the table either; its letter stays open."""

    id: str
    column: str | None
    reason: str


@dataclass
class ReplayReport:
    """What a replay did."""

    letters: int = 0
    rows: int = 0
    version: int | None = None
    """Of the table, with the last of the rows."""
    already: list[str] = field(default_factory=list)
    """Letters that were replayed before."""
    misfits: list[Misfit] = field(default_factory=list)
    completed: int = 0
    """Letters of an earlier replay that was cut off, which are in the table now."""


class Replayer:
    """Replays into one table. Safe beside its writers, and beside others of its kind."""

    def __init__(
        self, catalog: Catalog, database: str, table: DeltaTable, *, clock: Clock | None = None
    ) -> None:
        self._box, self._clock = LetterBox(catalog, database, table), clock or SystemClock()
        self._table = TableLog.open(make_table(catalog, table), clock=self._clock)
        self._reader = _Reader(catalog, table, self._table.schema, name=self._box.name)
        create_table(self._box.replayed, REPLAYED_SCHEMA, properties=STREAM_PROPERTIES)
        self._claims = TableLog.open(self._box.replayed, clock=self._clock)
        # Of this table of claims: one that was made anew counts from the beginning.
        self._app_id = f"{_APP_ID}/{self._claims.state.metadata.id}"

    def replay(self, replacements: Sequence[Replacement]) -> ReplayReport:
        """Store what fits of `replacements`; their letters must be there.

        Raises:
            UnknownName: there is no such letter; nothing was stored.
            UsageError: a letter is named twice.
            NeedsAttention: a batch that was cut off does not fit the table any more.
            Unavailable: the store does not answer. Run the same again: it goes on where it was.
        """
        ids = [each.id for each in replacements]
        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise UsageError(f"Letter {twice!r} is named twice.", name=twice)
        known = {each.id for each in self._box.letters(ids=ids, replayed=True)}
        for name in ids:
            if name not in known:
                self._box.letter(name)  # Raises.
        report = ReplayReport()
        self._complete(report)
        for batch in _batches(replacements):
            self._replay(batch, report)
        return report

    def _replay(self, batch: list[Replacement], report: ReplayReport) -> None:
        for left in reversed(range(_TRIES)):
            number = self._complete(report) + 1
            # Looked at after the batch before is known: who claims in between takes our number.
            is_open = {each.id for each in self._box.letters(ids=[each.id for each in batch])}
            fitting, tables, misfits = [], [], []
            for each in batch:
                if each.id not in is_open:
                    continue
                try:
                    tables.append(self._reader.rows(each))
                    fitting.append(each)
                except UsageError as error:
                    reason, column = reason_of(error)
                    misfits.append(Misfit(each.id, column, reason))
            if fitting:
                try:
                    self._claim(fitting, number)
                except CommitConflict:
                    if left:
                        continue
                    raise
                self._append(tables, number, report)
            report.letters += len(fitting)
            report.misfits += misfits
            report.already += [each.id for each in batch if each.id not in is_open]
            return

    def _claim(self, batch: Sequence[Replacement], number: int) -> None:
        now_us = int(self._clock.now_s() * 1e6)
        rows = pa.table(
            {
                "id": [each.id for each in batch],
                "time": pa.array([now_us] * len(batch), REPLAYED_SCHEMA.field("time").type),
                "batch": [number] * len(batch),
                "value": [each.value for each in batch],
                "format": [each.format for each in batch],
                "attached": [each.attached for each in batch],
            },
            schema=REPLAYED_SCHEMA,
        )
        txn = Txn(_APP_ID, number, after=number - 1 or None)
        if self._claims.append(rows, txn=txn).repeated:
            raise CommitConflict("Another replay took the number.", version=self._claims.version)

    def _append(self, tables: Sequence[pa.Table], number: int, report: ReplayReport) -> None:
        """Append a claimed batch; if somebody has completed it meanwhile, that is the same."""
        rows = pa.concat_tables(tables, promote_options="default")
        rows = conform(rows, self._table.schema, name=self._box.name)
        self._table.refresh()
        commit = self._table.append(rows, txn=Txn(self._app_id, number))
        report.rows += rows.num_rows
        report.version = commit.version

    def _complete(self, report: ReplayReport) -> int:
        """Append what was claimed only; the number of the last batch, or 0."""
        self._claims.refresh()
        self._table.refresh()
        number = self._claims.committed(_APP_ID) or 0
        done = self._table.committed(self._app_id)
        if done is None and number > 1:
            return number  # The table was made anew: what it once held is not our business.
        for missing in range((done or 0) + 1, number + 1):  # More than one: it was restored.
            self._complete_batch(missing, report)
        return number

    def _complete_batch(self, number: int, report: ReplayReport) -> None:
        batch = self._claimed(number)
        try:
            tables = [self._reader.rows(each) for each in batch]
        except UsageError as error:
            raise NeedsAttention(
                f"Replay {number} into {self._box.name} was cut off after it was claimed, and its "
                f"rows do not fit the table any more: {error} Give the definition back the columns "
                f"that it had, and replay again.",
                batch=number,
            ) from error
        self._append(tables, number, report)
        report.completed += len(batch)

    def _claimed(self, number: int) -> list[Replacement]:
        import polars as pl

        from neuralake.delta import snapshot
        from neuralake.frame.delta import scan_snapshot

        found = scan_snapshot(snapshot(self._box.replayed), REPLAYED_SCHEMA)
        rows = found.filter(pl.col("batch") == number).collect().to_dicts()
        names = ("id", "value", "format", "attached")
        return [Replacement(**{name: row[name] for name in names}) for row in rows]


class _Reader:
    """Reads replacements as the table's door reads rows."""

    def __init__(self, catalog: Catalog, table: DeltaTable, there: pa.Schema, *, name: str) -> None:
        """`there`: the columns of the Delta table, which may have more than the definition."""
        self._table, self._settings, self._name = table, catalog.settings, name
        more = [field for field in there if field.name not in table.columns]
        self._schema = pa.schema([*table.schema, *more])
        self._decoder = decoder_of(table, catalog.settings, name=name, schema=self._schema)

    def rows(self, each: Replacement) -> pa.Table:
        """The rows of `each`; UsageError as the door has it."""
        kafka = self._table.stream.kafka if self._table.stream else None
        if kafka is None or (each.attached is None and each.format in _MEDIA):
            if each.format not in _MEDIA:
                raise UsageError(f"It is {each.format}, which is not read here.")
            return self._decoder.rows(each.value, _MEDIA[each.format])
        reader = message_reader_of(
            self._table,
            self._settings,
            name=self._name,
            format=each.format,
            keeps_rows=False,
            schema=self._schema,
        )
        found = reader.read(_Message(each))
        if found.rejected:
            (letter,) = found.rejected
            raise UsageError(letter.reason, column=letter.column, reason=letter.reason)
        return found.rows


class _Message:
    """A replacement as the only message of a queue (`records.messages.SourceMessages`)."""

    def __init__(self, each: Replacement) -> None:
        self._value = each.value
        self._attached: dict[str, Any] = json.loads(each.attached or "{}")

    def __len__(self) -> int:
        return 1

    def positions(self) -> list[int]:
        return [1]

    def values(self) -> list[bytes | None]:
        return [self._value]

    def keys(self) -> list[bytes | None]:
        return [_bytes(self._attached.get("key"))]

    def timestamps_ms(self) -> list[int | None]:
        return [self._attached.get("timestamp")]

    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        found: dict[str, str | None] = self._attached.get("header", {})
        return [[(name, _bytes(value)) for name, value in found.items()]]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _batches(replacements: Sequence[Replacement]) -> Iterator[list[Replacement]]:
    batch: list[Replacement] = []
    size = 0
    for each in replacements:
        if batch and (
            len(batch) == _BATCH_LETTERS_MAX or size + len(each.value) > _BATCH_BYTES_MAX
        ):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += len(each.value)
    if batch:
        yield batch
