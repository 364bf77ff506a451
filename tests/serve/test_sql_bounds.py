"""No query takes the server down, outlives its limits, or keeps the next one from running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
import sql_bombs
from sql_bombs import BOMB_S_MAX, BOMBS, TIGHT
from sql_lake import LIMITS, Lake, arrow

from neuralake.errors import NeuralakeError, QueryError, TimedOut, TooLarge, Unavailable
from neuralake.serve.gateway import Gateway

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def tight(lake: Lake) -> Gateway:
    return Gateway(lake.catalog, processes=1, limits=TIGHT)


@pytest.mark.parametrize("sql", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_ends_and_the_next_query_runs(tight: Gateway, sql: str) -> None:
    """By an answer or an error of ours; whatever process ran it, none is at work afterwards."""
    try:
        assert arrow(tight, sql, timeout_s=BOMB_S_MAX).num_rows <= TIGHT.rows_max
    except (QueryError, TimedOut, TooLarge) as error:
        assert error.message  # noqa: PT017 an answer is as good

    assert arrow(tight, "SELECT 1 AS x").to_pylist() == [{"x": 1}]
    assert tight.running == 0
    assert all(is_at_rest(process_id) for process_id in tight.process_ids)


def is_at_rest(process_id: int) -> bool:
    """Whether the process comes to a stretch in which it uses no time at all."""
    process = psutil.Process(process_id)
    for _ in range(50):
        before = process.cpu_times()
        psutil.Process().cpu_percent(interval=0.05)
        after = process.cpu_times()
        if (after.user, after.system) == (before.user, before.system):
            return True
    return False


def test_no_process_of_the_bombs_held_more_memory_than_its_limit(tmp_path: Path) -> None:
    """The largest process of those that ran the memory bombs, as the kernel counted it."""
    driver = [sys.executable, str(Path(sql_bombs.__file__)), str(tmp_path)]
    answer = subprocess.run(driver, capture_output=True, text=True, check=True)

    # The watch ends a query soon after its limit, the kernel at once where this ends: above the
    # code (100 MiB), what is held or reserved before the first query (240), and stacks (128).
    assert int(answer.stdout) < TIGHT.memory_bytes_max + 470 * MIB


ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"


def test_the_time_limit_ends_the_process_that_ran_the_query(lake: Lake) -> None:
    limits = msgspec.structs.replace(LIMITS, timeout_s=3.0)
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway:
        arrow(gateway, "SELECT 1")
        (before,) = gateway.process_ids

        with pytest.raises(TimedOut) as caught, gateway.query(ENDLESS, "json", timeout_s=1.0) as q:
            q.open()

        assert caught.value.timeout_s == 1.0
        assert not psutil.pid_exists(before)
        assert arrow(gateway, "SELECT 1").num_rows == 1


def test_a_time_limit_of_the_caller_cannot_exceed_that_of_the_lake(lake: Lake) -> None:
    limits = msgspec.structs.replace(LIMITS, timeout_s=0.5)
    with (
        Gateway(lake.catalog, processes=1, limits=limits) as gateway,
        pytest.raises(TimedOut) as caught,
        gateway.query(ENDLESS, "json", timeout_s=3600) as query,
    ):
        query.open()

    assert caught.value.timeout_s == 0.5


def test_rows_are_cut_at_the_limit_and_the_answer_says_so(gateway: Gateway) -> None:
    with gateway.query("SELECT * FROM generate_series(1, 5000)", "json") as query:
        head = query.open()
        rows = msgspec.json.decode(b"".join(query.parts()))

    assert (head.truncated, head.rows) == (True, LIMITS.rows_max)
    assert rows["truncated"] is True
    assert [row[0] for row in rows["rows"]] == list(range(1, LIMITS.rows_max + 1))


@pytest.mark.parametrize(("limit", "truncated"), [(0, True), (2, True), (3, False), (4, False)])
def test_a_limit_of_the_caller_cuts(gateway: Gateway, limit: int, truncated: bool) -> None:
    with gateway.query("VALUES (1), (2), (3)", "json", limit=limit) as query:
        assert query.open().truncated is truncated
        assert len(msgspec.json.decode(b"".join(query.parts()))["rows"]) == min(limit, 3)


def test_a_long_answer_in_arrow_fails_rather_than_being_cut_unseen(lake: Lake) -> None:
    """It is already on its way when the row limit comes, and Arrow cannot say that it was cut."""
    limits = msgspec.structs.replace(LIMITS, rows_max=50_000, held_bytes_max=10_000)
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway:
        with gateway.query("SELECT * FROM generate_series(1, 60000)", "arrow") as query:
            assert query.open().truncated is None
            with pytest.raises(TooLarge):
                b"".join(query.parts())

        rows = arrow(gateway, "SELECT * FROM generate_series(1, 60000)", limit=40_000)
        assert rows.num_rows == 40_000


def test_an_answer_of_too_many_bytes_fails(lake: Lake) -> None:
    limits = msgspec.structs.replace(LIMITS, answer_bytes_max=1_000_000)
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway, pytest.raises(TooLarge):
        arrow(gateway, "SELECT repeat('x', 10000) FROM generate_series(1, 500)")


def test_more_queries_than_may_wait_are_refused_at_once(lake: Lake) -> None:
    with Gateway(lake.catalog, processes=1, waiting_max=1, limits=LIMITS) as gateway:
        first = gateway.query(ENDLESS, "json")
        second = gateway.query("SELECT 1", "json")

        with pytest.raises(Unavailable) as caught:
            gateway.query("SELECT 1", "json")

        assert caught.value.retry_after_s > 0
        first.close()
        second.close()
        assert arrow(gateway, "SELECT 1").num_rows == 1


def test_a_waiting_query_runs_when_its_turn_comes_and_can_be_cancelled(lake: Lake) -> None:
    with (
        Gateway(lake.catalog, processes=1, limits=LIMITS) as gateway,
        ThreadPoolExecutor(3) as threads,
    ):
        running = gateway.query(ENDLESS, "json")
        opened = threads.submit(running.open)
        waiting, leaving = gateway.query("SELECT 1", "json"), gateway.query("SELECT 1", "json")
        answers = threads.submit(waiting.open), threads.submit(leaving.open)

        leaving.cancel(Unavailable("gone"))
        with pytest.raises(Unavailable, match="gone"):
            answers[1].result()
        running.cancel(Unavailable("enough"))
        with pytest.raises(Unavailable, match="enough"):
            opened.result()
        for query in (running, leaving):
            query.close()

        assert answers[0].result().rows == 1
        waiting.close()
        assert gateway.running == 0


def test_many_callers_share_few_processes(lake: Lake) -> None:
    with (
        Gateway(lake.catalog, processes=2, waiting_max=30, limits=LIMITS) as gateway,
        ThreadPoolExecutor(30) as threads,
    ):
        barrier = threading.Barrier(30)

        def ask(number: int) -> int:
            barrier.wait()
            rows = arrow(gateway, f"VALUES ({number})")
            return int(rows[0][0].as_py())

        assert list(threads.map(ask, range(30))) == list(range(30))
        assert len(gateway.process_ids) <= 2


def test_a_process_that_died_while_idle_is_replaced(lake: Lake) -> None:
    with Gateway(lake.catalog, processes=1, limits=LIMITS) as gateway:
        arrow(gateway, "SELECT 1")
        (before,) = gateway.process_ids
        os.kill(before, 9)

        assert arrow(gateway, "SELECT 1").num_rows == 1
        assert gateway.process_ids != [before]


def test_a_closed_gateway_leaves_no_process_and_no_folder(lake: Lake) -> None:
    gateway = Gateway(lake.catalog, processes=1, limits=LIMITS)
    arrow(gateway, "SELECT 1")
    (process,) = (psutil.Process(number) for number in gateway.process_ids)
    folder = Path(process.cwd())
    assert folder.is_dir()

    gateway.close()

    assert not process.is_running()
    assert not folder.exists()


def test_what_a_query_spills_goes_to_its_own_folder_and_is_removed(lake: Lake) -> None:
    limits = msgspec.structs.replace(LIMITS, memory_bytes_max=256 * MIB)
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway:
        arrow(gateway, "SELECT 1")
        (process_id,) = gateway.process_ids
        folder = Path(psutil.Process(process_id).cwd())
        rows = arrow(
            gateway,
            "EXPLAIN ANALYZE SELECT value, repeat('x', 20) t FROM generate_series(1, 6000000) "
            "ORDER BY -value",
        )
        assert re.search(r"spill_count=[1-9]", str(rows.to_pylist()))
        assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_an_error_keeps_its_kind_and_facts(gateway: Gateway) -> None:
    with pytest.raises(NeuralakeError) as caught, gateway.query("SELECT nope", "json") as query:
        query.open()

    assert isinstance(caught.value, QueryError)
    assert caught.value.reason == "plan"
    assert "nope" in caught.value.message
