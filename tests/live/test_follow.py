"""A follower gets each new row once and in order, and is told when it cannot."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from ingest_lake import NOTES, lake
from live_notes import TOPIC, Traffic, payload, running, send, trim, writer
from partitioned_queue import PartitionedQueue

from neuralake.catalog import Catalog
from neuralake.clock import ManualClock
from neuralake.errors import Conflict, Trimmed, Unavailable, UnknownName, UsageError
from neuralake.filters import Filter
from neuralake.ingest.server import RunningServer
from neuralake.live import Followed, Follower, follow
from neuralake.queue import MemoryQueue
from neuralake.settings import QueueSettings, Settings


def texts(found: Followed) -> list[str]:
    return list(found.rows["text"].to_list())


def until(frames: Iterator[Followed], last: str) -> list[str]:
    """The texts of `frames`, up to `last`."""
    found: list[str] = []
    while last not in found:
        found += texts(next(frames))
    return found


def test_rows_come_from_the_moment_of_the_call(catalog: Catalog) -> None:
    send(catalog.queue(), "old")
    frames = catalog.lab.follow("notes")
    send(catalog.queue(), "a", "b")
    send(catalog.queue(), "c")

    assert until(frames, "c") == ["a", "b", "c"]
    send(catalog.queue(), "d")
    assert texts(next(frames)) == ["d"]


def test_a_follower_goes_on_behind_a_position_that_was_kept_as_json(catalog: Catalog) -> None:
    frames = catalog.lab.follow("notes")
    send(catalog.queue(), "a")
    kept = json.dumps(next(frames).position)
    send(catalog.queue(), "b")

    (again,) = islice(catalog.lab.follow("notes", after=json.loads(kept)), 1)

    assert texts(again) == ["b"]


def test_from_the_start_all_that_is_committed_comes_first(catalog: Catalog) -> None:
    """Exactly: what is committed, then what waits, then what comes."""
    write = writer(catalog)
    for name in "abc":
        send(catalog.queue(), name)
        write.step(flush=True)
    trim(catalog.queue(), 2)
    send(catalog.queue(), "d")

    frames = catalog.lab.follow("notes", after="start", idle_s=0.01)

    first = next(frames)
    assert sorted(texts(first)) == ["a", "b", "c"]
    assert first.position["partitions"] == {TOPIC: 3}
    assert texts(next(frames)) == ["d"]
    assert texts(next(frames)) == []


def test_from_the_start_of_a_table_that_nobody_has_written_yet(catalog: Catalog) -> None:
    send(catalog.queue(), "a")

    assert texts(next(catalog.lab.follow("notes", after="start"))) == ["a"]


def test_filters_and_columns_hold_and_the_position_goes_on_without_rows(catalog: Catalog) -> None:
    frames = catalog.lab.follow(
        "notes", Filter("author", "=", "bob"), columns=["text"], idle_s=0.01
    )
    send(catalog.queue(), "by ann", "by bob")
    last = send(catalog.queue(), "by ann again")

    found = next(frames)
    assert found.rows.to_dict(as_series=False) == {"text": ["by bob"]}
    while found.position["partitions"] != {TOPIC: last}:
        found = next(frames)
        assert found.rows.schema == pl.Schema({"text": pl.String})
        assert found.rows.height == 0


def test_what_was_trimmed_before_it_was_read_is_told(catalog: Catalog) -> None:
    frames = catalog.lab.follow("notes")
    send(catalog.queue(), "a")
    position = next(frames).position
    trim(catalog.queue(), send(catalog.queue(), "missed"))

    with pytest.raises(Trimmed, match="The table has them"):
        next(frames)
    with pytest.raises(Trimmed, match=r"queue\.grace_s"):
        catalog.lab.follow("notes", after=position)


@pytest.mark.parametrize(
    "after",
    ["tomorrow", 17, None, {}, {"queue": "x", "partitions": {"a": -1}}, {"partitions": ["a"]}],
)
def test_what_is_no_position_is_refused(catalog: Catalog, after: Any) -> None:
    with pytest.raises(UsageError, match="it must be 'now', 'start', or a position"):
        catalog.lab.follow("notes", after=after)


def test_a_position_of_another_queue_or_of_the_future_is_told(catalog: Catalog) -> None:
    queue = catalog.queue()
    for position, says in [
        ({"queue": "x", "partitions": {TOPIC: 0}}, "made anew"),
        ({"queue": queue.id, "partitions": {TOPIC: 9}}, "restored to an earlier moment"),
        ({"queue": queue.id, "partitions": {"lab.none": 0}}, "no partition 'lab.none'"),
    ]:
        with pytest.raises(Conflict, match=says):
            catalog.lab.follow("notes", after=position)


def test_only_streams_are_followed(catalog: Catalog) -> None:
    for name in ("fixed", "archive"):
        with pytest.raises(UsageError, match="nothing to follow"):
            catalog.lab.follow(name)
    with pytest.raises(UnknownName):
        catalog.lab.follow("none")
    with pytest.raises(UnknownName, match="no column 'autor'"):
        catalog.lab.follow("notes", Filter("autor", "=", "bob"))
    with pytest.raises(UnknownName, match="no column 'autor'"):
        catalog.lab.follow("notes", columns=["autor"])


def test_each_row_comes_once_and_in_order_while_others_are_committed_and_trimmed(
    catalog: Catalog,
) -> None:
    """Every third frame the follower is put down, and another goes on at its position.

    Four commits are a short grace: who comes too late is told, and begins at the start.
    """
    traffic = Traffic(catalog)
    frames, found, is_ordered, count = catalog.lab.follow("notes"), list[str](), True, 0
    with running(traffic.jobs):
        while count < 60 or len(found) < 400:
            try:
                rows, position = next(frames)
                found += rows["text"].to_list()
                count += 1
                if count % 3 == 0:
                    frames = catalog.lab.follow("notes", after=position)
            except Trimmed:
                frames, found = catalog.lab.follow("notes", after="start"), []
                is_ordered = False  # Of what is committed, files come in any order.

    numbers = [f"{number:06}" for number in range(len(found))]
    assert (found if is_ordered else sorted(found)) == numbers


def test_a_follower_on_another_machine_waits_for_the_server_to_answer(
    catalog: Catalog, server: RunningServer
) -> None:
    found = catalog.settings
    settings = Settings(
        folder=found.folder, lake=found.lake, queue=QueueSettings(kind="http", url=server.url)
    )
    remote = lake(Path(found.folder)).bound_to(settings)
    frames = remote.lab.follow("notes")
    sender = threading.Timer(0.1, lambda: send(catalog.queue(), "a"))
    sender.start()

    assert texts(next(frames)) == ["a"]
    for name in "bcd":
        send(catalog.queue(), name)
    assert until(frames, "d") == ["b", "c", "d"]
    sender.join()
    remote.close()


def test_an_asynchronous_loop_gets_the_same(catalog: Catalog, client: httpx.Client) -> None:
    send(catalog.queue(), "a")
    start = {"queue": catalog.queue().id, "partitions": {TOPIC: 0}}

    async def main() -> list[str]:
        found: list[str] = []
        async for rows, _ in catalog.lab.follow_async("notes", after=start, idle_s=0.01):
            found += rows["text"].to_list()
            if rows.height == 0 and len(found) < 3:
                send(catalog.queue(), f"{len(found)}")
            if len(found) == 3:
                break
        return found

    assert asyncio.run(main()) == ["a", "1", "2"]


def test_an_asynchronous_loop_is_cancelled_while_nothing_comes(catalog: Catalog) -> None:
    async def main() -> None:
        async with asyncio.timeout(0.1):
            async for _ in catalog.lab.follow_async("notes"):
                raise AssertionError("a row that nobody sent")

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def follower(queue: MemoryQueue, **options: Any) -> Follower:
    return Follower(queue, TOPIC, NOTES, take=lambda: None, shape=lambda frame: frame, **options)


def test_of_several_partitions_each_has_its_turn_and_its_order(tmp_path: Path) -> None:
    queue = PartitionedQueue()
    following = follower(queue)
    for number in range(8):
        queue.append(TOPIC, payload(str(number)), 1)

    found = [texts(each) for each in iter(following.step, None)]

    assert sorted(found) == [["0", "2", "4", "6"], ["1", "3", "5", "7"]]
    assert following.position["partitions"] == {f"{TOPIC}#0": 4, f"{TOPIC}#1": 4}
    queue.append(TOPIC, payload("8"), 1)
    assert [texts(each) for each in iter(following.step, None)] == [["8"]]


class GrowingQueue(PartitionedQueue):
    parts = 1

    def partitions(self, topic: str) -> list[str]:
        return super().partitions(topic)[: self.parts]


def test_a_partition_that_is_added_is_followed_from_its_beginning() -> None:
    queue, clock = GrowingQueue(), ManualClock()
    following = follower(queue, clock=clock)
    queue.append(TOPIC, payload("a"), 1)
    queue.append(TOPIC, payload("b"), 1)
    assert [texts(each) for each in iter(following.step, None)] == [["a"]]

    queue.parts = 2
    clock.advance(60)

    assert [texts(each) for each in iter(following.step, None)] == [["b"]]


class SilentQueue(MemoryQueue):
    silent = True

    def read(self, partition: str, **kwargs: Any) -> Any:
        if self.silent:
            raise Unavailable("silence")
        return super().read(partition, **kwargs)


def test_a_queue_that_does_not_answer_is_asked_again_for_a_minute() -> None:
    queue, clock = SilentQueue(), ManualClock()
    frames = follow(follower(queue), clock=clock)
    queue.append(TOPIC, payload("a"), 1)
    began_s = clock.monotonic_s()

    with pytest.raises(Unavailable, match="silence"):
        next(frames)
    assert 60 < clock.monotonic_s() - began_s < 70

    queue.silent = False
    assert texts(next(follow(follower(queue, after={"queue": queue.id, "partitions": {}})))) == [
        "a"
    ]


def test_a_loop_ends_when_it_is_told_to(catalog: Catalog) -> None:
    stop = threading.Event()
    stop.set()

    assert list(catalog.lab.follow("notes", stop=stop)) == []
