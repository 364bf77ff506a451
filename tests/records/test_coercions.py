"""docs/types.md says what each way of writing a value becomes in each type: every cell is tried.

`python tests/records/test_coercions.py` prints the table as the code has it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from sent_messages import Sent

from neuralake.errors import UsageError
from neuralake.records.arrow_body import ArrowReader
from neuralake.records.csv_text import typed_column
from neuralake.records.json_body import JsonReader
from neuralake.records.messages import MessageReader

PAGE = Path(__file__).parents[2] / "docs" / "types.md"
REFUSED = "no"

TYPES = {
    "int32": pa.int32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "decimal128(9, 2)": pa.decimal128(9, 2),
    "string": pa.string(),
    "binary": pa.binary(),
    "bool_": pa.bool_(),
    "date32": pa.date32(),
    "instant": pa.timestamp("us", tz="UTC"),
    "wall clock": pa.timestamp("us"),
}
JSON = [
    *("7", "7.0", "7.5", "7.125", "3000000000", "1e39", "-0.0"),
    *('"7"', '"NaN"', "true", '"true"', '""', '"AAE="', '"2026-01-31"'),
    *('"2026-01-31T10:20:30Z"', '"2026-01-31T10:20:30+01:00"', '"2026-01-31T10:20:30"'),
    *("null", "[7]", '{"x": 7}'),
]
CSV = ["7", "007", "+7.5", "inf", "TRUE", "AAE=", "2026-01-31", "2026-01-31 10:20:30Z", ""]
_NOON = dt.datetime(2026, 1, 31, 12)
ARROW: dict[str, tuple[Any, pa.DataType]] = {
    "uint8 7": (7, pa.uint8()),
    "int64 7": (7, pa.int64()),
    "int64 3000000000": (3_000_000_000, pa.int64()),
    "int64 2^53 + 1": (2**53 + 1, pa.int64()),
    "float32 7.5": (7.5, pa.float32()),
    "float64 7.5": (7.5, pa.float64()),
    "decimal 7.50": (Decimal("7.50"), pa.decimal128(5, 2)),
    "decimal 7.125": (Decimal("7.125"), pa.decimal128(5, 3)),
    "large_string x": ("x", pa.large_string()),
    "dictionary x": ("x", pa.dictionary(pa.int8(), pa.string())),
    "fixed-size binary": (b"\0\1", pa.binary(2)),
    "bool true": (True, pa.bool_()),
    "date64": (dt.date(2026, 1, 31), pa.date64()),
    "timestamp s": (_NOON, pa.timestamp("s")),
    "timestamp ns": (_NOON, pa.timestamp("ns")),
    "timestamp ms, Berlin": (
        _NOON.replace(tzinfo=ZoneInfo("Europe/Berlin")),
        pa.timestamp("ms", tz="Europe/Berlin"),
    ),
    "null": (None, pa.null()),
}


def told(read: Callable[[], pa.Table]) -> str:
    """What the page says of the one value that `read` gives: itself, or that there is none."""
    try:
        table = read()
    except UsageError:
        return REFUSED
    value = table["c"].to_pylist()[0]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.hex() or "empty"
    if isinstance(value, dt.datetime):
        return value.strftime("%m-%d %H:%M:%S" + ("Z" if value.tzinfo else ""))
    return str(value) or "empty"


def schema(kind: pa.DataType) -> pa.Schema:
    return pa.schema([("c", kind), ("d", pa.int64())])


def from_json(text: str, kind: pa.DataType) -> set[str]:
    """Whatever reads JSON says the same: row by row, by columns, as an array, of a message."""
    line = f'{{"c": {text}}}'.encode()
    exact = JsonReader(schema(kind), name="t", rows_max=10)
    quick = JsonReader(schema(kind), name="t", rows_max=10, small_bytes=0)
    messages = MessageReader(schema(kind), name="t", partition_by=(), format="json", rows_max=10)

    def of_message() -> pa.Table:
        found = messages.read(Sent([line]))
        if found.rejected:
            raise UsageError(found.rejected[0].reason)
        return found.rows

    ways: list[Callable[[], pa.Table]] = [
        lambda: exact.lines(line),
        lambda: quick.lines(line),
        lambda: quick.document(b"[" + line + b"]"),
        of_message,
    ]
    return {told(way) for way in ways}


def from_csv(text: str, kind: pa.DataType) -> set[str]:
    texts = pa.array([text or None], pa.string())

    def read() -> pa.Table:
        column = typed_column(texts, pa.field("c", kind), first_row=0, name="t")
        return pa.table({"c": column})

    return {told(read)}


def from_arrow(name: str, kind: pa.DataType) -> set[str]:
    value, given = ARROW[name]
    rows = pa.table({"c": pa.array([value], given)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    reader = ArrowReader(schema(kind), name="t", rows_max=10, bytes_max=10**6)
    return {told(lambda: reader.stream(bytes(sink.getvalue())))}


WAYS = {"JSON": (JSON, from_json), "CSV": (CSV, from_csv), "Arrow": ([*ARROW], from_arrow)}
ROWS = [(way, text) for way, (texts, _) in WAYS.items() for text in texts]


def page_table() -> dict[tuple[str, str], list[str]]:
    """The cells of the page's table by its rows."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| (JSON|CSV|Arrow) `(.*?)` \| (.*) \|$", line):
            text = "" if match[2] == "nothing" else match[2]
            found[match[1], text] = match[3].split(" | ")
    return found


def test_the_page_has_these_rows_and_columns() -> None:
    header = next(
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if "| what comes |" in line
    )

    assert re.findall("`(.*?)`", header) == [*TYPES][:8]
    assert list(page_table()) == ROWS


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
@pytest.mark.parametrize("name", TYPES)
def test_a_cell_says_what_the_value_becomes(row: tuple[str, str], name: str) -> None:
    way, text = row
    said = page_table()[row][[*TYPES].index(name)]

    assert WAYS[way][1](text, TYPES[name]) == {said}


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES.keys())
def test_a_column_that_is_missing_is_null_or_refused_if_it_may_not_be(kind: pa.DataType) -> None:
    """Whatever brings the rows: JSON both ways, Arrow, and a message."""
    may = pa.schema([("c", kind), ("d", pa.int64())])
    must = pa.schema([pa.field("c", kind, nullable=False), ("d", pa.int64())])
    sink = pa.BufferOutputStream()
    rows = pa.table({"d": [1, 2]})
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    lines = b'{"d": 1}\n{"d": 2}'
    for small_bytes in (0, 10**6):
        more = {"name": "t", "rows_max": 10, "small_bytes": small_bytes}
        assert JsonReader(may, **more).lines(lines)["c"].null_count == 2  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="not nullable"):
            JsonReader(must, **more).lines(lines)  # type: ignore[arg-type]
    limits = {"name": "t", "rows_max": 10, "bytes_max": 10**6}
    body = bytes(sink.getvalue())
    assert ArrowReader(may, **limits).stream(body)["c"].null_count == 2  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not nullable"):
        ArrowReader(must, **limits).stream(body)  # type: ignore[arg-type]
    of = {"name": "t", "partition_by": (), "rows_max": 10, "format": "json"}
    messages = Sent(lines.split(b"\n"))
    assert MessageReader(may, **of).read(messages).rows["c"].null_count == 2  # type: ignore[arg-type]
    assert len(MessageReader(must, **of).read(messages).rejected) == 2  # type: ignore[arg-type]


def table_text() -> str:
    names = [f"`{name}`" if name not in ("instant", "wall clock") else name for name in TYPES]
    lines = [f"| what comes | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for way, text in ROWS:
        cells = [WAYS[way][1](text, kind) for kind in TYPES.values()]
        assert all(len(cell) == 1 for cell in cells), (way, text, cells)
        lines.append(
            f"| {way} `{text or 'nothing'}` | {' | '.join(cell.pop() for cell in cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table_text())
