"""Large payloads are files beside the queue's file: they come, stay and go with their envelopes."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from neuralake.clock import ManualClock
from neuralake.errors import NeedsAttention, Trimmed, Unavailable
from neuralake.queue import Envelope, Queue, SqliteQueue
from neuralake.queue.payload_files import PayloadFiles

CHILD = Path(__file__).with_name("children") / "queue_child.py"
TOPIC = "lab.events"
LARGE, SMALL = b"large" * 10, b"small"
MONTH_S = 31 * 86_400.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite-payloads"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[SqliteQueue]:
    with closing(SqliteQueue(tmp_path / "queue.sqlite", file_bytes_min=20)) as opened:
        yield opened


def everything(queue: Queue) -> list[Envelope]:
    return queue.read(TOPIC, after=queue.bounds(TOPIC).trimmed, envelopes_max=10**6)


def test_large_and_small_ones_are_read_in_order_and_counted_alike(
    queue: SqliteQueue, folder: Path
) -> None:
    futures = [queue.submit(TOPIC, payload, 1) for payload in (LARGE, SMALL, LARGE, SMALL)]
    assert [future.result().position for future in futures] == [1, 2, 3, 4]

    assert [e.payload for e in everything(queue)] == [LARGE, SMALL, LARGE, SMALL]
    assert queue.bounds(TOPIC).bytes == queue.backlog(TOPIC, after=0).bytes == 110
    assert [e.position for e in queue.read(TOPIC, after=0, bytes_max=60)] == [1, 2]
    modes = {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert (modes, stat.S_IMODE(folder.stat().st_mode)) == ({0o600}, 0o700)


def test_a_trimmed_envelope_takes_its_file_along(queue: SqliteQueue, folder: Path) -> None:
    for _ in range(3):
        queue.append(TOPIC, LARGE, 1)

    assert queue.trim(TOPIC, through=2, appended_before_s=float("inf")) == 2

    assert len([*folder.iterdir()]) == 1
    assert [e.payload for e in everything(queue)] == [LARGE]


def test_a_repeated_request_leaves_no_second_file(queue: SqliteQueue, folder: Path) -> None:
    assert not queue.append(TOPIC, LARGE, 1, key="k").repeated
    assert queue.append(TOPIC, LARGE, 1, key="k").repeated

    assert len([*folder.iterdir()]) == 1


def test_a_reader_that_looked_before_a_trim_is_told_of_it(tmp_path: Path) -> None:
    """The file is gone when it comes to read it."""
    path = tmp_path / "queue.sqlite"
    with (
        closing(SqliteQueue(path, file_bytes_min=20)) as queue,
        closing(SqliteQueue(path)) as other,
    ):
        queue.append(TOPIC, LARGE, 1)
        queue.append(TOPIC, SMALL, 1)
        files = queue._payloads
        read = files.read

        def late(name: str) -> bytes | None:
            other.trim(TOPIC, through=1, appended_before_s=float("inf"))
            return read(name)

        files.read = late  # type: ignore[method-assign]

        with pytest.raises(Trimmed):
            queue.read(TOPIC, after=0)
        assert [e.payload for e in queue.read(TOPIC, after=1)] == [SMALL]


def test_a_missing_or_changed_file_needs_a_person(queue: SqliteQueue, folder: Path) -> None:
    queue.append(TOPIC, SMALL, 1)
    queue.append(TOPIC, LARGE, 1)
    (file,) = folder.iterdir()

    file.write_bytes(LARGE[:-1])
    with pytest.raises(NeedsAttention, match="changed"):
        queue.read(TOPIC, after=1)
    assert [e.payload for e in queue.read(TOPIC, after=0)] == [SMALL]
    file.unlink()
    file.mkdir()  # Cannot be read at all.
    with pytest.raises(Unavailable):
        queue.read(TOPIC, after=1)
    assert [e.payload for e in queue.read(TOPIC, after=0)] == [SMALL]
    file.rmdir()
    with pytest.raises(NeedsAttention, match="missing"):
        queue.read(TOPIC, after=1)
    assert [e.payload for e in queue.read(TOPIC, after=0)] == [SMALL]


def test_a_queue_behind_a_link_has_its_payloads_beside_its_file(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real.sqlite", tmp_path / "queue.sqlite"
    SqliteQueue(real).close()
    link.symlink_to(real)
    with (
        closing(SqliteQueue(link, file_bytes_min=20)) as queue,
        closing(SqliteQueue(real)) as other,
    ):
        queue.append(TOPIC, LARGE, 1)
        assert [e.payload for e in everything(other)] == [LARGE]


def test_each_process_syncs_the_name_of_the_folder_once(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that is there: who made it may have been killed before."""
    folder.mkdir()
    synced: list[os.stat_result] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.fstat(handle))
        fsync(handle)

    files = PayloadFiles(tmp_path / "queue.sqlite", "id")
    monkeypatch.setattr(os, "fsync", noted)
    for _ in range(2):
        files.write(LARGE)

    assert [os.path.samestat(each, tmp_path.stat()) for each in synced] == [True, False, False]


def test_one_that_cannot_be_written_is_not_stored_and_holds_up_no_other(
    queue: SqliteQueue, folder: Path
) -> None:
    folder.write_bytes(b"")  # Nothing can be made in it.

    futures = [queue.submit(TOPIC, payload, 1) for payload in (SMALL, LARGE, SMALL)]

    assert isinstance(futures[1].exception(), Unavailable)
    assert [futures[at].result().position for at in (0, 2)] == [1, 2]
    assert [e.payload for e in everything(queue)] == [SMALL, SMALL]


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_leaves_what_it_acknowledged_and_its_remains_are_swept(
    tmp_path: Path, folder: Path, seed: int
) -> None:
    path, rng = tmp_path / "queue.sqlite", random.Random(seed)
    child = subprocess.Popen(
        [sys.executable, str(CHILD), "append", str(path), "x", "10000"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "FILE_BYTES_MIN": "6"},  # "x/9/2" is none.
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(rng.randrange(40, 120))]
    child.kill()
    child.stdout.close()
    child.wait()
    with closing(SqliteQueue(path)) as queue:
        remains = folder / (queue.id + "0" * 32 + "-5")
        remains.write_bytes(b"never")
    with closing(SqliteQueue(path)) as queue:
        stored = {e.position: e.payload.decode() for e in everything(queue)}
        assert remains.exists()  # Perhaps somebody is about to refer to it.
    clock = ManualClock(remains.stat().st_mtime + MONTH_S)
    with closing(SqliteQueue(path, clock=clock)) as queue:
        again = {e.position: e.payload.decode() for e in everything(queue)}

    acknowledged = {int(n): payload for n, payload in map(str.split, lines)}
    assert acknowledged.items() <= stored.items()
    assert again == stored
    assert len([*folder.iterdir()]) == sum(len(payload) >= 6 for payload in stored.values())


def test_the_payloads_of_a_file_that_is_elsewhere_wait_for_it(tmp_path: Path, folder: Path) -> None:
    """It is moved away with its payloads left behind; a new queue would sweep what it lacks."""
    path, away = tmp_path / "queue.sqlite", tmp_path / "away"
    with closing(SqliteQueue(path, file_bytes_min=20)) as queue:
        queue.append(TOPIC, LARGE, 1)
    path.rename(away)
    with pytest.raises(NeedsAttention, match=r"of it there are still .*-payloads") as caught:
        SqliteQueue(path)
    assert (caught.value.found, path.exists()) == ([str(folder)], False)

    hidden = folder.rename(tmp_path / "hidden")
    SqliteQueue(path).close()  # Now it is a new queue, and both folders are put into one.
    hidden.rename(folder)
    clock = ManualClock(folder.stat().st_mtime + MONTH_S)
    SqliteQueue(path, clock=clock).close()
    away.rename(path)

    with closing(SqliteQueue(path)) as queue:
        assert [e.payload for e in everything(queue)] == [LARGE]


def test_an_older_copy_leaves_the_payloads_of_a_newer_one(tmp_path: Path) -> None:
    path, older, newer = (tmp_path / name for name in ("queue.sqlite", "older", "newer"))
    SqliteQueue(path).close()
    shutil.copy(path, older)
    with closing(SqliteQueue(path, file_bytes_min=20)) as queue:
        queue.append(TOPIC, LARGE, 1)
        clock = ManualClock(queue._clock.now_s() + MONTH_S - 2 * 86_400)
    path.rename(newer)
    older.rename(path)
    SqliteQueue(path, clock=clock).close()
    newer.rename(path)

    with closing(SqliteQueue(path)) as queue:
        assert [e.payload for e in everything(queue)] == [LARGE]


def test_old_files_that_are_in_use_do_not_keep_an_open_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with closing(SqliteQueue(path, file_bytes_min=20)) as queue:
        queue.append(TOPIC, LARGE, 1)
        clock = ManualClock(queue._clock.now_s() + MONTH_S)
        with queue._file.writer():
            swept = SqliteQueue(path, clock=clock, lock_s_max=0.0)
            asked: list[str] = []
            swept._file._trimmer.set_trace_callback(asked.append)
            swept._sweep()
            swept.close()
        assert asked == []
        assert [e.payload for e in everything(queue)] == [LARGE]


def test_processes_append_follow_and_trim_files_at_once(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "queue.sqlite"

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(CHILD), *map(str, arguments)]
        environment = {**os.environ, "FILE_BYTES_MIN": "6"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    children = [start("append", path, name, 30) for name in "ab"]
    children.append(start("follow", path, 2 * 30 * 3, 0))
    *acknowledged, followed = [child.communicate(timeout=60)[0] for child in children]

    assert followed.splitlines() == sorted(
        "".join(acknowledged).splitlines(), key=lambda line: int(line.split()[0])
    )
    assert len([*folder.iterdir()]) <= 5


def test_a_queue_of_the_third_layout_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with closing(SqliteQueue(path)) as old:
        old.append(TOPIC, LARGE, 1)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 3")

    with closing(SqliteQueue(path, file_bytes_min=20)) as queue:
        queue.append(TOPIC, LARGE, 1)
        assert [e.payload for e in everything(queue)] == [LARGE, LARGE]
