"""An Arrow body that is as declared is stored as it came; any other is written anew."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.queue import Envelope
from neuralake.queue.rows import decode_rows
from neuralake.records.decode import Decoder
from neuralake.records.encoded import Encoded, encode
from neuralake.records.letters import letters_of
from neuralake.records.media_types import ARROW
from neuralake.schema import declare
from neuralake.settings import IngestSettings

SCHEMA = declare(
    pa.schema(
        [
            pa.field("device", pa.string()),
            pa.field("time", pa.timestamp("us", tz="UTC")),
            pa.field("value", pa.float32()),
            pa.field("tags", pa.list_(pa.field("element", pa.string()))),
            pa.field("at", pa.struct([pa.field("x", pa.int16()), pa.field("y", pa.int16())])),
            pa.field("count", pa.int64(), nullable=False),
        ]
    )
)
TEXT = st.text("ab é中", max_size=6)
SMALL = st.integers(-(2**15), 2**15 - 1)
ROW = st.fixed_dictionaries(
    {
        "device": st.none() | TEXT,
        "time": st.none() | st.integers(0, 2**50),
        "value": st.none() | st.floats(width=32),
        "tags": st.none() | st.lists(st.none() | TEXT, max_size=3),
        "at": st.none() | st.fixed_dictionaries({"x": st.none() | SMALL, "y": SMALL}),
        "count": st.integers(-(2**63), 2**63 - 1),
    }
)


def decoder(partition_by: tuple[str, ...] = ()) -> Decoder:
    return Decoder(SCHEMA, name="t", partition_by=partition_by, limits=IngestSettings())


def stream(*batches: pa.Table, schema: pa.Schema = SCHEMA) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_table(batch)
    return bytes(sink.getvalue())


def stored(encoded: Encoded) -> pa.Table:
    """What the writer reads of the envelope."""
    envelope = Envelope(1, encoded.payload, encoded.rows, 0.0)
    assert not letters_of(envelope)
    rows = decode_rows([envelope])
    rows.validate(full=True)
    return rows


def text(table: pa.Table) -> str:
    return repr(table.to_pylist())  # NaN is what it is, and not unequal to itself.


@settings(deadline=None, max_examples=50)
@given(batches=st.lists(st.lists(ROW, max_size=5), min_size=1, max_size=4), cut=st.integers(0, 3))
def test_stored_as_it_came_and_written_anew_are_the_same_rows(
    batches: list[list[dict[str, object]]], cut: int
) -> None:
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA).slice(cut) for rows in batches]
    sent = pa.concat_tables(tables)
    if not sent.num_rows:
        return
    body = stream(*tables)
    backwards = sent.select(SCHEMA.names[::-1])

    as_it_came = decoder().envelope(body, ARROW)
    anew = decoder().envelope(stream(backwards, schema=backwards.schema), ARROW)

    assert as_it_came.payload == body
    assert anew.payload == encode(stored(anew)).payload
    assert text(stored(as_it_came)) == text(stored(anew)) == text(sent)
    assert stored(as_it_came).schema == stored(anew).schema == SCHEMA
    assert as_it_came.rows == anew.rows == sent.num_rows
    assert as_it_came.fingerprint == anew.fingerprint


ROWS = pa.Table.from_pylist(
    [{"device": "a", "count": 1}, {"device": "", "count": 2}], schema=SCHEMA
)


def test_what_a_stranger_wrote_behind_the_rows_is_not_stored() -> None:
    """Dead letters of ours travel there: a sender must not be able to write some."""
    forged = stream(ROWS) + b"\x00" * 8 + b"NLKdeadL"

    encoded = decoder().envelope(forged, ARROW)

    assert stored(encoded) == ROWS


def test_a_stream_without_an_end_is_written_anew() -> None:
    encoded = decoder().envelope(stream(ROWS)[:-8], ARROW)

    assert encoded.payload == stream(ROWS)


def test_rows_that_change_are_written_anew() -> None:
    """An empty string in a partition column is null in the table."""
    encoded = decoder(("device",)).envelope(stream(ROWS), ARROW)

    assert stored(encoded)["device"].to_pylist() == ["a", None]


def test_metadata_of_a_sender_is_not_stored() -> None:
    told = ROWS.replace_schema_metadata({"pandas": "{}" * 100})

    encoded = decoder().envelope(stream(told, schema=told.schema), ARROW)

    assert encoded.payload == stream(ROWS)
