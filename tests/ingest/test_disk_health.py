"""`GET /health/ready` says whether rows can be stored now, and what is in the way."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from ingest_lake import lake, stored
from small_disks import mounted

from neuralake.catalog import Catalog
from neuralake.clock import ManualClock
from neuralake.ingest.disk_health import DiskHealth
from neuralake.ingest.server import start_server
from neuralake.queue import SqliteQueue

NOTES = "/v1/lab/notes"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = lake(tmp_path)
    catalog.queue()
    yield catalog
    catalog.close()


def set_read_only(catalog: Catalog, value: bool) -> None:
    queue = catalog.queue()
    assert isinstance(queue, SqliteQueue)
    for connection in (queue._file._writer, queue._file._trimmer):
        connection.execute(f"PRAGMA query_only = {int(value)}")


def test_all_is_well(catalog: Catalog) -> None:
    before = set(catalog.settings.queue_path.parent.iterdir())
    assert DiskHealth(catalog, clock=ManualClock()).reasons() == []
    assert set(catalog.settings.queue_path.parent.iterdir()) == before


def test_a_read_only_queue_is_503_and_red_until_it_is_over(catalog: Catalog) -> None:
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.get("/health/ready").status_code == 200
        set_read_only(catalog, True)
        refused = client.post(NOTES, json={"text": "no"})
        red = until(client, 503)
        set_read_only(catalog, False)
        stored_again = client.post(NOTES, json={"text": "yes"})
        green = until(client, 200)
        rows = stored(catalog.queue(), "lab.notes")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert red.headers["retry-after"] == "1"
    (reason,) = red.json()["reasons"]
    assert (reason["part"], reason["detail"]) == ("queue", "Unavailable (SQLITE_READONLY)")
    assert reason["since"].endswith("Z")
    assert green.json() == {"status": "ready"}
    assert stored_again.status_code == 202
    assert [row["text"] for row in rows] == ["yes"]


def until(client: httpx.Client, status: int) -> httpx.Response:
    """The first answer with `status`; a look may be a second old, as rows were refused."""
    while (answer := client.get("/health/ready")).status_code != status:
        pass
    return answer


def test_since_is_when_it_was_first_seen(catalog: Catalog) -> None:
    clock = ManualClock(0.0)
    health = DiskHealth(catalog, clock=clock)
    set_read_only(catalog, True)
    first = health.reasons()
    clock.advance(60)
    later = health.reasons()
    set_read_only(catalog, False)
    clock.advance(60)
    well = health.reasons()
    set_read_only(catalog, True)
    clock.advance(60)
    again = health.reasons()

    assert [reason.since for reason in first + later] == ["1970-01-01T00:00:00Z"] * 2
    assert well == []
    assert [reason.since for reason in again] == ["1970-01-01T00:03:00Z"]


def test_what_was_well_is_looked_at_every_ten_seconds_and_what_was_not_every_second(
    catalog: Catalog,
) -> None:
    clock = ManualClock()
    health = DiskHealth(catalog, clock=clock)
    assert health.reasons() == []
    set_read_only(catalog, True)

    clock.advance(9.9)
    assert health.reasons() == []
    clock.advance(0.1)
    assert len(health.reasons()) == 1

    set_read_only(catalog, False)
    clock.advance(0.9)
    assert len(health.reasons()) == 1
    clock.advance(0.1)
    assert health.reasons() == []


def test_when_rows_were_refused_it_is_looked_at_a_second_after_the_last_time(
    catalog: Catalog,
) -> None:
    clock = ManualClock()
    health = DiskHealth(catalog, clock=clock)
    assert health.reasons() == []
    set_read_only(catalog, True)

    health.doubt()
    assert health.reasons() == []
    clock.advance(1)
    assert len(health.reasons()) == 1


def test_many_who_ask_at_once_wait_for_one_look_that_no_thread_but_one_waits_for(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    health, release, looks = (
        DiskHealth(catalog, clock=ManualClock()),
        threading.Event(),
        list[int](),
    )

    def slow() -> None:
        looks.append(1)
        assert release.wait(60)

    monkeypatch.setattr(catalog.queue(), "probe", slow)

    async def ask() -> list[object]:
        asked = [asyncio.create_task(health.asked()) for _ in range(100)]
        while not looks:
            await asyncio.sleep(0)
        asked[0].cancel()  # It goes away, and the others go on waiting.
        # Were more threads waiting for the look, none would be left for this.
        await asyncio.to_thread(release.set)
        return await asyncio.gather(*asked[1:])

    assert asyncio.run(ask()) == [[]] * 99
    assert looks == [1]


def test_a_queue_whose_file_is_gone_is_red(catalog: Catalog) -> None:
    catalog.settings.queue_path.rename(catalog.settings.queue_path.with_suffix(".moved"))
    health = DiskHealth(catalog, clock=ManualClock())

    assert [reason.part for reason in health.reasons()] == ["queue"]


def test_a_disk_that_promises_room_which_it_has_not_is_red(tmp_path: Path) -> None:
    """An image of 64 MiB on a disk of 24: it is full for who syncs, and for nobody else."""
    with (
        mounted(tmp_path / "disk", "tmpfs", "size=24m") as disk,
        mounted(tmp_path / "image", "ext4", "loop", source=sparse(disk / "file")) as image,
        closing(lake(image)) as catalog,
    ):
        clock = ManualClock()
        health = DiskHealth(catalog, clock=clock)
        assert health.reasons() == []

        fill(disk / "filler")
        clock.advance(10)

        assert "queue disk" in {reason.part for reason in health.reasons()}


def sparse(path: Path) -> Path:
    """A file system of 64 MiB in a file that takes room when it is written to."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4 here")
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True)
    return path


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
