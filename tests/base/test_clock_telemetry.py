"""Claims about time that is turned by hand, and about what parts count."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from neuralake.clock import ManualClock, SystemClock
from neuralake.telemetry import Telemetry, quantile


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

    assert telemetry.snapshot() == {"rows{host=x,table=a}": 5, "rows": 1, "open": 4}
    assert telemetry.counter("rows", table="a", host="x") == 5
    assert telemetry.counter("never") == 0


def test_samples_are_summed_up_and_bounded() -> None:
    telemetry = Telemetry()
    for i in range(10_000):
        telemetry.observe("commit_s", float(i), table="a")

    values = telemetry.snapshot()

    assert values["commit_s{table=a}.n"] == 4_096
    assert 7_900 < values["commit_s{table=a}.p50"] < 8_000
    assert values["commit_s{table=a}.p99"] > 9_900


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
