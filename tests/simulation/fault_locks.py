"""The lock table as one process sees it: slow and failing, as the servers it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.weather import spread
from tests.simulation.world import Process

from neuralake.errors import NeuralakeError, Unavailable
from neuralake.storage import AlreadyThere, OutcomeUnknown
from neuralake.storage.locks import LockEntry, MemoryLocks

if TYPE_CHECKING:
    from tests.simulation.lake import Lake

__all__ = ["FaultLocks"]

_Answer = TypeVar("_Answer")
_LATE_S_MAX = 900.0


class FaultLocks:
    """`inner`, as `process` reaches it in the trouble that `lake` has just then.

    The history takes a version for committed as soon as its item is there.
    """

    def __init__(self, inner: MemoryLocks, process: Process, lake: Lake) -> None:
        self._inner, self._process, self._lake = inner, process, lake
        self._random = process.world.random

    @property
    def name(self) -> str:
        return self._inner.name

    def put_if_absent(self, entry: LockEntry) -> None:
        def put() -> None:
            if self._inner.get(entry.table_path, entry.file_name) == entry:
                return
            self._inner.put_if_absent(entry)
            self._lake.history.decided(entry.file_name, entry.temp_path, self._process.name)

        self._effect(f"lock put {entry.file_name} {entry.temp_path}", put, unknown=True)

    def get(self, table_path: str, file_name: str) -> LockEntry | None:
        return self._ask(f"lock get {file_name}", lambda: self._inner.get(table_path, file_name))

    def complete(self, entry: LockEntry, *, expire_s: int) -> bool:
        answer: list[bool] = []
        self._effect(
            f"lock complete {entry.file_name}",
            lambda: answer.append(self._inner.complete(entry, expire_s=expire_s)),
        )
        return answer[0]

    def newest(self, table_path: str) -> Iterator[LockEntry]:
        return iter(self._ask("lock newest", lambda: [*self._inner.newest(table_path)]))

    def remove(self, entry: LockEntry) -> bool:
        raise NotImplementedError("Only a person removes items, and there is none here.")

    def _ask(self, what: str, question: Callable[[], _Answer]) -> _Answer:
        self._begin(what)
        answer = question()
        self._process.note(what)
        self._end(what)
        return answer

    def _effect(self, what: str, effect: Callable[[], None], *, unknown: bool = False) -> None:
        trouble = self._lake.trouble
        failure: NeuralakeError = Unavailable(f"Cannot {what}: the lock table does not answer.")
        if unknown:
            failure = OutcomeUnknown(f"{what}: the answer was lost.")
        self._begin(what)
        if self._random.random() < trouble.late:
            self._later(what, effect)
            raise failure
        try:
            effect()
        except NeuralakeError as error:
            self._process.note(f"{what}: {type(error).__name__}")
            raise
        self._process.note(what)
        self._end(what)
        if self._random.random() < trouble.error_after:
            self._process.note(f"{what}: answer lost")
            raise failure

    def _later(self, what: str, effect: Callable[[], None]) -> None:
        def arrive() -> None:
            try:
                effect()
            except AlreadyThere:
                self._process.world.note("network", f"{what}: too late, AlreadyThere")
            else:
                self._process.world.note("network", f"{what} of {self._process.name} arrives")

        self._process.note(f"{what}: no answer, still on its way")
        self._process.world.later(spread(self._random, 0.01, _LATE_S_MAX), arrive)

    def _begin(self, what: str) -> None:
        self._process.pause(
            self._lake.trouble.wait_s(self._random, commits=what.startswith("lock put"))
        )
        # The server forgets expired items in its own time.
        if self._random.random() < 0.05:
            self._inner.expire(self._process.world.now_s)
        if self._random.random() < self._lake.trouble.crash:
            self._process.note(f"{what}: CRASH before")
            self._process.crash()
        if self._random.random() < self._lake.trouble.error_before:
            self._process.note(f"{what}: fails")
            raise Unavailable(f"Cannot {what}: the lock table does not answer.")

    def _end(self, what: str) -> None:
        self._process.pause(
            self._lake.trouble.wait_s(self._random, commits=what.startswith("lock put"))
        )
        if self._random.random() < self._lake.trouble.crash:
            self._process.note(f"{what}: CRASH after")
            self._process.crash()
