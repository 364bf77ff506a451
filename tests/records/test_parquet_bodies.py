"""Parquet bodies: values come out as they went in, and no file takes more memory than it may."""

from __future__ import annotations

import io
import itertools
import json
import random
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import parquet_bombs
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuralake.errors import NeuralakeError, SchemaMismatch, TooLarge, UsageError
from neuralake.records.decode import Decoder
from neuralake.records.dropped import Dropped
from neuralake.records.media_types import PARQUET
from neuralake.settings import IngestSettings

_MIB = 2**20
SCHEMA = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("small", pa.int8()),
        pa.field("large", pa.int64(), nullable=False),
        pa.field("ratio", pa.float32()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("wall", pa.timestamp("us")),
        pa.field("day", pa.date32()),
        pa.field("price", pa.decimal128(9, 2)),
        pa.field("much", pa.decimal128(38, 2)),
        pa.field("raw", pa.binary()),
        pa.field("good", pa.bool_()),
        pa.field("trace", pa.list_(pa.float64())),
        pa.field("words", pa.list_(pa.string())),
        pa.field("place", pa.struct([("x", pa.int32()), ("name", pa.string())])),
        pa.field("deep", pa.list_(pa.struct([("a", pa.list_(pa.list_(pa.string())))]))),
    ]
)


def row(n: int) -> dict[str, Any]:
    return {
        "text": None if n % 7 == 0 else f"n{n % 50}",
        "small": n % 100,
        "large": n,
        "ratio": n / 2,
        "at": datetime(2026, 1, 1, n % 24, tzinfo=UTC),
        "wall": datetime(2026, 1, 1, n % 24),
        "day": date(2026, 1, 1 + n % 28),
        "price": Decimal("1.25") if n % 3 else None,
        "much": Decimal(n),
        "raw": b"x" * (n % 9),
        "good": n % 2 == 0,
        "trace": [n / 3] * (n % 5) if n % 3 else None,
        "words": ["a", None, "b"][: n % 4],
        "place": {"x": n, "name": "q"} if n % 4 else None,
        "deep": [{"a": [["z"] * (n % 3)]}],
    }


ROWS = pa.Table.from_pylist([row(n) for n in range(400)], schema=SCHEMA)


def decoder(schema: pa.Schema = SCHEMA, **options: Any) -> Decoder:
    limits = IngestSettings(**options.pop("limits", {}))
    return Decoder(schema, name="lab.t", partition_by=[], limits=limits, **options)


def written(rows: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_values_come_out_as_they_went_in(compression: str) -> None:
    ways = itertools.product([True, False], ["1.0", "2.0"], [400, 90], [_MIB, 100])
    for use_dictionary, version, group, page in ways:
        body = written(
            ROWS,
            compression=compression,
            use_dictionary=use_dictionary,
            data_page_version=version,
            row_group_size=group,
            data_page_size=page,
            write_batch_size=32,
        )
        assert decoder().rows(body, PARQUET).equals(ROWS)


def test_files_of_polars_are_read() -> None:
    rows = ROWS.drop_columns(["deep", "price", "much"])
    sink = io.BytesIO()
    pl.DataFrame(rows).write_parquet(sink, row_group_size=90)

    assert decoder(rows.schema).rows(sink.getvalue(), PARQUET).equals(rows)


def test_columns_are_those_of_the_table() -> None:
    body = written(ROWS.append_column("more", pa.array(range(400))))

    with pytest.raises(SchemaMismatch, match="more"):
        decoder().rows(body, PARQUET)
    dropped = Dropped()
    assert decoder(drops=True).rows(body, PARQUET, dropped=dropped).equals(ROWS)
    assert dropped.rows == {"more": 400}
    assert decoder().new_columns(body, PARQUET) == {"more": pa.int64()}


def test_rows_that_do_not_fit_become_dead_letters_one_by_one() -> None:
    schema = pa.schema([pa.field("n", pa.int8())])
    body = written(pa.table({"n": [1, 2, 1000, 4]}))

    with pytest.raises(SchemaMismatch):
        decoder(schema).envelope(body, PARQUET)
    found = decoder(schema, dead_letters=True).envelope(body, PARQUET)
    whole = decoder(schema, dead_letters=True).envelope(body[:-30], PARQUET)

    assert (found.rows, [letter.row for letter in found.letters]) == (3, [2])
    assert found.letters[0].format == "arrow"
    assert (whole.rows, [letter.format for letter in whole.letters]) == (0, ["parquet"])


def test_a_file_without_rows_and_one_with_too_many_are_refused() -> None:
    schema = pa.schema([("n", pa.int64())])

    with pytest.raises(UsageError, match="no rows"):
        decoder(schema).rows(written(schema.empty_table()), PARQUET)
    body = written(pa.table({"n": range(11)}), row_group_size=3)
    with pytest.raises(TooLarge, match="11 rows"):
        decoder(schema, limits={"rows_max": 10}).rows(body, PARQUET)


@pytest.mark.parametrize(
    "encoding", ["DELTA_BINARY_PACKED", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"]
)
def test_encodings_without_a_bound_are_refused_with_what_helps(encoding: str) -> None:
    rows = ROWS.select(["large" if encoding == "DELTA_BINARY_PACKED" else "text"])
    body = written(rows, use_dictionary=False, column_encoding=encoding)

    with pytest.raises(UsageError, match="write it plain or with a dictionary"):
        decoder(rows.schema).rows(body, PARQUET)


def test_texts_that_are_no_utf_8_are_refused() -> None:
    body = parquet_bombs.one_text(b"\xff")

    with pytest.raises(UsageError, match="not a Parquet file"):
        decoder(pa.schema([("c0", pa.string())])).rows(body, PARQUET)


def test_no_file_takes_more_memory_than_it_may(tmp_path: Path) -> None:
    """Read by a process of its own, whose peak is measured for each file."""
    for name, body in parquet_bombs.bombs().items():
        (tmp_path / name).write_bytes(body)
    limit = 64 * _MIB
    command = [sys.executable, parquet_bombs.__file__, str(limit), str(tmp_path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    told = json.loads(answer.stdout)

    assert set(told) == set(parquet_bombs.bombs())
    for name, found in told.items():
        assert found["said"].startswith(("UsageError", "TooLarge")), (name, found)
        assert found["grown_bytes"] < 2 * limit, (name, found)


@pytest.mark.parametrize(
    ("body", "schema"),
    [
        (parquet_bombs.texts_of_one_word(100_000, 500), pa.schema([("c0", pa.binary())])),
        (parquet_bombs.one_list(3_000_000), pa.schema([("c0", pa.list_(pa.int32()))])),
    ],
)
def test_what_stands_for_less_than_the_limit_is_read(body: bytes, schema: pa.Schema) -> None:
    rows = decoder(schema).rows(body, PARQUET)
    refusing = decoder(schema, limits={"body_bytes_max": _MIB})

    assert rows.nbytes > 8 * _MIB > 8 * len(body)
    with pytest.raises(TooLarge, match="bytes of values"):
        refusing.rows(body, PARQUET)


@pytest.mark.parametrize("seed", range(4))
def test_spoiled_files_are_read_or_refused(seed: int) -> None:
    chance, statuses = random.Random(seed), set[bool]()
    versions = [
        written(ROWS.slice(0, 60), data_page_version=version, compression=compression)
        for version in ("1.0", "2.0")
        for compression in ("none", "zstd")
    ]
    for _ in range(300):
        body = bytearray(chance.choice(versions))
        for _ in range(chance.choice([0, 1, 1, 2, 5])):
            at = chance.randrange(len(body))
            body[at] = chance.choice([0, 0xFF, 0x7F, body[at] ^ 1 << chance.randrange(8)])
        try:
            decoder().rows(bytes(body), PARQUET)
            statuses.add(True)
        except NeuralakeError:
            statuses.add(False)

    assert statuses == {True, False}
