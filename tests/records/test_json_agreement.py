"""The quick JSON path never differs from the exact one: the same rows, or it steps aside."""

from __future__ import annotations

import json
from base64 import b64encode

import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.errors import UsageError
from neuralake.records.columns import ColumnReader
from neuralake.records.dropped import Dropped
from neuralake.records.json_body import JsonReader
from neuralake.records.rows import RowReader

LEAVES = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.decimal128(5, 2),
    pa.decimal128(38, 0),
    pa.decimal128(38, 38),
    pa.string(),
    pa.binary(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
]

# What differs between parsers, or between what is written and what fits.
_ODD_NUMBERS = [
    *("0", "-0", "0.0", "-0.0", "1", "1.0", "-1.5", "1e1", "1E+2", "1e-2", "1.250", "0.1e1"),
    *(
        "1.00000000000000000001",
        "12345678.00000000001",
        "9007199254740993.0",
        "123456789012345e3",
        "100.0",
        "1.50",
    ),
    *("127", "128", "-128", "-129", "32767", "32768", "2147483648", "16777217"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808"),
    *("-9223372036854775809", "18446744073709551616", "9007199254740993"),
    *("123456789012345678901234567890", "0.1", "3.4028235e38", "3.4028236e38", "1e39", "1e308"),
    *("1.7976931348623157e308", "1.7976931348623159e308", "1e309", "1e999", "1e-400"),
    *("1e-45", "1e-46", "999.99", "999.999", "1000", "1e37", "1e38", "1e40", "4" + "0" * 38),
    *("9" * 38, "1" + "0" * 38, "0." + "0" * 37 + "1", "9" * 29 + "." + "9" * 29, "1" * 76),
]
_NOT_NUMBERS = [
    *("NaN", "Infinity", "-Infinity", "01", "+1", "1.", ".5", "0x10", "-", "1e", "tru", "nul"),
    *("true", "false", "null", "[]", "{}", "[1]", "[null]", '{"a":1}'),
]
_TEXTS = [
    "",
    "x",
    "1",
    "1.5",
    "-1.25",
    "+1",
    ".5",
    "1e1",
    " 1",
    "NaN",
    "Infinity",
    "true",
    "null",
    "é",
    "😀",
    "\x00",
    "YWI=",
    "YWI",
    "YW I=",
    "YWJj",
    "====",
    "2013-01-01",
    "2013-1-1",
    "2013-02-29",
    "0000-01-01",
    "0001-01-01",
    "9999-12-31",
    "20130101",
]
_ESCAPES = [r'"\u00e9"', r'"\ud83d\ude00"', r'"\ud800"', r'"\udc00\ud800"', r'"\u0000"', r'"\q"']
_ZONES = ["", "Z", "z", "+00:00", "-00:00", "+01", "-0130", "+23:59", "+24:00", "+1", "+05:60"]

numbers = st.sampled_from(_ODD_NUMBERS) | st.integers().map(str) | st.floats().map(json.dumps)
timestamps = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["2013-01-01", "0000-12-31", "0001-01-01", "9999-12-31", "1969-12-31"]),
    st.sampled_from(["T", " ", "t", ""]),
    st.sampled_from(
        [
            *("10", "10:20", "10:20:30", "00:00:00.5", "23:59:59.999999", "23:59:59.9999999"),
            *("10:20:30.1234560", "10:20:30.", "24:00:00", "23:59:60", "1:2:3", "10:20:30,5", ""),
        ]
    ),
    st.sampled_from(_ZONES),
)
texts = (st.sampled_from(_TEXTS) | st.text(max_size=5) | timestamps).map(json.dumps)
tokens = st.one_of(
    numbers,
    texts,
    timestamps.map(json.dumps),
    st.sampled_from(_NOT_NUMBERS),
    st.sampled_from(_ESCAPES),
)


def right_tokens(kind: pa.DataType) -> st.SearchStrategy[str]:
    """Tokens of the kind that `kind` is written with, in and out of range."""
    types = pa.types
    if types.is_integer(kind):
        whole = st.integers(-(2**63), 2**63) | st.integers(-130, 130)
        return whole.map(str) | st.integers(-130, 130).map("{}.0".format) | numbers
    if types.is_floating(kind):
        return st.floats(allow_nan=False, allow_infinity=False).map(json.dumps) | numbers
    if types.is_decimal(kind):
        exact = st.decimals(-1200, 1200, places=2).map(str)
        return exact | exact.map(json.dumps) | numbers | numbers.map(json.dumps)
    if types.is_timestamp(kind):
        return timestamps.map(json.dumps)
    if types.is_date(kind):
        return st.dates().map(str).map(json.dumps)
    if types.is_boolean(kind):
        return st.sampled_from(["true", "false"])
    if types.is_binary(kind):
        return st.binary(max_size=4).map(lambda value: json.dumps(b64encode(value).decode()))
    if types.is_list(kind):
        items = right_tokens(kind.value_type) | st.just("null")
        return st.lists(items, max_size=3).map(lambda inner: f"[{','.join(inner)}]")
    if types.is_struct(kind):
        return objects(list(kind))
    return st.text(max_size=5).map(json.dumps)


@st.composite
def objects(draw: st.DrawFn, fields: list[pa.Field], *, odd: bool = False) -> str:
    """One JSON object of `fields`; `odd`: sometimes wrong values, unknown or repeated names."""
    members = []
    for field in draw(st.permutations(fields)) if odd else fields:
        presence = draw(st.integers(0, 9))
        if presence == 0:
            continue
        token = "null" if presence == 1 else draw(right_tokens(field.type))
        if odd and presence == 2:
            token = draw(tokens)
        members.append(f"{json.dumps(field.name)}:{token}")
    if odd and draw(st.integers(0, 9)) == 0:
        more = ['"other":1', '"other":{"a":[1]}', '"c0":null', '"c0":1', '"":0']
        members.append(draw(st.sampled_from(more)))
    return "{" + draw(st.sampled_from([",", ", ", " ,\t"])).join(members) + "}"


def kinds() -> st.SearchStrategy[pa.DataType]:
    leaf = st.sampled_from(LEAVES)
    return st.recursive(
        leaf,
        lambda inner: (
            st.builds(
                lambda kind, nullable: pa.list_(pa.field("element", kind, nullable=nullable)),
                inner,
                st.booleans(),
            )
            | st.lists(st.tuples(inner, st.booleans()), min_size=1, max_size=2).map(
                lambda found: pa.struct(
                    [pa.field(f"f{i}", kind, nullable=ok) for i, (kind, ok) in enumerate(found)]
                )
            )
        ),
        max_leaves=3,
    )


schemas = st.lists(st.tuples(kinds(), st.booleans()), min_size=1, max_size=3).map(
    lambda found: pa.schema(
        [pa.field(f"c{i}", kind, nullable=ok) for i, (kind, ok) in enumerate(found)]
    )
)
odd_lines = st.sampled_from(
    ["null", "1", "[]", '"x"', "{}", "", " ", "{", "}", '{"c0":1}{}', "{} null"]
)


def shown(table: pa.Table) -> str:
    """Every value with its sign and NaN, which `equals` does not tell apart."""
    table.validate(full=True)
    return repr((table.schema.to_string(), table.to_pylist()))


@given(st.data(), schemas)
@settings(max_examples=examples(125), deadline=None)
def test_a_block_read_quickly_is_what_the_exact_path_reads(
    data: st.DataObject, schema: pa.Schema
) -> None:
    rows = data.draw(st.lists(objects(list(schema), odd=data.draw(st.booleans())), max_size=4))

    quick = ColumnReader(schema).read("\n".join(rows).encode())

    if quick is not None:
        assert shown(quick) == shown(RowReader(schema).texts(rows))


@given(st.data(), schemas)
@settings(max_examples=examples(75), deadline=None)
def test_a_body_is_the_same_rows_or_the_same_refusal_with_and_without_the_quick_path(
    data: st.DataObject, schema: pa.Schema
) -> None:
    """Over line ends, empty lines, byte order marks, cuts between blocks, and broken lines."""
    line = objects(list(schema)) | objects(list(schema), odd=True) | odd_lines
    lines = data.draw(st.lists(line, max_size=6))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\n\n", " \n\t"]))
    mark = data.draw(st.sampled_from(["", "\ufeff"]))
    body = (mark + end.join(lines) + data.draw(st.sampled_from(["", end]))).encode()
    block_bytes = data.draw(st.sampled_from([1, 20, 1000]))

    drops = data.draw(st.booleans())

    def reader(small_bytes: int, block_bytes: int) -> JsonReader:
        return JsonReader(
            schema,
            name="t",
            rows_max=100,
            small_bytes=small_bytes,
            block_bytes=block_bytes,
            drops=drops,
        )

    quick, exact = reader(0, block_bytes), reader(10**9, 1000)

    assert outcome(quick, body) == outcome(exact, body)


def outcome(reader: JsonReader, body: bytes) -> str:
    dropped = Dropped()
    try:
        return shown(reader.lines(body, dropped=dropped)) + repr(dropped.rows)
    except UsageError as error:
        return repr((type(error).__name__, error.facts))


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        (pa.int64(), ["9007199254740993", "1.0"]),
        (pa.int64(), ["123456789012345e3", "1.0"]),
        (pa.int64(), ["9223372036854775807", "1.0"]),
        (pa.int8(), ["1.00000000000000000001", "1.0"]),
        (pa.int8(), ["1e-400", "1.0"]),
        (pa.int32(), ["100000000.00000001", "1.0"]),
        (pa.decimal128(38, 38), ["4"]),
        (pa.decimal128(38, 38), ["1e37"]),
        (pa.float32(), ["1e39"]),
        (pa.float64(), ["-0"]),
    ],
)
def test_numbers_that_a_quick_reading_would_change_are_left_to_the_exact_path(
    kind: pa.DataType, tokens: list[str]
) -> None:
    schema = pa.schema([("c0", kind)])
    rows = [f'{{"c0":{token}}}' for token in tokens]
    one = JsonReader(schema, name="t", rows_max=100, small_bytes=0)
    other = JsonReader(schema, name="t", rows_max=100, small_bytes=10**9)
    body = "\n".join(rows).encode()

    assert outcome(one, body) == outcome(other, body)


@pytest.mark.parametrize(
    "line",
    [
        '{"n":1,"x":0.5,"t":"N5E","at":"2026-01-02T03:04:05Z","l":[1,2]}',
        '{"n":1.0,"x":1,"t":null,"at":null,"l":null}',
        '{"n":-7,"x":1e-3,"t":"\\u00e9","at":"2026-01-02 03:04:05.123456+01:00","l":[]}',
    ],
)
def test_plain_rows_are_read_quickly(line: str) -> None:
    """Otherwise the two paths could agree because one is never taken."""
    schema = pa.schema(
        [
            ("n", pa.int32()),
            ("x", pa.float32()),
            ("t", pa.string()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("l", pa.list_(pa.int8())),
        ]
    )

    assert ColumnReader(schema).read(line.encode()) is not None
