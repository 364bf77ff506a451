"""Avro messages mean what the same values in JSON mean; a registry that is away drops nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from typing import Any, ClassVar

import fastavro
import pyarrow as pa
import pytest
from sent_messages import Sent

from neuralake.clock import ManualClock
from neuralake.errors import NeedsAttention, SettingsError, Unavailable, UsageError
from neuralake.queue.kafka_registry import RegisteredSchema, SchemaRegistry
from neuralake.records.avro_message import AvroReader
from neuralake.records.messages import MessageReader
from neuralake.settings import KafkaSettings

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("value", pa.float64()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("price", pa.decimal128(10, 2)),
        ("raw", pa.binary()),
        ("tags", pa.list_(pa.string())),
    ]
)
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "value", "type": "double"},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {
            "name": "price",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
        },
        {"name": "raw", "type": "bytes"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
ROW: dict[str, Any] = {
    "id": 7,
    "name": None,
    "value": 0.1,
    "time": datetime(2026, 1, 1, 10, 0, 0, 123456, UTC),
    "day": date(2026, 1, 2),
    "price": Decimal("12.50"),
    "raw": b"\x00\xff",
    "tags": ["a", "b"],
}


def message(row: dict[str, Any], number: int = 1) -> bytes:
    sink = BytesIO()
    fastavro.schemaless_writer(sink, fastavro.parse_schema(AVRO), row)
    return b"\0" + number.to_bytes(4, "big") + sink.getvalue()


def reader(schema_of: Any) -> MessageReader:
    return MessageReader(
        SCHEMA,
        name="lab.events",
        partition_by=(),
        format="avro",
        rows_max=1000,
        record=AvroReader(schema_of),
    )


def known(number: int) -> RegisteredSchema:
    if number != 1:
        raise UsageError("unknown", reason=f"no schema {number}")
    return RegisteredSchema(json.dumps(AVRO))


def test_a_record_becomes_the_row_that_its_values_say() -> None:
    odd = ROW | {"name": "x", "value": float("inf"), "id": 8}
    found = reader(known).read(Sent([message(ROW), message(odd)]))

    assert found.rejected == []
    assert found.rows.to_pylist() == [ROW, odd]


def test_what_is_not_a_record_of_a_known_schema_is_rejected_and_the_others_are_rows() -> None:
    whole = message(ROW)
    bad = [b"", b"{}", whole[:-2], whole + b"x", b"\0" + bytes(3), message(ROW, number=9)]

    found = reader(known).read(Sent([whole, *bad, whole]))

    assert found.rows["id"].to_pylist() == [7, 7]
    assert [one.value for one in found.rejected] == bad
    assert "no schema 9" in found.rejected[-1].reason


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "null"},
        {"type": "fixed", "name": "F", "size": 0},
        {"type": "record", "name": "R", "fields": []},
        {"type": "record", "name": "R", "fields": [{"name": "n", "type": "null"}]},
        {"type": "array", "items": "null"},
    ],
)
def test_an_array_of_nothing_fills_no_memory(items: Any) -> None:
    """Two dozen bytes may say that it has 2**60 items."""
    array = {"type": "array", "items": items}
    schema = {"type": "record", "name": "E", "fields": [{"name": "a", "type": ["null", array]}]}
    huge = b"\x02" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x1f" + b"\x00"
    reader = AvroReader(lambda _: RegisteredSchema(json.dumps(schema)))

    with pytest.raises(UsageError, match="take no bytes"):
        reader(b"\0\0\0\0\1" + huge)


@pytest.mark.parametrize(
    "again",
    [
        "Node",
        ["null", "Node"],
        {"type": "array", "items": "Node"},
        {"type": "map", "values": "Node"},
    ],
)
def test_a_type_that_holds_itself_is_not_followed(again: Any) -> None:
    """A message may say that it does so a million times, which no stack holds."""
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": again}]}

    schema = RegisteredSchema(json.dumps(node))
    with pytest.raises(UsageError, match="holds itself"):
        AvroReader(lambda _: schema)(b"\0\0\0\0\1" + b"\x02" * 1_000_000)


def test_a_type_that_is_named_twice_is_read() -> None:
    point = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}
    fields = [{"name": "a", "type": point}, {"name": "b", "type": "Point"}]
    schema = {"type": "record", "name": "Line", "fields": fields}

    found, _ = AvroReader(lambda _: RegisteredSchema(json.dumps(schema)))(b"\0\0\0\0\1\x02\x04")

    assert found == {"a": {"x": 1}, "b": {"x": 2}}


def test_a_registry_that_is_away_rejects_no_message() -> None:
    registry = SchemaRegistry(KafkaSettings(schema_registry="http://127.0.0.1:1"))

    with pytest.raises(Unavailable):
        reader(registry.schema).read(Sent([message(ROW)]))


class Registry(HTTPServer):
    """Answers for schema 1, on a port of 127.0.0.1; 500 for 5, and 401 without the password."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Registry
    answers: ClassVar[dict[str, Any]] = {
        "1": {"schema": json.dumps(AVRO)},
        "2": {"schema": "message M {}", "schemaType": "PROTOBUF"},
        "1?format=serialized": {"schema": json.dumps(AVRO)},
        "2?format=serialized": {"schema": "CgdhLnByb3Rv", "schemaType": "PROTOBUF"},
        "3?format=serialized": {"schema": "message M {}", "schemaType": "PROTOBUF"},
        "4?format=serialized": {
            "schema": "CgdhLnByb3Rv",
            "schemaType": "PROTOBUF",
            "references": [{"name": "b.proto", "subject": "b", "version": 1}],
        },
    }

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        number = self.path.rsplit("/", 1)[1]
        known = 200 if number in self.answers else 404
        status = {"5": 500, "6?format=serialized": 501}.get(number, known)
        if self.headers["Authorization"] != "Basic bGFiOmdlaGVpbQ==":
            status = 401
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(self.answers.get(number, {})).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_registry_is_asked_once_for_what_it_knows_and_again_for_what_it_did_not(
    server: Registry,
) -> None:
    clock = ManualClock()
    settings = KafkaSettings(schema_registry=f"http://127.0.0.1:{server.server_port}/")
    secret = {"SCHEMA_REGISTRY_USER_INFO": "lab:geheim"}
    registry = SchemaRegistry(settings, clock=clock, environment=secret)

    assert json.loads(registry.schema(1).text) == AVRO
    assert json.loads(registry.schema(1).text) == AVRO
    for number in (2, 3, 3):
        with pytest.raises(UsageError, match=f"schema {number}"):
            registry.schema(number)
    assert server.asked == [f"/schemas/ids/{number}" for number in (1, 2, 3)]

    clock.advance(60)
    with pytest.raises(UsageError):
        registry.schema(3)
    assert len(server.asked) == 4
    with pytest.raises(Unavailable, match="500"):
        registry.schema(5)
    with pytest.raises(NeedsAttention, match="SCHEMA_REGISTRY_USER_INFO"):
        SchemaRegistry(settings, environment={}).schema(1)


def test_a_registry_gives_protobuf_schemas_as_descriptors_or_a_person_must_look(
    server: Registry,
) -> None:
    """Those of Avro, and those that refer to what is not there, may be poison."""
    settings = KafkaSettings(schema_registry=f"http://127.0.0.1:{server.server_port}")
    secret = {"SCHEMA_REGISTRY_USER_INFO": "lab:geheim"}
    registry = SchemaRegistry(settings, kind="PROTOBUF", environment=secret)

    assert registry.schema(2).text == "CgdhLnByb3Rv"
    for number in (1, 4, 9):
        with pytest.raises(UsageError, match=f"PROTOBUF schema {number}"):
            registry.schema(number)
    for number in (3, 6):
        with pytest.raises(NeedsAttention, match="descriptors="):
            registry.schema(number)


def test_avro_without_a_registry_is_told_at_once() -> None:
    with pytest.raises(SettingsError, match="schema_registry"):
        SchemaRegistry(KafkaSettings())
