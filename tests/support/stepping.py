"""Stop a commit between any two of its steps: crash there, or let others act meanwhile.

`stepping(part, step)` calls `step` before and after each request to a store or a lock table.
`take_turns` runs several commits at once, one request at a time, in an order that the test chooses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["Crash", "crash_at", "stepping", "take_turns"]

_Part = TypeVar("_Part")
# What asks a server; the rest of a part is told without one.
_REQUESTS = {"put", "put_if_absent", "read", "stamp", "remove", "get", "complete", "newest"}


class Crash(BaseException):
    """The process ended here: no handler of ours may catch it."""


class _Stepping:
    def __init__(self, part: Any, step: Callable[[str], None]) -> None:
        self._part, self._step = part, step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name not in _REQUESTS:
            return found

        def request(*args: Any, **kwargs: Any) -> Any:
            what = f"{type(self._part).__name__}.{name}"
            self._step(f"before {what}")
            answer = found(*args, **kwargs)
            if isinstance(answer, Iterator):
                answer = iter([*answer])
            self._step(f"after {what}")
            return answer

        return request


def stepping(part: _Part, step: Callable[[str], None]) -> _Part:
    """`part`, with `step("before …")` and `step("after …")` around each request."""
    wrapped: Any = _Stepping(part, step)
    return wrapped  # type: ignore[no-any-return] # it has every method of the part


def crash_at(number: int) -> Callable[[str], None]:
    """A step that lets `number` others pass, and ends the process at the next one."""
    rest = iter(range(number))

    def step(_what: str) -> None:
        if next(rest, None) is None:
            raise Crash

    return step


def take_turns(
    commits: Sequence[Callable[[Callable[[str], None]], None]], choose: Callable[[int], int]
) -> None:
    """Run `commits` at once; before each step `choose(n)` says which of the n unfinished goes on.

    Each commit is a function that is given its `step`. Exceptions other than Crash are raised here.
    """
    free = [threading.Semaphore(0) for _ in commits]
    paused = threading.Semaphore(0)
    going = [*range(len(commits))]
    errors: list[BaseException] = []

    def run(me: int) -> None:
        def step(_what: str) -> None:
            paused.release()
            free[me].acquire()

        free[me].acquire()
        try:
            commits[me](step)
        except Crash:
            pass
        except BaseException as error:
            errors.append(error)
        finally:
            going.remove(me)
            paused.release()

    threads = [threading.Thread(target=run, args=(me,), daemon=True) for me in going]
    for thread in threads:
        thread.start()
    while going:
        free[going[choose(len(going))]].release()
        paused.acquire()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
