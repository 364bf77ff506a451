"""What is shown is what was measured, on a terminal and in a log."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from neuralake.demo.log_watch import Compaction
from neuralake.demo.panel import line, panel, sparkline
from neuralake.demo.status import FreshnessStatus, Meter, Status, StreamStatus


def status(*, restarts: dict[str, int] | None = None, is_waiting: bool = False) -> Status:
    stream = StreamStatus(
        table="air.flights",
        rates=(6000.0, 6451.0),
        acknowledged=151_233,
        answer_p50_ms=1.24,
        answer_p99_ms=14.0,
        commits=212,
        files_written=210,
        files_live=13,
        retries=0,
        is_waiting=is_waiting,
        is_over=False,
    )
    return Status(
        elapsed_s=23.4,
        seconds=30.0,
        url="http://127.0.0.1:4321",
        data_time=datetime(2013, 6, 3, tzinfo=UTC),
        data_share=0.42,
        speed_up=604_800.0,
        streams=(stream,),
        freshness=(
            FreshnessStatus("live frame", 28.0, 41.0, 12, (20.0, 30.0)),
            FreshnessStatus("Delta table", math.nan, math.nan, 0, ()),
        ),
        compactions=(Compaction("air.flights", 96, 1),),
        cursor={"x": 0.5, "y": 0.0, "target_x": 1.0, "target_y": 0.0},
        restarts=restarts or {"write": 0},
    )


def shown(now: Status, *, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(panel(now, width=width))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # on purpose
    return text


def test_the_panel_has_every_number() -> None:
    text = shown(status())

    for part in (
        *("air.flights", "6,451", "151,233", "1.2 ms / 14 ms", "212", "210 → 13"),
        *("28 ms", "41 ms", "03 June 2013", "42%", "96 files → 1", "http://127.0.0.1:4321"),
        *("23 of 30 s", "a week each second", "●", "◎"),
    ):
        assert part in text


@pytest.mark.parametrize("width", [80, 110, 200])
def test_the_panel_fits_a_small_terminal_and_cuts_no_number(width: int) -> None:
    lines = shown(status(), width=width).splitlines()

    assert len(lines) <= 24
    assert "…" not in "".join(lines)
    assert all(len(text) <= width for text in lines)


def test_trouble_is_seen_in_both() -> None:
    troubled = status(restarts={"write": 2, "serve": 0}, is_waiting=True)

    assert "started again: write 2x" in shown(troubled)
    assert "sends again" in shown(troubled)
    assert "started again: write 2x" in line(troubled)


def test_the_line_has_the_main_numbers() -> None:
    assert line(status()) == (
        " 23.4 s  151,233 acknowledged (6,451/s), 212 commits, files 210 -> 13; "
        "age of the newest row: live frame p50 28 ms p99 41 ms, Delta table p50 - p99 -"
    )


@given(st.lists(st.floats(min_value=0, max_value=1e9)), st.integers(min_value=1, max_value=50))
def test_a_sparkline_has_a_bar_for_each_of_the_last_values(values: list[float], width: int) -> None:
    bars = sparkline(values, width=width)

    assert len(bars) == min(width, len(values))
    if any(values[-width:]):
        assert "█" in bars


def test_a_meter_gives_the_rate_over_about_a_second() -> None:
    meter = Meter()
    for tick in range(20):
        meter.update(tick * 0.25, tick * 100)

    assert set(meter.rates) == {400.0}
