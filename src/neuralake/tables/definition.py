"""What every table has: a name, docs, and where known an address and a schema.

`Definition` is the base of all kinds of tables. Whoever reads tables asks for these attributes and
for `kind`; every attribute exists on every kind, empty where it means nothing. Checked when
written down, frozen afterwards, no I/O, picklable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from inspect import cleandoc
from typing import Any, ClassVar

import pyarrow as pa

from neuralake.errors import UnknownName, UsageError, suggestion
from neuralake.filters import Filter, check, normalise
from neuralake.tables.stream import Stream

__all__ = ["Definition", "TableMetadata", "check_name"]

_NAME = re.compile(r"[a-z_][a-z0-9_]*")

_DATAREPO_ARGS = ("data_input", "latency_info", "example_notebook", "is_deprecated")


@dataclass(frozen=True)
class TableMetadata:
    """The docs of a table in one value, under the names that datarepo gives them."""

    table_type: str
    description: str
    docs_args: Mapping[str, Any]
    latency_info: str | None = None
    example_notebook: str | None = None
    data_input: str | None = None
    is_deprecated: bool = False


@dataclass(frozen=True)
class Definition:
    """A table as data. Equal definitions are the same table.

    Args:
        name: lower case letters, digits and `_`, as in SQL and URLs.
        uri: where the files are; relative to the lake's root, or absolute. Empty for functions.
        schema: columns and types of what comes out; None where only a read can tell.
        partition_by: columns whose values name the folders of the files.
        stream: present when rows can be ingested.
        description: what a row is, for people. Markdown; indentation is removed.
        owner: person or team to ask.
        tags: words to find it by.
        docs_columns: text by column. A list of names is taken as names without text.
        docs_filters: filters of a typical read: examples use them, reads do not apply them.
        docs_example: Python code shown in place of the generated example.
        data_input: where the rows come from.
        latency_info: how soon they arrive.
        example_notebook: link to a notebook.
        deprecated: why, and what to use instead: the table is hidden and warns when used.
        unique_columns: columns whose values together name one row.
        table_metadata_args: docs in datarepo's way, a dict of `data_input` and the like.

    Raises:
        UsageError: a bad name, type or value, with what to write instead.
        UnknownName: a column that the schema does not have, with the nearest name.
    """

    kind: ClassVar[str] = "table"
    """`delta`, `parquet` or `function`."""

    name: str
    uri: str = ""
    schema: pa.Schema | None = None
    _: KW_ONLY
    partition_by: Sequence[str] = ()
    stream: Stream | None = None
    description: str = ""
    owner: str = ""
    tags: Sequence[str] = ()
    docs_columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    docs_filters: Sequence[Filter] = ()
    docs_example: str = ""
    data_input: str | None = None
    latency_info: str | None = None
    example_notebook: str | None = None
    deprecated: str | None = None
    unique_columns: Sequence[str] = ()
    table_metadata_args: InitVar[Mapping[str, Any] | None] = None

    def __post_init__(self, table_metadata_args: Mapping[str, Any] | None) -> None:
        self._take_datarepo_args(table_metadata_args or {})
        check_name(self.name, type(self).__name__)
        self._check_texts()
        self._set("description", cleandoc(self.description).strip())
        self._set("tags", self._names("tags"))
        self._set("unique_columns", self._columns("unique_columns"))
        self._set("partition_by", self._columns("partition_by"))
        self._set("docs_columns", self._column_docs())
        self._set("docs_filters", self._filters())
        if self.stream is not None and not isinstance(self.stream, Stream):
            raise self._error(f"stream is {self.stream!r}; write stream=Stream().", field="stream")

    @property
    def is_stream(self) -> bool:
        """Whether rows can be ingested into this table."""
        return self.stream is not None

    @property
    def columns(self) -> list[str]:
        """Names of the declared columns, in order; empty if no schema is declared."""
        return [] if self.schema is None else list(self.schema.names)

    @property
    def table_metadata(self) -> TableMetadata:
        """The docs as datarepo's attribute of this name holds them."""
        return TableMetadata(
            table_type={"delta": "DELTA_LAKE"}.get(self.kind, self.kind.upper()),
            description=self.description,
            docs_args=self._docs_args(),
            latency_info=self.latency_info,
            example_notebook=self.example_notebook,
            data_input=self.data_input,
            is_deprecated=self.deprecated is not None,
        )

    def _docs_args(self) -> dict[str, Any]:
        return {"filters": list(self.docs_filters), "columns": list(self.docs_columns) or None}

    def _set(self, name: str, value: Any) -> None:
        # The dataclass is frozen for everyone else; here its values are still being made.
        object.__setattr__(self, name, value)

    def _error(self, sentence: str, **facts: Any) -> UsageError:
        return UsageError(f"{type(self).__name__} {self.name!r}: {sentence}", **facts)

    def _take_datarepo_args(self, args: Mapping[str, Any]) -> None:
        for key, value in args.items():
            if key == "is_deprecated":
                if value and self.deprecated is None:
                    self._set("deprecated", "It may be removed; ask its owner what replaces it.")
            elif key in _DATAREPO_ARGS:
                self._set(key, value)
            else:
                raise self._error(
                    f"table_metadata_args has no {key!r}.{suggestion(key, list(_DATAREPO_ARGS))} "
                    f"Known: {', '.join(_DATAREPO_ARGS)}.",
                    name=key,
                    known=list(_DATAREPO_ARGS),
                )

    def _check_texts(self) -> None:
        optional = ("data_input", "latency_info", "example_notebook", "deprecated")
        for name in ("uri", "description", "owner", "docs_example", *optional):
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name in optional):
                raise self._error(
                    f"{name} is a text, found {type(value).__name__} {value!r}.", field=name
                )

    def _names(self, field_name: str) -> tuple[str, ...]:
        values: Any = getattr(self, field_name) or ()
        if isinstance(values, str) or not all(isinstance(value, str) for value in values):
            raise self._error(
                f"{field_name} is a list of texts, found {values!r}.", field=field_name
            )
        names = tuple(values)
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self._error(f"{field_name} names {twice!r} twice.", field=field_name)
        return names

    def _columns(self, field_name: str) -> tuple[str, ...]:
        names = self._names(field_name)
        for name in names:
            self._require_column(name, field_name)
        return names

    def _require_column(self, name: str, field_name: str) -> None:
        if self.schema is not None and name not in self.columns:
            raise UnknownName(
                f"{type(self).__name__} {self.name!r}: {field_name} names {name!r}, which the "
                f"schema does not have.{suggestion(name, self.columns)} "
                f"Columns: {', '.join(self.columns)}.",
                kind="column",
                name=name,
                known=self.columns,
            )

    def _column_docs(self) -> dict[str, str]:
        given: Any = self.docs_columns  # Typed for callers; at run time it may be anything.
        docs = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given or (), "")
        docs_given: dict[Any, Any] = docs
        for name, text in docs_given.items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise self._error(f"docs_columns is text by column, found {name!r}: {text!r}.")
            self._require_column(name, "docs_columns")
        return docs

    def _filters(self) -> tuple[Filter, ...]:
        conditions = normalise(self.docs_filters)
        if len(conditions) > 1:
            raise self._error("docs_filters is one list of filters, without alternatives.")
        if self.schema is not None:
            check(conditions, self.schema, name=self.name)
        return conditions[0] if conditions else ()


def check_name(name: Any, what: str) -> None:
    """Check that `name` needs no quoting in SQL and URLs; `what` it names begins the message.

    Raises:
        UsageError: with a name to try.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return
    near = re.sub(r"[^a-z0-9_]+", "_", str(name).lower())
    near = near if _NAME.fullmatch(near) else f"t_{near}"
    raise UsageError(
        f"{what} cannot be named {name!r}: a name is lower case letters, digits and '_', and does "
        f"not start with a digit, so that SQL and URLs need no quoting. Try {near!r}.",
        name=name,
    )
