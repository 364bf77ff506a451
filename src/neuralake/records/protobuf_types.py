"""Message types of Protobuf, made from descriptors that come as bytes: a file's, or a registry's.

Nothing is generated and nothing is shared: each set of descriptors is a world of its own, so two
versions of one type can be read side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
    from google.protobuf.message import Message

__all__ = ["MessageTypes"]


class MessageTypes:
    """The types of some files, and of those of Protobuf itself that they import.

    Raises:
        ValueError: these are no descriptors, or a file that they import is missing.
    """

    def __init__(self, files: Iterable[FileDescriptorProto], *, main: str | None = None) -> None:
        """`main`: the name of the file that message indexes count in; default: see `name_at`."""
        from google.protobuf.descriptor_pool import DescriptorPool

        self._main = main
        self._pool = DescriptorPool()
        given = {file.name: file for file in files}
        self._files = _own_files() | given
        # What protoc writes has imports first, but nothing says that others do.
        added: set[str] = set()
        for name in given:
            self._add(name, added)

    @classmethod
    def of_set(cls, content: bytes) -> MessageTypes:
        """Of a `FileDescriptorSet`. Raises as the class."""
        from google.protobuf.descriptor_pb2 import FileDescriptorSet

        return cls(_parsed(FileDescriptorSet, content).file)

    @classmethod
    def of_file(cls, content: bytes, imports: Mapping[str, bytes] | None = None) -> MessageTypes:
        """Of one `FileDescriptorProto`, and those that it imports, by name. Raises as the class."""
        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        files = []
        for name, inner in (imports or {}).items():
            file = _parsed(FileDescriptorProto, inner)
            file.name = name  # A registry calls it as it likes.
            files.append(file)
        main = _parsed(FileDescriptorProto, content)
        while main.name in (imports or {}):
            main.name += "_"
        return cls([*files, main], main=main.name)

    def message(self, name: str) -> type[Message] | None:
        """The class of the messages that have the full name `name`; None: there is none."""
        from google.protobuf.message_factory import GetMessageClass

        try:
            return GetMessageClass(self._pool.FindMessageTypeByName(name))
        except KeyError:
            return None

    def name_at(self, indexes: Sequence[int], *, beside: str) -> str | None:
        """The full name that `indexes` lead to: in the main file, else in that of `beside`."""
        file = self._files[self._main or self._pool.FindFileContainingSymbol(beside).name]
        path, inner = [file.package] if file.package else [], file.message_type
        for index in indexes:
            if index >= len(inner):
                return None
            found: DescriptorProto = inner[index]
            path.append(found.name)
            inner = found.nested_type
        return ".".join(path)

    def _add(self, name: str, added: set[str]) -> None:
        if name in added:
            return
        added.add(name)
        file = self._files.get(name)
        if file is None:
            raise ValueError(f"the imported file {name!r} is missing")
        for inner in file.dependency:
            self._add(inner, added)
        try:
            self._pool.AddSerializedFile(file.SerializeToString())
        except (TypeError, ValueError) as error:
            raise ValueError(f"the file {name!r} is not understood: {error}") from error


def _parsed(kind: Any, content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise ValueError(f"not a {kind.DESCRIPTOR.name}: {error}") from error


def _own_files() -> dict[str, FileDescriptorProto]:
    """Protobuf's own files, which schemas import and registries do not list."""
    from google.protobuf import (
        any_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    modules = (
        any_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
    files = (FileDescriptorProto.FromString(each.DESCRIPTOR.serialized_pb) for each in modules)
    return {file.name: file for file in files}
