"""A query sees one version of a table, whatever writers and maintenance do meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
from sql_lake import LIMITS, arrow, make_lake

from neuralake import delta
from neuralake.serve.gateway import Gateway

ROWS = 7


def test_reads_beside_a_writer_compaction_and_vacuum_see_whole_commits(tmp_path: Path) -> None:
    """Each commit adds `ROWS` rows that sum to 0, over two partitions: a torn read would show."""
    lake = make_lake(tmp_path)
    uri = lake.uri("numbers")
    batch = pa.table(
        {"n": [-3, -2, -1, 0, 1, 2, 3], "part": ["a", "b", "a", "b", "a", "b", "a"]},
    )
    stop = threading.Event()
    failures: list[BaseException] = []

    def loop(step: str) -> None:
        log = delta.TableLog.open(uri)
        try:
            while not stop.is_set():
                if step == "write":
                    log.append(batch)
                else:
                    delta.compact_once(uri, target_bytes=2**20, files_min=2)
                    delta.checkpoint(uri)
                    delta.vacuum(uri, retention_hours=1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(step,)) for step in ("write", "maintain")]
    with Gateway(lake.catalog, processes=1, limits=LIMITS) as gateway:
        for thread in threads:
            thread.start()
        try:
            counts = []
            for where in ["", "WHERE part IN ('a', 'b')", "WHERE n > -100"] * 8:
                sql = f"SELECT count(*) AS rows, sum(n) AS total FROM lab.numbers {where}"  # noqa: S608 our own text
                (row,) = arrow(gateway, sql).to_pylist()
                assert row["rows"] % ROWS == 0
                assert not row["total"]
                counts.append(row["rows"])
            twice = arrow(
                gateway,
                "SELECT (SELECT count(*) FROM lab.numbers) - (SELECT count(*) FROM "
                "(SELECT n FROM lab.numbers UNION ALL SELECT 1 WHERE false)) AS difference",
            )
            assert twice["difference"].to_pylist() == [0]
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    assert not failures
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
