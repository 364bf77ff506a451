"""Dates and times that Spark wrote in the calendar of before 1582, or may have.

Spark 2, and later ones when told so, store days and times of long ago in the hybrid calendar of
Julian and Gregorian days. Spark tells by keys of the footer which files these are, and converts;
nobody else does. Written anew such a value would be another day to Spark, and copied without its
keys, too. So a file with the keys keeps its values only where both calendars agree.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from neuralake.errors import NeedsAttention

__all__ = ["SPARK_KEYS", "OldCalendar", "is_of_old_calendar", "refuse_old_values"]

SPARK_KEYS = b"org.apache.spark."
"""What the keys of Spark begin with."""

_MODES = (SPARK_KEYS + b"legacyDateTime", SPARK_KEYS + b"legacyINT96")
_VERSION = SPARK_KEYS + b"version"
# From then on days are the same in both, and times in every zone that Spark may have converted by.
_FIRST_DAY = datetime.date(1582, 10, 15)
_FIRST_TIME = datetime.datetime(1900, 1, 1)  # noqa: DTZ001 the zone is the column's


class OldCalendar(NeedsAttention):
    """The data file `path` has values in `column` that may be other days here than to Spark."""


def is_of_old_calendar(keys: Mapping[bytes, bytes] | None) -> bool:
    """Whether Spark converts the dates or times of a file with these `keys` when it reads them."""
    if not keys:
        return False
    # INT96 times of Spark 3.0 are converted, too. Without a version it is no file of Spark's.
    is_old = keys.get(_VERSION, b"").startswith((b"1.", b"2.", b"3.0."))
    return is_old or any(mode in keys for mode in _MODES)


def refuse_old_values(rows: pa.Table, *, path: str) -> None:
    """Raises OldCalendar: a value of a file of the old calendar may be another day here."""
    for field, column in zip(rows.schema, rows.columns, strict=True):
        for chunk in column.chunks:
            if any(map(_is_old, _leaves(chunk))):
                raise OldCalendar(
                    f"Data file {path} has dates before {_FIRST_DAY} or times before "
                    f"{_FIRST_TIME:%Y} in column {field.name!r}, and Spark may have written them "
                    f"in its old calendar, in which they are other days to every other engine. "
                    f"Rewrite them with Spark "
                    f"(spark.sql.parquet.datetimeRebaseModeInWrite=CORRECTED).",
                    path=path,
                    column=field.name,
                )


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The dates and times in `array`."""
    if pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_list(array.type):
        yield from _leaves(array.flatten())
    elif pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        yield array


def _is_old(values: pa.Array) -> bool:
    least = pc.min(values)
    first = _FIRST_DAY if pa.types.is_date(values.type) else _FIRST_TIME
    if getattr(values.type, "tz", None):
        assert isinstance(first, datetime.datetime)  # noqa: S101 dates have no zone; for mypy
        first = first.replace(tzinfo=datetime.UTC)
    return bool(least.is_valid and pc.less(least, pa.scalar(first, values.type)).as_py())
