"""Quality rules: a dataframely schema, asked which rows of a batch do not keep it, and why.

Rows come here when they have the table's columns and types; rules say what values make sense. A
rule that looks at several rows (`over`, a primary key) sees those of one request.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from neuralake.errors import InvalidRows, MissingExtra, NeedsAttention
from neuralake.tables import Definition

__all__ = ["BrokenRule", "Rules", "rules_of"]

_ROW = "neuralake_row"
_ROWS_TOLD = 10
_RULES_TOLD = 5


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A row that does not keep some of the rules."""

    row: int
    rules: tuple[str, ...]

    @property
    def column(self) -> str | None:
        """The column that the first of the rules is about, if it is about one."""
        column, bar, _ = self.rules[0].rpartition("|")
        return column if bar else None

    @property
    def reason(self) -> str:
        if len(self.rules) == 1:
            return f"it does not keep the rule {self.rules[0]!r}"
        more = f" and {len(self.rules) - _RULES_TOLD} more" * (len(self.rules) > _RULES_TOLD)
        told = ", ".join(repr(rule) for rule in self.rules[:_RULES_TOLD])
        return f"it does not keep the rules {told}{more}"


def rules_of(definition: Definition, *, name: str) -> Rules | None:
    """The rules of `definition`, a stream table; None: it has none. Raises as `Rules`."""
    if definition.stream is None or definition.stream.rules is None:
        return None
    assert definition.schema is not None  # noqa: S101 stream tables have one; for mypy
    return Rules(definition.stream.rules, definition.schema, name=name)


class Rules:
    """The rules of one table. Use it from any thread.

    Args:
        schema: a dataframely `Schema` (the class), whose columns the table has.
        name: what errors call the table.

    Raises:
        MissingExtra: dataframely is not installed.
        NeedsAttention: its columns have other types than the table's.
    """

    def __init__(self, schema: Any, table: pa.Schema, *, name: str) -> None:
        if importlib.util.find_spec("dataframely") is None:
            raise MissingExtra(
                "Quality rules need an extra: pip install 'neuralake[quality]'", extra="quality"
            )
        import dataframely

        self._name, self._columns = name, list(schema.columns())
        # A failure tells the values of a row and not which it was: that is a value, too.
        self._schema = type("Rows", (schema,), {_ROW: dataframely.UInt32(nullable=False)})
        self.failing(table.empty_table())

    def failing(self, rows: pa.Table) -> list[BrokenRule]:
        """The rows that do not keep all rules, in order.

        Raises:
            NeedsAttention: a rule cannot be evaluated.
        """
        import polars as pl  # Loaded with dataframely; who has no rules starts without both.

        frame = pl.from_arrow(rows.select(self._columns))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 a table is never a Series; for mypy
        try:
            numbered = frame.with_row_index(_ROW)
            failure = self._schema.filter(  # type: ignore[attr-defined]  # `type` made the class.
                numbered
            ).failure
            details = failure.details()
        except Exception as error:
            # What a rule computes is the user's, and dataframely's errors have no class in common.
            raise NeedsAttention(
                f"The rules of {self._name} cannot be evaluated: {error}", table=self._name
            ) from error
        names = [name for name in details.columns if name not in (*self._columns, _ROW)]
        found = [
            BrokenRule(row[_ROW], tuple(sorted(name for name in names if row[name] == "invalid")))
            for row in details.to_dicts()
        ]
        return sorted(found, key=lambda broken: broken.row)

    def check(self, rows: pa.Table) -> None:
        """Refuse `rows` if one does not keep the rules.

        Raises:
            InvalidRows: with `row`, `column`, `reason` and `rule` of the first, `rows` (the first
                few numbers) and `rules`: how many rows do not keep which.
        """
        broken = self.failing(rows)
        if not broken:
            return
        first, counts = broken[0], Counter(rule for one in broken for rule in one.rules)
        others = f" {len(broken)} of {rows.num_rows} rows break rules." if len(broken) > 1 else ""
        raise InvalidRows(
            f"Row {first.row} does not fit table {self._name!r}: {first.reason}.{others}",
            row=first.row,
            column=first.column,
            reason=first.reason,
            rule=first.rules[0],
            rows=[one.row for one in broken[:_ROWS_TOLD]],
            rules=dict(counts.most_common(_ROWS_TOLD)),
        )
