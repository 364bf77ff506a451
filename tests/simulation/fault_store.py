"""The store as one process sees it: slow, failing, lying as far as the protocol lets it.

Every operation lets others act before and after its effect. What it may do wrong is what
`LogStore` says that callers must expect, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from tests.simulation.weather import spread
from tests.simulation.world import Process

from neuralake.errors import NeuralakeError, Unavailable
from neuralake.storage import AlreadyThere, Bytes, LogStore, OutcomeUnknown, Sink, StoredFile

if TYPE_CHECKING:
    from tests.simulation.lake import Lake

__all__ = ["FaultStore"]

_Answer = TypeVar("_Answer")
# A request that its sender has given up may still reach the store: networks keep some for minutes.
_LATE_S_MAX = 900.0


class FaultStore:
    """`inner`, as `process` reaches it in the trouble that `lake` has just then."""

    def __init__(self, inner: LogStore, process: Process, lake: Lake) -> None:
        self._inner, self._process, self._lake = inner, process, lake
        self._random = process.world.random

    @property
    def uri(self) -> str:
        return self._inner.uri

    @property
    def coordination(self) -> str:
        return self._inner.coordination

    @property
    def storage_options(self) -> Mapping[str, str]:
        return self._inner.storage_options

    @property
    def stamp_age_s_max(self) -> float:
        return self._inner.stamp_age_s_max

    def put_if_absent(self, name: str, data: Bytes) -> None:
        held = bytes(data)

        def put() -> None:
            self._inner.put_if_absent(name, held)

        what = f"put_if_absent {name}"
        self._begin(what)
        if self._happens(self._lake.trouble.late):
            self._later(what, put)
            raise OutcomeUnknown(f"{name}: the answer was lost.", name=name)
        self._effect(what, put)
        self._end(what)
        if self._happens(self._lake.trouble.error_after):
            self._note(f"{what}: answer lost")
            raise OutcomeUnknown(f"{name}: the answer was lost.", name=name)
        if self._happens(self._lake.trouble.repeated):
            self._note(f"{what}: told as AlreadyThere")
            raise AlreadyThere(f"{name!r} is already there.", name=name)

    def put(self, files: Mapping[str, Bytes]) -> None:
        held = {name: bytes(data) for name, data in files.items()}
        self._in_parts("put", list(held), lambda name: self._inner.put({name: held[name]}))

    @contextmanager
    def create(self, name: str) -> Iterator[Sink]:
        self._begin(f"create {name}")
        buffer = BytesIO()
        yield buffer
        self.put({name: buffer.getvalue()})

    def read(self, name: str) -> bytes | None:
        return self._ask(f"read {name}", lambda: self._inner.read(name))

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO | None]:
        data = self._ask(f"open {name}", lambda: self._inner.read(name))
        yield None if data is None else BytesIO(data)

    def stamp(self, name: str) -> str | None:
        return self._ask(f"stamp {name}", lambda: self._inner.stamp(name))

    def names(self, folder: str, *, after: str = "") -> list[str]:
        def listing() -> list[str]:
            return self._inner.names(folder, after=after)

        first = self._ask(f"names {folder} after {after!r}", listing)
        return sorted(self._torn({name: name for name in first}, {n: n for n in listing()}))

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        def listing() -> dict[str, StoredFile]:
            return {file.name: file for file in self._inner.files(folder)}

        first = self._ask(f"files {folder}", listing)
        return iter(self._torn(first, listing()).values())

    def remove(self, names: Iterable[str]) -> None:
        gone = list(names)
        if gone:
            self._in_parts("remove", gone, lambda name: self._inner.remove([name]))

    def settle(self) -> None:
        self._ask("settle", self._inner.settle)

    def recover(self) -> None:
        self._process.check_alive()  # A commit of this store is one step.

    def _torn(self, first: Mapping[str, _Answer], last: dict[str, _Answer]) -> dict[str, _Answer]:
        """A listing that took a while: what came or went meanwhile is in it, or not."""
        coming = sorted(first.keys() ^ last.keys())
        seen = {**first, **last}
        missing = {name for name in coming if self._random.random() < 0.5}
        if missing:
            self._note(f"the listing misses {len(missing)} of {len(coming)}: {sorted(missing)}")
        return {name: seen[name] for name in sorted(seen) if name not in missing}

    def _in_parts(self, verb: str, names: list[str], one: Callable[[str], None]) -> None:
        """Something done to several files: it may end half-way, in any order."""
        what = f"{verb} {', '.join(names)}"
        order = self._random.sample(names, len(names))

        def some(count: int) -> Callable[[], None]:
            def effect() -> None:
                for name in order[:count]:
                    one(name)

            return effect

        self._begin(what)
        if self._happens(self._lake.trouble.late):
            self._later(what, some(len(order)))
            raise self._unavailable(what)
        if self._happens(self._lake.trouble.crash):
            count = self._random.randint(0, len(order))
            self._note(f"{what}: CRASH after {count} of {len(order)}")
            some(count)()
            self._process.crash()
        if self._happens(self._lake.trouble.error_after):
            count = self._random.randint(0, len(order))
            self._effect(f"{what}: fails after {count} of {len(order)}", some(count))
            self._end(what)
            raise self._unavailable(what)
        self._effect(what, some(len(order)))
        self._end(what)

    def _ask(self, what: str, question: Callable[[], _Answer]) -> _Answer:
        """An operation without effects. The answer may be old when the caller gets it."""
        self._begin(what)
        answer = self._effect(what, question)
        self._end(what)
        return answer

    def _begin(self, what: str) -> None:
        self._process.pause(self._lake.trouble.wait_s(self._random, commits=_commits(what)))
        if self._happens(self._lake.trouble.crash):
            self._note(f"{what}: CRASH before")
            self._process.crash()
        if self._happens(self._lake.trouble.error_before):
            self._note(f"{what}: fails")
            raise self._unavailable(what)

    def _end(self, what: str) -> None:
        self._process.pause(self._lake.trouble.wait_s(self._random, commits=_commits(what)))
        if self._happens(self._lake.trouble.crash):
            self._note(f"{what}: CRASH after")
            self._process.crash()

    def _effect(self, what: str, effect: Callable[[], _Answer]) -> _Answer:
        try:
            answer = effect()
        except NeuralakeError as error:
            self._note(f"{what}: {type(error).__name__}")
            raise
        self._note(what)
        return answer

    def _later(self, what: str, effect: Callable[[], None]) -> None:
        def arrive() -> None:
            try:
                effect()
            except AlreadyThere:
                self._process.world.note("network", f"{what}: too late, AlreadyThere")
            else:
                self._process.world.note("network", f"{what} of {self._process.name} arrives")

        self._note(f"{what}: no answer, still on its way")
        self._process.world.later(spread(self._random, 0.01, _LATE_S_MAX), arrive)

    def _happens(self, chance: float) -> bool:
        return chance > 0.0 and self._random.random() < chance

    def _note(self, what: str) -> None:
        self._process.note(what)

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"Cannot {what}: the store does not answer. Nothing was stored.")


def _commits(what: str) -> bool:
    return what.startswith("put_if_absent _delta_log/")
