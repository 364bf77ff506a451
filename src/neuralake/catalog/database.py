"""A database: table definitions found by name, and frames over them.

A table's name is its definition's, whatever variable holds it. Looking up does no I/O; only
function tables run at once, because their rows are their code's business.

What reads and writes rows is imported when rows are read or written: the processes of the platform
look definitions up, and start without Polars.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from html import escape
from types import ModuleType
from typing import TYPE_CHECKING, Any

from neuralake.errors import UnknownName, UsageError, suggestion
from neuralake.live import follow, follow_async
from neuralake.tables import Definition, DeltaTable, FunctionTable

if TYPE_CHECKING:
    from neuralake.batch import BatchWriter
    from neuralake.catalog.catalog import Catalog
    from neuralake.frame import NlkDataFrame
    from neuralake.live import Followed, Follower, Start

__all__ = ["Database", "ModuleDatabase", "NoSuchName"]


class NoSuchName(UnknownName, AttributeError):
    """Also an AttributeError, so that `hasattr` and completion may ask for what is not there."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.name = facts.get("name")  # AttributeError has a field of this name, empty by default.


class Database:
    """Tables by name: `Database([spikes, insertions])`, or by a dict whose keys are not read.

    Raises:
        UsageError: something is no definition, or two tables have one name.
    """

    def __init__(self, tables: Mapping[str, Definition] | Iterable[Definition]) -> None:
        entries = tables.values() if isinstance(tables, Mapping) else tables
        self._tables: dict[str, Definition] = {}
        for entry in entries:
            self._add(entry)
        self._catalog: Catalog | None = None
        self._name = ""

    def tables(self, show_deprecated: bool = False) -> list[str]:
        """Names of the tables, sorted; deprecated ones only if asked for."""
        return sorted(
            name
            for name, definition in self._tables.items()
            if show_deprecated or definition.deprecated is None
        )

    def get_tables(self, show_deprecated: bool = False) -> dict[str, Definition]:
        """Definitions by name, as `tables` lists them."""
        return {name: self._tables[name] for name in self.tables(show_deprecated)}

    def definition(self, name: str) -> Definition:
        """The definition of table `name`.

        Raises:
            UnknownName: there is none; the message lists what there is.
        """
        if name not in self._tables:
            known = self.tables(show_deprecated=True)
            raise NoSuchName(
                f"No table {name!r} in database {self._name!r}.{suggestion(str(name), known)} "
                f"It has: {', '.join(known) or 'none'}.",
                kind="table",
                name=name,
                known=known,
            )
        return self._tables[name]

    def table(
        self,
        name: str,
        *filters: Any,
        live: bool = False,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        evolved: bool = False,
        **arguments: Any,
    ) -> NlkDataFrame:
        """A lazy frame over table `name`; nothing is read before it is collected.

        Args:
            filters: each must hold: a `Filter`, a list of them, or a list of lists, of which one
                must hold. They reach the files, as `.filter(...)` on the frame does.
            live: also the rows that are acknowledged and not committed yet (streams only).
            columns: only these, in this order.
            version: of a Delta table; default the newest at each collect.
            evolved: also the columns that came with rows (`Stream(unknown_columns="evolve")`),
                behind the declared ones. They are looked up now, in the table's log.
            arguments: of a function table. `filters=` is taken for other tables.

        Raises:
            UnknownName: no such table or column; the message lists what there is.
            UsageError: an argument that this kind of table does not take.
        """
        return self._frame(name, filters, live, columns, version, arguments, evolved=evolved)

    def follow(
        self,
        name: str,
        *filters: Any,
        after: Start = "now",
        columns: Sequence[str] | None = None,
        idle_s: float | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[Followed]:
        """New rows of stream table `name` as they are acknowledged, each once, in frames.

        `for rows, position in catalog.neural.follow("spikes"): …` goes on until it is left, or
        `stop` is set. Rows of a partition of the queue (the embedded one has one) come in the
        order in which they were acknowledged. `position` is JSON; keep it with what was made of
        `rows`, and give it as `after` to go on behind them, in another process, too.

        Args:
            filters, columns: as in `table`.
            after: `"now"`, the moment of this call; `"start"`, where all that is committed comes
                first, in one frame; or a position.
            idle_s: after so long without rows comes a frame without rows, with the position.

        Raises (at once):
            UnknownName, UsageError: as `table`; or `after` is no position.

        Raises (at once, or in the loop):
            Trimmed: rows behind the position are no more in the queue, which keeps committed rows
                for `queue.grace_s`: read the table, and follow after `"start"` or `"now"`.
            Conflict: the position is of another queue than the lake has now.
            Unavailable: the queue did not answer for a minute.
        """
        follower = self._follower(name, filters, columns, after)
        return follow(follower, idle_s=idle_s, stop=stop)

    def follow_async(
        self,
        name: str,
        *filters: Any,
        after: Start = "now",
        columns: Sequence[str] | None = None,
        idle_s: float | None = None,
    ) -> AsyncIterator[Followed]:
        """As `follow`, for `async for`; `"now"` is the moment when the loop begins."""
        return follow_async(lambda: self._follower(name, filters, columns, after), idle_s=idle_s)

    def batch_writer(self, name: str) -> BatchWriter:
        """What appends to, overwrites, deletes from and merges into Delta table `name`.

        Nothing is opened before the first write, which makes a table that is not there yet.

        Raises:
            UnknownName: no such table; the message lists what there is.
            UsageError: it is no Delta table.
        """
        from neuralake.batch import BatchWriter

        definition = self._defined(name)
        if not isinstance(definition, DeltaTable):
            raise UsageError(
                f"Table {name!r} is a {definition.kind} table; batch writes go to Delta tables.",
                name=name,
            )
        catalog = self._in_catalog()
        return BatchWriter(
            lambda: catalog.store_of(definition),
            schema=definition.schema,
            partition_by=definition.partition_by,
            description=definition.description,
            name=f"{self._name}.{name}",
            write_s_max=catalog.settings.writer.write_s_max,
            may_have_more=definition.stream is not None and definition.stream.evolves,
        )

    def __getattr__(self, name: str) -> NlkDataFrame:
        if name.startswith("_"):  # Python's own questions (copy, pickle, notebooks) are none of it.
            raise AttributeError(name)
        return self._frame(name, (), False, None, None, {})

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tables()]

    def __repr__(self) -> str:
        return f"Database {self._name}: {', '.join(self.tables()) or '-'}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(definition.kind)}</td>"
            f"<td>{escape(definition.description.partition(chr(10))[0])}</td></tr>"
            for name, definition in self.get_tables().items()
        )
        return f"<table><caption>Database {escape(self._name)}</caption>{rows}</table>"

    def _add(self, entry: Any) -> None:
        if not isinstance(entry, Definition):
            raise UsageError(
                f"A database holds table definitions (DeltaTable, ParquetTable, @table), found "
                f"{type(entry).__name__} {entry!r}."
            )
        other = self._tables.setdefault(entry.name, entry)
        if other is not entry:
            raise UsageError(
                f"Two tables are named {entry.name!r}: {_place(other)} and {_place(entry)}. "
                f"Give one another name.",
                name=entry.name,
            )

    def _join(self, catalog: Catalog, name: str) -> Database:
        if self._catalog is not None:
            raise UsageError(
                f"Database {name!r} is {self._name!r} of a catalog already; make a Database each.",
                name=name,
            )
        self._catalog, self._name = catalog, name
        return self

    def _frame(
        self,
        name: str,
        filters: Sequence[Any],
        live: bool,
        columns: Sequence[str] | None,
        version: int | None,
        arguments: dict[str, Any],
        *,
        evolved: bool = False,
    ) -> NlkDataFrame:
        from neuralake.catalog.read import read_function, read_table

        definition = self._defined(name, stacklevel=4)
        title = f"{self._name}.{name}" if self._name else name
        if isinstance(definition, FunctionTable):
            if live or version is not None:
                raise UsageError(f"{title!r} is a function: it takes neither live nor version.")
            return read_function(definition, filters, columns, arguments, title)
        catalog = self._in_catalog()
        return read_table(
            catalog,
            definition,
            filters,
            live,
            columns,
            version,
            arguments,
            title,
            evolved=evolved,
        )

    def _follower(
        self, name: str, filters: Sequence[Any], columns: Sequence[str] | None, after: Start
    ) -> Follower:
        from neuralake.catalog.read import follower_of

        definition, catalog = self._defined(name, stacklevel=4), self._in_catalog()
        return follower_of(catalog, definition, filters, columns, after, f"{self._name}.{name}")

    def _defined(self, name: str, *, stacklevel: int = 3) -> Definition:
        """The definition of `name`, with a warning to the caller if it is deprecated."""
        definition = self.definition(name)
        if definition.deprecated is not None:
            warnings.warn(
                f"Table {name!r} is deprecated: {definition.deprecated}",
                DeprecationWarning,
                stacklevel=stacklevel,
            )
        return definition

    def _in_catalog(self) -> Catalog:
        if self._catalog is None:
            raise UsageError(f"{self!r} belongs to no catalog: Catalog({{'name': database}}).")
        return self._catalog


class ModuleDatabase(Database):
    """Every table that a module has under a public name, its own or imported.

    `Database` for what is not a module.
    """

    def __init__(self, module: ModuleType) -> None:
        if not isinstance(module, ModuleType):
            raise UsageError(
                f"ModuleDatabase takes a module, found {type(module).__name__}; for a list or a "
                f"dict of tables use Database."
            )
        public = [value for name, value in vars(module).items() if not name.startswith("_")]
        found = {id(value): value for value in public if isinstance(value, Definition)}
        super().__init__(found.values())  # By identity: one table under two names is one table.


def _place(definition: Definition) -> str:
    return f"{definition.kind} at {definition.uri!r}" if definition.uri else definition.kind
