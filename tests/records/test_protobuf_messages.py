"""Protobuf messages mean what the same values in JSON mean; what is none of them is rejected."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from examples import examples
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import given, settings
from hypothesis import strategies as st
from protobuf_types import class_of, framed, proto_file, proto_set
from sent_messages import Sent

import neuralake as nl
from neuralake.errors import NeedsAttention, Unavailable, UsageError
from neuralake.queue.kafka_registry import RegisteredSchema
from neuralake.records.envelopes import message_reader_of
from neuralake.records.json_body import JsonReader
from neuralake.records.messages import MessageReader
from neuralake.records.protobuf_message import ProtobufReader
from neuralake.settings import KafkaSettings, Settings

FIELDS = {
    "id": "int64",
    "name": "optional string",
    "value": "double",
    "small": "float",
    "time": ".google.protobuf.Timestamp",
    "raw": "bytes",
    "state": ".lab.State",
    "tags": "repeated string",
    "place": ".lab.Place",
    "path": "repeated .lab.Place",
    "gains": "map<string, double>",
    "limit": ".google.protobuf.Int64Value",
    "good": "bool",
}
FILE = proto_file(
    {"Place": {"x": "sint32", "label": "string"}, "Event": FIELDS}, enums={"State": ["OFF", "ON"]}
)
Event = class_of(FILE, "lab.Event")
PLACE = pa.struct([("x", pa.int32()), ("label", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("value", pa.float64()),
        ("small", pa.float32()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("raw", pa.binary()),
        ("state", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("place", PLACE),
        ("path", pa.list_(PLACE)),
        ("gains", pa.list_(pa.struct([("key", pa.string()), ("value", pa.float64())]))),
        ("limit", pa.int64()),
        ("good", pa.bool_()),
    ]
)
BARE: dict[str, Any] = {
    "id": 0,
    "name": None,
    "value": 0.0,
    "small": 0.0,
    "time": None,
    "raw": b"",
    "state": "OFF",
    "tags": [],
    "place": None,
    "path": [],
    "gains": [],
    "limit": None,
    "good": False,
}


def reader(
    record: ProtobufReader, schema: pa.Schema = SCHEMA, *, drops: bool = False
) -> MessageReader:
    return MessageReader(
        schema,
        name="lab.events",
        partition_by=(),
        format="protobuf",
        rows_max=1000,
        record=record,
        drops=drops,
    )


def of_file(
    folder: Path,
    file: FileDescriptorProto = FILE,
    message: str = "lab.Event",
    *,
    is_framed: bool = False,
) -> ProtobufReader:
    path = folder / "events.desc"
    path.write_bytes(proto_set(file))
    return ProtobufReader(message, file=path, framed=is_framed)


def of_registry(
    schemas: dict[int, FileDescriptorProto], message: str = "lab.Event"
) -> ProtobufReader:
    def schema_of(number: int) -> RegisteredSchema:
        if number not in schemas:
            raise UsageError("unknown", reason=f"no schema {number}")
        return RegisteredSchema(base64.b64encode(schemas[number].SerializeToString()).decode())

    return ProtobufReader(message, schema_of=schema_of)


def full() -> tuple[Any, dict[str, Any]]:
    message = Event(
        id=2**63 - 1,
        name="",
        value=float("inf"),
        small=0.1,
        raw=b"\x00\xff",
        state=1,
        tags=["a", "b"],
        place={"x": -3, "label": "left"},
        path=[{"x": 1}, {"label": "z"}],
        gains={"b": 2.0, "a": 0.1},
        good=True,
    )
    message.time.FromJsonString("2026-01-01T10:00:00.123456Z")
    message.limit.value = 0
    return message, {
        "id": 2**63 - 1,
        "name": "",
        "value": float("inf"),
        "small": pa.scalar(0.1, pa.float32()).as_py(),
        "time": datetime(2026, 1, 1, 10, 0, 0, 123456, UTC),
        "raw": b"\x00\xff",
        "state": "ON",
        "tags": ["a", "b"],
        "place": {"x": -3, "label": "left"},
        "path": [{"x": 1, "label": ""}, {"x": 0, "label": "z"}],
        "gains": [{"key": "a", "value": 0.1}, {"key": "b", "value": 2.0}],
        "limit": 0,
        "good": True,
    }


def test_a_message_becomes_the_row_that_its_values_say(tmp_path: Path) -> None:
    """Not set: null if that can be seen, else the default; as nobody can tell the two apart."""
    message, row = full()

    found = reader(of_file(tmp_path)).read(Sent([message.SerializeToString(), b""]))

    assert found.rejected == []
    assert found.rows.to_pylist() == [row, BARE]


@settings(max_examples=examples(20), deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.integers(-(2**63), 2**63 - 1),
            "name": st.text(),
            "value": st.floats(allow_nan=False),
            "small": st.floats(width=32, allow_nan=False),
            "raw": st.binary(),
            "tags": st.lists(st.text(), max_size=4),
            "place": st.fixed_dictionaries(
                {"x": st.integers(-(2**31), 2**31 - 1), "label": st.text()}
            ),
            "gains": st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=4),
            "good": st.booleans(),
        },
    )
)
def test_every_value_comes_back(given_: dict[str, Any]) -> None:
    found = reader(of_registry({1: FILE})).read(
        Sent([framed(Event(**given_).SerializeToString(), 1, 1)])
    )
    if "gains" in given_:
        pairs = sorted(given_["gains"].items())
        given_ = given_ | {"gains": [{"key": key, "value": value} for key, value in pairs]}

    assert found.rejected == []
    assert found.rows.to_pylist() == [BARE | given_]


def test_values_of_every_kind_mean_what_they_mean_in_json(tmp_path: Path) -> None:
    """The number of a state that has no name is a number, and times finer than ours are refused."""
    file = proto_file(
        {
            "Event": {
                "state": ".lab.State",
                "time": ".google.protobuf.Timestamp",
                "note": ".google.protobuf.Struct",
                "large": "uint64",
            }
        },
        enums={"State": ["OFF"]},
    )
    kind = class_of(file, "lab.Event")
    note = pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string())), ("c", pa.string())])
    schema = pa.schema(
        [
            ("state", pa.string()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("note", note),
            ("large", pa.int64()),
        ]
    )
    good = kind(note={"a": 7, "b": ["x"], "c": None}, time={"seconds": -62135596800})
    bad = {
        "state": kind(state=5),
        "time": kind(time={"nanos": 1}),
        "large": kind(large=2**63),
        None: kind(time={"seconds": 253402300800}),
    }
    sent = [each.SerializeToString() for each in (good, *bad.values())]

    found = reader(of_file(tmp_path, file), schema).read(Sent(sent))

    assert found.rows.to_pylist() == [
        {
            "state": "OFF",
            "time": datetime(1, 1, 1, tzinfo=UTC),
            "note": {"a": 7, "b": ["x"], "c": None},
            "large": 0,
        }
    ]
    assert [one.column for one in found.rejected] == list(bad)
    by_json = JsonReader(schema, name="lab.events", rows_max=9)
    assert (
        by_json.document(b'{"state": "OFF", "note": {"a": 7, "b": ["x"]}}')["note"]
        == found.rows["note"]
    )


def test_what_the_descriptors_or_the_table_do_not_know_is_an_unknown_column(
    tmp_path: Path,
) -> None:
    """A newer producer's field is refused or left out as the table says, not lost unseen."""
    newer = class_of(
        proto_file({"Event": {"id": "int64", "extra": "optional int64", "more": "int64"}}),
        "lab.Event",
    )
    ours = proto_file({"Event": {"id": "int64", "extra": "optional int64"}})
    schema = pa.schema([("id", pa.int64())])
    sent = Sent(
        [each.SerializeToString() for each in (newer(id=1), newer(id=2, more=1), newer(extra=0))]
    )

    found = reader(of_file(tmp_path, ours), schema).read(sent)
    dropped = reader(of_file(tmp_path, ours), schema, drops=True).read(sent)

    assert found.rows["id"].to_pylist() == [1]
    assert "field 3" in f"{found.rejected[0].column} {found.rejected[0].reason}"
    assert found.rejected[1].column == "extra"
    assert dropped.rows["id"].to_pylist() == [1, 2, 0]


def test_a_frame_says_which_schema_and_type_a_message_has(tmp_path: Path) -> None:
    """With a registry each version is read by its own schema; with a file the id is not asked."""
    newer = proto_file({"Event": {"name": "string", "id": "int64"}})
    body = Event(id=7).SerializeToString()
    schema = pa.schema([("id", pa.int64()), ("name", pa.string())])
    old = proto_file({"Place": {"x": "int32"}, "Event": {"id": "int64", "name": "optional string"}})
    schemas = {
        1: (1, class_of(old, "lab.Event")(id=7).SerializeToString()),
        2: (0, class_of(newer, "lab.Event")(id=8, name="n").SerializeToString()),
    }
    sent = [framed(body, number, index) for number, (index, body) in schemas.items()]

    found = reader(of_registry({1: old, 2: newer}), schema).read(Sent(sent * 2))
    by_file = reader(of_file(tmp_path, is_framed=True)).read(Sent([framed(body, 999, 1)]))

    assert found.rejected == []
    assert found.rows.to_pylist() == [{"id": 7, "name": None}, {"id": 8, "name": "n"}] * 2
    assert by_file.rows["id"].to_pylist() == [7]


def test_what_is_no_such_message_is_rejected_and_the_others_are_rows() -> None:
    body = full()[0].SerializeToString()
    whole = framed(body, 1, 1)
    bad = {
        b"": "begin with 0",
        b"{}": "begin with 0",
        b"\0\0\0\0\1": "begin with 0",
        b"\1" + whole[1:]: "begin with 0",
        framed(body, 9, 1): "no schema 9",
        framed(body, 2, 1): "schema 2 is not understood",
        framed(body, 1, 0): "it is lab.Place",
        framed(body, 1, 5): "unknown type",
        framed(body, 1, 1, 0, 0, 9): "unknown type",
        framed(b"", 1, 1)[:5] + b"\xff\xff\xff\xff\xff\xff": "indexes are damaged",
        framed(b"", 1, 1)[:5] + b"\xfe\xff\x03": "message indexes",
        framed(b"", 1, 1)[:5] + b"\x03\x02": "indexes are damaged",
        whole[:-1]: "not a lab.Event",
        whole + b"\x0b": "not a lab.Event",
    }
    broken = FileDescriptorProto(name="a.proto", dependency=["missing.proto"])

    found = reader(of_registry({1: FILE, 2: broken})).read(Sent([whole, *bad, whole]))

    assert found.rows.num_rows == 2
    assert [one.value for one in found.rejected] == list(bad)
    for one, reason in zip(found.rejected, bad.values(), strict=True):
        assert reason in one.reason


def test_messages_that_grow_without_end_are_rejected(tmp_path: Path) -> None:
    """Nesting has a limit, and so have the values that two bytes may stand for."""
    wide = {f"field_{number}": "int64" for number in range(100)}
    file = proto_file(
        {"Wide": wide, "Event": {"inner": ".lab.Event", "many": "repeated .lab.Wide"}}
    )
    schema = pa.schema([("inner", pa.struct([("many", pa.list_(pa.string()))]))])
    nested = b""
    for _ in range(500):
        length, head = len(nested), b"\x0a"
        while length > 127:
            head += bytes([length & 127 | 128])
            length >>= 7
        nested = head + bytes([length]) + nested
    bombs = [nested, b"\x12\x00" * 400_000, b"\xa3\x06" * 50_000]

    found = reader(of_file(tmp_path, file), schema, drops=True).read(Sent(bombs))

    assert found.rows.num_rows == 0
    assert [one.value for one in found.rejected] == bombs
    assert "2000000 values" in found.rejected[1].reason


def test_old_types_have_groups_required_fields_and_names_that_the_library_uses(
    tmp_path: Path,
) -> None:
    names = ["ListFields", "HasField", "class", "IsInitialized"]
    file = proto_file(
        {"Event": {"id": "required int32", **dict.fromkeys(names, "optional string")}},
        syntax="proto2",
    )
    schema = pa.schema([("id", pa.int32()), *((name, pa.string()) for name in names)])
    sent = [b"\x08\x01\x12\x01a\x1a\x01b\x22\x01c", b"\x12\x01a", b"\x08\x01\x12\x01\xff"]

    found = reader(of_file(tmp_path, file), schema).read(Sent(sent))

    assert found.rows.to_pylist() == [
        {"id": 1, "ListFields": "a", "HasField": "b", "class": "c", "IsInitialized": None}
    ]
    assert [one.value for one in found.rejected] == sent[1:]
    assert "required" in found.rejected[0].reason


@pytest.mark.parametrize("is_framed", [False, True])
def test_random_bytes_are_rows_or_rejected(tmp_path: Path, is_framed: bool) -> None:
    chance = random.Random(5)
    body = full()[0].SerializeToString()
    whole = framed(body, 1, 1) if is_framed else body
    sent = []
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(damaged))
            damaged[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        sent.append(bytes(damaged) if chance.random() < 0.8 else chance.randbytes(30))

    found = reader(of_file(tmp_path, is_framed=is_framed)).read(Sent(sent))

    assert found.rows.num_rows + len(found.rejected) == len(sent)
    assert found.rows.num_rows > 0


def test_a_file_that_cannot_be_read_is_no_messages_fault(tmp_path: Path) -> None:
    """Nothing is rejected; a person must look. It is read with the first message only."""
    path = tmp_path / "events.desc"
    record = ProtobufReader("lab.Event", file=path)

    with pytest.raises(NeedsAttention, match=r"events\.desc"):
        reader(record).read(Sent([b""]))
    for content, reason in [
        (b"junk", "FileDescriptorSet"),
        (proto_set(proto_file({"Other": {}})), "no message lab.Event"),
        (proto_set(FileDescriptorProto(name="b", dependency=["a"])), "'a' is missing"),
        (bytes(16 * 1024 * 1024 + 1), "more than"),
    ]:
        path.write_bytes(content)
        with pytest.raises(NeedsAttention, match=reason):
            reader(record).read(Sent([b""]))
    path.write_bytes(proto_set(FILE))
    assert reader(record).read(Sent([b""])).rows.num_rows == 1


def test_a_registry_that_is_away_rejects_no_message(tmp_path: Path) -> None:
    topic = nl.KafkaTopic("events", "protobuf", message="lab.Event")
    table = nl.DeltaTable(name="events", uri="events", schema=SCHEMA, stream=nl.Stream(kafka=topic))
    kafka = KafkaSettings(schema_registry="http://127.0.0.1:1")
    found = message_reader_of(table, Settings(kafka=kafka), name="lab.events")

    with pytest.raises(Unavailable):
        found.read(Sent([framed(b"", 1, 0)]))


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"format": "protobuf"}, "full name"),
        ({"format": "protobuf", "message": "lab Spike"}, "full name"),
        ({"format": "json", "message": "lab.Event"}, 'format="protobuf"'),
        ({"format": "avro", "descriptors": "a.desc"}, 'format="protobuf"'),
        ({"framed": True}, 'format="protobuf"'),
    ],
)
def test_a_topic_says_what_does_not_go_together(given_: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        nl.KafkaTopic("events", **given_)
