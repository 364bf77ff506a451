"""Messages are read thousands at once, and what comes out is what one by one would give."""

from __future__ import annotations

import json

import dataframely as dy
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sent_messages import Sent

from neuralake.errors import UsageError
from neuralake.records.messages import Column, MessageReader
from neuralake.records.rules import Rules
from neuralake.tables import KafkaTopic, Stream

SCHEMA = pa.schema(
    [("id", pa.int64()), ("name", pa.string()), pa.field("count", pa.int32(), nullable=True)]
)


def reader(format_: str = "json", schema: pa.Schema = SCHEMA, **more: object) -> MessageReader:
    given = {"name": "lab.events", "partition_by": (), "rows_max": 1000}
    return MessageReader(schema, format=format_, **(given | more))  # type: ignore[arg-type]


def row(number: int, **more: object) -> bytes:
    return json.dumps({"id": number, "name": f"n{number}", **more}).encode()


def ids(table: pa.Table) -> list[int]:
    found: list[int] = table["id"].to_pylist()
    return found


def test_a_poison_message_is_rejected_with_its_place_and_reason_and_the_others_are_rows() -> None:
    sent = [row(i) for i in range(100)]
    sent[3], sent[50], sent[51] = b"not json", b'{"id": "x"}', row(51, count=2**40)

    found = reader().read(Sent(sent))

    assert ids(found.rows) == [i for i in range(100) if i not in (3, 50, 51)]
    assert [(one.position, one.value) for one in found.rejected] == [
        (40, b"not json"),
        (510, b'{"id": "x"}'),
        (520, sent[51]),
    ]
    assert [one.column for one in found.rejected] == [None, "id", "count"]
    assert "range" in found.rejected[2].reason


def test_tombstones_are_counted_and_an_empty_value_is_no_tombstone() -> None:
    found = reader().read(Sent([None, row(1), None, b""]))

    assert ids(found.rows) == [1]
    assert found.tombstones == 2
    assert [one.position for one in found.rejected] == [40]


def test_messages_that_are_json_only_together_are_all_rejected() -> None:
    """As many rows as messages come out of the joined text, none of them from a message."""
    sent = [b'{"id": 1, "name": "a"', b', "count": 2}', row(3) + b"\n" + row(4)]

    found = reader().read(Sent(sent))

    assert ids(found.rows) == []
    assert [one.value for one in found.rejected] == sent


PIECES = st.one_of(
    st.builds(row, st.integers(-5, 5)),
    st.sampled_from(
        [
            b"",
            b" ",
            b"{",
            b"}",
            b"{}",
            b"\n",
            b'{"id": 1',
            b'"name": "a"}',
            b'{"id": 1, "name": "}',
            b'{"}',
            b"[" + row(1) + b"," + row(2) + b"]",
            b"[]",
            row(1) + row(2),
            row(1) + b"\n",
            b"\xef\xbb\xbf" + row(7),
            b'{"id": 1}\n{"id": 2}',
            b'{"a": {"id": 1}',
            b"\xff",
            b"null",
        ]
    ),
    st.none(),
)


@pytest.mark.parametrize("format_", ["json", "ndjson"])
@settings(max_examples=examples(100), deadline=None)
@given(sent=st.lists(PIECES, max_size=12))
def test_together_gives_what_one_by_one_gives(format_: str, sent: list[bytes | None]) -> None:
    reading = reader(format_)
    together = reading.read(Sent(sent))
    alone = [reading.read(Sent([value])) for value in sent]

    assert together.rows.to_pylist() == [row for one in alone for row in one.rows.to_pylist()]
    assert [one.value for one in together.rejected] == [
        rejected.value for one in alone for rejected in one.rejected
    ]
    assert together.tombstones == sum(one.tombstones for one in alone)


def test_an_array_gives_its_objects_and_ndjson_its_lines() -> None:
    array = b"[" + row(1) + b"," + row(2) + b"]"
    lines = row(1) + b"\n" + row(2)

    assert ids(reader("json").read(Sent([array, row(3)])).rows) == [1, 2, 3]
    assert ids(reader("ndjson").read(Sent([lines, row(3)])).rows) == [1, 2, 3]
    assert len(reader("json").read(Sent([lines])).rejected) == 1


def test_arrow_messages_are_rows_and_a_damaged_one_is_rejected() -> None:
    def stream(*numbers: int) -> bytes:
        rows = pa.table({"id": numbers, "name": ["n"] * len(numbers)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        return bytes(sink.getvalue())

    found = reader("arrow").read(Sent([stream(1, 2), stream(3)[:60], stream(4)]))

    assert ids(found.rows) == [1, 2, 4]
    assert [one.position for one in found.rejected] == [20]


def test_key_time_and_headers_come_to_their_columns_for_every_row_of_a_message() -> None:
    wide = pa.schema(
        [
            ("device", pa.string()),
            ("id", pa.int64()),
            ("name", pa.string()),
            ("sent", pa.timestamp("us", tz="UTC")),
            ("trace", pa.binary()),
        ]
    )
    columns = [
        Column("device", "key"),
        Column("sent", "timestamp"),
        Column("trace", "header", "trace-id"),
    ]
    sent = Sent(
        [row(1), b"[" + row(2) + b"," + row(3) + b"]", row(4)],
        [b"a", b"b", b"\xff"],
        [[("trace-id", b"1"), ("trace-id", b"2")], [], [("other", b"3")]],
    )

    found = reader("json", wide, columns=columns).read(sent)

    assert found.rows["device"].to_pylist() == ["a", "b", "b"]
    assert ids(found.rows) == [1, 2, 3]
    assert found.rows["trace"].to_pylist() == [b"2", None, None]
    assert [time.timestamp() for time in found.rows["sent"].to_pylist()] == [
        pytest.approx(1_700_000_000 + ms / 1000) for ms in (0, 1, 1)
    ]
    (rejected,) = found.rejected
    assert (rejected.position, rejected.column) == (30, "device")


def test_a_message_without_a_value_for_a_column_that_needs_one_is_rejected() -> None:
    strict = pa.schema([pa.field("device", pa.string(), nullable=False), ("id", pa.int64())])
    found = reader("json", strict, columns=[Column("device", "key")]).read(
        Sent([b'{"id": 1}', b'{"id": 2}'], [b"a", None])
    )

    assert ids(found.rows) == [1]
    assert "nullable" in found.rejected[0].reason


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: KafkaTopic("a b"), "letters"),
        (lambda: KafkaTopic("a", "xml"), "json, ndjson"),
        (lambda: Stream(kafka="events"), "KafkaTopic"),  # type: ignore[arg-type]
        (lambda: KafkaTopic("a", key="nope").check(SCHEMA), "not a column"),
        (lambda: KafkaTopic("a", key="id").check(SCHEMA), "text or binary"),
        (lambda: KafkaTopic("a", timestamp="id").check(SCHEMA), "a timestamp"),
        (lambda: KafkaTopic("a", key="name", headers={"name": "h"}).check(SCHEMA), "twice"),
    ],
)
def test_a_definition_that_cannot_be_meant_is_refused(make: object, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        make()  # type: ignore[operator]


def test_of_a_message_with_several_rows_those_that_fit_are_kept_where_the_table_says_so() -> None:
    array = b'[{"id": 1}, {"id": "x"}, {"id": 3}]'
    lines = b'{"id": 4}\n{"id": \n{"id": 6}'

    kept = reader(keeps_rows=True).read(Sent([array, row(9), b"7"]))
    of_lines = reader("ndjson", keeps_rows=True).read(Sent([lines]))
    whole = reader().read(Sent([array]))

    assert ids(kept.rows) == [1, 3, 9]
    assert [(one.position, one.row, one.value) for one in kept.rejected] == [
        (10, 1, b'{"id": "x"}'),
        (30, None, b"7"),
    ]
    assert ids(of_lines.rows) == [4, 6]
    assert [(one.row, one.value) for one in of_lines.rejected] == [(1, b'{"id":')]
    assert [(one.row, one.value) for one in whole.rejected] == [(None, array)]


def test_a_letter_keeps_what_came_beside_the_value() -> None:
    schema = pa.schema([("id", pa.int64()), ("device", pa.string()), ("tag", pa.binary())])
    columns = [Column("device", "key"), Column("tag", "header", "t")]
    sent = Sent([b'[{"id": 1}, {}, 2]'], key=[b"rig-7"], tags=[[("t", b"\x00"), ("other", b"x")]])

    found = reader(schema=schema, columns=columns, keeps_rows=True).read(sent)

    assert found.rows.to_pylist() == [
        {"id": 1, "device": "rig-7", "tag": b"\x00"},
        {"id": None, "device": "rig-7", "tag": b"\x00"},
    ]
    (letter,) = found.rejected
    assert json.loads(letter.attached or "") == {"key": "cmlnLTc=", "header": {"t": "AA=="}}


def test_a_message_with_too_many_rows_that_do_not_fit_is_one_letter() -> None:
    array = b"[" + b",".join([b'{"id": 1}', *[b"0"] * 6]) + b"]"

    found = reader(keeps_rows=True, letters_max=5).read(Sent([array]))

    assert ids(found.rows) == []
    assert [(one.row, one.value) for one in found.rejected] == [(None, array)]


@pytest.mark.parametrize("first", [row(0), b'{"id": "x"}'])
@pytest.mark.parametrize("format_", ["json", "ndjson"])
@pytest.mark.parametrize("limits", [{"rows_max": 4500}, {"rows_max": 9000, "cells_max": 14_000}])
def test_a_message_with_too_many_rows_is_one_letter_though_parts_of_it_would_fit(
    format_: str, first: bytes, limits: dict[str, int]
) -> None:
    rows = [first, *(row(number) for number in range(1, 5000))]
    sent = b"[" + b",".join(rows) + b"]" if format_ == "json" else b"\n".join(rows)

    found = reader(format_, keeps_rows=True, **limits).read(Sent([sent, row(9)]))

    assert ids(found.rows) == [9]
    assert [letter.value for letter in found.rejected] == [sent]


@pytest.mark.parametrize("on_invalid", ["reject", "dead_letter"])
def test_what_is_left_out_is_counted_once_whatever_else_is_in_the_batch(on_invalid: str) -> None:
    """Together, in halves, and one by one: a poison message makes all of it be read again."""
    sent: list[bytes | None] = [row(i, more=1) for i in range(100)]
    sent[3], sent[7], sent[50] = b"not json", None, row(50, more=1, other=[2])
    array = b"[" + row(100, more=1) + b', {"id": "x", "more": 1}]'

    drops = reader(drops=True, keeps_rows=on_invalid == "dead_letter")
    found = drops.read(Sent([*sent, array]))

    kept = 1 if on_invalid == "dead_letter" else 0
    assert found.rows.num_rows == 98 + kept
    assert found.dropped.rows == {"more": 98 + kept, "other": 1}
    assert found.dropped.values == 99 + kept


def test_what_is_left_out_of_a_message_that_breaks_a_rule_is_counted_once() -> None:
    class Small(dy.Schema):
        id = dy.Int64(nullable=True, max=4)
        name = dy.String(nullable=True)
        count = dy.Int32(nullable=True)

    rules = Rules(Small, SCHEMA, name="lab.events")
    sent: list[bytes | None] = [row(i, more=1) for i in range(10)]

    found = reader(drops=True, keeps_rows=True, rules=rules).read(Sent(sent))

    assert ids(found.rows) == list(range(5))
    assert found.dropped.rows == {"more": 10}
