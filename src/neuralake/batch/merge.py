"""Merge: rows of a source meet the rows of the table that have the same key.

Matched rows are updated in place, removed or left; rows of the source without a match are added;
rows of the table without one may be removed. An update sets the columns that the source has and
keeps the others. Only files that may have one of the keys are read, first their key columns alone,
and only those that change are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from neuralake.batch.change import Outcome, rewrite
from neuralake.batch.keys import Keys
from neuralake.batch.where import EVERY_ROW, Where
from neuralake.delta import DataFile
from neuralake.delta.bounds import partition_value
from neuralake.delta.conflicts import Operation
from neuralake.delta.files import DataFiles
from neuralake.errors import UsageError, suggestion
from neuralake.filters import Conditions
from neuralake.schema import conform

__all__ = ["Merge", "MergeRules"]

# Rows of a file that are looked up at once: their keys are in memory together, and each look-up
# makes a hash table of the source.
_LOOKUP_ROWS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MergeRules:
    """What to do with each kind of row.

    Raises:
        UsageError: a rule is none of the choices, or nothing is to be done at all.
    """

    when_matched: str
    when_not_matched: str
    when_not_matched_by_source: str

    def __post_init__(self) -> None:
        choices = {
            "when_matched": ("update", "delete", "ignore"),
            "when_not_matched": ("insert", "ignore"),
            "when_not_matched_by_source": ("ignore", "delete"),
        }
        for name, known in choices.items():
            given = getattr(self, name)
            if given not in known:
                raise UsageError(
                    f"merge({name}={given!r}).{suggestion(str(given), list(known))} "
                    f"It is one of {', '.join(map(repr, known))}.",
                    name=name,
                    known=list(known),
                )
        if {self.when_matched, self.when_not_matched, self.when_not_matched_by_source} == {
            "ignore"
        }:
            raise UsageError("merge with 'ignore' for every kind of row does nothing.")

    @property
    def removes_rows(self) -> bool:
        return self.when_matched != "ignore" or self.when_not_matched_by_source != "ignore"


@dataclass(frozen=True, slots=True)
class _Fates:
    """What becomes of each row of a file; masks of the file's length."""

    update: pa.ChunkedArray
    """int64: the source row that it takes its values from, or null."""
    leave: pa.ChunkedArray
    """Whether an update takes it to another partition."""
    delete: pa.ChunkedArray

    def part(self, start: int, rows: int) -> _Fates:
        return _Fates(*(each.slice(start, rows) for each in (self.update, self.leave, self.delete)))


class Merge:
    """Merge `source` (in the table's types and normalised) into the rows of `where`."""

    operation = Operation.MERGE

    def __init__(
        self, source: pa.Table, keys: Keys, where: Where, rules: MergeRules, *, name: str
    ) -> None:
        self._source, self._keys, self._where, self._rules = source, keys, where, rules
        self._schema, self._partition_by = where.schema, where.partition_by
        # Told before anything is read: whether every row of the source could be added.
        self._whole = (
            conform(source, where.schema, name=name) if rules.when_not_matched == "insert" else None
        )
        self._stays: dict[tuple[str | None, ...], pa.Array] = {}

    @property
    def removes_rows(self) -> bool:
        return self._rules.removes_rows

    def may_touch(self, partition: Mapping[str, str | None], stats: str | None) -> bool:
        if not self._where.may_hold(partition, stats):
            return False
        if self._rules.when_not_matched_by_source == "delete":
            return True
        return self._keys.may_match(partition, stats)

    def outcome(self, files: DataFiles, file: DataFile) -> Outcome:
        rest = self._where.within(file.partition)
        if rest is None:
            return Outcome()
        match, inside = self._look_up(files, file, rest)
        fates = self._fates(match, inside, file.partition)
        matched = pc.unique(match.drop_null())
        updated, deleted = _count(fates.update.is_valid()), _count(fates.delete)
        if not updated and not deleted:
            return Outcome(matched=matched)
        left = _count(fates.leave)
        kept = len(match) - deleted - left
        moved: list[pa.Table] = []
        batches = self._rewritten(files, file, fates, moved)
        rewritten = None
        if kept:
            rewritten = rewrite(files, file, batches, rows=kept)
        elif left:
            # No row stays, but those that leave are still to be read.
            for _ in batches:
                pass
        return Outcome(
            rewritten,
            updated=updated,
            deleted=deleted,
            copied=len(match) - updated - deleted,
            matched=matched,
            moved=pa.concat_tables(moved) if moved else None,
        )

    def added(self, outcomes: Iterable[Outcome], /) -> pa.Table:
        found = [*outcomes]
        parts = [each.moved for each in found if each.moved is not None]
        if self._whole is not None:
            matched = [each.matched for each in found if each.matched is not None]
            known = pa.chunked_array(matched, pa.int64()).combine_chunks()
            rows = pl.int_range(self._whole.num_rows, eager=True).to_arrow()
            parts.append(self._whole.filter(pc.invert(pc.is_in(rows, value_set=known))))
        return pa.concat_tables(parts) if parts else self._schema.empty_table()

    def parameters(self) -> dict[str, Any]:
        same = " AND ".join(f"target.{column} = source.{column}" for column in self._keys.on)
        slice_ = f" AND ({self._where})" if self._where.conditions else ""
        return {
            "predicate": same + slice_,
            "matchedPredicates": _actions(self._rules.when_matched),
            "notMatchedPredicates": _actions(self._rules.when_not_matched),
            "notMatchedBySourcePredicates": _actions(self._rules.when_not_matched_by_source),
        }

    def _look_up(
        self, files: DataFiles, file: DataFile, rest: Conditions
    ) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """For each row of `file`: the source row that it matches (int64), and whether it is asked.

        Both have one value a row; a row that is not asked matches nothing.
        """
        wanted = list(dict.fromkeys([*self._keys.columns(), *self._where.columns(rest)]))
        match, inside = [], []
        for rows in _gathered(files.read(file, columns=wanted or files.schema.names[:1])):
            found = self._keys.match(rows, file.partition)
            if rest == EVERY_ROW:
                asked = pa.repeat(pa.scalar(True), rows.num_rows)
            else:
                asked = self._where.mask(rows, rest).combine_chunks()
            inside.append(asked)
            match.append(pc.if_else(asked, found, pa.scalar(None, pa.int64())))
        return pa.chunked_array(match, pa.int64()), pa.chunked_array(inside, pa.bool_())

    def _fates(
        self, match: pa.ChunkedArray, inside: pa.ChunkedArray, partition: dict[str, str | None]
    ) -> _Fates:
        none, never = pa.scalar(None, pa.int64()), pa.scalar(False)
        hit = match.is_valid()
        update = match if self._rules.when_matched == "update" else pc.if_else(hit, none, none)
        stays = self._stays_in(partition)
        leave = (
            pc.if_else(hit, never, never)
            if stays is None or self._rules.when_matched != "update"
            else pc.fill_null(pc.invert(pc.take(stays, match)), False)
        )
        delete = hit if self._rules.when_matched == "delete" else pc.if_else(hit, never, never)
        if self._rules.when_not_matched_by_source == "delete":
            delete = pc.or_(delete, pc.and_(inside, pc.invert(hit)))
        return _Fates(update, leave, delete)

    def _stays_in(self, partition: dict[str, str | None]) -> pa.Array | None:
        """Which source rows are of `partition`; None if all that match one of its rows are."""
        told = [name for name in self._source.schema.names if name in self._partition_by]
        if all(name in self._keys.on for name in told):
            return None
        key = tuple(partition[name] for name in told)
        if key not in self._stays:
            same = pl.repeat(True, self._source.num_rows, eager=True)
            for name in told:
                value = pl.Series(partition_value(partition[name], self._schema.field(name)))
                found = pl.Series(self._source[name])
                same = same & found.eq_missing(value.extend_constant(value[0], len(found) - 1))
            self._stays[key] = same.to_arrow()
        return self._stays[key]

    def _rewritten(
        self, files: DataFiles, file: DataFile, fates: _Fates, moved: list[pa.Table]
    ) -> Iterator[pa.Table]:
        """The rows that stay in the place of `file`; those that leave are added to `moved`."""
        start = 0
        for rows in files.read(file):
            part = fates.part(start, rows.num_rows)
            start += rows.num_rows
            updated = self._updated(rows, part.update)
            if _count(part.leave):
                source = self._source.take(part.update.filter(part.leave))
                moved.append(self._placed(updated.filter(part.leave), source, file.partition))
            goes = pc.or_(part.leave, part.delete)
            kept = updated.filter(pc.invert(goes)) if _count(goes) else updated
            if kept.num_rows:
                yield kept

    def _updated(self, rows: pa.Table, update: pa.ChunkedArray) -> pa.Table:
        """`rows` with the columns that the source has where `update` names a row of it."""
        sources = update.drop_null()
        columns = [name for name in rows.schema.names if name in self._source.schema.names]
        if not len(sources) or not columns:
            return rows
        # Rows and then the new ones in one column each, and every place takes from one of the two.
        new = self._source.select(columns).take(sources)
        both = pa.concat_tables([rows.select(columns), new])
        hit = pl.Series(update).is_not_null()
        own = pl.int_range(rows.num_rows, eager=True)
        places = hit.cum_sum().cast(pl.Int64) + (rows.num_rows - 1)
        taken = both.take(places.zip_with(hit, own).to_arrow())
        for name in columns:
            rows = rows.set_column(
                rows.schema.get_field_index(name), rows.schema.field(name), taken[name]
            )
        return rows

    def _placed(
        self, rows: pa.Table, source: pa.Table, partition: dict[str, str | None]
    ) -> pa.Table:
        """`rows` of a file that leave its partition, with all columns of the table."""
        columns = []
        for field in self._schema:
            if field.name not in self._partition_by:
                columns.append(rows[field.name])
            elif field.name in source.schema.names:
                columns.append(source[field.name])
            else:
                value = partition_value(partition[field.name], field)[0]
                columns.append(pa.repeat(value, rows.num_rows))
        return pa.table(columns, schema=self._schema)


def _gathered(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _LOOKUP_ROWS:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held)


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0


def _actions(rule: str) -> str:
    return msgspec.json.encode([] if rule == "ignore" else [{"actionType": rule}]).decode()
