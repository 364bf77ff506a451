"""The requests of a commit by what they are for, and a door that stops or cuts one of them.

In DynamoDB mode a commit is: put the data, put the entry aside (`temp`), put the lock item if
absent (`item`), `copy` the entry to its name, mark the item complete (`complete`), perhaps remove
what is aside (`clean`). With conditional PUT: the data, the `entry` if absent.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Literal

from gate_proxy import Request, Verdict, gate
from service_table import ServiceTable

__all__ = ["Moment", "Step", "StepDoor", "step_of"]

Step = Literal["data", "entry", "temp", "item", "copy", "complete", "clean"]
Moment = Literal["before", "after"]

_ENTRY = re.compile(r"/_delta_log/\d{20}\.json$")


def step_of(request: Request) -> Step | None:
    """What `request` is for; None: it changes nothing, or is no part of a commit."""
    if request.target:
        steps: dict[str, Step] = {"PutItem": "item", "UpdateItem": "complete"}
        return steps.get(request.target)
    if request.is_copy:
        return "copy"
    if request.method == "DELETE":
        return "clean"
    if request.method != "PUT":
        return None
    if _ENTRY.search(request.path):
        return "entry"
    return "temp" if "/_delta_log/" in request.path else "data"


class StepDoor:
    """Lets every request pass but the `occurrence`-th of `step`, of which `act` is the judge."""

    def __init__(
        self, step: Step, moment: Moment, act: Callable[[], Verdict], *, occurrence: int = 1
    ) -> None:
        self._wanted, self._left, self._act = (step, moment), occurrence, act
        self._lock = threading.Lock()
        self.is_reached = False
        self.seen: list[Request] = []

    def judge(self, request: Request) -> Verdict:
        with self._lock:
            self.seen.append(request)
            moment = "after" if request.is_answered else "before"
            if (step_of(request), moment) != self._wanted:
                return "pass"
            self._left -= 1
            if self._left:
                return "pass"
            self.is_reached = True
        return self._act()

    @contextlib.contextmanager
    def of(self, table: ServiceTable) -> Iterator[ServiceTable]:
        """`table` seen through this door."""
        with contextlib.ExitStack() as stack:
            endpoints = {"s3": stack.enter_context(gate(table.account.s3_endpoint, self.judge))}
            if table.account.dynamodb_endpoint:
                endpoints["dynamodb"] = stack.enter_context(
                    gate(table.account.dynamodb_endpoint, self.judge)
                )
            yield table.through(**endpoints)
