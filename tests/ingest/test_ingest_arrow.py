"""Arrow bodies come from strangers: damaged, lying or swollen ones are refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from delta_tables import read_all
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_lake import arrow_stream

from neuralake.delta import TableLog, create_table
from neuralake.errors import NeuralakeError, SchemaMismatch, TooLarge, UsageError
from neuralake.records.arrow_body import ArrowReader
from neuralake.schema import declare

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
ROWS = pa.table({"id": [1, 2, 3], "text": ["a", "", None]}, schema=SCHEMA)


def reader(schema: pa.Schema = SCHEMA, *, rows_max: int = 10**6) -> ArrowReader:
    return ArrowReader(schema, name="t", rows_max=rows_max, bytes_max=10**6)


def test_layout_variants_become_the_declared_types() -> None:
    text = ROWS["text"]
    sent = [
        ROWS,
        ROWS.select(["text", "id"]),
        ROWS.set_column(1, "text", text.cast(pa.large_string())),
        ROWS.set_column(1, "text", text.dictionary_encode()),
        ROWS.set_column(1, "text", text.cast(pa.string_view())),
        ROWS.set_column(0, "id", ROWS["id"].cast(pa.int8())),
    ]

    assert all(reader().stream(arrow_stream(rows)) == ROWS for rows in sent)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_buffers_are_refused_before_they_are_expanded(codec: str) -> None:
    for rows in (ROWS, ROWS.set_column(1, "text", ROWS["text"].dictionary_encode())):
        with pytest.raises(UsageError, match="compress"):
            reader().stream(arrow_stream(rows, compression=codec))


def test_a_file_of_arrow_is_told_from_a_stream() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, ROWS.schema) as file:
        file.write_table(ROWS)

    with pytest.raises(UsageError, match=r"Arrow file \(Feather\); write the same as a stream"):
        reader().stream(sink.getvalue().to_pybytes())


def test_a_body_that_would_swell_is_measured_first() -> None:
    """Few bytes that stand for 10 MB, by a dictionary or by views of one text."""
    text = "x" * 10_000
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), [text])
    one = pa.array([text], pa.string_view()).buffers()
    views = pa.Array.from_buffers(
        pa.string_view(), 1000, [None, pa.py_buffer(one[1].to_pybytes()[:16] * 1000), one[2]]
    )

    for column in (dictionary, views):
        body = arrow_stream(pa.table({"text": column}))
        assert len(body) < 100_000
        with pytest.raises(TooLarge):
            reader().stream(body)


def test_list_views_are_refused() -> None:
    views = pa.array([[1]], pa.list_view(pa.int64()))

    with pytest.raises(SchemaMismatch, match="list views"):
        reader(pa.schema([("l", pa.list_(pa.int64()))])).stream(
            arrow_stream(pa.table({"l": views}))
        )


def test_an_unknown_column_or_type_is_named() -> None:
    with pytest.raises(SchemaMismatch, match="Did you mean 'text'"):
        reader().stream(arrow_stream(ROWS.rename_columns(["id", "txt"])))
    with pytest.raises(SchemaMismatch, match="'id'"):
        reader().stream(arrow_stream(pa.table({"id": ["1"]})))


def test_what_is_taken_can_be_written(tmp_path: Path) -> None:
    """Also a null that only hides below another; the rows are acknowledged before they are."""
    strict = pa.struct([("in", pa.struct([pa.field("x", pa.int8(), nullable=False)]))])
    loose = pa.struct([("in", pa.struct([("x", pa.int8())]))])
    values = [None, {"in": None}, {"in": {"x": 1}}]
    schema = pa.schema([("s", strict), ("l", pa.list_(pa.field("element", strict)))])
    sent = pa.table(
        {"s": pa.array(values, loose), "l": pa.array([None, values, []], pa.list_(loose))}
    )
    taken = reader(schema).stream(arrow_stream(sent))

    create_table(str(tmp_path / "t"), schema)
    TableLog.open(str(tmp_path / "t")).append(taken)
    assert read_all(str(tmp_path / "t")).to_pylist() == sent.to_pylist()


def test_a_null_below_a_struct_is_found() -> None:
    strict = pa.struct([pa.field("x", pa.int8(), nullable=False)])
    loose = pa.struct([pa.field("x", pa.int8())])
    sent = pa.table({"s": pa.array([{"x": 1}, {"x": None}], loose)})

    with pytest.raises(UsageError):
        reader(pa.schema([("s", strict)])).stream(arrow_stream(sent))


def test_an_instant_outside_of_the_calendar_is_refused() -> None:
    kind = pa.timestamp("us", tz="UTC")
    sent = pa.table({"at": pa.array([2**62], kind)})

    with pytest.raises(SchemaMismatch, match="years 1 to 9999"):
        reader(pa.schema([("at", kind)])).stream(arrow_stream(sent))


def nested(day_type: pa.DataType, *, nullable: bool) -> pa.Schema:
    element = pa.struct([pa.field("day", day_type, nullable=nullable)])
    return pa.schema([("l", pa.list_(pa.field("element", element)))])


def test_nested_values_are_checked_at_every_depth() -> None:
    strict = reader(nested(pa.date32(), nullable=False))
    loose = nested(pa.date32(), nullable=True)
    good = pa.table({"l": [[{"day": 1}, None], None, []]}, schema=loose)
    gap = pa.table({"l": [[{"day": None}]]}, schema=loose)
    late = pa.table({"l": [[{"day": 2**30}]]}, schema=loose)

    assert reader(loose).stream(arrow_stream(good)) == good
    with pytest.raises(UsageError):
        strict.stream(arrow_stream(gap))
    with pytest.raises(SchemaMismatch, match="years 1 to 9999") as caught:
        reader(loose).stream(arrow_stream(late))
    assert caught.value.column == "l[].day"


@given(st.data())
@settings(max_examples=examples(75), deadline=None)
def test_damaged_bytes_are_refused_or_read_as_valid_rows(data: st.DataObject) -> None:
    body = bytearray(arrow_stream(ROWS))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))

    try:
        rows = reader().stream(bytes(body[:cut] if data.draw(st.booleans()) else body))
    except NeuralakeError:
        return
    rows.validate(full=True)
    assert rows.schema == SCHEMA


def hostile_stream(*, metadata: dict[str, str]) -> bytes:
    """A batch whose numbers are in truth a compressed buffer, as Arrow 0.17 marked them."""
    swollen = pa.compress(bytes(8_000_000), codec="zstd", asbytes=True)
    buffer = (8_000_000).to_bytes(8, "little") + swollen + bytes(-len(swollen) % 8)
    ids = pa.Array.from_buffers(pa.int64(), len(buffer) // 8, [None, pa.py_buffer(buffer)])
    batch = pa.record_batch({"id": ids})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata=metadata)
    return bytes(sink.getvalue())


def test_compression_in_the_oldest_spelling_is_refused_too() -> None:
    with pytest.raises(UsageError, match="compress"):
        reader().stream(hostile_stream(metadata={"ARROW:experimental_compression": "zstd"}))


def test_a_stream_of_a_great_many_messages_is_refused_before_it_is_read() -> None:
    batch = pa.record_batch({"id": pa.array([], pa.int64())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(20_000):
            writer.write_batch(batch)

    with pytest.raises(TooLarge, match="messages"):
        reader().stream(bytes(sink.getvalue()))


def growing(times: int) -> bytes:
    """A stream whose dictionary gets one text more with each batch."""
    schema = pa.schema([("text", pa.dictionary(pa.int32(), pa.string()))])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for count in range(1, times + 2):
            texts = pa.array([str(number) for number in range(count)])
            last = pa.DictionaryArray.from_arrays(pa.array([count - 1], pa.int32()), texts)
            writer.write_batch(pa.record_batch([last], schema=schema))
    return bytes(sink.getvalue())


def test_dictionaries_may_grow_but_not_without_end() -> None:
    assert reader().stream(growing(10))["text"].to_pylist() == [str(n) for n in range(11)]
    with pytest.raises(TooLarge, match="deltas"):
        reader().stream(growing(100))


def test_the_error_for_a_name_of_megabytes_is_short() -> None:
    with pytest.raises(SchemaMismatch, match="no column") as caught:
        reader().stream(arrow_stream(pa.table({"x" * 3_000_000: [1]})))

    assert len(caught.value.message) < 1000
    assert len(caught.value.column) < 1000


WIDE = pa.schema([(f"c{number}", pa.int64()) for number in range(100)])
MANY = 2**31 - 1


def one_list(values: pa.Array) -> pa.Table:
    offsets = pa.array([0, len(values)], pa.int32())
    return pa.table({"l": pa.ListArray.from_arrays(offsets, values)})


@pytest.mark.parametrize(
    ("rows", "schema"),
    [
        (pa.table({"c0": pa.nulls(10**6)}), WIDE),
        (pa.table({"c0": pa.array([True]).take(pa.nulls(10**6, pa.int8()))}), WIDE),
        (one_list(pa.nulls(MANY)), pa.schema([("l", pa.list_(pa.int64()))])),
        (
            one_list(pa.Array.from_buffers(pa.binary(0), MANY, [None, pa.py_buffer(b"")])),
            pa.schema([("l", pa.list_(pa.binary()))]),
        ),
        (
            one_list(pa.Array.from_buffers(pa.struct([]), MANY, [None])),
            pa.schema([("l", pa.list_(pa.struct([("a", pa.int64())])))]),
        ),
    ],
    ids=["nulls", "missing columns", "list of nulls", "list of nothing", "list of empty structs"],
)
def test_what_has_no_bytes_is_measured_before_it_is_made(rows: pa.Table, schema: pa.Schema) -> None:
    """A few hundred bytes would become gigabytes."""
    found = ArrowReader(declare(schema), name="t", rows_max=10**6, bytes_max=2**29)

    with pytest.raises(TooLarge, match="stands for"):
        found.stream(arrow_stream(rows))


def test_a_small_body_stands_for_a_few_mib_at_most() -> None:
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), ["x" * 8000])
    body = arrow_stream(pa.table({"text": dictionary}))
    assert len(body) < 16_000

    with pytest.raises(TooLarge) as caught:
        ArrowReader(SCHEMA, name="t", rows_max=10**6, bytes_max=2**29).stream(body)

    assert caught.value.found == 8_000_000
    assert caught.value.limit <= 4 * 2**20


def test_only_what_surely_takes_little_time_is_light() -> None:
    """The others are not read on the event loop."""
    text, wide = ROWS["text"], reader(WIDE)

    assert reader().is_light(arrow_stream(ROWS))
    assert reader().is_light(b"no stream at all")
    assert not reader().is_light(arrow_stream(ROWS.set_column(1, "text", text.dictionary_encode())))
    assert not reader().is_light(
        arrow_stream(ROWS.set_column(1, "text", text.cast(pa.string_view())))
    )
    assert not wide.is_light(arrow_stream(pa.table({"c0": pa.nulls(10_000)})))
    assert not reader().is_light(arrow_stream(one_list(pa.nulls(1_000_000))))
    assert not reader().is_light(growing(20))
