"""The dead letters of one table, as people look at them: which there are, and which are replayed.

Two Delta tables beside the table hold all there is to know: `<uri>_rejected` has the letters,
`<uri>_replayed` what was put in their places (`replay.py`). A letter is open until it is in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.delta import exists, snapshot
from neuralake.errors import UnknownName
from neuralake.queue.topic import topic_of
from neuralake.storage import LogStore
from neuralake.tables import REJECTED_SUFFIX, REPLAYED_SUFFIX, DeltaTable
from neuralake.writer.rejected import REJECTED_SCHEMA, letter_id

# Letters are read now and then; the writer, which only writes them, starts without Polars.
if TYPE_CHECKING:
    import polars as pl

__all__ = ["REPLAYED_SCHEMA", "LetterBox", "StoredLetter"]

"""The table of what was replayed is where the table itself is, with this behind its name."""

REPLAYED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        ("time", pa.timestamp("us", tz="UTC")),
        pa.field("batch", pa.int64(), nullable=False),
        ("value", pa.binary()),
        ("format", pa.string()),
        ("attached", pa.string()),
    ]
)

_FACTS = [name for name in REJECTED_SCHEMA.names if name != "value"]


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A row of the table of dead letters."""

    id: str
    time: datetime
    source: str | None
    partition: str
    position: int
    row: int | None
    column: str | None
    reason: str
    format: str
    value_bytes: int
    is_replayed: bool
    value: bytes | None = None
    """None where it was not asked for."""
    attached: str | None = None


class LetterBox:
    """The letters of `table`; reads what is there at each call."""

    def __init__(self, catalog: Catalog, database: str, table: DeltaTable) -> None:
        self.name = topic_of(database, table.name)
        uri = catalog.uri_of(table)
        self._rejected = catalog.store_at(uri + REJECTED_SUFFIX)
        self.replayed = catalog.store_at(uri + REPLAYED_SUFFIX)
        """The store of what was replayed."""

    def letters(
        self,
        *,
        ids: Sequence[str] | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        replayed: bool = False,
        values: bool = False,
    ) -> list[StoredLetter]:
        """The letters, the oldest first; of more than `limit` the newest.

        Args:
            ids: these only.
            since: stored then or later.
            replayed: also those that are not open any more.
            values: with their bytes.
        """
        import polars as pl

        found = _scan(self._rejected, REJECTED_SCHEMA)
        if found is None:
            return []
        if since is not None:
            found = found.filter(pl.col("time") >= since)
        facts = found.select(*_FACTS, pl.col("value").bin.size().alias("value_bytes"))
        done = self._done()
        rows = [row | {"id": _id_of(row)} for row in facts.collect().to_dicts()]
        wanted = None if ids is None else set(ids)
        chosen = [
            row
            for row in sorted(rows, key=_age)
            if (wanted is None or row["id"] in wanted) and (replayed or row["id"] not in done)
        ]
        chosen = chosen if limit is None else chosen[-limit:] if limit else []
        kept = _values(found, chosen) if values else {}
        return [_letter(row, done, kept) for row in chosen]

    def letter(self, identity: str) -> StoredLetter:
        """The letter `identity`, with its bytes.

        Raises:
            UnknownName: there is none.
        """
        found = self.letters(ids=[identity], replayed=True, values=True)
        if not found:
            raise UnknownName(
                f"No dead letter {identity!r} in {self.name}; `neuralake dead-letters list "
                f"{self.name}` shows which there are.",
                kind="dead letter",
                name=identity,
                known=[],
            )
        return found[0]

    def _done(self) -> set[str]:
        found = _scan(self.replayed, REPLAYED_SCHEMA)
        return set() if found is None else set(found.select("id").collect()["id"])


def _scan(store: LogStore, schema: pa.Schema) -> pl.LazyFrame | None:
    """The table at `store`, with the columns that it has not as null; None: there is no table."""
    if not exists(store):
        return None
    import polars as pl

    from neuralake.frame.delta import scan_snapshot

    at = snapshot(store)
    there = pa.schema([field for field in schema if field.name in at.schema.names])
    lacking = [
        pl.lit(None, pl.Int64 if pa.types.is_integer(field.type) else pl.String).alias(field.name)
        for field in schema
        if field.name not in there.names
    ]
    return scan_snapshot(at, there, name=str(store.uri)).with_columns(lacking)


def _age(row: dict[str, object]) -> tuple[object, ...]:
    return row["time"], row["partition"], row["position"], row["row"] or 0


def _id_of(row: dict[str, object]) -> str:
    """Letters of the first weeks have none; their partition and position name them."""
    return str(row["id"] or letter_id(str(row["partition"]), int(str(row["position"])), None))


def _values(found: pl.LazyFrame, rows: list[dict[str, object]]) -> dict[tuple[object, ...], bytes]:
    """The bytes of `rows`, by what names a letter in the table."""
    import polars as pl

    keys = ["partition", "position", "row"]
    positions = sorted({int(str(row["position"])) for row in rows})
    values = found.filter(pl.col("position").is_in(positions)).select(*keys, "value").collect()
    return {tuple(row[:3]): row[3] for row in values.rows()}


def _letter(
    row: dict[str, object], done: set[str], kept: dict[tuple[object, ...], bytes]
) -> StoredLetter:
    facts = {name: row[name] for name in StoredLetter.__dataclass_fields__ if name in row}
    facts["format"] = row["format"] or "json"
    value = kept.get((row["partition"], row["position"], row["row"]))
    is_replayed = row["id"] in done
    return StoredLetter(
        **facts,  # type: ignore[arg-type]  # A row of the letters' own schema.
        is_replayed=is_replayed,
        value=value,
    )
