"""Processes that run one at a time in virtual time: a seed decides who goes on, and when.

Each process has a thread, but only one thread runs at any moment: it keeps running until it pauses,
and then the process whose time comes next goes on. Time passes only in pauses, so weeks take
milliseconds, and the same seed gives the same run, step by step. A process may crash: whatever it
still tries, its clean-up code too, reaches nothing any more.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

__all__ = ["Crash", "Process", "ProcessClock", "Step", "Violation", "World", "determined"]

_BEGIN_S = 1_700_000_000.0
# Far beyond any honest run of a few hundred rounds: somebody tries the same thing for ever.
_STEPS_MAX = 60_000


class Crash(BaseException):
    """The process is dead. Not an Exception: no code of ours may catch it and go on."""


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the trace: at `now_s`, process `who` did `what`."""

    number: int
    now_s: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.number:6d} {_told(self.now_s - _BEGIN_S)} {self.who:14s} {self.what}"


class Process:
    """What runs on one machine between two crashes: a thread, a clock, and the right to act."""

    def __init__(self, world: World, name: str, *, skew_s: float) -> None:
        self.world, self.name = world, name
        self.is_dead = False
        self.clock = ProcessClock(self, skew_s)
        self.turn = threading.Lock()
        self.turn.acquire()

    def pause(self, seconds: float) -> None:
        """Let `seconds` pass, and others act; it may be that this process wakes up no more."""
        self.check_alive()
        self.world.switch(self, seconds)

    def crash(self) -> None:
        self.is_dead = True
        raise Crash

    def check_alive(self) -> None:
        if self.is_dead:
            raise Crash

    def note(self, what: str) -> None:
        self.world.note(self.name, what)


class ProcessClock:
    """A clock of one machine: a few seconds off, and as fast as the others."""

    def __init__(self, process: Process, skew_s: float) -> None:
        self._process, self._skew_s = process, skew_s

    def now_s(self) -> float:
        return self._process.world.now_s + self._skew_s

    def monotonic_s(self) -> float:
        return self._process.world.now_s - _BEGIN_S

    def wait_s(self, seconds: float, stop: threading.Event) -> bool:
        if not stop.is_set():
            self._process.pause(max(0.0, seconds))
        return stop.is_set()


class World:
    """The virtual time, who waits for which moment of it, and what happened."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = _BEGIN_S
        self.trace: list[tuple[float, str, str]] = []
        self.failure: BaseException | None = None
        self.is_over = False
        self._agenda: list[tuple[float, int, Process | Callable[[], None]]] = []
        self._count = 0
        self._done = threading.Lock()
        self._done.acquire()
        self._alive = 0

    def start(self, name: str, body: Callable[[Process], None], *, delay_s: float = 0.0) -> None:
        """Begin a process after `delay_s`; an exception of `body` but Crash fails the run."""
        process = Process(self, name, skew_s=self.random.uniform(-2.0, 2.0))
        self._plan(delay_s, process)
        self._alive += 1
        threading.Thread(target=self._live, args=(process, body), name=name, daemon=True).start()

    def later(self, delay_s: float, event: Callable[[], None]) -> None:
        """Let `event` happen after `delay_s`, whoever runs or is dead then."""
        self._plan(delay_s, event)

    def run(self) -> None:
        """Let every process come to its end; raise what failed first."""
        if self._alive:
            self._hand_over()
            self._done.acquire()
        if self.failure is not None:
            raise self.failure

    def switch(self, process: Process, seconds: float) -> None:
        self._plan(seconds, process)
        following = self._next()
        if following is not process:
            assert following is not None
            following.turn.release()
            process.turn.acquire()
        self._wake(process)

    def note(self, who: str, what: str) -> None:
        self.trace.append((self.now_s, who, what))

    def steps(self) -> Iterator[Step]:
        for number, (now_s, who, what) in enumerate(self.trace):
            yield Step(number, now_s, who, what)

    def fail(self, failure: BaseException) -> None:
        """End the run: nobody acts any more, not even to react to this."""
        if self.failure is None:
            self.failure = failure
            self.note("world", f"FAILED {type(failure).__name__}: {failure}")
        self.is_over = True

    def _plan(self, delay_s: float, what: Process | Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (self.now_s + delay_s, self._count, what))

    def _live(self, process: Process, body: Callable[[Process], None]) -> None:
        process.turn.acquire()
        try:
            self._wake(process)
            body(process)
        except Crash:
            process.is_dead = True
        except BaseException as error:
            self.fail(error)
        self._alive -= 1
        self._hand_over()

    def _wake(self, process: Process) -> None:
        if self.is_over:
            process.crash()
        if self._count > _STEPS_MAX:
            self.fail(Violation(f"The run does not come to an end ({_STEPS_MAX} steps)."))
            process.crash()

    def _hand_over(self) -> None:
        following = self._next()
        (following.turn if following is not None else self._done).release()

    def _next(self) -> Process | None:
        """The process whose time has come; what happens by itself before it, happens."""
        while self._agenda:
            due_s, _, what = heapq.heappop(self._agenda)
            if isinstance(what, Process):
                self.now_s = max(self.now_s, due_s)
                return what
            if not self.is_over:
                self.now_s = max(self.now_s, due_s)
                try:
                    what()
                except Exception as error:
                    self.fail(error)
        return None


@contextlib.contextmanager
def determined(seed: int) -> Iterator[None]:
    """What the standard library leaves to chance is decided by the seed.

    `uuid.uuid4`: ids name files, and names decide the order of listings. Thread pools: what they do
    at once is done one after the other, in an order of the seed's.
    """
    ids, order = random.Random(f"ids {seed}"), random.Random(f"order {seed}")
    uuid4, pooled = uuid.uuid4, ThreadPoolExecutor.map

    def one_by_one(
        _pool: ThreadPoolExecutor, step: Callable[..., object], *arguments: Iterable[object]
    ) -> Iterator[object]:
        calls = [*zip(*arguments, strict=False)]
        futures: list[Future[object]] = [Future() for _ in calls]
        for i in order.sample(range(len(calls)), len(calls)):
            try:
                futures[i].set_result(step(*calls[i]))
            except Exception as error:
                futures[i].set_exception(error)
        return (future.result() for future in futures)

    uuid.uuid4 = lambda: uuid.UUID(int=ids.getrandbits(128), version=4)
    ThreadPoolExecutor.map = one_by_one  # type: ignore[assignment]  # wider than the original
    try:
        yield
    finally:
        uuid.uuid4 = uuid4
        ThreadPoolExecutor.map = pooled  # type: ignore[method-assign]  # as it was


def _told(seconds: float) -> str:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{int(days):3d}d {int(hours):02d}:{int(minutes):02d}:{rest:06.3f}"
