"""`up` shows when, who, how bad and what, and is not filled by one error."""

from __future__ import annotations

import io
import json
import re

from neuralake.cli.part_lines import PartLines
from neuralake.cli.terminal import Terminal
from neuralake.clock import ManualClock


def lines_of(said: list[tuple[float, str, str]]) -> list[str]:
    """What is shown of `(seconds since the last, part, line)`."""
    out, clock = io.StringIO(), ManualClock()
    lines = PartLines(Terminal(file=out, width=40), clock=clock)
    for after_s, part, line in said:
        clock.advance(after_s)
        lines.show(part, line)
    return out.getvalue().splitlines()


def test_a_line_has_the_time_and_the_part_in_one_piece() -> None:
    (line,) = lines_of([(0, "write", "ERROR lab.events needs attention: " + "x" * 100)])

    assert re.fullmatch(
        r"\d\d:\d\d:\d\d    write \| ERROR lab.events needs attention: x{100}", line
    )


def test_an_error_that_stays_is_shown_three_times_and_then_once_a_minute() -> None:
    """A part that ends every 10 s for two minutes; its process ids differ."""
    said = [(10.0, "up", f"WARNING write (process {n}) ended with exit code 70") for n in range(12)]

    shown = [line.split("process ")[1] for line in lines_of(said)]

    assert shown == [
        "0) ended with exit code 70",
        "1) ended with exit code 70",
        "2) ended with exit code 70",
        "8) ended with exit code 70 (9 times so far)",
    ]


def test_other_lines_are_all_shown() -> None:
    said = [
        *[(0.0, "serve", "lab.events: 10 files became 1")] * 10,
        *[(0.0, "compact", "WARNING lab.events")] * 3,
        *[(0.0, "vacuum", "WARNING lab.events")] * 3,
        *[(61.0, "vacuum", "WARNING lab.events")] * 10,
    ]

    shown = lines_of(said)

    assert len(shown) == len(said)
    assert not [line for line in shown if "times" in line]


def test_as_json_every_line_is_an_object_and_those_of_parts_come_as_they_are() -> None:
    out, clock = io.StringIO(), ManualClock(1_000.0)
    lines = PartLines(Terminal(file=out, width=40), as_json=True, clock=clock)
    own = '{"part":"write","message":"' + "x" * 100 + '"}'
    for _ in range(5):
        lines.show("write", own)
    lines.show("serve", "Traceback \x1b[31m{")

    *first, last = out.getvalue().splitlines()

    assert first == [own] * 5
    assert "\x1b" not in last
    assert json.loads(last) == {
        "time": "1970-01-01T00:16:40.000Z",
        "level": "INFO",
        "part": "serve",
        "message": "Traceback \x1b[31m{",
    }
