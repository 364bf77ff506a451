"""What one JSON value means for each declared type: the exact reading and its reasons."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from neuralake.errors import InvalidRows
from neuralake.records.rows import RowReader

UTC_US = pa.timestamp("us", tz="UTC")
WALL_US = pa.timestamp("us")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(kind: pa.DataType, text: str) -> object:
    """The value of a column of `kind` in the row `{"c": text}`."""
    return RowReader(pa.schema([("c", kind)])).texts([f'{{"c":{text}}}'])["c"][0].as_py()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (pa.int8(), "127", 127),
        (pa.int8(), "1.0", 1),
        (pa.int64(), "1e3", 1000),
        (pa.int64(), "-9223372036854775808", -(2**63)),
        (pa.float64(), "1", 1.0),
        (pa.float64(), "9007199254740993", 9007199254740992.0),
        (pa.float64(), '"Infinity"', math.inf),
        (pa.float32(), "0.1", 0.10000000149011612),
        (pa.decimal128(5, 2), "1.250", Decimal("1.25")),
        (pa.decimal128(5, 2), '"-999.99"', Decimal("-999.99")),
        (pa.decimal128(38, 0), "9" * 38, Decimal("9" * 38)),
        (pa.string(), r'"\ud83d\ude00"', "😀"),
        (pa.binary(), '"YWI="', b"ab"),
        (pa.bool_(), "false", False),
        (pa.date32(), '"0001-01-01"', date(1, 1, 1)),
        (UTC_US, '"2026-01-02T03:04:05Z"', AT),
        (UTC_US, '"2026-01-02 04:04:05+01"', AT),
        (UTC_US, '"2026-01-02T01:34:05-0130"', AT),
        (UTC_US, '"2026-01-02T03:04:05.120000000Z"', AT.replace(microsecond=120_000)),
        (WALL_US, '"2026-01-02T03:04"', datetime(2026, 1, 2, 3, 4)),
        (pa.list_(pa.int8()), "[1,null]", [1, None]),
        (pa.struct([("x", pa.int8()), ("y", pa.int8())]), '{"y":2}', {"x": None, "y": 2}),
        (pa.int8(), "null", None),
    ],
)
def test_a_value_is_read_exactly(kind: pa.DataType, text: str, value: object) -> None:
    assert read(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (pa.int8(), "128", "128 is out of the range of int8 (-128 to 127)"),
        (pa.int8(), "1.5", "expected an integer, found 1.5"),
        (pa.int8(), "true", "expected an integer, found true"),
        (pa.int64(), "9223372036854775808", "out of the range of int64"),
        (pa.int64(), "1e999999999", "out of range"),
        (pa.int64(), "1e-999999999", "expected an integer"),
        (pa.float32(), "1e39", "out of the range of float"),
        (pa.float64(), "1e309", "out of the range of double"),
        (pa.float64(), '"1"', 'expected a number, found "1"'),
        (pa.decimal128(5, 2), "1.255", "more than 2 decimal places"),
        (pa.decimal128(5, 2), "1000", "out of the range"),
        (pa.decimal128(38, 38), "4", "out of the range"),
        (pa.decimal128(5, 2), '"1,5"', "expected a decimal number"),
        (pa.string(), "1", "expected text, found 1"),
        (pa.string(), r'"\ud800"', "surrogate"),
        (pa.binary(), '"YWI"', "not base64"),
        (pa.bool_(), "1", "expected true or false, found 1"),
        (pa.date32(), '"2026-02-29"', "is not a date"),
        (UTC_US, '"2026-01-02T03:04:05"', "no time zone"),
        (UTC_US, '"2026-01-02T03:04:05.1234567Z"', "finer than a microsecond"),
        (UTC_US, '"2026-01-02T24:00:00Z"', "not a time of day"),
        (UTC_US, '"0001-01-01T00:00:00+01:00"', "years 1 to 9999"),
        (UTC_US, "1767323045", 'as "2013-01-31T10:20:30.123456Z"'),
        (WALL_US, '"2026-01-02T03:04:05Z"', "the column has none"),
        (WALL_US, '"2026-01-02"', 'as "2013-01-31T10:20:30.123456",'),
        (pa.list_(pa.int8()), "1", "expected an array"),
        (pa.struct([("x", pa.int8())]), "[]", "expected an object"),
        (pa.struct([("x", pa.int8())]), '{"z":1}', "there is no such field"),
    ],
)
def test_a_value_that_does_not_fit_has_a_reason(kind: pa.DataType, text: str, reason: str) -> None:
    with pytest.raises(InvalidRows) as caught:
        read(kind, text)

    assert reason in caught.value.reason
    assert caught.value.column.startswith("c")


def test_a_long_wrong_value_is_shown_cut() -> None:
    with pytest.raises(InvalidRows) as caught:
        read(pa.int8(), json.dumps("x" * 10_000))

    assert len(caught.value.message) < 200
