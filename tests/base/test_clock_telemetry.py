"""Claims about time that is turned by hand, and about what parts count."""

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralake.clock import ManualClock, SystemClock
from neuralake.telemetry import BOUNDS_S, Series, Telemetry, quantile, shared, told


def test_a_manual_clock_moves_by_what_is_waited_and_told() -> None:
    clock = ManualClock(100.0)
    stop = threading.Event()

    assert not clock.wait_s(5, stop)
    clock.advance(2.5)
    clock.wait_s(-1, stop)

    assert clock.now_s() == clock.monotonic_s() == 107.5
    stop.set()
    assert clock.wait_s(1, stop)


def test_a_wait_on_the_system_clock_ends_at_once_when_it_is_stopped() -> None:
    stop = threading.Event()
    stop.set()

    assert SystemClock().wait_s(3_600, stop)
    assert not SystemClock().wait_s(-1, threading.Event())


def test_the_monotonic_clock_does_not_go_back() -> None:
    clock = SystemClock()

    assert clock.monotonic_s() <= clock.monotonic_s()
    assert clock.now_s() > 1_700_000_000


def test_series_are_told_apart_by_name_and_labels_in_any_order() -> None:
    telemetry = Telemetry()
    telemetry.count("rows", 2, table="a", host="x")
    telemetry.count("rows", 3, host="x", table="a")
    telemetry.count("rows")
    telemetry.gauge("open", 1)
    telemetry.gauge("open", 4)

    assert sorted(telemetry.series(), key=lambda one: (one.name, one.labels)) == [
        Series("gauge", "open", (), 4),
        Series("counter", "rows", (), 1),
        Series("counter", "rows", (("host", "x"), ("table", "a")), 5),
    ]
    assert telemetry.counter("rows", table="a", host="x") == 5
    assert telemetry.counter("rows") == 6
    assert telemetry.counter("never") == 0


def test_durations_are_counted_in_buckets_by_their_upper_bound() -> None:
    telemetry = Telemetry()
    for seconds in (0.0, 0.0005, 0.00051, 0.7, 61.0, 1e9):
        telemetry.observe("commit_seconds", seconds, table="a")

    (found,) = telemetry.series()

    assert (found.kind, found.labels) == ("histogram", (("table", "a"),))
    assert found.value == pytest.approx(1e9 + 61.70101)
    assert len(found.counts) == len(BOUNDS_S) + 1
    assert {i: n for i, n in enumerate(found.counts) if n} == {
        0: 2,
        1: 1,
        BOUNDS_S.index(1.0): 1,
        len(BOUNDS_S): 2,
    }


def test_what_a_process_tells_is_read_by_others_until_it_ends(tmp_path: Path) -> None:
    telemetry = Telemetry()
    telemetry.count("rows", 7, table="a")

    with shared(tmp_path, "write", telemetry):
        while not (found := told(tmp_path)):
            threading.Event().wait(0.01)
        # As another machine's clock, or this one's after the process was killed.
        old = told(tmp_path, clock=ManualClock(found[0].told_s + 20))
    after = told(tmp_path)

    assert [(one.part, one.pid) for one in found] == [("write", os.getpid())]
    assert Series("counter", "rows", (("table", "a"),), 7) in found[0].series
    assert (old, after) == ([], [])


def test_what_is_no_file_of_ours_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "write-1.json").write_bytes(b'{"part": 3}')
    (tmp_path / "metrics" / "write-2.json").write_bytes(b"")

    assert told(tmp_path) == []


def test_where_nothing_can_be_written_the_part_goes_on(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file where the folder should be")

    with shared(tmp_path, "write", Telemetry()):
        pass

    assert (tmp_path / "metrics").is_file()


def test_counts_of_many_threads_add_up() -> None:
    telemetry = Telemetry()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: telemetry.count("n"), range(4_000)))

    assert telemetry.counter("n") == 4_000


def test_no_samples_have_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_sample_with_that_share_at_or_below_it(
    samples: list[float], share: float
) -> None:
    value = quantile(samples, share)

    assert value in samples
    assert sum(sample <= value for sample in samples) >= share * len(samples)
    assert quantile(samples, 0) == min(samples)
    assert quantile(samples, 1) == max(samples)
