"""Claims about declared schemas: what is accepted, and that conforming never changes a value."""

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.errors import SchemaMismatch, UsageError
from neuralake.schema import conform, declare, polars_schema

UTC = pa.timestamp("us", tz="UTC")
INNER = pa.struct([pa.field("x", pa.int64(), nullable=False), ("y", pa.string())])


def one(kind: pa.DataType, *, nullable: bool = True) -> pa.Schema:
    return pa.schema([pa.field("a", kind, nullable=nullable)])


def column(values: Any, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"a": pa.array(values, kind)})


def read_back(table: pa.Table) -> pa.Table:
    """`table` after it was written as Parquet; Arrow refuses some nulls that no row can see."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return pq.read_table(sink)


# Declaring


@pytest.mark.parametrize(
    ("written", "declared"),
    [
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.large_binary(), pa.binary()),
        (pa.binary_view(), pa.binary()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (pa.timestamp("us", tz="Etc/UTC"), UTC),
        (pa.timestamp("us", tz="+00:00"), UTC),
        (pa.bool_(), pa.bool_()),
        (pa.decimal128(38, 38), pa.decimal128(38, 38)),
        (pa.large_list(pa.large_string()), pa.list_(pa.string())),
        (pa.struct([("x", pa.list_(pa.string_view()))]), pa.struct([("x", pa.list_(pa.string()))])),
    ],
)
def test_layout_variants_become_the_plain_type(written: pa.DataType, declared: pa.DataType) -> None:
    assert declare(one(written)) == one(declared)


def test_nullability_is_kept_at_every_level() -> None:
    schema = pa.schema(
        [
            pa.field("a", pa.int8(), nullable=False),
            pa.field("b", pa.list_(pa.field("element", INNER, nullable=False))),
        ]
    )

    assert declare(schema).equals(schema)


def test_declaring_twice_changes_nothing() -> None:
    schema = declare(pa.schema([("a", pa.large_list(pa.dictionary(pa.int8(), pa.string())))]))

    assert declare(schema).equals(schema, check_metadata=True)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (pa.uint8(), "int16"),
        (pa.uint64(), "decimal128(20, 0)"),
        (pa.float16(), "float32"),
        (pa.timestamp("ns"), "timestamp('us')"),
        (pa.timestamp("us", tz="Europe/Berlin"), "column of its own"),
        (pa.date64(), "date32"),
        (pa.time32("s"), "int64 with the unit"),
        (pa.duration("us"), "int64 with the unit"),
        (pa.map_(pa.string(), pa.int32()), "list of structs"),
        (pa.decimal256(50, 2), "precision up to 38"),
        (pa.decimal128(5, -2), "scale from 0"),
        (pa.list_(pa.float32(), 3), "Use a list"),
        (pa.binary(16), "Use binary"),
        (pa.struct([]), "no empty struct"),
        (pa.null(), "Accepted:"),
    ],
)
def test_a_type_that_delta_cannot_hold_is_refused_with_one_that_it_can(
    kind: pa.DataType, advice: str
) -> None:
    for schema, path in [
        (one(kind), "a"),
        (one(pa.list_(kind)), "a[]"),
        (one(pa.struct([("x", kind)])), "a.x"),
    ]:
        with pytest.raises(UsageError) as caught:
            declare(schema)
        assert advice in caught.value.message
        assert caught.value.column == path


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a;b", "a{b", "a(b", "a\nb", "a\tb", "a=b"])
def test_a_name_that_parquet_and_delta_forbid_is_refused_at_every_level(name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits") as caught:
        declare(pa.schema([(name, pa.int8())]))
    assert caught.value.column == name
    with pytest.raises(UsageError) as caught:
        declare(one(pa.struct([(name, pa.int8())])))
    assert caught.value.column == f"a.{name}"


def test_names_that_differ_only_in_case_are_refused() -> None:
    with pytest.raises(UsageError, match="'Time' and 'time'"):
        declare(pa.schema([("Time", pa.int8()), ("time", pa.int8())]))
    with pytest.raises(UsageError, match=r"'a\.X' and 'a\.x'"):
        declare(one(pa.struct([("X", pa.int8()), ("x", pa.int8())])))


def test_a_schema_needs_a_column() -> None:
    with pytest.raises(UsageError, match="at least one"):
        declare(pa.schema([]))


def test_the_polars_schema_is_what_a_frame_of_it_has() -> None:
    schema = pa.schema([("a", pa.string()), ("b", UTC), ("c", pa.list_(pa.decimal128(9, 2)))])

    expected = [
        ("a", pl.String()),
        ("b", pl.Datetime("us", "UTC")),
        ("c", pl.List(pl.Decimal(9, 2))),
    ]
    assert polars_schema(schema) == pl.Schema(expected)


# Conforming: what comes out


def test_columns_come_out_in_the_declared_order_and_missing_ones_are_null() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.bool_()), ("c", INNER)])

    out = conform(pa.table({"b": [True, None], "a": [1, 2]}), schema)

    assert out.schema.equals(schema)
    assert out.to_pylist() == [{"a": 1, "b": True, "c": None}, {"a": 2, "b": None, "c": None}]


def test_metadata_of_the_batch_is_left_behind() -> None:
    table = column([1], pa.int64()).replace_schema_metadata({"pandas": "{}"})

    assert conform(table, one(pa.int64())).schema.metadata is None


@pytest.mark.parametrize(
    ("found", "wanted", "values"),
    [
        (pa.int8(), pa.int64(), [1, None, -128]),
        (pa.uint64(), pa.int8(), [127]),
        (pa.int64(), pa.float64(), [2**53, -3]),
        (pa.float16(), pa.float32(), [1.5, None]),
        (pa.float32(), pa.float64(), [0.5, float("inf")]),
        (pa.int64(), pa.decimal128(5, 2), [999, None, -1]),
        (pa.list_(pa.int64()), pa.list_(pa.decimal128(5, 2)), [[999, None], None, []]),
        (pa.decimal128(5, 2), pa.decimal128(9, 4), [Decimal("1.25")]),
        (pa.decimal256(50, 2), pa.decimal128(9, 4), [Decimal("1.25")]),
        (pa.string_view(), pa.string(), ["ä", None, ""]),
        (pa.binary(2), pa.binary(), [b"ab", None]),
        (pa.date64(), pa.date32(), [dt.date(1969, 12, 31)]),
        (pa.timestamp("s"), pa.timestamp("us"), [dt.datetime(1960, 1, 1)]),
        (pa.list_(pa.int8(), 2), pa.list_(pa.int16()), [[1, 2], None]),
        (pa.large_list(pa.int8()), pa.list_(pa.int16()), [[1, 2], [], None]),
        (pa.list_view(pa.int8()), pa.list_(pa.int16()), [[1, 2], [], None]),
        (pa.null(), pa.struct([("x", pa.int8())]), [None, None]),
        (pa.struct([("y", pa.string()), ("x", pa.int8())]), INNER, [{"x": 1, "y": "b"}, None]),
    ],
)
def test_what_fits_exactly_is_cast(
    found: pa.DataType, wanted: pa.DataType, values: list[Any]
) -> None:
    out = conform(column(values, found), one(wanted))

    assert out.schema.equals(one(wanted))
    assert out["a"].to_pylist() == values
    out.validate(full=True)


def test_a_dictionary_is_read_as_its_values() -> None:
    table = pa.table({"a": pa.array(["x", None, "x"]).dictionary_encode()})

    assert conform(table, one(pa.string()))["a"].to_pylist() == ["x", None, "x"]


def test_an_instant_keeps_its_moment_in_any_zone() -> None:
    there = dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))

    out = conform(column([there], pa.timestamp("ms", tz="+02:00")), one(UTC))

    assert out["a"].to_pylist() == [dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC)]


def test_no_rows_conform_in_any_number_of_chunks() -> None:
    empty = pa.table({"a": pa.chunked_array([], pa.int8()), "b": pa.chunked_array([[], []], INNER)})
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", INNER)])

    assert conform(empty, schema).num_rows == 0
    assert conform(schema.empty_table(), schema).num_rows == 0


def test_a_slice_of_chunks_conforms_like_the_whole() -> None:
    rows: list[Any] = [{"x": i, "y": None} if i % 3 else None for i in range(20)]
    whole = pa.chunked_array([pa.array(rows[:7]), pa.array(rows[7:], type=pa.array(rows).type)])
    lists = pa.chunked_array([[[row] for row in rows]])
    table = pa.table({"a": whole, "b": lists}).slice(5, 10)
    schema = pa.schema([("a", INNER), ("b", pa.list_(pa.field("element", INNER)))])

    out = conform(table, schema)

    assert out["a"].to_pylist() == rows[5:15]
    assert out["b"].to_pylist() == [[row] for row in rows[5:15]]
    out.validate(full=True)


def test_values_that_no_row_refers_to_are_not_looked_at() -> None:
    """Arrow leaves what lies under a null undefined; it is no reason to refuse the row."""
    undefined = pa.array([2**40, 1])
    mask = pa.array([True, False])
    table = pa.table(
        {
            "a": pa.StructArray.from_arrays([undefined], names=["x"], mask=mask),
            "b": pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), undefined, mask=mask),
        }
    )
    schema = pa.schema([("a", pa.struct([("x", pa.int8())])), ("b", pa.list_(pa.int8()))])

    assert conform(table, schema).to_pylist() == [{"a": None, "b": None}, {"a": {"x": 1}, "b": [1]}]


# Conforming: what is refused


def test_an_unknown_column_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(SchemaMismatch, match="Did you mean 'channel'") as caught:
        conform(pa.table({"chanel": [1]}), pa.schema([("channel", pa.int64())]), name="spikes")

    assert (caught.value.column, caught.value.known) == ("chanel", ["channel"])
    assert "'spikes'" in caught.value.message


def test_a_column_that_comes_twice_is_refused() -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])

    with pytest.raises(SchemaMismatch, match="twice"):
        conform(twice, one(pa.int64()))


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (pa.float64(), pa.float32()),
        (pa.float64(), pa.int64()),
        (pa.string(), pa.int64()),
        (pa.int64(), pa.string()),
        (pa.int64(), pa.bool_()),
        (pa.bool_(), pa.int64()),
        (pa.binary(), pa.string()),
        (pa.int64(), pa.timestamp("us")),
        (pa.timestamp("us"), UTC),
        (UTC, pa.timestamp("us")),
        (pa.timestamp("us"), pa.date32()),
        (pa.decimal128(5, 0), pa.int64()),
        (pa.struct([("x", pa.int64()), ("z", pa.int64())]), INNER),
        (pa.struct([("y", pa.string())]), INNER),
        (pa.struct([("x", pa.int64()), ("x", pa.int64())]), INNER),
        (pa.int64(), INNER),
    ],
)
def test_a_type_that_could_change_values_is_refused_even_without_rows(
    found: pa.DataType, wanted: pa.DataType
) -> None:
    with pytest.raises(SchemaMismatch, match="Cast it before sending") as caught:
        conform(one(found).empty_table(), one(wanted))

    assert caught.value.column == "a"


@pytest.mark.parametrize(
    ("found", "wanted", "good", "bad"),
    [
        (pa.int64(), pa.int8(), 127, 128),
        (pa.uint64(), pa.int64(), 1, 2**63),
        (pa.int64(), pa.float32(), 2**24, 2**24 + 1),
        (pa.int64(), pa.decimal128(4, 2), 99, 100),
        (pa.decimal128(5, 2), pa.decimal128(5, 1), Decimal("1.50"), Decimal("1.55")),
        (pa.timestamp("ns"), pa.timestamp("us"), 1_000, 1_001),
        (pa.timestamp("s"), pa.timestamp("us"), 1, 2**60),
        (pa.list_(pa.int64()), pa.list_(pa.int8()), [127], [1, 128]),
        (pa.struct([("x", pa.uint64())]), INNER, {"x": 1}, {"x": 2**63}),
    ],
)
@pytest.mark.parametrize("row", [0, 1, 6, 7, 12])
def test_a_value_that_does_not_fit_is_told_by_column_and_row(
    found: pa.DataType, wanted: pa.DataType, good: Any, bad: Any, row: int
) -> None:
    """The first bad row is named, in whatever chunk it lies, and also if later ones are bad."""
    values = [good] * row + [bad] + [good] * (12 - row) + [bad]
    chunks = [pa.array(values[:7], found), pa.array(values[7:], found)]

    with pytest.raises(SchemaMismatch, match=f"row {row} does not fit") as caught:
        conform(pa.table({"a": pa.chunked_array(chunks)}), one(wanted))

    assert (caught.value.column, caught.value.row) == ("a", row)


def test_a_required_column_must_come_with_rows_but_need_not_without() -> None:
    schema = pa.schema([("a", pa.int64()), pa.field("b", pa.int64(), nullable=False)])

    assert conform(column([], pa.int64()), schema).num_rows == 0
    with pytest.raises(SchemaMismatch, match="'b' of 'table' is not nullable") as caught:
        conform(column([1], pa.int64()), schema)
    assert (caught.value.column, caught.value.row) == ("b", 0)


REQUIRED_ELEMENT = pa.list_(pa.field("element", pa.int64(), nullable=False))
REQUIRED_DEEP = pa.list_(pa.field("element", INNER))


@pytest.mark.parametrize("cast", [False, True])
@pytest.mark.parametrize(
    ("wanted", "loose", "good", "bad", "path"),
    [
        (pa.bool_(), pa.bool_(), True, None, "a"),
        (INNER, pa.struct([("x", pa.int8()), ("y", pa.string())]), {"x": 1}, {"x": None}, "a.x"),
        (REQUIRED_ELEMENT, pa.list_(pa.int8()), [1, 2], [1, None], "a[]"),
        (
            REQUIRED_DEEP,
            pa.list_(pa.struct([("x", pa.int8()), ("y", pa.string())])),
            [{"x": 1}, None],
            [None, {"x": 1}, {"x": None}],
            "a[].x",
        ),
    ],
)
def test_a_null_where_none_may_be_is_told_by_path_and_row(
    wanted: pa.DataType, loose: pa.DataType, good: Any, bad: Any, path: str, cast: bool
) -> None:
    """In columns, struct fields and list elements; in a batch of the very type or of a looser."""
    schema = one(wanted, nullable=path != "a")
    kind = loose if cast else wanted
    fine = [good] * 5 + ([None, good] if path != "a" else [])
    chunks = [pa.array(fine, kind), pa.array([good, bad, bad], kind)]

    conformed = conform(pa.table({"a": chunks[0]}, schema=one(kind)), schema)
    assert conformed.num_rows == len(fine)
    assert read_back(conformed).to_pylist() == conformed.to_pylist()
    with pytest.raises(SchemaMismatch, match="not nullable") as caught:
        conform(pa.table({"a": pa.chunked_array(chunks)}, schema=one(kind)), schema)

    assert (caught.value.column, caught.value.row) == (path, len(fine) + 1)


# For every batch

SCALARS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200),
    pa.uint8(): st.integers(0, 255),
    pa.uint64(): st.integers(0, 2**64 - 1) | st.integers(0, 200),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): st.text(max_size=3),
    pa.large_string(): st.text(max_size=3),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["x", "y"]),
    pa.binary(): st.binary(max_size=3),
    pa.binary(2): st.binary(min_size=2, max_size=2),
    pa.date32(): st.dates(),
    pa.date64(): st.dates(),
    pa.timestamp("s"): st.datetimes().map(lambda t: t.replace(microsecond=0)),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("ms", tz="+02:00"): st.datetimes(
        dt.datetime(1900, 1, 1),
        dt.datetime(2100, 1, 1),
        timezones=st.just(dt.UTC),
    ).map(lambda t: t.replace(microsecond=0)),
    UTC: st.datetimes(timezones=st.just(dt.UTC)),
    pa.decimal128(5, 2): st.decimals(-999, 999, places=2),
    pa.decimal128(20, 0): st.integers(-(10**20) + 1, 10**20 - 1).map(Decimal),
    pa.null(): st.none(),
}
DECLARABLE = [kind for kind in SCALARS if kind != pa.null()]
Typed = tuple[pa.DataType, st.SearchStrategy[Any]]


def nested(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def lists(typed: Typed) -> Typed:
        kind, values = typed
        return pa.list_(kind), st.lists(st.none() | values, max_size=3)

    def structs(fields: list[Typed]) -> Typed:
        names = "xyz"[: len(fields)]
        return (
            pa.struct([(name, kind) for name, (kind, _) in zip(names, fields, strict=True)]),
            st.fixed_dictionaries(
                {name: st.none() | values for name, (_, values) in zip(names, fields, strict=True)}
            ),
        )

    return inner.map(lists) | st.lists(inner, min_size=1, max_size=3).map(structs)


TYPED = st.recursive(st.sampled_from(list(SCALARS.items())), nested, max_leaves=4)


@st.composite
def requirements(draw: st.DrawFn, kind: pa.DataType) -> pa.DataType:
    """A type like `kind`, with some leaves of another type and some fields not nullable."""
    if pa.types.is_list(kind):
        inner = draw(requirements(kind.value_type))
        return pa.list_(pa.field("element", inner, nullable=draw(st.booleans())))
    if pa.types.is_struct(kind):
        return pa.struct(
            [
                pa.field(field.name, draw(requirements(field.type)), nullable=draw(st.booleans()))
                for field in draw(st.permutations(list(kind)))
            ]
        )
    return draw(st.sampled_from([pa.string() if kind == pa.null() else kind, *DECLARABLE]))


@given(data=st.data())
@settings(deadline=None, max_examples=examples(100))
def test_what_comes_out_equals_what_went_in_or_an_error_names_column_and_row(
    data: st.DataObject,
) -> None:
    kind, strategy = data.draw(TYPED)
    values = data.draw(st.lists(st.none() | strategy, max_size=6))
    try:
        schema = declare(one(data.draw(requirements(kind)), nullable=data.draw(st.booleans())))
    except UsageError:
        return
    cut = data.draw(st.integers(0, len(values)))
    chunks = [pa.array(values[:cut], kind), pa.array(values[cut:], kind)]
    table = pa.table({"a": pa.chunked_array(chunks, kind)})

    refusal: SchemaMismatch | None = None
    try:
        out = conform(table, schema)
    except SchemaMismatch as error:
        refusal = error
    if refusal is not None:
        assert refusal.column[0] == "a"
        assert "Cast it" in refusal.message or 0 <= refusal.row < len(values)
        return

    assert out.schema.equals(schema)
    assert out["a"].to_pylist() == values
    out.validate(full=True)
    if len(out):
        assert read_back(out)["a"].to_pylist() == values
    assert conform(out, schema).equals(out)
