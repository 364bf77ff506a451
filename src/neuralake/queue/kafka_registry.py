"""Ask a schema registry for the schemas that messages name by number, in Avro or in Protobuf.

A schema may refer to others, which are subjects of the registry; they come with it. How many, how
deep and how large they may be is bounded, and each is asked for once.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention, SettingsError, Unavailable, UsageError
from neuralake.settings import KafkaSettings

__all__ = ["RegisteredSchema", "SchemaRegistry"]

_SCHEMA_BYTES_MAX = 4 * 1024 * 1024
# A number that is unknown may be registered a moment later; a poison message may have any number.
_UNKNOWN_KEPT_S = 30.0
_KEPT_MAX = 10_000
# Of one schema with all that it refers to.
_REFERENCES_MAX, _DEPTH_MAX, _WHOLE_BYTES_MAX = 200, 20, 8 * 1024 * 1024
_REFERENCES_KEPT_MAX = 1000
_NAME_LENGTH_MAX = 1000
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)


# A subject, and its version.
_Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema, and those that it refers to."""

    text: str
    """JSON of Avro, or base64 of a `FileDescriptorProto`."""
    imports: Mapping[str, str] = field(default_factory=dict)
    """The others, directly and indirectly, by the name that they are referred to by (of Protobuf,
    the file's): each behind those that it refers to itself."""


class _Unusable(Exception):
    """A schema that no message can be read with; the reason is for people."""


@dataclass(slots=True)
class _Whole:
    """A schema while it is gathered."""

    bytes: int
    imports: dict[str, str] = field(default_factory=dict)
    places: set[_Place] = field(default_factory=set)

    def check(self) -> None:
        if len(self.places) > _REFERENCES_MAX or self.bytes > _WHOLE_BYTES_MAX:
            raise _Unusable(
                f"it refers to more than {_REFERENCES_MAX} others, or they have more than "
                f"{_WHOLE_BYTES_MAX} bytes"
            )


class SchemaRegistry:
    """The registry of `settings`; what was found is kept, as schemas never change.

    Args:
        kind: the schemas that are wanted, as registries call them: `AVRO` or `PROTOBUF`.

    Raises:
        SettingsError: no registry is named, or it is not reached over HTTP.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        kind: str = "AVRO",
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._kind = kind
        self._url = settings.schema_registry.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise SettingsError(
                "A table's messages name their schemas in a registry: set kafka.schema_registry to "
                "http(s)://host:port.",
                name="kafka.schema_registry",
            )
        self._answer_s_max, self._clock = settings.answer_s_max, clock or SystemClock()
        given = os.environ if environment is None else environment
        user = given.get("SCHEMA_REGISTRY_USER_INFO", "")
        self._headers = (
            {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
        )
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[float, RegisteredSchema | str]] = {}
        """By number, with when it was asked for; a text is why there is none."""
        self._referred: dict[_Place, tuple[str, list[Any]]] = {}

    def schema(self, number: int) -> RegisteredSchema:
        """The schema with the id `number`.

        Raises:
            UsageError: there is none, it is of another kind, or what it refers to is not there or
                too much.
            Unavailable: the registry does not answer; wait and ask again.
            NeedsAttention: it refuses us, or does not give Protobuf schemas in that form.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            asked_s, found = self._kept.get(number, (-_UNKNOWN_KEPT_S, ""))
            if isinstance(found, str) and now_s - asked_s >= _UNKNOWN_KEPT_S:
                found = self._ask(number)
                if len(self._kept) >= _KEPT_MAX:
                    self._kept.clear()
                self._kept[number] = now_s, found
        if isinstance(found, str):
            raise UsageError(
                f"The registry has no {self._kind} schema {number} that can be used: {found}.",
                reason=found,
            )
        return found

    def _ask(self, number: int) -> RegisteredSchema | str:
        try:
            text, references = self._schema_at(f"/schemas/ids/{number}", f"no schema {number}")
            whole = _Whole(bytes=len(text))
            self._gather(references, whole)
        except _Unusable as error:
            return str(error)
        return RegisteredSchema(text, whole.imports)

    def _schema_at(self, path: str, none: str) -> tuple[str, list[Any]]:
        """The text and the references of one schema; `none` says that there is none."""
        is_protobuf = self._kind == "PROTOBUF"
        join = "&" if "?" in path else "?"
        found = self._answer(f"{path}{join}format=serialized" if is_protobuf else path)
        if found is None or found.get("schemaType", "AVRO") != self._kind:
            raise _Unusable(none)
        schema, references = str(found.get("schema")), found.get("references") or []
        if is_protobuf and not _BASE64.fullmatch(schema):
            raise _no_descriptors()  # Registries from before that form leave it unread.
        if not isinstance(references, list):
            raise _Unusable("its references are no list")
        return schema, references

    def _gather(
        self, references: list[Any], whole: _Whole, *, within: tuple[_Place, ...] = ()
    ) -> None:
        """Put what `references` name, and what that refers to, into `whole`."""
        if len(within) >= _DEPTH_MAX:
            raise _Unusable(f"it refers to others more than {_DEPTH_MAX} deep")
        for reference in references:
            name, place = _reference(reference)
            if place in within:
                raise _Unusable(f"{name!r} refers to itself")
            whole.places.add(place)
            whole.check()  # Before it is asked for.
            text, inner = self._reference(name, place)
            if name not in whole.imports:
                whole.bytes += len(text)
                whole.check()
                self._gather(inner, whole, within=(*within, place))
                whole.imports[name] = text
            elif whole.imports[name] != text:
                # Which of two is meant where, cannot be told: a wrong guess is a wrong value.
                raise _Unusable(f"it refers to two versions of {name!r}")

    def _reference(self, name: str, place: _Place) -> tuple[str, list[Any]]:
        if place not in self._referred:
            subject, version = place
            # Deleted ones, too: who refers to them was registered before.
            path = f"/subjects/{quote(subject, safe='')}/versions/{version}?deleted=true"
            found = self._schema_at(path, f"it refers to {name!r}, which is not there")
            if len(self._referred) >= _REFERENCES_KEPT_MAX:
                self._referred.clear()
            self._referred[place] = found
        return self._referred[place]

    def _answer(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(self._url + path, headers=self._headers)  # noqa: S310 the scheme is checked above
        try:
            with urllib.request.urlopen(  # noqa: S310 the scheme is checked above
                request, timeout=self._answer_s_max
            ) as answer:
                body = answer.read(_SCHEMA_BYTES_MAX + 1)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code in (401, 403):
                raise NeedsAttention(
                    f"The schema registry refuses us ({error.code}): look at "
                    f"SCHEMA_REGISTRY_USER_INFO."
                ) from error
            if error.code == 501:
                raise _no_descriptors() from error
            raise Unavailable(f"The schema registry answers {error.code}.") from error
        except OSError as error:
            raise Unavailable("The schema registry does not answer.") from error
        if len(body) > _SCHEMA_BYTES_MAX:
            raise _Unusable(f"one schema has more than {_SCHEMA_BYTES_MAX} bytes")
        try:
            found = json.loads(body)
        except ValueError as error:
            raise Unavailable("The schema registry's answer is not JSON.") from error
        return found if isinstance(found, dict) else None


def _reference(reference: Any) -> tuple[str, _Place]:
    """The name of a reference, and the subject and version that it stands for."""
    found: dict[str, Any] = reference if isinstance(reference, dict) else {}
    name, subject, version = (found.get(key) for key in ("name", "subject", "version"))
    if not (isinstance(name, str) and isinstance(subject, str) and isinstance(version, int)):
        raise _Unusable("a reference of it has no name, subject and version")
    return name[:_NAME_LENGTH_MAX], (subject[:_NAME_LENGTH_MAX], version)


def _no_descriptors() -> NeedsAttention:
    return NeedsAttention(
        "The schema registry does not give Protobuf schemas as descriptors (format=serialized). "
        'Give them in a file: KafkaTopic(…, descriptors="events.desc", framed=True).'
    )
