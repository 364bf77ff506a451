"""Every type that a table's column may have, with values at its edges."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from neuralake.schema import declare

__all__ = ["COLUMNS", "every_type"]

UTC = datetime.UTC
DAY = datetime.date
Time = datetime.datetime
SECOND = Time(2024, 2, 29, 12, 0, 1, 1)

COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int8": (pa.int8(), [-(2**7), 2**7 - 1, 0]),
    "int16": (pa.int16(), [-(2**15), 2**15 - 1, 0]),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1, 0]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1, 2**53 + 1]),
    "float32": (pa.float32(), [1.5, float("inf"), -0.0]),
    "float64": (pa.float64(), [float("nan"), float("-inf"), 5e-324]),
    "decimal": (pa.decimal128(5, 2), [Decimal("123.45"), Decimal("-0.01"), Decimal("999.99")]),
    "decimal38": (pa.decimal128(38, 10), [Decimal(10**27), Decimal("-1.0000000001"), Decimal(0)]),
    "string": (pa.string(), ["", "a b/ü%=日本", "x" * 5000]),
    "binary": (pa.binary(), [b"", b"\x00\xff", b"abc"]),
    "bool": (pa.bool_(), [True, False, True]),
    "date": (pa.date32(), [DAY(1, 1, 1), DAY(9999, 12, 31), DAY(2024, 2, 29)]),
    "timestamp": (
        pa.timestamp("us", tz="UTC"),
        [
            Time(1, 1, 1, tzinfo=UTC),
            Time(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            SECOND.replace(tzinfo=UTC),
        ],
    ),
    "timestamp_ntz": (
        pa.timestamp("us"),
        [SECOND.replace(year=1900, day=1), SECOND.replace(year=2100, day=1), SECOND],
    ),
    "list": (pa.list_(pa.int32()), [[], [1, None], [3]]),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        [{"a": 1, "b": ["x"]}, {"a": None, "b": None}, {"a": 3, "b": []}],
    ),
    "structs": (
        pa.list_(pa.struct([("q", pa.timestamp("us", tz="UTC")), ("f", pa.float32())])),
        [[{"q": None, "f": 1.0}], [], [{"q": SECOND.replace(tzinfo=UTC), "f": None}, None]],
    ),
}


def every_type() -> pa.Table:
    """The values and a null each, with an `id` from 0."""
    schema = declare(
        pa.schema([("id", pa.int64()), *((name, kind) for name, (kind, _) in COLUMNS.items())])
    )
    columns = [
        pa.array([*values, None], schema.field(name).type) for name, (_, values) in COLUMNS.items()
    ]
    return pa.table([pa.array(range(4)), *columns], schema)
