"""Messages of a topic whose table takes new columns: the columns of a batch, and then its rows.

Nobody is answered, so whoever commits the messages decides: the values of all messages that are
read together, and fit but for their new columns, say what a new column is. What the rows of a
message are then depends on the message and on the columns alone: once the table has the columns of
a batch, the same messages give the same rows and letters, in whatever batches they come again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from neuralake.records.evolve import widened, with_fields
from neuralake.records.letters import DeadLetter
from neuralake.records.messages import MessageReader, MessageRows, SourceMessages
from neuralake.schema import with_more

__all__ = ["EvolvingMessages", "JoinedMessages"]

# Readers of schemas that were in use a moment ago: one of the table as it is, and one of a batch.
_KEPT_MAX = 8


class EvolvingMessages:
    """Reads the messages of one topic. Use it from any thread.

    Args:
        make: a reader of rows of a schema; with `drops`, one that leaves out other columns.
        schema: the declared one.
        takes_first: a new column is what its first message says: types do not widen (Arrow, whose
            columns are not read as others).
    """

    def __init__(
        self,
        make: Callable[[pa.Schema, bool], MessageReader],
        schema: pa.Schema,
        *,
        takes_first: bool = False,
    ) -> None:
        self._make, self._schema, self._takes_first = make, schema, takes_first
        self._kept: dict[tuple[pa.Schema, bool], MessageReader] = {}
        self._reader(schema)  # What cannot be read at all is told at once.

    def read(self, messages: SourceMessages, into: pa.Schema) -> MessageRows:
        """The rows of `messages`, in order, and those that give none.

        Args:
            into: the columns of the table as it is now; new ones come behind these and the
                declared ones, if a row has a value there.
        """
        known = with_more(self._schema, into)
        found = self._reader(known).read(messages)
        if not (new := self._new_columns(known, found.rejected, messages)):
            return found
        grown = with_fields(known, new)
        found = self._reader(grown).read(messages)
        rows = found.rows
        names = [
            name
            for name in grown.names
            if name in known.names or rows[name].null_count < rows.num_rows
        ]
        return MessageRows(rows.select(names), found.rejected, found.tombstones)

    def _new_columns(
        self, known: pa.Schema, rejected: Sequence[DeadLetter], messages: SourceMessages
    ) -> Mapping[str, pa.DataType]:
        """Columns that are new in `rejected`: a row that has one does not fit what is `known`."""
        reader = self._reader(known)
        brought = [(each, new) for each in rejected if (new := reader.new_columns(each.value))]
        if not brought:
            return {}
        # What does not fit for other reasons has no say. Most poison brings no columns, so that
        # this second reading is rare.
        bad = {_place(each) for each in self._reader(known, drops=True).read(messages).rejected}
        found: dict[str, pa.DataType] = {}
        for each, new in brought:
            if _place(each) in bad or (each.position, None) in bad:
                continue
            for name, kind in new.items():
                if not (self._takes_first and name in found):
                    found[name] = widened(found.get(name), kind) or kind
        return found

    def _reader(self, schema: pa.Schema, *, drops: bool = False) -> MessageReader:
        key = schema, drops
        if (reader := self._kept.get(key)) is None:
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            reader = self._kept[key] = self._make(schema, drops)
        return reader


class JoinedMessages:
    """The messages of several envelopes, as one (`SourceMessages`)."""

    def __init__(self, parts: Sequence[SourceMessages]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def positions(self) -> list[int]:
        return self._joined(lambda part: part.positions())

    def values(self) -> list[bytes | None]:
        return self._joined(lambda part: part.values())

    def keys(self) -> list[bytes | None]:
        return self._joined(lambda part: part.keys())

    def timestamps_ms(self) -> list[int | None]:
        return self._joined(lambda part: part.timestamps_ms())

    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        return self._joined(lambda part: part.headers())

    def _joined(self, column: Callable[[SourceMessages], list[Any]]) -> list[Any]:
        return list(chain.from_iterable(map(column, self._parts)))


def _place(letter: DeadLetter) -> tuple[int, int | None]:
    return letter.position, letter.row
