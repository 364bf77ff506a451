"""How many rows a body of text may have, and how many cells: a row of `{}` is three bytes, and as
many cells as the table has columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from neuralake.errors import TooLarge

__all__ = ["RowLimit", "leaves"]


def leaves(kind: pa.DataType) -> int:
    """The columns that a `kind` is made of: those of structs and lists count, down to values."""
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return sum(map(leaves, inner)) if inner else 1


@dataclass(frozen=True, slots=True)
class RowLimit:
    """What the rows of one body may come to, in a table that has `columns`."""

    rows_max: int
    cells_max: int
    columns: int

    @classmethod
    def of(cls, schema: pa.Schema, *, rows_max: int, cells_max: int) -> RowLimit:
        """The limit for rows of `schema`."""
        return cls(rows_max, cells_max, sum(leaves(field.type) for field in schema))

    def fits(self, rows: int) -> bool:
        """Whether a body may have so many rows."""
        return rows <= self.rows_max and rows * self.columns <= self.cells_max

    def check(self, rows: int) -> None:
        """Raise TooLarge if a body that has `rows` or more is one too many."""
        if self.fits(rows):
            return
        if rows > self.rows_max:
            raise TooLarge(
                f"The body has {rows} rows or more; the limit is {self.rows_max} rows. Send it in "
                f"parts.",
                limit=self.rows_max,
                found=rows,
                unit="rows",
            )
        cells = rows * self.columns
        raise TooLarge(
            f"The body has {rows} rows or more, and the table {self.columns} columns (fields of "
            f"structs count): {cells} cells, those that are null included. The limit is "
            f"{self.cells_max} (ingest.cells_max). Send it in parts of at most "
            f"{max(1, self.cells_max // self.columns)} rows, or as Arrow.",
            limit=self.cells_max,
            found=cells,
            unit="cells",
        )
