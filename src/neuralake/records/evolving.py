"""The decoder of a table that takes new columns: it grows when a body brings one.

A process knows the columns of the table as it was opened, and those that its own requests brought.
Before it takes a new one it looks at the table again: another process may have been first, and then
the column has a type.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pyarrow as pa

from neuralake.errors import UsageError
from neuralake.records.decode import Decoder
from neuralake.records.dropped import Dropped
from neuralake.records.encoded import Encoded
from neuralake.records.evolve import with_fields
from neuralake.records.rows import Row
from neuralake.records.salvage import is_misfit
from neuralake.schema import with_more

__all__ = ["EvolvingDecoder"]


class EvolvingDecoder:
    """As `Decoder`. Use it from any thread.

    Args:
        make: a decoder of rows of a schema.
        schema: the declared one.
        table: the schema of the table as it is now, or None if there is none yet.
    """

    def __init__(
        self,
        make: Callable[[pa.Schema], Decoder],
        schema: pa.Schema,
        table: Callable[[], pa.Schema | None],
    ) -> None:
        self._make, self._table = make, table
        self._lock = threading.Lock()
        self._schema = schema
        self._take(table())
        self._decoder = make(self._schema)
        self.dead_letters = self._decoder.dead_letters

    @property
    def schema(self) -> pa.Schema:
        """What is known of the table's columns: the declared ones first."""
        return self._schema

    def rows(self, body: bytes, media_type: str, *, dropped: Dropped | None = None) -> pa.Table:
        """As `Decoder.rows`."""
        try:
            return self._decoder.rows(body, media_type, dropped=dropped)
        except UsageError:
            return self._grown(body, media_type).rows(body, media_type, dropped=dropped)

    def is_small(self, body_bytes: int, reader: str) -> bool:
        """As `Decoder.is_small`."""
        return self._decoder.is_small(body_bytes, reader)

    def cells(self, body: bytes) -> int:
        """As `Decoder.cells`."""
        return self._decoder.cells(body)

    def count(self, body: bytes, reader: str) -> int | None:
        """As `Decoder.count`."""
        return self._decoder.count(body, reader)

    def quick(self, bodies: Sequence[bytes]) -> Encoded | None:
        """As `Decoder.quick`; None also where one of them brings a new column."""
        return self._decoder.quick(bodies)

    def few(self, body: bytes, reader: str, *, dropped: Dropped | None = None) -> list[Row] | None:
        """As `Decoder.few`; None also where `envelope` has to look at new columns."""
        try:
            return self._decoder.few(body, reader, dropped=dropped)
        except UsageError:
            return None

    def joined(self, rows: Sequence[Row]) -> Encoded:
        """As `Decoder.joined`; rows from before it grew lack the new columns, which are null."""
        return self._decoder.joined(rows)

    def is_light(self, body: bytes, reader: str) -> bool:  # noqa: ARG002 as `Decoder.is_light`
        """False: it may ask the store."""
        return False

    def envelope(
        self,
        body: bytes,
        media_type: str,
        *,
        source: str = "",
        is_signed: bool = True,
        is_verbatim: bool = False,
    ) -> Encoded:
        """As `Decoder.envelope`."""
        how = {"is_signed": is_signed, "is_verbatim": is_verbatim}
        try:
            return self._decoder.whole(body, media_type, **how)
        except UsageError:
            grown = self._grown(body, media_type)
            return grown.envelope(body, media_type, source=source, **how)

    def _grown(self, body: bytes, media_type: str) -> Decoder:
        """A decoder that knows the columns of `body`, as far as they can be columns."""
        decoder = self._decoder
        try:
            if not (new := decoder.new_columns(body, media_type)):
                return decoder
        except UsageError as error:
            if is_misfit(error):
                return decoder  # Which says what is wrong with it.
            raise
        with self._lock:
            self._take(self._table())
            self._schema = with_fields(
                self._schema, {n: kind for n, kind in new.items() if n not in self._schema.names}
            )
            self._decoder = self._make(self._schema)
            return self._decoder

    def _take(self, table: pa.Schema | None) -> None:
        self._schema = self._schema if table is None else with_more(self._schema, table)
