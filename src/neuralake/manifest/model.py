"""The catalog as plain frozen data: what the site, dashboards and `manifest.json` are made from.

A manifest holds no live objects and no address that the definitions do not give themselves, so it
can be published.
`format` grows when a field changes its meaning; new optional fields do not change it. Times are
Unix seconds; `None` means unknown, never zero.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from neuralake.errors import UsageError

__all__ = [
    "FORMAT",
    "Column",
    "Condition",
    "Database",
    "Log",
    "Manifest",
    "Parameter",
    "PartitionFacts",
    "Statistics",
    "StreamFacts",
    "Table",
    "from_json",
    "to_json",
]

FORMAT = 1

Kind = Literal["delta", "parquet", "function", "other"]


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Statistics(_Data, frozen=True):
    """What the log or file footers say about a column; smallest and largest as display text."""

    smallest: str | None = None
    largest: str | None = None
    nulls: int | None = None


class Column(_Data, frozen=True):
    """A column: `type` as people write it, `doc` in the definition's words (Markdown)."""

    name: str
    type: str
    nullable: bool = True
    doc: str = ""
    is_partition: bool = False
    is_unique: bool = False
    statistics: Statistics | None = None


class Parameter(_Data, frozen=True):
    """A keyword argument of a function table; `default` is Python source, None if required."""

    name: str
    type: str = ""
    default: str | None = None
    example: str | None = None
    """Python source of the documented example value."""


class Condition(_Data, frozen=True):
    """One filter of the example: `python` is the value as a literal, `sql` the whole predicate."""

    column: str
    operator: str
    python: str
    sql: str


class StreamFacts(_Data, frozen=True):
    """How rows get in: a commit begins at the first limit that is reached.

    `path` is below the server's address.
    """

    path: str
    flush_ms_max: int
    flush_rows_max: int
    flush_bytes_max: int


class PartitionFacts(_Data, frozen=True):
    """One partition; `values` are display text in the order of `partition_by`, None for null."""

    values: tuple[str | None, ...]
    files: int
    bytes: int
    rows: int | None = None
    modified_s: float | None = None


class Log(_Data, frozen=True):
    """What the Delta log (or, for Parquet, the listing and footers) says about the data."""

    files: int
    bytes: int
    rows: int | None = None
    version: int | None = None
    modified_s: float | None = None
    """When rows last changed; compaction does not count."""
    partitions: int = 0
    partitions_latest: tuple[PartitionFacts, ...] = ()
    """At most 20, the most recently changed first."""


class Table(_Data, frozen=True):
    """A table: what its definition says and, in `log` and `columns`, what its data says."""

    database: str
    name: str
    kind: Kind
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    uri: str | None = None
    """As the definition gives it, without credentials; None for functions."""
    columns: tuple[Column, ...] = ()
    partition_by: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    stream: StreamFacts | None = None
    data_input: str | None = None
    latency_info: str | None = None
    example_notebook: str | None = None
    deprecated: str | None = None
    docs_example: str = ""
    """Python code that the definition gives in place of the generated example."""
    conditions: tuple[Condition, ...] = ()
    """The filters that the examples use: the documented ones, else the latest partition."""
    example_row: dict[str, Any] | None = None
    """One row that ingestion accepts, in its JSON form; None if the table takes no rows."""
    coordination: str | None = None
    """How writers of a Delta table agree on the next commit, as the table says; None if it does
    not, as local tables need not."""
    log: Log | None = None
    problem: str | None = None
    """Why the data could not be described; None if it could, or if nobody looked."""


class Database(_Data, frozen=True):
    """A database and its tables, deprecated ones last; `problem` if they cannot be listed."""

    name: str
    tables: tuple[Table, ...] = ()
    problem: str | None = None


class Manifest(_Data, frozen=True):
    """A whole catalog at one moment, `made_s`."""

    format: int = FORMAT
    title: str = "Data catalog"
    made_s: float = 0.0
    neuralake_version: str = ""
    catalog: str = "lake:catalog"
    """`module:attribute` that the Python examples import."""
    base_url: str = "http://127.0.0.1:8765"
    databases: tuple[Database, ...] = ()

    def tables(self) -> list[Table]:
        """Every table of every database, in order."""
        return [table for database in self.databases for table in database.tables]


def to_json(manifest: Manifest) -> bytes:
    """`manifest` as indented JSON; the same manifest always gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def from_json(text: bytes) -> Manifest:
    """The manifest that `to_json` wrote.

    Raises:
        UsageError: the text is no manifest, or its format is newer than this version reads.
    """
    try:
        found = msgspec.json.decode(text, type=_Versioned).format
        if found != FORMAT:
            raise UsageError(
                f"The manifest has format {found}, but this version of neuralake reads format "
                f"{FORMAT}. Build the site again, or upgrade.",
                found=found,
                known=FORMAT,
            )
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise UsageError(f"This is not a neuralake manifest: {error}.") from error


class _Versioned(msgspec.Struct):
    format: int
