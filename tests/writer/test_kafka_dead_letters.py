"""Poison messages on a (mock) Kafka cluster: the partition goes on, and each is a letter once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from kafka_mock import MockKafka
from kafka_writing import write_all
from protobuf_types import class_of, framed, proto_file, proto_set

import neuralake as nl
from neuralake.settings import LakeSettings, Settings, WriterSettings
from neuralake.tables import REJECTED_SUFFIX
from neuralake.telemetry import Telemetry
from neuralake.writer import LetterBox, Replacement, Replayer


def kafka_lake(
    root: Path,
    kafka: MockKafka,
    topic: nl.KafkaTopic,
    on_invalid: str,
    unknown_columns: str = "reject",
) -> nl.Catalog:
    table = nl.DeltaTable(
        name="events",
        uri="events",
        schema=pa.schema([("id", pa.int64()), ("device", pa.string())]),
        stream=nl.Stream(kafka=topic, on_invalid=on_invalid, unknown_columns=unknown_columns),
    )
    settings = Settings(
        folder=str(root),
        lake=LakeSettings(root=str(root / "lake")),
        writer=WriterSettings(flush_ms_max=5),
        kafka=kafka.settings(session_s=6.0),
    )
    return nl.Catalog({"lab": [table]}, settings)


@pytest.mark.parametrize("on_invalid", ["reject", "dead_letter"])
def test_poison_messages_never_stop_a_partition_and_are_letters_once(
    tmp_path: Path, on_invalid: str
) -> None:
    kafka, chance = MockKafka(), random.Random(3)
    topic = kafka.make_topic()
    catalog = kafka_lake(tmp_path, kafka, nl.KafkaTopic(topic, key="device"), on_invalid)
    good, bad = [], []
    for number in range(200):
        value = json.dumps({"id": number}).encode()
        if chance.random() < 0.3:
            value = json.dumps({"id": str(number)}).encode()
            bad.append(value)
        else:
            good.append(number)
        kafka.produce(topic, value, partition=number % 4, key=b"rig")
    array = b'[{"id": 1000}, {"id": "x"}]'
    kafka.produce(topic, array, key=b"rig")

    write_all(catalog)
    write_all(catalog)  # A second writer finds nothing to do again.

    uri = catalog.uri_of(catalog.definition("lab", "events")) + REJECTED_SUFFIX
    letters = pl.scan_delta(uri).collect()
    table = catalog.definition("lab", "events")
    assert isinstance(table, nl.DeltaTable)
    rows = catalog.db("lab").table("events").collect()
    keeps_rows = on_invalid == "dead_letter"
    assert sorted(rows["id"]) == sorted(good + ([1000] if keeps_rows else []))
    assert sorted(letters["value"]) == sorted([*bad, b'{"id": "x"}' if keeps_rows else array])
    assert letters["id"].n_unique() == len(bad) + 1
    (last,) = letters.filter(pl.col("value").bin.ends_with(b'"x"}') | (pl.col("value") == array))[
        "source"
    ]
    assert last == f"kafka:{topic}/0/50"
    assert set(rows["device"]) == {"rig"}

    found = LetterBox(catalog, "lab", table).letters(values=True)
    report = Replayer(catalog, "lab", table).replay(
        [
            Replacement(one.id, (one.value or b"").replace(b'"x"', b"7"), one.format, one.attached)
            for one in found
        ]
    )
    rows = catalog.db("lab").table("events").collect()
    assert (report.letters, len(report.misfits)) == (1, len(bad))
    assert 7 in rows["id"].to_list()
    assert set(rows["device"]) == {"rig"}
    catalog.close()


def test_protobuf_messages_are_rows_and_those_that_are_none_are_letters_that_can_be_mended(
    tmp_path: Path,
) -> None:
    """The descriptors are in a file beside the settings; messages have a registry's frame."""
    kafka, chance = MockKafka(), random.Random(4)
    file = proto_file({"Other": {"id": "int64"}, "Event": {"id": "int64"}})
    (tmp_path / "events.desc").write_bytes(proto_set(file))
    event = class_of(file, "lab.Event")
    topic = nl.KafkaTopic(
        kafka.make_topic(),
        "protobuf",
        key="device",
        message="lab.Event",
        descriptors="events.desc",
        framed=True,
    )
    catalog = kafka_lake(tmp_path, kafka, topic, "reject")
    good, bad = [], []
    for number in range(200):
        value = framed(event(id=number).SerializeToString(), 1, 1)
        if chance.random() < 0.2:
            value = b"\x07" + chance.randbytes(9) + number.to_bytes(2, "big")
            bad.append(value)
        else:
            good.append(number)
        kafka.produce(topic.name, value, partition=number % 4, key=b"rig")

    write_all(catalog)
    write_all(catalog)

    table = catalog.definition("lab", "events")
    assert isinstance(table, nl.DeltaTable)
    letters = LetterBox(catalog, "lab", table).letters(values=True)
    assert sorted(catalog.db("lab").table("events").collect()["id"]) == good
    assert sorted(one.value or b"" for one in letters) == sorted(bad)
    assert {one.format for one in letters} == {"protobuf"}

    mended = framed(event(id=1000).SerializeToString(), 1, 1)
    first, second = letters[:2]
    report = Replayer(catalog, "lab", table).replay(
        [
            Replacement(first.id, mended, first.format, first.attached),
            Replacement(second.id, second.value or b"", second.format, second.attached),
        ]
    )
    rows = catalog.db("lab").table("events").collect()
    assert (report.letters, len(report.misfits)) == (1, 1)
    assert sorted(rows["id"]) == [*good, 1000]
    assert set(rows["device"]) == {"rig"}
    catalog.close()


def test_what_is_left_out_of_messages_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kafka, telemetry = MockKafka(), Telemetry()
    topic = kafka.make_topic()
    catalog = kafka_lake(tmp_path, kafka, nl.KafkaTopic(topic), "reject", unknown_columns="drop")
    for number in range(20):
        value = {"id": number, "firmware": "2.1"} | ({"site": 1} if number % 2 else {})
        kafka.produce(topic, json.dumps(value).encode(), partition=0)

    write_all(catalog, telemetry)

    assert telemetry.counter("writer_dropped_values", table="lab.events") == 30
    warned = [record.getMessage() for record in caplog.records if "left out" in record.message]
    assert sum("'firmware'" in one for one in warned) == 1
    assert sorted(catalog.db("lab").table("events").collect()["id"]) == list(range(20))
    catalog.close()
