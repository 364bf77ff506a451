"""A file that was encoded in halves is what one pass makes of the rows."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta.halves import encoded
from neuralake.delta.parquet import Encoder

SCHEMA = pa.schema(
    [
        ("device", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("value", pa.float64()),
        ("count", pa.int32()),
        ("day", pa.date32()),
        ("tags", pa.list_(pa.field("element", pa.string()))),
        ("at", pa.struct([("x", pa.int16()), ("y", pa.bool_())])),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "device": st.none() | st.text("ab é中", max_size=40),
        "time": st.none() | st.integers(-(2**50), 2**50),
        "value": st.none() | st.floats(),
        "count": st.none() | st.integers(-(2**31), 2**31 - 1),
        "day": st.none() | st.integers(-700_000, 2_900_000),
        "tags": st.none() | st.lists(st.none() | st.text("ab", max_size=3), max_size=2),
        "at": st.none() | st.fixed_dictionaries({"x": st.integers(-9, 9), "y": st.booleans()}),
    }
)


def narrower(halves: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """What `halves` has another bound for than `whole`; one without a bound says nothing."""
    found: dict[str, Any] = {}
    for name, value in halves.items():
        if isinstance(value, dict):
            found |= narrower(value, whole.get(name, {}))
        elif value != whole.get(name):
            found[name] = value
    return found


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(ROW, min_size=2, max_size=12))
def test_rows_order_and_statistics_are_those_of_one_pass(rows: list[dict[str, Any]]) -> None:
    table, encoder = pa.Table.from_pylist(rows, schema=SCHEMA), Encoder(SCHEMA)

    one, _ = encoder.encode(table)
    file, data = encoded(encoder, table, rows_min=2, bytes_min=0)

    with pq.ParquetFile(BytesIO(data)) as opened:
        assert opened.metadata.num_row_groups == 2
        assert repr(opened.read().to_pylist()) == repr(table.to_pylist())
    assert (file.rows, file.bytes) == (len(rows), len(data))
    stats, whole = msgspec.json.decode(file.stats), msgspec.json.decode(one.stats)
    assert (stats["numRecords"], stats["nullCount"]) == (whole["numRecords"], whole["nullCount"])
    assert not narrower(stats["minValues"], whole["minValues"])
    assert not narrower(stats["maxValues"], whole["maxValues"])


def test_halves_without_gaps_have_the_very_bounds_and_polars_reads_them() -> None:
    table = pa.table(
        {
            "device": [f"arm-{n % 7}" for n in range(1000)],
            "value": [math.sin(n) for n in range(1000)],
        }
    )
    encoder = Encoder(table.schema)

    file, data = encoded(encoder, table, rows_min=1000, bytes_min=0)

    assert msgspec.json.decode(file.stats) == msgspec.json.decode(encoder.encode(table)[0].stats)
    frame = pl.scan_parquet(BytesIO(data)).filter(pl.col("device") == "arm-3").collect()
    assert frame.height == 143
    assert frame["value"].to_list() == [math.sin(n) for n in range(3, 1000, 7)]


def test_few_rows_are_one_row_group() -> None:
    table = pa.table({"n": pa.array(range(1000))})

    _, data = encoded(Encoder(table.schema), table)

    with pq.ParquetFile(BytesIO(data)) as opened:
        assert opened.metadata.num_row_groups == 1
