"""A row's way with its lake in a bucket: sent, committed, compacted, read in every way."""

from __future__ import annotations

import httpx
import polars as pl
import pytest
from delta_tables import delete_rows, inline_vector
from lab_project import eventually
from store_lake import SCHEMA, StoreLake, payload_of, rows_of

import neuralake as nl
from neuralake import delta
from neuralake.delta.files import store_name
from neuralake.maintain import checkpoint_all, compact_all
from neuralake.manifest import describe
from neuralake.serve.query import query

BATCHES = 6


def test_a_row_reaches_every_reader_and_compaction_changes_none(lake: StoreLake) -> None:
    catalog = lake.catalog()
    frame = catalog.db("lab").table("events")
    with nl.Platform(catalog) as platform:
        for batch in range(BATCHES):
            rows = rows_of(*range(10 * batch, 10 * batch + 10))
            answer = httpx.post(
                f"{platform.url}/v1/lab/events?wait=committed", json=rows, timeout=60
            )
            assert answer.status_code == 200, answer.text
        live = catalog.db("lab").table("events", live=True)
        assert sorted(live.collect()["id"]) == list(range(10 * BATCHES))
        sql = "SELECT count(*) AS n, sum(id) AS total FROM lab.events"
        found = httpx.post(f"{platform.url}/api/sql", json={"sql": sql}, timeout=60).json()

    ids = list(range(10 * BATCHES))
    assert found["rows"] == [[len(ids), sum(ids)]]
    before = delta.snapshot(lake.store())
    compact_all(catalog)
    checkpoint_all(catalog)
    after = delta.snapshot(lake.store())
    assert len(after.files) <= min(2, len(before.files))
    assert sorted(frame.collect()["id"]) == ids
    one = frame.filter(pl.col("site") == "s 1/ü", pl.col("id") < 20).select("id").collect()
    assert sorted(one["id"]) == list(range(1, 20, 2))
    where = "WHERE site = 's 1/ü' AND id < 20"
    selected = query(catalog, f"SELECT id FROM lab.events {where}")  # noqa: S608 our own text
    assert sorted(selected["id"].to_pylist()) == list(range(1, 20, 2))
    (table,) = [each for each in describe(catalog).tables() if each.name == "events"]
    assert (table.problem, table.coordination) == (None, lake.coordination)
    assert table.log is not None
    assert (table.log.rows, table.log.version) == (len(ids), after.version)


def test_a_selective_frame_opens_only_the_files_it_needs(lake: StoreLake) -> None:
    catalog, store = lake.catalog(), lake.store()
    schema = catalog.definition("lab", "events").schema
    assert schema is not None
    delta.create_table(store, schema, partition_by=["site"])
    log = delta.TableLog.open(store)
    for number in range(4):
        log.append(pl.DataFrame(rows_of(number), schema=pl.Schema(schema)).to_arrow())
    lost = next(file for file in delta.snapshot(store).files if file.partition["site"] == "s 0/ü")
    store.remove([store_name(lost.path)])
    frame = catalog.db("lab").table("events")

    assert sorted(frame.filter(pl.col("site") == "s 1/ü").collect()["id"]) == [1, 3]
    with pytest.raises(Exception, match=r"404|not found|NotFound|No such"):
        frame.collect()


def test_rows_that_another_engine_deleted_stay_deleted(lake: StoreLake) -> None:
    catalog, store = lake.catalog(), lake.store()
    delta.create_table(store, SCHEMA, partition_by=["site"])
    log = delta.TableLog.open(store)
    for first in (0, 10):
        rows = rows_of(*range(first, first + 10, 2))
        log.append(pl.DataFrame(rows, schema=pl.Schema(SCHEMA)).to_arrow())
    delete_rows(store, delta.snapshot(store).files[0], inline_vector([1, 2]))

    everything = query(catalog, "SELECT id FROM lab.events")
    one = query(catalog, "SELECT id FROM lab.events WHERE id < 10")

    assert sorted(everything["id"].to_pylist()) == [0, 6, 8, 10, 12, 14, 16, 18]
    assert sorted(one["id"].to_pylist()) == [0, 6, 8]


def test_parquet_files_in_a_bucket_are_read_by_frames_sql_and_the_catalog(lake: StoreLake) -> None:
    client = lake.account.client("s3")
    for day in (1, 2):
        file = lake.folder / f"{day}.parquet"
        pl.DataFrame({"v": [day, 10 * day]}).write_parquet(file)
        client.upload_file(str(file), lake.bucket, f"lake/raw/day={day}/a b+{day}.parquet")
        client.upload_file(str(file), lake.bucket, f"lake/raw/day={day}/_hidden.parquet")
    catalog = lake.catalog()
    frame = catalog.db("lab").table("raw")

    assert sorted(frame.collect().rows()) == [(1, 1), (2, 2), (10, 1), (20, 2)]
    client.delete_object(Bucket=lake.bucket, Key="lake/raw/day=1/a b+1.parquet")
    assert sorted(frame.filter(pl.col("day") == 2).collect()["v"]) == [2, 20]
    sql = query(catalog, "SELECT sum(v) AS total FROM lab.raw WHERE day = 2")
    assert sql["total"].to_pylist() == [22]
    (table,) = [each for each in describe(catalog).tables() if each.name == "raw"]
    assert table.log is not None
    assert (table.problem, table.log.files, table.log.rows) == (None, 1, 2)


def test_a_platform_that_is_killed_loses_and_doubles_no_row(lake: StoreLake) -> None:
    """The writer's process is killed between commits, and the next one goes on behind it."""
    catalog = lake.catalog()
    queue = catalog.queue()

    frame = catalog.db("lab").table("events")
    for round_ in range(2):
        committed = frame.collect().height
        with lake.start("write") as writer:
            for number in range(10 * round_, 10 * round_ + 10):
                queue.append("lab.events", payload_of(rows_of(number)), 1)
            assert eventually(lambda: frame.collect().height > committed)  # noqa: B023 called at once
            queue.append("lab.events", payload_of(rows_of(100 + round_)), 1)
            writer.kill()
    with lake.start("write") as writer:
        assert eventually(lambda: frame.collect().height >= 22, within_s=60)
        writer.terminate()

    assert sorted(frame.collect()["id"]) == [*range(20), 100, 101]
