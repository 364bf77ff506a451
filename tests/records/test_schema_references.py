"""Schemas of a registry that refer to others are read with them, and only so many of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from protobuf_types import add_fields, framed
from registry_server import RegistryServer, registry_server

from neuralake.errors import UsageError
from neuralake.queue.kafka_registry import SchemaRegistry
from neuralake.records.avro_message import AvroReader
from neuralake.records.protobuf_message import ProtobufReader
from neuralake.settings import KafkaSettings


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        yield running


def registry(server: RegistryServer, kind: str) -> SchemaRegistry:
    return SchemaRegistry(KafkaSettings(schema_registry=server.url), kind=kind)


def file(name: str, message: str, fields: dict[str, str], *imports: str) -> FileDescriptorProto:
    """One that has the message `lab.<message>`."""
    found = FileDescriptorProto(name=name, package="lab", syntax="proto3")
    found.dependency.extend(imports)
    add_fields(found.message_type.add(name=message), fields, enums={})
    return found


def text(found: FileDescriptorProto) -> str:
    """As a registry gives it: under a name of the registry's."""
    copy = FileDescriptorProto()
    copy.CopyFrom(found)
    copy.name = "default"
    return base64.b64encode(copy.SerializeToString()).decode()


UNIT = file("lab/unit.proto", "Unit", {"name": "string"})
PLACE = file("lab/place.proto", "Place", {"x": "sint32", "unit": ".lab.Unit"}, "lab/unit.proto")
EVENT = file(
    "lab/event.proto",
    "Event",
    {"id": "int64", "place": ".lab.Place", "unit": ".lab.Unit"},
    "lab/place.proto",
    "lab/unit.proto",
)


def events(server: RegistryServer) -> int:
    """The id of `EVENT`, whose imports are subjects of their own."""
    server.register("units/v", text(UNIT), "PROTOBUF")
    unit = ("lab/unit.proto", "units/v", 1)
    server.register("places", text(PLACE), "PROTOBUF", unit)
    place = ("lab/place.proto", "places", 1)
    return server.register("events", text(EVENT), "PROTOBUF", place, unit)


def event(**fields: Any) -> bytes:
    pool = descriptor_pool.DescriptorPool()
    for each in (UNIT, PLACE, EVENT):
        pool.AddSerializedFile(each.SerializeToString())
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("lab.Event"))
    return bytes(kind(**fields).SerializeToString())


def test_protobuf_imports_are_asked_for_once_each_and_deleted_ones_too(
    server: RegistryServer,
) -> None:
    number = events(server)
    read = ProtobufReader("lab.Event", schema_of=registry(server, "PROTOBUF").schema)
    body = event(id=7, place={"x": -3, "unit": {"name": "mm"}}, unit={"name": "s"})

    for _ in range(2):
        row, _ = read(framed(body, number, 0))
        assert row == {"id": 7, "place": {"x": -3, "unit": {"name": "mm"}}, "unit": {"name": "s"}}
    assert server.asked == [
        f"/schemas/ids/{number}?format=serialized",
        "/subjects/places/versions/1?deleted=true&format=serialized",
        "/subjects/units%2Fv/versions/1?deleted=true&format=serialized",
    ]


def test_message_indexes_count_in_the_schema_that_the_message_names(server: RegistryServer) -> None:
    """The first type of an import is not the first of the schema, whatever its number says."""
    number = events(server)
    read = ProtobufReader("lab.Place", schema_of=registry(server, "PROTOBUF").schema)

    with pytest.raises(UsageError, match=r"it is lab\.Event, not lab\.Place"):
        read(framed(event(id=7), number, 0))


def test_avro_names_of_other_subjects_are_known_also_in_a_union_of_events(
    server: RegistryServer,
) -> None:
    place = {"type": "record", "name": "lab.Place", "fields": [{"name": "x", "type": "int"}]}
    fields = [{"name": "id", "type": "long"}, {"name": "place", "type": ["null", "Place"]}]
    record = {"type": "record", "name": "Event", "namespace": "lab", "fields": fields}
    server.register("places", json.dumps(place), "AVRO")
    at = ("lab.Place", "places", 1)
    number = server.register("events", json.dumps(record), "AVRO", at)
    union = json.dumps(["lab.Event", "lab.Place"])
    either = server.register("all", union, "AVRO", ("lab.Event", "events", 1), at)
    known: dict[str, Any] = {}
    parsed = [fastavro.parse_schema(each, known) for each in (place, record)][1]
    sink, row = BytesIO(), {"id": 7, "place": {"x": 1}}
    fastavro.schemaless_writer(sink, parsed, row)
    read = AvroReader(registry(server, "AVRO").schema)

    assert read(b"\0" + number.to_bytes(4, "big") + sink.getvalue())[0] == row
    assert read(b"\0" + either.to_bytes(4, "big") + b"\0" + sink.getvalue())[0] == row
    assert read(b"\0" + either.to_bytes(4, "big") + b"\x02\x02")[0] == {"x": 1}


def test_an_avro_type_from_elsewhere_cannot_end_the_process_either(server: RegistryServer) -> None:
    nothing = {"type": "record", "name": "Nothing", "fields": []}
    server.register("nothing", json.dumps(nothing), "AVRO")
    fields = [{"name": "many", "type": {"type": "array", "items": "Nothing"}}]
    many = {"type": "record", "name": "Many", "fields": fields}
    number = server.register("many", json.dumps(many), "AVRO", ("Nothing", "nothing", 1))
    read = AvroReader(registry(server, "AVRO").schema)

    with pytest.raises(UsageError, match="items take no bytes"):
        read(b"\0" + number.to_bytes(4, "big") + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01")


def refused(server: RegistryServer, *references: Any) -> str:
    number = server.register("top", json.dumps("long"), "AVRO", *references)
    with pytest.raises(UsageError) as caught:
        registry(server, "AVRO").schema(number)
    return str(caught.value.facts["reason"])


def test_references_without_end_are_left(server: RegistryServer) -> None:
    for number in range(50):
        server.register(f"deep-{number}", '"int"', "AVRO", (f"d{number}", f"deep-{number + 1}", 1))
    assert "20 deep" in refused(server, ("d", "deep-0", 1))
    assert len(server.asked) <= 22

    server.register("a", '"int"', "AVRO", ("b", "b", 1))
    server.register("b", '"int"', "AVRO", ("a", "a", 1))
    assert "refers to itself" in refused(server, ("a", "a", 1))

    wide = [(f"w{number}", f"wide-{number}", 1) for number in range(300)]
    for _, subject, _ in wide:
        server.register(subject, '"int"', "AVRO")
    server.asked.clear()
    assert "more than 200" in refused(server, *wide)
    assert len(server.asked) <= 202

    same = [("same", f"wide-{number}", 1) for number in range(300)]
    assert "more than 200" in refused(server, *same)

    number = server.register("huge", json.dumps("x" * 5_000_000), "AVRO")
    with pytest.raises(UsageError, match="one schema"):
        registry(server, "AVRO").schema(number)
    large = [(f"l{number}", f"large-{number}", 1) for number in range(5)]
    for _, subject, _ in large:
        server.register(subject, json.dumps("x" * 3_000_000), "AVRO")
    assert "bytes" in refused(server, *large)


def test_what_cannot_be_told_is_not_guessed(server: RegistryServer) -> None:
    server.register("a", '"int"', "AVRO")
    server.register("a", '"long"', "AVRO")

    assert "two versions of 'a'" in refused(server, ("a", "a", 1), ("a", "a", 2))
    assert "'b', which is not there" in refused(server, ("b", "b", 1))
    assert "no name, subject and version" in refused(server, ("a", "a", "latest"))
