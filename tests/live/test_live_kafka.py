"""Over Kafka the same is live: SQL, followers, and the tail of a table that a topic feeds."""

from __future__ import annotations

from pathlib import Path

import httpx
import pyarrow as pa
from kafka_lake import event
from kafka_mock import PARTITIONS, MockKafka

import neuralake as nl
from neuralake.ingest.server import start_server
from neuralake.serve.query import query
from neuralake.settings import LakeSettings, Settings

SCHEMA = pa.schema([("part", pa.int64()), ("id", pa.int64()), ("note", pa.string())])


def test_messages_are_seen_by_sql_followers_and_the_tail_before_they_are_committed(
    tmp_path: Path,
) -> None:
    kafka = MockKafka()
    topic = kafka.make_topic()
    stream = nl.Stream(kafka=nl.KafkaTopic(topic))
    table = nl.DeltaTable("events", "events", SCHEMA, stream=stream)
    settings = Settings(
        folder=str(tmp_path), lake=LakeSettings(root="lake"), kafka=kafka.settings()
    )
    catalog = nl.Catalog({"lab": [table]}, settings)
    frames = catalog.lab.follow("events", idle_s=10)
    for part in range(PARTITIONS):
        kafka.produce(topic, *[event(part, number) for number in range(5)], partition=part)

    found: list[tuple[int, int]] = []
    while len(found) < 5 * PARTITIONS:
        found += next(frames).rows.select("part", "id").rows()

    assert sorted(found) == [(part, number) for part in range(PARTITIONS) for number in range(5)]
    for part in range(PARTITIONS):
        assert [number for at, number in found if at == part] == list(range(5))
    rows = query(catalog, "SELECT count(*) AS n FROM lab.events", live=True)
    assert rows["n"].to_pylist() == [5 * PARTITIONS]
    with start_server(catalog) as server:
        path = f"{server.url}/v1/lab/events/tail"
        refused = httpx.get(path, params={"after": 0})
        assert refused.status_code == 400
        names = refused.json()["known"]
        answer = httpx.get(path, params={"after": 2, "partition": names[1]})
    tail = pa.ipc.open_stream(answer.content).read_all()
    assert tail.select(["part", "id"]).to_pylist() == [{"part": 1, "id": id} for id in (2, 3, 4)]
    catalog.close()
