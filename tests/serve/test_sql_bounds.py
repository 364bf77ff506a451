"""No query takes the server down, outlives its limits, or keeps the next one from running."""

from __future__ import annotations

import os
import re
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from sql_lake import LIMITS, Lake, arrow

from neuralake.errors import NeuralakeError, QueryError, TimedOut, TooLarge, Unavailable
from neuralake.serve.gateway import Gateway

MIB = 1024 * 1024
TIGHT = msgspec.structs.replace(LIMITS, timeout_s=30.0, memory_bytes_max=256 * MIB)
# Short for the bombs alone: what follows them must succeed on a busy machine too.
BOMB_S_MAX = 0.8

BOMBS = {
    "long series": "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "long sum": "SELECT sum(value) FROM generate_series(1, 1000000000000)",
    "cross join": "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) a, "
    "generate_series(1, 1000000) b",
    "cross join that only counts": "SELECT count(*) FROM generate_series(1, 1000000) a, "
    "generate_series(1, 1000000) b",
    "nested loop join": "SELECT count(*) FROM generate_series(1, 1000000) a LEFT JOIN "
    "generate_series(1, 1000000) b ON a.value * b.value < 0",
    "recursion": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) "
    "SELECT count(*) FROM t",
    "recursion that streams": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) "
    "SELECT sum(n) FROM t",
    "recursion that doubles": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT a.n + 1 FROM "
    "t a, (SELECT 1 UNION ALL SELECT 2) b) SELECT count(*) FROM t",
    "huge text": "SELECT repeat('x', 10000000000)",
    "large text": "SELECT length(repeat('x', 2000000000))",
    "text of texts": "SELECT length(repeat(repeat('x', 100000), 20000))",
    "padding": "SELECT lpad('x', 2000000000)",
    "huge range": "SELECT range(0, 10000000000)",
    "large range": "SELECT array_length(generate_series(1, 1000000000))",
    "huge array": "SELECT array_repeat(1, 10000000000)",
    "regex with backtracking": "SELECT regexp_like(repeat('a', 100000), '(a*)*(a*)*(a*)*b') "
    "FROM generate_series(1, 100000)",
    "regex that is large": "SELECT regexp_like('a', '((a{1,1000}){1,1000}){1,1000}')",
    "edit distance": "SELECT levenshtein(repeat('a', 200000), repeat('b', 200000))",
    "sort": "SELECT value FROM generate_series(1, 300000000) ORDER BY -value "
    "LIMIT 5 OFFSET 2000000",
    "many groups": "SELECT count(*) FROM (SELECT value, count(*) FROM "
    "generate_series(1, 1000000000) GROUP BY value)",
    "collected array": "SELECT array_length(array_agg(value)) FROM generate_series(1, 1000000000)",
    "collected text": "SELECT length(string_agg(repeat('x', 1000), ',')) FROM "
    "generate_series(1, 100000000)",
    "hash join": "SELECT count(*) FROM generate_series(1, 100000000) a JOIN "
    "generate_series(1, 1000000000) b ON a.value = b.value",
    "distinct": "SELECT count(DISTINCT value) FROM generate_series(1, 1000000000)",
    "median": "SELECT median(value) FROM generate_series(1, 2000000000)",
    "window": "SELECT max(s) FROM (SELECT sum(value) OVER (ORDER BY value ROWS BETWEEN 1000000 "
    "PRECEDING AND CURRENT ROW) s FROM generate_series(1, 100000000))",
    "rows as wide as the limit": "SELECT repeat('x', 1000000) FROM generate_series(1, 1000000)",
    "parentheses": "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "signs": "SELECT " + "- " * 20_000 + "1",
    "sum of many": "SELECT " + "+".join(["1"] * 20_000),
    "concatenation": "SELECT " + "||".join(["'a'"] * 10_000),
    "conditions": "SELECT 1 WHERE " + " AND ".join(["1=1"] * 6_000),
    "casts": "SELECT 1" + "::int" * 12_000,
    "functions in functions": "SELECT " + "abs(" * 10_000 + "1" + ")" * 10_000,
    "queries in queries": "SELECT * FROM " + "(SELECT * FROM " * 3_000 + "(SELECT 1)" + ")" * 3_000,
    "unions": " UNION ALL ".join(["SELECT 1"] * 3_400),
    "explained explanations": "EXPLAIN " * 8_000 + "SELECT 1",
    "types in types": "SELECT cast(NULL AS " + "array<" * 8_000 + "int" + ">" * 8_000 + ")",
    "joins that double": "WITH c0 AS (SELECT 1 AS x)"  # noqa: S608 no input of anybody
    + "".join(f", c{i} AS (SELECT a.x FROM c{i - 1} a, c{i - 1} b)" for i in range(1, 20))  # noqa: S608
    + " SELECT count(*) FROM c19",
}


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


def test_no_process_of_the_bombs_held_more_memory_than_its_limit(tight: Gateway) -> None:
    """The largest of all child processes that ended, as the kernel counted it."""
    arrow(tight, "SELECT 1")
    tight.close()

    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    # What the engine's code and threads need before the first query: 170 MiB.
    assert largest < TIGHT.memory_bytes_max + 300 * MIB


ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b"


def test_the_time_limit_ends_the_process_that_ran_the_query(lake: Lake) -> None:
    limits = msgspec.structs.replace(LIMITS, timeout_s=3.0)
    with Gateway(lake.catalog, processes=1, limits=limits) as gateway:
        arrow(gateway, "SELECT 1")
        (before,) = gateway.process_ids

        with pytest.raises(TimedOut) as caught, gateway.query(ENDLESS, "json", timeout_s=0.3) as q:
            q.open()

        assert caught.value.timeout_s == 0.3
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
