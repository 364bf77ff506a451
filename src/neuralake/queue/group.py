"""Group commit: submits of many threads become few transactions, each paid for with one fsync.

One thread takes all that waits, stores it as one group, and completes the futures; what arrives
meanwhile is the next group, so groups grow with load and a lone submit never waits for company.
Whatever happens in between, every future that `add` returned is completed. Knows no storage.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from neuralake.errors import NeedsAttention, QueueFull, UsageError
from neuralake.queue.producers import ProducerSequence
from neuralake.queue.protocol import Appended

__all__ = ["GroupCommitter", "Submit"]

# One transaction: at 300 MB/s this is about 0.1 s, which every submit of the group waits.
_GROUP_BYTES_MAX = 32 * 1024 * 1024
_GROUP_SUBMITS_MAX = 8192
# Not yet stored, in memory; callers that do not wait for their futures meet this bound.
_PENDING_BYTES_MAX = 256 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Submit:
    """One append on its way, and the future of its caller."""

    topic: str
    payload: bytes
    rows: int
    key: str | None
    fingerprint: bytes | None = None
    producer: ProducerSequence | None = None
    future: Future[Appended] = field(default_factory=Future)


# One answer per submit, in order: where it was stored, or why it was not.
Commit = Callable[[Sequence[Submit]], Sequence[Appended | Exception]]


class GroupCommitter:
    """Runs `commit` on one thread, with everything that was added since the last time.

    `pending_bytes_max` bounds what waits in memory: beyond it a future gets `QueueFull`.
    `commit` answers for each submit, or raises for all of them. It is never called twice at once.
    """

    def __init__(
        self, commit: Commit, *, name: str, pending_bytes_max: int = _PENDING_BYTES_MAX
    ) -> None:
        self._commit = commit
        self._pending_bytes_max = pending_bytes_max
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Submit] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, submit: Submit) -> Future[Appended]:
        """Queue `submit` for the next group.

        Raises:
            UsageError: closed.
            NeedsAttention: the thread has ended by an error that no group caused.
        """
        with self._changed:
            if self._ended is not None:
                raise NeedsAttention(
                    f"The queue's committer has ended: {self._ended!r}. Restart this process."
                ) from self._ended
            if self._closed:
                raise UsageError("The queue is closed.")
            if (
                self._waiting
                and self._waiting_bytes + len(submit.payload) > self._pending_bytes_max
            ):
                submit.future.set_exception(
                    QueueFull(
                        f"{self._waiting_bytes} bytes wait for the disk; send the same again.",
                        topic=submit.topic,
                        retry_after_s=1.0,
                    )
                )
                return submit.future
            if not self._waiting:
                self._changed.notify()
            self._waiting.append(submit)
            self._waiting_bytes += len(submit.payload)
        return submit.future

    def close(self) -> None:
        """Store what was added, then end the thread; returns when it has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        group: list[Submit] = []
        try:
            while group := self._take():
                self._store(group)
        except BaseException as error:
            with self._changed:
                self._ended = error
                left = [*group, *self._waiting]
                self._waiting.clear()
            _fail(left, error)
            raise

    def _take(self) -> list[Submit]:
        """The next group, in the order of arrival; empty only when closed and all is stored."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            group: list[Submit] = []
            group_bytes = 0
            while self._waiting and len(group) < _GROUP_SUBMITS_MAX:
                group_bytes += len(self._waiting[0].payload)
                if group and group_bytes > _GROUP_BYTES_MAX:
                    break
                group.append(self._waiting.popleft())
                self._waiting_bytes -= len(group[-1].payload)
            return group

    def _store(self, group: list[Submit]) -> None:
        # A future that its caller cancelled in time is not stored; from here on none can be.
        group = [submit for submit in group if submit.future.set_running_or_notify_cancel()]
        if not group:
            return
        try:
            answers = self._commit(group)
        except Exception as error:  # noqa: BLE001 the callers get it; the thread lives on
            _fail(group, error)
            return
        for submit, answer in zip(group, answers, strict=True):
            if isinstance(answer, Exception):
                submit.future.set_exception(answer)
            else:
                submit.future.set_result(answer)


def _fail(group: Sequence[Submit], error: BaseException) -> None:
    for submit in group:
        if not submit.future.done():
            submit.future.set_exception(error)
