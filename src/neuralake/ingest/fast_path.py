"""The fast path: a small body of JSON for a known table, answered without the ASGI application.

A request through uvicorn's task, Starlette's objects and our middleware costs four times what
reading and storing one event does. Most requests of a server that devices send to are alike: a
POST to `/v1/{database}/{table}` with a few hundred bytes of JSON and no header that asks for
anything. `head` knows them by their headers, and `take` hands their bodies to the table's
combiner, which stores many as one.

Only what is stored is answered here, or cannot be for lack of room. All else goes the usual way
(`routes.py`), from the start: a body that does not fit, an unknown table, a token that is missing.
So what is refused, and in which words, is said in one place.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

from starlette.responses import Response
from starlette.types import Scope

from neuralake.clock import Clock
from neuralake.errors import NeuralakeError
from neuralake.ingest.accounts import Accounts, Sender
from neuralake.ingest.answers import Stored, answer, json_response, queue_of
from neuralake.ingest.combine import SmallRequest
from neuralake.ingest.guard import POLICY, Door
from neuralake.ingest.target import Target, Targets
from neuralake.queue import Appended
from neuralake.records.media_types import reader_of
from neuralake.serve.problem import problem_response

__all__ = ["FAST_PATH", "FastPath", "Head", "Reply"]

FAST_PATH = "neuralake.fast_path"
"""Where connections find it in the application's lifespan state."""

_POST_PATH = re.compile(r"/v1/([^/]+)/([^/]+)")
# Headers that ask for something which only the usual way gives.
_UNUSUAL = frozenset(
    (
        b"content-encoding",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"idempotency-key",
        b"neuralake-producer",
        b"neuralake-sequence",
        b"neuralake-queue",
    )
)
# Senders say the same again and again. Longer heads than any device has are not kept.
_HEADS_MAX = 2048
_HEAD_HEADERS_MAX, _HEAD_BYTES_MAX = 24, 2048
# Looking at the file of tokens gives the interpreter away, at the price of a tenth of an event.
_SENDERS_KEPT_S = 0.01


class Reply(Protocol):
    """How the connection of a request is told its end, once."""

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Send an answer; `headers` are whole lines, each with its end."""

    def decline(self) -> bool:
        """Let the application answer; False: nobody waits for an answer any more."""


class Head:
    """What the head of a request says, if it is one for the fast path."""

    __slots__ = ("authorization", "reader", "target")

    def __init__(self, target: Target, reader: str, authorization: bytes | None) -> None:
        self.target, self.reader, self.authorization = target, reader, authorization


class FastPath:
    """One server's. Use it from its event loop."""

    def __init__(self, door: Door, targets: Targets, accounts: Accounts, *, clock: Clock) -> None:
        self._door, self._targets, self._accounts, self._clock = door, targets, accounts, clock
        self._heads: dict[tuple[str, tuple[tuple[bytes, bytes], ...]], Head] = {}
        self._senders: dict[tuple[bytes | None, str, str], Sender] = {}
        self._senders_since_s = -_SENDERS_KEPT_S

    def head(self, scope: Scope) -> Head | None:
        """The head of a request that may take the fast path, or None."""
        if scope["method"] != "POST" or scope["query_string"]:
            return None
        key = scope["path"], tuple(scope["headers"])
        found = self._heads.get(key)
        if found is None and (found := self._read(scope)) is not None:
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[key] = found
        return found

    def take(self, head: Head, scope: Scope, body: bytes, reply: Reply) -> bool:
        """Store the rows of `body` and answer by `reply`; False: it goes the usual way."""
        combiner, now_s = head.target.combiner, self._clock.monotonic_s()
        if not combiner.takes(len(body), head.reader):
            return False
        try:
            sender = self._sender(head, scope, now_s)
            self._accounts.admit(sender)
        except NeuralakeError:
            return False
        combiner.add(_Event(body, head, sender, self._accounts, reply, now_s))
        return True

    def _sender(self, head: Head, scope: Scope, now_s: float) -> Sender:
        """Who sends, and may."""
        if now_s - self._senders_since_s >= _SENDERS_KEPT_S:
            self._senders.clear()
            self._senders_since_s = now_s
        remote = scope["client"][0] if scope["client"] else ""
        key = head.authorization, remote, head.target.topic
        found = self._senders.get(key)
        if found is None:
            found = Sender(self._door.caller(scope), remote, head.target.topic)
            found.check()
            self._senders[key] = found
        return found

    def _read(self, scope: Scope) -> Head | None:
        headers = scope["headers"]
        head_bytes = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > _HEAD_HEADERS_MAX or head_bytes > _HEAD_BYTES_MAX:
            return None
        path = _POST_PATH.fullmatch(scope["path"])
        if path is None or not _UNUSUAL.isdisjoint(name for name, _ in headers):
            return None
        target = self._targets.known(*path.groups())
        if target is None or self._door.refusal(scope):
            return None
        said = dict(reversed(headers))  # The first counts.
        try:
            reader = reader_of(said.get(b"content-type", b"").decode("latin-1"))
        except NeuralakeError:
            return None
        length = said.get(b"content-length", b"")
        if not length.isdigit() or not target.combiner.takes(int(length), reader):
            return None
        return Head(target, reader, said.get(b"authorization"))


class _Event(SmallRequest):
    """A request on the fast path."""

    __slots__ = ("_accounts", "_began_s", "_head", "_reply", "_sender")

    def __init__(
        self,
        body: bytes,
        head: Head,
        sender: Sender,
        accounts: Accounts,
        reply: Reply,
        began_s: float,
    ) -> None:
        super().__init__(body, head.reader)
        self._head, self._sender, self._accounts = head, sender, accounts
        self._reply, self._began_s = reply, began_s

    def stored(self, appended: Appended) -> None:
        self._accounts.stored(
            self._sender,
            appended,
            rows=self.rows,
            body_bytes=len(self.body),
            dropped=self.dropped,
        )
        self._accounts.answered(self._began_s)
        target = self._head.target
        if self.dropped is None or not self.dropped.rows:
            told = _accepted(target.topic, target.queue.id, appended, self.rows)
        else:
            stored = Stored(appended, self.rows, dropped=self.dropped)
            told = _rendered(_accepting(target.topic, target.queue.id, stored))
        self._reply.answer(202, *told)

    def failed(self, error: BaseException) -> None:
        response = problem_response(error)
        if isinstance(error, NeuralakeError):
            self._accounts.refused(self._sender, response.status_code)
        self._reply.answer(response.status_code, *_rendered(response))

    def declined(self) -> None:
        # Given back only if it is counted once more.
        if self._reply.decline():
            self._accounts.give_back(self._sender)


def _accepting(topic: str, queue_id: str, stored: Stored) -> Response:
    return json_response(answer(topic, stored), status=202, headers=queue_of(queue_id))


# Those that share an envelope are told the same.
@lru_cache(maxsize=64)
def _accepted(topic: str, queue_id: str, appended: Appended, rows: int) -> tuple[bytes, bytes]:
    return _rendered(_accepting(topic, queue_id, Stored(appended, rows)))


def _rendered(response: Response) -> tuple[bytes, bytes]:
    """The lines of the headers, and the body."""
    headers = [*response.raw_headers, POLICY]
    return b"".join(b"%s: %s\r\n" % header for header in headers), bytes(response.body)
