"""The queue of a platform on another machine, read over its HTTP API.

Enough for live frames, live SQL and followers there: positions, and the rows behind one. Rows are
sent to the platform itself (`neuralake ingest`, POST), and only its own writer commits them.
An envelope here is an answer of the server: whole envelopes of its queue, as one.
"""

from __future__ import annotations

import os
import ssl
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from neuralake.client.answer import Answer
from neuralake.client.asking import Asker, path_of
from neuralake.client.connection import Connection
from neuralake.clock import Clock, SystemClock
from neuralake.errors import Conflict, NeedsAttention, SettingsError, UnknownName, UsageError
from neuralake.queue.producers import ProducerSequence
from neuralake.queue.protocol import (
    READ_BYTES_MAX,
    READ_ENVELOPES_MAX,
    TAIL_BYTES_MAX,
    Appended,
    Backlog,
    Bounds,
    Envelope,
    check_read,
)
from neuralake.settings import QueueSettings, is_loopback

__all__ = ["RemoteQueue"]

T = TypeVar("T")

_ANSWER_S_MAX = 30.0
# Far above the largest envelope; what is larger is no answer of ours.
_ANSWER_BYTES_MAX = 512 * 1024 * 1024
_TOKEN_VARIABLE = "NEURALAKE_TOKEN"  # noqa: S105 where it is, not what it is


class _Topics(msgspec.Struct):
    queue: str
    topics: list[str]


class _Partition(msgspec.Struct):
    partition: str
    position: int
    trimmed_position: int
    rows: int
    bytes: int


class _Progress(msgspec.Struct):
    queue: str
    partitions: list[_Partition]


class RemoteQueue:
    """The reading half of a `Queue`, at `settings.url`. Opening it asks nothing of the server.

    The token is the environment's NEURALAKE_TOKEN, else what is in `settings.token_file`; a server
    without tokens needs none.

    Args:
        folder: relative paths of files are seen from here.

    Raises:
        SettingsError: a file cannot be read, or the token would be sent for all to hear.
    """

    def __init__(
        self, settings: QueueSettings, *, folder: Path = Path(), clock: Clock | None = None
    ) -> None:
        token = _token(settings, folder)
        host = urlsplit(settings.url).hostname or ""
        if token and settings.url.startswith("http:") and not is_loopback(host):
            raise SettingsError(
                f"queue.url is {settings.url!r}: a token that is sent there without TLS can be "
                f"read on the way. Use https://.",
                name="queue.url",
            )
        clock, tls = clock or SystemClock(), _tls(settings, folder)
        self._url = settings.url.rstrip("/")
        self._asker = Asker(
            lambda: Connection(
                settings.url,
                clock=clock,
                token=token,
                tls=tls,
                answer_s_max=_ANSWER_S_MAX,
                answer_bytes_max=_ANSWER_BYTES_MAX,
            ),
            clock=clock,
        )
        self._lock = threading.Lock()
        self._id = ""
        self._topics: dict[str, str] = {}
        """By partition: its name need not say its topic."""

    @property
    def id(self) -> str:
        if not self._id:
            self.topics()
        return self._id

    def partitions(self, topic: str) -> list[str]:
        return list(self._bounds(topic))

    def claim(self, topic: str) -> list[str]:
        raise self._only_read(f"only the writer there commits the rows of {topic!r}")

    def release(self, topic: str) -> None:
        """Nothing is claimed here."""

    def probe(self) -> None:
        raise self._only_read("GET /health/ready there tells whether it takes rows")

    def submit(
        self,
        topic: str,
        payload: bytes,  # noqa: ARG002 of a protocol
        rows: int,  # noqa: ARG002 of a protocol
        *,
        key: str | None = None,  # noqa: ARG002 of a protocol
        fingerprint: bytes | None = None,  # noqa: ARG002 of a protocol
        producer: ProducerSequence | None = None,  # noqa: ARG002 of a protocol
    ) -> Future[Appended]:
        raise self._only_read(
            f"send rows to POST {self._url}{_path(topic)}, or with neuralake ingest"
        )

    def append(
        self,
        topic: str,
        payload: bytes,
        rows: int,
        *,
        key: str | None = None,
        fingerprint: bytes | None = None,
        producer: ProducerSequence | None = None,
    ) -> Appended:
        return self.submit(
            topic, payload, rows, key=key, fingerprint=fingerprint, producer=producer
        ).result()

    def read(
        self,
        partition: str,
        *,
        after: int,
        envelopes_max: int = READ_ENVELOPES_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[Envelope]:
        check_read(after, envelopes_max)
        return self.read_within(partition, after=after, bytes_max=bytes_max, wait_s=0.0)

    def read_within(
        self, partition: str, *, after: int, wait_s: float, bytes_max: int = READ_BYTES_MAX
    ) -> list[Envelope]:
        """As `read`, but waits up to `wait_s` for something to come."""
        topic = self._topics.get(partition, partition.partition("#")[0])
        query: dict[str, str | int | float] = {
            "after": after,
            "partition": partition,
            "bytes_max": min(max(bytes_max, 1), TAIL_BYTES_MAX),
            "wait_s": wait_s,
        }
        answer = self._get(f"{_path(topic)}/tail?{urlencode(query)}", wait_s=wait_s)
        queue, position, rows, appended_s = _headers(answer)
        self._seen(queue)
        if position <= after:
            return []
        return [Envelope(position, answer.body if rows else b"", rows, appended_s)]

    def bounds(self, partition: str) -> Bounds:
        topic = self._topics.get(partition, partition.partition("#")[0])
        found = self._bounds(topic)
        if partition not in found:
            raise UnknownName(
                f"{topic!r} has no partition {partition!r} at {self._url}.",
                kind="partition",
                name=partition,
                known=list(found),
            )
        return found[partition]

    def backlog(self, partition: str, *, after: int) -> Backlog:  # noqa: ARG002 of a protocol
        raise self._only_read(f"GET /metrics there tells what waits in {partition!r}")

    def trim(self, partition: str, *, through: int, appended_before_s: float) -> int:  # noqa: ARG002 of a protocol
        raise self._only_read(f"the writer there trims {partition!r}")

    def topics(self) -> list[str]:
        answer = _decoded(self._get("/v1"), _Topics)
        self._seen(answer.queue)
        return answer.topics

    def close(self) -> None:
        self._asker.close()

    def _bounds(self, topic: str) -> dict[str, Bounds]:
        answer = _decoded(self._get(_path(topic)), _Progress)
        self._seen(answer.queue)
        self._topics |= dict.fromkeys([each.partition for each in answer.partitions], topic)
        return {
            each.partition: Bounds(each.position, each.trimmed_position, each.rows, each.bytes)
            for each in answer.partitions
        }

    def _get(self, path: str, *, wait_s: float = 0.0) -> Answer:
        """A good answer.

        Raises:
            Unavailable: there was none for a quarter of a minute.
            Unauthorized, Forbidden, UnknownName, Trimmed, UsageError: the server refused, with
                the facts that it told.
            NeedsAttention: the server failed.
        """
        answer = self._asker.ask("GET", path, wait_s=wait_s)
        if answer.is_good:
            return answer
        error = answer.error()
        kind = UsageError if answer.status < 400 else type(error)
        said = f"{self._url} answered {answer.status}: {error.message}"
        raise (NeedsAttention if answer.status == 500 else kind)(said, **error.facts)

    def _seen(self, queue: str) -> None:
        """Compare the identity that came with an answer with the one that we go by.

        Raises:
            Conflict: there is another queue now; from here on we go by that.
        """
        with self._lock:
            known, self._id = self._id, queue
        if known and known != queue:
            raise Conflict(
                f"{self._url} has another queue than before ({queue}, not {known}): it was "
                f"made anew, and positions of the old one mean nothing there. Read again.",
                queue=queue,
            )

    def _only_read(self, instead: str) -> UsageError:
        return UsageError(
            f"This lake reads the queue of {self._url} (queue.kind = 'http') and cannot "
            f"change it: {instead}.",
            url=self._url,
        )


def _token(settings: QueueSettings, folder: Path) -> str:
    if token := os.environ.get(_TOKEN_VARIABLE, "").strip():
        return token
    if not settings.token_file:
        return ""
    path = folder / Path(settings.token_file).expanduser()
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"queue.token_file ({path}) cannot be read: {error}.", name="queue.token_file"
        ) from error


def _tls(settings: QueueSettings, folder: Path) -> ssl.SSLContext | None:
    if not settings.url.startswith("https:"):
        return None
    path = folder / Path(settings.ca_file).expanduser() if settings.ca_file else None
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"queue.ca_file ({path}) has no certificates: {error}.", name="queue.ca_file"
        ) from error


def _path(topic: str) -> str:
    database, _, table = topic.partition(".")
    return path_of(database, table)


def _decoded(answer: Answer, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError as error:
        raise _no_answer_of_ours(error) from error


def _headers(answer: Answer) -> tuple[str, int, int, float]:
    """The queue, the position to go on behind, rows, and when the first was stored."""
    try:
        return (
            answer.headers["neuralake-queue"],
            int(answer.headers["neuralake-position"]),
            int(answer.headers["neuralake-rows"]),
            float(answer.headers["neuralake-appended"]),
        )
    except (KeyError, ValueError) as error:
        raise _no_answer_of_ours(error) from error


def _no_answer_of_ours(error: Exception) -> NeedsAttention:
    return NeedsAttention(f"The answer is not that of a neuralake server of this release: {error}.")
