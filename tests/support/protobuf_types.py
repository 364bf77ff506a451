"""Protobuf types as tests write them down, without protoc."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import (
    descriptor_pool,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

__all__ = ["add_fields", "class_of", "framed", "proto_file", "proto_set"]

_OWN = [module.DESCRIPTOR for module in (timestamp_pb2, wrappers_pb2, struct_pb2)]


def proto_file(
    messages: Mapping[str, Mapping[str, str]],
    *,
    enums: Mapping[str, list[str]] | None = None,
    syntax: str = "proto3",
) -> FileDescriptorProto:
    """A file of package `lab`, with messages by name, and their fields by name.

    Fields have numbers from 1 on, and what is written of them is as in `.proto`: `int64`,
    `optional string`, `repeated .lab.Other`, `map<string, double>`.
    """
    file = FileDescriptorProto(name="lab/events.proto", package="lab", syntax=syntax)
    file.dependency.extend(own.name for own in _OWN)
    for name, values in (enums or {}).items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in messages.items():
        add_fields(file.message_type.add(name=name), fields, enums=enums or {}, syntax=syntax)
    return file


def add_fields(
    message: DescriptorProto,
    fields: Mapping[str, str],
    *,
    enums: Mapping[str, Any],
    syntax: str = "proto3",
) -> None:
    for number, (name, written) in enumerate(fields.items(), 1):
        field = message.field.add(name=name, number=number)
        field.label = FieldDescriptorProto.LABEL_OPTIONAL
        word, _, kind = written.rpartition(" ") if "map<" not in written else ("", "", written)
        if word == "repeated":
            field.label = FieldDescriptorProto.LABEL_REPEATED
        if word == "required":
            field.label = FieldDescriptorProto.LABEL_REQUIRED
        if word == "optional" and syntax == "proto3":
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
        if kind.startswith("map<"):
            key, value = kind[4:-1].split(", ")
            entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
            entry.options.map_entry = True
            add_fields(entry, {"key": key, "value": value}, enums=enums)
            field.label = FieldDescriptorProto.LABEL_REPEATED
            kind = f".lab.{message.name}.{entry.name}"
        if kind.startswith("."):
            is_enum = kind.removeprefix(".lab.") in enums
            field.type = (
                FieldDescriptorProto.TYPE_ENUM if is_enum else FieldDescriptorProto.TYPE_MESSAGE
            )
            field.type_name = kind
        else:
            field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def proto_set(*files: FileDescriptorProto) -> bytes:
    """What `protoc --include_imports --descriptor_set_out` would write."""
    own = [FileDescriptorProto.FromString(each.serialized_pb) for each in _OWN]
    return FileDescriptorSet(file=[*own, *files]).SerializeToString()


def class_of(file: FileDescriptorProto, name: str) -> Any:
    """The class of a message of `file`, to make some with."""
    pool = descriptor_pool.DescriptorPool()
    for each in _OWN:
        pool.AddSerializedFile(each.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def framed(body: bytes, number: int, *indexes: int) -> bytes:
    """`body` as a registry's serializer frames it."""
    head = b"\0" + number.to_bytes(4, "big")
    if indexes == (0,):
        return head + b"\0" + body
    assert all(index < 64 for index in indexes)  # One byte each.
    return head + bytes([2 * len(indexes), *(2 * index for index in indexes)]) + body
