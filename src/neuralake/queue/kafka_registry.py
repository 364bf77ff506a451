"""Ask a schema registry for the schemas that messages name by number, in Avro or in Protobuf."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention, SettingsError, Unavailable, UsageError
from neuralake.settings import KafkaSettings

__all__ = ["SchemaRegistry"]

_SCHEMA_BYTES_MAX = 4 * 1024 * 1024
# A number that is unknown may be registered a moment later; a poison message may have any number.
_UNKNOWN_KEPT_S = 30.0
_KEPT_MAX = 10_000
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)


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
        self._kept: dict[int, tuple[float, str | None]] = {}

    def schema(self, number: int) -> str:
        """The schema with the id `number`: JSON of Avro, or base64 of a `FileDescriptorProto`.

        Raises:
            UsageError: there is none, it is of another kind, or it refers to other schemas.
            Unavailable: the registry does not answer; wait and ask again.
            NeedsAttention: it refuses us, or does not give Protobuf schemas in that form.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            asked_s, text = self._kept.get(number, (-_UNKNOWN_KEPT_S, None))
            if text is None and now_s - asked_s >= _UNKNOWN_KEPT_S:
                text = self._ask(number)
                if len(self._kept) >= _KEPT_MAX:
                    self._kept.clear()
                self._kept[number] = now_s, text
        if text is None:
            raise UsageError(
                f"The registry has no {self._kind} schema {number}.", reason=f"no schema {number}"
            )
        return text

    def _ask(self, number: int) -> str | None:
        form = "?format=serialized" if self._kind == "PROTOBUF" else ""
        found = self._answer(f"/schemas/ids/{number}{form}")
        if found is None or found.get("schemaType", "AVRO") != self._kind:
            return None
        if found.get("references"):
            return None  # It cannot be read alone.
        schema = str(found.get("schema"))
        if form and not _BASE64.fullmatch(schema):
            raise _no_descriptors()  # Registries from before that form leave it unread.
        return schema

    def _answer(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(self._url + path, headers=self._headers)  # noqa: S310 the scheme is checked above
        try:
            # The scheme was checked when the address was taken.
            with urllib.request.urlopen(request, timeout=self._answer_s_max) as answer:  # noqa: S310
                body = answer.read(_SCHEMA_BYTES_MAX)
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
        try:
            found = json.loads(body)
        except ValueError as error:
            raise Unavailable("The schema registry's answer is not JSON.") from error
        return found if isinstance(found, dict) else None


def _no_descriptors() -> NeedsAttention:
    return NeedsAttention(
        "The schema registry does not give Protobuf schemas as descriptors (format=serialized). "
        'Give them in a file: KafkaTopic(…, descriptors="events.desc", framed=True).'
    )
