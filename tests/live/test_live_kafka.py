"""Over Kafka the same is live: SQL, followers, and the tail of a table that a topic feeds."""

from __future__ import annotations

from pathlib import Path

import httpx
import pyarrow as pa
from kafka_lake import event
from kafka_mock import PARTITIONS, MockKafka
from kafka_writing import write_all

import neuralake as nl
from neuralake.ingest.server import start_server
from neuralake.serve.query import query
from neuralake.settings import LakeSettings, Settings

SCHEMA = pa.schema([("part", pa.int64()), ("id", pa.int64()), ("note", pa.string())])


def lake(root: Path, kafka: MockKafka, topic: str) -> nl.Catalog:
    stream = nl.Stream(kafka=nl.KafkaTopic(topic))
    table = nl.DeltaTable("events", "events", SCHEMA, stream=stream)
    settings = Settings(folder=str(root), lake=LakeSettings(root="lake"), kafka=kafka.settings())
    return nl.Catalog({"lab": [table]}, settings)


def test_messages_are_seen_by_sql_followers_and_the_tail_before_they_are_committed(
    tmp_path: Path,
) -> None:
    kafka = MockKafka()
    topic = kafka.make_topic()
    catalog = lake(tmp_path, kafka, topic)
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
        refused = httpx.get(path, params={"after": 0}, timeout=60)
        assert refused.status_code == 400
        names = refused.json()["known"]
        answer = httpx.get(path, params={"after": 2, "partition": names[1]}, timeout=60)
    tail = pa.ipc.open_stream(answer.content).read_all()
    assert tail.select(["part", "id"]).to_pylist() == [{"part": 1, "id": id} for id in (2, 3, 4)]
    catalog.close()


def test_the_progress_of_a_table_that_kafka_feeds_is_told_as_that_of_any_other(
    tmp_path: Path,
) -> None:
    """Positions are the partitions' high watermarks; what is committed is the table's to tell."""
    kafka = MockKafka()
    topic = kafka.make_topic()
    catalog = lake(tmp_path, kafka, topic)
    for part in range(PARTITIONS):
        kafka.produce(topic, *[event(part, number) for number in range(part)], partition=part)
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        waiting = client.get("/v1/lab/events").json()
        refused = client.post("/v1/lab/events", json={"part": 0})
        write_all(catalog)
        kafka.produce(topic, event(1, 9), partition=1)
        after = client.get("/v1/lab/events").json()
        operations = client.get("/openapi.json").json()["paths"]["/v1/lab/events"]
    queue = catalog.queue_of(catalog.definition("lab", "events"))
    catalog.close()

    assert (waiting["queue"], waiting["version"]) == (queue.id, None)
    assert [each["position"] for each in waiting["partitions"]] == [0, 1, 2, 3]
    assert (waiting["position"], waiting["committed_position"]) == (6, 0)
    assert [each["lag_s"] > 0 for each in waiting["partitions"]] == [False, True, True, True]
    assert waiting["lag_s"] == max(each["lag_s"] for each in waiting["partitions"])
    assert refused.status_code == 400
    assert "fed by Kafka" in refused.json()["detail"]
    assert [each["position"] for each in after["partitions"]] == [0, 2, 2, 3]
    assert [each["committed_position"] for each in after["partitions"]] == [0, 1, 2, 3]
    assert [each["lag_s"] > 0 for each in after["partitions"]] == [False, True, False, False]
    assert [*operations] == ["get"]
