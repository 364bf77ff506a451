"""Batch writes on one table: append, overwrite, delete and merge, from Python.

Each is one commit, made as the stream writer's are, so it may run beside writers, compaction and
other jobs, on any store. With `app_id` and `version` a job can be repeated after any failure: what
the table has already is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from neuralake.batch.change import Change
from neuralake.batch.keys import Keys
from neuralake.batch.merge import Merge, MergeRules
from neuralake.batch.result import BatchResult
from neuralake.batch.rows import fitted, given
from neuralake.batch.slices import Delete, Overwrite, Partitions
from neuralake.batch.where import Where
from neuralake.batch.write import BatchWrite
from neuralake.clock import Clock
from neuralake.delta import TableLog, Txn, create_table, normalise
from neuralake.delta.actions import CommitInfo
from neuralake.delta.commit import WRITE_S_MAX
from neuralake.delta.protocol import TableState
from neuralake.errors import InvalidRows, UsageError
from neuralake.filters import Filters
from neuralake.storage import LogStore, as_store

__all__ = ["BatchWriter"]


class BatchWriter:
    """Writes to the table at `at`, which is opened at the first write; see the module.

    `rows` of every method are an Arrow table, a Polars frame (lazy or not), a list of dicts, or
    anything else that gives Arrow data (pandas, DuckDB). They must fit the table's columns
    exactly: nothing is rounded or cut. A handle is for one thread.

    Args:
        at: an absolute folder or address, the store of the table, or what opens it.
        schema: with it a table that is not there is made, and one that is there must have these
            columns. Without it the table must be there.
        partition_by: of a table that is made.
        description: of a table that is made.
        name: what errors call the table; default its address.
        threads: how many files are read and written at once; each takes the memory of a row group.
        write_s_max: as of `TableLog.open`: what was stored longer ago is written anew.
        may_have_more: the table may have more columns than `schema`.
    """

    def __init__(
        self,
        at: str | LogStore | Callable[[], LogStore],
        *,
        schema: pa.Schema | None = None,
        partition_by: Sequence[str] = (),
        description: str = "",
        name: str = "",
        threads: int = 4,
        write_s_max: float = WRITE_S_MAX,
        clock: Clock | None = None,
        may_have_more: bool = False,
    ) -> None:
        if threads < 1:
            raise UsageError(f"threads={threads}: at least 1.", threads=threads)
        self._at, self._clock, self._threads = at, clock, threads
        self._write_s_max = write_s_max
        self._schema, self._partition_by = schema, tuple(partition_by)
        self._description, self._may_have_more = description, may_have_more
        self._name = name or (at if isinstance(at, str) else "table")
        self._log: TableLog | None = None

    def __repr__(self) -> str:
        return f"BatchWriter({self._name})"

    def append(
        self, rows: Any, *, app_id: str | None = None, version: int | None = None
    ) -> BatchResult:
        """Add `rows` behind all that is there.

        Args:
            app_id: name of the job, and with it
            version: number of this run, which grows from run to run. If the table has this version
                of `app_id` or a later one, nothing is done, and the result says `repeated`.

        Raises:
            SchemaMismatch: the rows do not fit the table's columns; with `column` and `row`.
            InvalidRows: a partition value has no text form; with `row`, `column` and `reason`.
            UsageError: `rows` are no rows, or one of `app_id` and `version` is missing.
            Unavailable: nothing was committed; wait and repeat.
            OutcomeUnknown: the store gave no answer. Repeat with the same `app_id` and `version`;
                without them look at the table first.
        """
        txn, log = _txn(app_id, version), self._open()
        info = CommitInfo(
            operation="WRITE",
            operation_parameters={
                "mode": "Append",
                "partitionBy": msgspec.json.encode(log.partition_by).decode(),
            },
            is_blind_append=True,
        )
        done = log.append(fitted(rows, log.schema, name=self._name), txn=txn, info=info)
        return BatchResult(
            version=done.version,
            repeated=done.repeated,
            rows_inserted=done.rows,
            files_added=done.files,
        )

    def overwrite(
        self,
        rows: Any,
        where: Filters | None = None,
        *,
        app_id: str | None = None,
        version: int | None = None,
    ) -> BatchResult:
        """Put `rows` in the place of those that `where` holds for; without it, of all.

        Every row must be one that `where` holds for: what is written is found again under the same
        condition, and doing it twice is doing it once. Rows for which it is null stay.

        Args:
            where: filters as frames take them: one, a list of which all must hold, or a list of
                lists of which one must.
            app_id, version: as in `append`.

        Raises:
            InvalidRows: a row is outside `where`; with `row`. Else as `append` and `delete`.
        """
        txn = _txn(app_id, version)

        def make(state: TableState) -> Overwrite:
            slice_, new = self._where(where, state), self._whole(rows, state)
            _refuse_outside(slice_, new)
            return Overwrite(slice_, new)

        return self._run(make, txn)

    def overwrite_partitions(
        self, rows: Any, *, app_id: str | None = None, version: int | None = None
    ) -> BatchResult:
        """Put `rows` in the place of every partition that they have a row of; others stay.

        Raises:
            UsageError: the table has no partitions. Else as `append` and `delete`.
        """
        txn = _txn(app_id, version)

        def make(state: TableState) -> Overwrite:
            if not state.partition_by:
                raise UsageError(
                    f"{self._name!r} has no partitions; overwrite(rows, where=…) replaces a part "
                    f"of it.",
                    name=self._name,
                )
            new = self._whole(rows, state)
            return Overwrite(Partitions(new, state.partition_by, self._name), new)

        return self._run(make, txn)

    def delete(
        self, where: Filters, *, app_id: str | None = None, version: int | None = None
    ) -> BatchResult:
        """Remove the rows that `where` holds for; those for which it is null stay.

        Without such a row nothing is committed, unless there is an `app_id`.

        Raises:
            UnknownName: no such column.
            UsageError: `where` has no condition, a value cannot compare with its column, or the
                table is append-only (`delta.appendOnly`).
            UnsupportedFeature: the table has a change data feed, and more than whole files change.
            CommitConflict: others changed the same rows, again and again; nothing was committed.
            Unavailable, OutcomeUnknown: as in `append`.
        """
        txn = _txn(app_id, version)
        if where is None:
            raise UsageError("delete needs a condition; overwrite([]) empties a table.")
        return self._run(lambda state: Delete(self._where(where, state)), txn)

    def merge(
        self,
        rows: Any,
        on: str | Sequence[str],
        *,
        when_matched: str = "update",
        when_not_matched: str = "insert",
        when_not_matched_by_source: str = "ignore",
        where: Filters | None = None,
        app_id: str | None = None,
        version: int | None = None,
    ) -> BatchResult:
        """Update rows of the table that have the key of one of `rows`, and add the other `rows`.

        Keys match as in SQL: a row with a null in one is like no other. A row that is updated
        keeps its place, and its columns that `rows` do not have; a row that is added has null in
        these, and comes behind all others.

        Args:
            on: the columns of the key. A key may be in `rows` once; in the table as often as it is.
            when_matched: "update", "delete" or "ignore" the row of the table.
            when_not_matched: "insert" or "ignore" the row of `rows`.
            when_not_matched_by_source: "ignore" or "delete" rows of the table whose key is not in
                `rows`.
            where: the part of the table that this is about: rows outside are as if not there, and
                each of `rows` must be inside. Reads less, and bounds what a delete can take.
            app_id, version: as in `append`.

        Raises:
            InvalidRows: two of `rows` have the same key (with `row`, `first` and `key`), or one is
                outside `where`. Else as `append` and `delete`.
        """
        txn = _txn(app_id, version)
        rules = MergeRules(when_matched, when_not_matched, when_not_matched_by_source)
        columns = [on] if isinstance(on, str) else list(on)

        def make(state: TableState) -> Merge:
            slice_ = self._where(where, state)
            source = self._part(rows, state)
            keys = Keys(
                source, columns, state.schema, state.partition_by, self._name, state.columns
            )
            _refuse_outside(slice_, source)
            return Merge(source, keys, slice_, rules, name=self._name)

        return self._run(make, txn)

    def _open(self) -> TableLog:
        if self._log is None:
            store = self._at() if callable(self._at) else as_store(self._at)
            if self._schema is not None:
                create_table(
                    store,
                    self._schema,
                    partition_by=self._partition_by,
                    description=self._description,
                    clock=self._clock,
                    may_have_more=self._may_have_more,
                )
            self._log = TableLog.open(store, clock=self._clock, write_s_max=self._write_s_max)
        return self._log

    def _run(self, make: Callable[[TableState], Change], txn: Txn | None) -> BatchResult:
        return BatchWrite(self._open(), make, txn, threads=self._threads).run()

    def _where(self, filters: Filters | None, state: TableState) -> Where:
        return Where(filters, state.schema, state.partition_by, self._name, state.columns)

    def _whole(self, rows: Any, state: TableState) -> pa.Table:
        return normalise(fitted(rows, state.schema, name=self._name), state.partition_by)

    def _part(self, rows: Any, state: TableState) -> pa.Table:
        found = given(rows, state.schema, name=self._name)
        return normalise(found, [name for name in state.partition_by if name in found.schema.names])


def _txn(app_id: str | None, version: int | None) -> Txn | None:
    if (app_id is None) != (version is None):
        raise UsageError("A job that may be repeated needs both app_id and version.")
    if app_id is None or version is None:
        return None
    if not app_id or type(version) is not int or not 0 <= version < 2**63:
        raise UsageError(
            f"app_id={app_id!r}, version={version!r}: a name, and a whole number from 0 that grows "
            f"from run to run.",
            app_id=app_id,
            version=version,
        )
    return Txn(app_id, version)


def _refuse_outside(where: Where, rows: pa.Table) -> None:
    if not where.conditions or not rows.num_rows:
        return
    missing = [name for name in where.columns(where.conditions) if name not in rows.schema.names]
    if missing:
        raise UsageError(
            f"The rows have no column {missing[0]!r}, which where asks for.", column=missing[0]
        )
    inside = where.mask(rows, where.conditions)
    if (row := pc.index(inside, False).as_py()) >= 0:
        columns = where.columns(where.conditions)
        values = {name: rows[name][row].as_py() for name in columns}
        found = ", ".join(f"{name} = {value!r}" for name, value in values.items())
        raise InvalidRows(
            f"Row {row} is outside where ({where}): it has {found}. Nothing was written.",
            row=row,
            column=columns[0],
            reason=f"is outside {where}",
        )
