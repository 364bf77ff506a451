"""New columns that come with Kafka messages: in the commit of their rows, agreed on by all writers,
and no message is lost or doubled, whoever dies at whichever step."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evolving_lake
import httpx
import polars as pl
import pyarrow as pa
import pytest
from evolving_lake import EvolvingLake, message
from ingest_lake import arrow_stream
from kafka_mock import PARTITIONS, MockKafka
from stepping import Crash, crash_at

import neuralake as nl
from neuralake.delta import added_columns, snapshot
from neuralake.errors import Conflict
from neuralake.ingest.server import start_server
from neuralake.serve.query import query
from neuralake.writer import LetterBox, Replacement, Replayer

CHILD = Path(evolving_lake.__file__).with_name("evolving_writer_child.py")


@pytest.fixture(scope="module")
def kafka() -> MockKafka:
    return MockKafka()


@pytest.fixture
def lake(tmp_path: Path, kafka: MockKafka) -> Iterator[EvolvingLake]:
    topic = nl.KafkaTopic(kafka.make_topic())
    found = EvolvingLake(tmp_path, kafka.settings(), topic)
    yield found
    found.close()


def topic_of(lake: EvolvingLake) -> str:
    assert lake.table.stream is not None
    assert lake.table.stream.kafka is not None
    return lake.table.stream.kafka.name


def test_a_new_column_comes_by_the_commit_of_the_first_messages_that_have_it(
    lake: EvolvingLake, kafka: MockKafka
) -> None:
    topic = topic_of(lake)
    kafka.produce(topic, message(1))
    lake.write_all()
    before = snapshot(lake.catalog.store_of(lake.table)).version
    kafka.produce(topic, message(2, volts=1), message(3, volts=2.5, ok=True), message(4, ok=None))
    lake.write_all()

    log = Path(lake.catalog.uri_of(lake.table), "_delta_log", f"{before + 1:020}.json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {key for line in lines for key in line} == {"commitInfo", "txn", "metaData", "add"}
    assert lake.rows() == [
        {"id": 1, "site": None, "volts": None, "ok": None},
        {"id": 2, "site": None, "volts": 1.0, "ok": None},
        {"id": 3, "site": None, "volts": 2.5, "ok": True},
        {"id": 4, "site": None, "volts": None, "ok": None},
    ]
    came = added_columns(snapshot(lake.catalog.store_of(lake.table)).state.metadata)
    assert [(one.name, one.type, one.version) for one in came] == [
        ("volts", "double", before + 1),
        ("ok", "bool", before + 1),
    ]
    assert lake.letters() == []


def test_what_cannot_be_a_column_or_does_not_fit_one_is_a_letter_and_has_no_say(
    lake: EvolvingLake, kafka: MockKafka
) -> None:
    topic = topic_of(lake)
    poison = [
        message("one", x="text", junk=1),  # Its id does not fit: it says nothing of x.
        message(2, x={"deep": 1}),
        b'{"id": 3, "x": ',
        message(4, **{"a b": 1}),
        message(5, ID=1),
    ]
    kafka.produce(topic, *poison, message(6, x=7), message(7, x=8))
    lake.write_all()
    late = [message(8, x="late"), message(9, x=1.5)]
    kafka.produce(topic, *late, message(10, x=9.0))
    lake.write_all()

    assert lake.kinds() == {"x": pl.Int64}
    assert [(row["id"], row["x"]) for row in lake.rows()] == [(6, 7), (7, 8), (10, 9)]
    assert [letter["value"] for letter in lake.letters()] == [*poison, *late]
    box = LetterBox(lake.catalog, "lab", lake.table)
    mended = Replacement(box.letters()[-1].id, message(9, x=2), "json")
    assert Replayer(lake.catalog, "lab", lake.table).replay([mended]).rows == 1
    assert (9, 2) in [(row["id"], row["x"]) for row in lake.rows()]


def test_writers_of_other_partitions_that_took_a_column_for_another_type_agree(
    lake: EvolvingLake, kafka: MockKafka
) -> None:
    """One commits the column; the others, whose data files are written, fit theirs to it."""
    topic = topic_of(lake)
    kafka.produce(topic, message(1, x=1, only="here"), partition=0)
    kafka.produce(topic, message(2, x=2.0), message(3, x=2.5), message(4, x="4"), partition=1)
    kafka.produce(topic, message(5, x=True, y=1), message(6, y=2), partition=2)
    writers = [lake.writer(name) for name in lake.partitions()[:3]]
    for writer in writers:
        assert writer.step(flush=True) is not None

    assert lake.kinds() == {"x": pl.Int64, "only": pl.String, "y": pl.Int64}
    assert [(row["id"], row["x"], row["y"]) for row in lake.rows()] == [
        (1, 1, None),
        (2, 2, None),
        (6, None, 2),
    ]
    assert [json.loads(letter["value"])["id"] for letter in lake.letters()] == [3, 4, 5]


def test_a_column_of_texts_takes_the_others_values_as_they_are_written(
    lake: EvolvingLake, kafka: MockKafka
) -> None:
    topic = topic_of(lake)
    kafka.produce(topic, message(1, x="a"), message(2, x=True), partition=0)
    kafka.produce(topic, message(3, x=1), message(4, x=2.5), partition=1)
    writers = [lake.writer(name) for name in lake.partitions()[:2]]
    for writer in writers:
        assert writer.step(flush=True) is not None

    assert [row["x"] for row in lake.rows()] == ["a", "true", "1", "2.5"]
    assert lake.letters() == []


def test_of_an_array_the_rows_that_fit_bring_their_columns(
    tmp_path: Path, kafka: MockKafka
) -> None:
    topic = kafka.make_topic()
    lake = EvolvingLake(tmp_path, kafka.settings(), nl.KafkaTopic(topic), on_invalid="dead_letter")
    array = [{"id": 1, "x": 1}, {"id": "bad", "x": "text"}, {"id": 2, "x": 2.5}, {"id": 3}]
    kafka.produce(topic, json.dumps(array).encode())
    lake.write_all()

    assert [(row["id"], row["x"]) for row in lake.rows()] == [(1, 1.0), (2, 2.5), (3, None)]
    assert [letter["row"] for letter in lake.letters()] == [1]
    lake.close()


def test_arrow_messages_bring_the_types_that_they_have(tmp_path: Path, kafka: MockKafka) -> None:
    topic = kafka.make_topic()
    lake = EvolvingLake(tmp_path, kafka.settings(), nl.KafkaTopic(topic, "arrow"))
    came = [pa.array([7], pa.int16()), pa.array([8], pa.int32()), pa.array([40_000])]
    for number, values in enumerate(came):
        kafka.produce(topic, arrow_stream(pa.table({"id": [number], "x": values})))
    lake.write_all()

    assert lake.kinds() == {"x": pl.Int16}
    assert [(row["id"], row["x"]) for row in lake.rows()] == [(0, 7), (1, 8)]
    assert len(lake.letters()) == 1
    lake.close()


def check(lake: EvolvingLake, sent: list[bytes]) -> None:
    """Each message is a row or a letter, once; a row if its values can be in the columns."""
    kinds = lake.kinds()
    rows = Counter(row["id"] for row in lake.rows())
    letters = Counter(json.loads(letter["value"])["id"] for letter in lake.letters())
    assert rows + letters == Counter(json.loads(value)["id"] for value in sent)
    values = {row["id"]: row for row in lake.rows()}
    for value in map(json.loads, sent):
        stored = values.get(value["id"])
        fits = isinstance(value["id"], int) and all(
            _can_be(inner, kinds.get(name, pl.Null))
            for name, inner in value.items()
            if name not in ("id", "site")
        )
        assert (stored is not None) == fits, value
        for name, inner in value.items():
            if stored is not None and kinds.get(name) in (pl.Int64, pl.Float64, pl.Boolean):
                assert stored[name] == inner


def _can_be(value: Any, kind: Any) -> bool:
    if value is None or (kind == pl.String and not isinstance(value, dict)):
        return True
    if isinstance(value, bool):
        return bool(kind == pl.Boolean)
    if isinstance(value, int | float):
        return bool(kind == pl.Float64) or bool(kind == pl.Int64 and value == int(value))
    return False


def messages(chance: random.Random, first: int, count: int) -> list[bytes]:
    """Messages that bring columns of several types, some of which do not fit."""
    values = [1, 2.5, 7.0, "text", True, None, {"deep": 1}]
    found = []
    for number in range(first, first + count):
        names = chance.sample(["a", "b", "c", "d"], chance.choice([0, 0, 1, 2]))
        id_: Any = str(number) if chance.random() < 0.1 else number
        found.append(message(id_, **{name: chance.choice(values) for name in names}))
    return found


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_crash_at_any_step_loses_and_doubles_no_message(
    tmp_path: Path, kafka: MockKafka, stride: int
) -> None:
    """Between the dead one and the next, a writer of another partition brings the same columns."""
    values = [message(1, x=1), message(2, x=2.5), message(3, y="y"), message(4), message("bad")]
    others = [message(10, x="text"), message(11, y=1), message("no", y=2)]
    steps = 0
    while True:
        topic = kafka.make_topic()
        lake = EvolvingLake(tmp_path / str(steps), kafka.settings(), nl.KafkaTopic(topic))
        kafka.produce(topic, *values, partition=0)
        kafka.produce(topic, *others, partition=1)
        first, second = lake.partitions()[:2]
        is_done = False
        try:
            lake.writer(first, step=crash_at(steps)).step(flush=True)
            is_done = True
        except Crash:
            kafka.produce(topic, message(5, x=True, z=1), partition=0)  # The batch grows.
            lake.writer(second).step(flush=True)
        lake.write_all()
        sent = [*values, *others, *([] if is_done else [message(5, x=True, z=1)])]
        check(lake, sent)
        lake.close()
        if is_done:
            break
        steps += stride
    assert steps > 10


def test_writers_that_are_killed_lose_and_double_no_message(
    tmp_path: Path, kafka: MockKafka
) -> None:
    """Each process dies by kill -9, a few requests later than the one before, with new columns."""
    chance, topic, sent = random.Random(5), kafka.make_topic(), list[bytes]()
    lake = EvolvingLake(tmp_path, kafka.settings(), nl.KafkaTopic(topic))
    lake.writer(lake.partitions()[0])  # The table is made.
    killed = 0
    for turn, requests in enumerate([3, 8, 13, 18, 23]):
        for part in range(2):
            first = 100 * turn + 50 * part
            fresh = [*messages(chance, first, 8), message(str(first + 9), **{f"n{turn}": 1})]
            kafka.produce(topic, *fresh, message(first + 10, **{f"n{turn}": part}), partition=part)
            sent += [*fresh, message(first + 10, **{f"n{turn}": part})]
        arguments = [str(tmp_path), kafka.address, topic, "0", str(requests)]
        done = subprocess.run([sys.executable, str(CHILD), *arguments], check=False, timeout=200)
        killed += done.returncode == -signal.SIGKILL
        assert done.returncode in (0, -signal.SIGKILL)
        lake.writer(lake.partitions()[1]).step(flush=True)
    lake.write_all()

    assert killed >= 3
    check(lake, sent)
    lake.close()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_writers_do_each_message_is_a_row_or_a_letter_once(
    tmp_path: Path, kafka: MockKafka, seed: int
) -> None:
    """Writers of all partitions, some of them twice, step in any order, die and are opened anew."""
    chance, topic = random.Random(seed), kafka.make_topic()
    lake = EvolvingLake(tmp_path, kafka.settings(), nl.KafkaTopic(topic))
    writers: dict[int, Any] = {}
    sent: list[bytes] = []
    for turn in range(40):
        part = chance.randrange(PARTITIONS)
        fresh = messages(chance, 100 * turn, chance.randrange(4))
        kafka.produce(topic, *fresh, partition=part)
        sent += fresh
        number = chance.randrange(2 * PARTITIONS)  # Two writers of a partition.
        try:
            if number not in writers or chance.random() < 0.2:
                name = lake.partitions()[number % PARTITIONS]
                step = crash_at(chance.randrange(60))
                writers[number] = lake.writer(name, step=step)
            writers[number].step(flush=True)
        except (Crash, Conflict):
            writers.pop(number, None)
    lake.write_all()

    check(lake, sent)
    lake.close()


def test_live_frames_followers_and_sql_see_the_columns_that_the_table_has(
    lake: EvolvingLake, kafka: MockKafka
) -> None:
    """Of what waits, values in columns that the table has, and no message that it will not take."""
    topic = topic_of(lake)
    kafka.produce(topic, message(1, x=1))
    table, follower = lake.catalog.db("lab").table, lake.catalog.lab.follow("events")
    waiting = table("events", live=True, evolved=True).collect()
    assert waiting.rows() == [(1, None)]  # No column has come yet.
    lake.write_all()
    kafka.produce(topic, message(2, x=2, fresh="f"), message(3, x="bad"), message(4, y={"a": 1}))

    live = table("events", live=True, evolved=True).collect().sort("id")
    assert live.rows(named=True) == [
        {"id": 1, "site": None, "x": 1},
        {"id": 2, "site": None, "x": 2},
    ]
    assert sorted(table("events", live=True).collect()["id"]) == [1, 2]
    assert next(follower).rows["id"].to_list() == [2]
    rows = query(lake.catalog, "SELECT id, x FROM lab.events ORDER BY id", live=True)
    assert rows.to_pylist() == [{"id": 1, "x": 1}, {"id": 2, "x": 2}]
    with start_server(lake.catalog) as server:
        path = f"{server.url}/v1/lab/events/tail"
        answer = httpx.get(path, params={"after": 1, "partition": lake.partitions()[0]}, timeout=60)
    tail = pa.ipc.open_stream(answer.content).read_all()
    assert tail.to_pylist() == [{"id": 2, "site": None, "x": 2}]
    lake.write_all()
    live = table("events", live=True, evolved=True).collect()
    assert live.filter(pl.col("id") == 2).rows(named=True) == [
        {"id": 2, "site": None, "x": 2, "fresh": "f"}
    ]
