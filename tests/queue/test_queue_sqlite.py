"""Claims about the SQLite file: what survives, what is shared, and how its faults are told."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from neuralake.clock import ManualClock
from neuralake.errors import KeyReused, NeedsAttention, TooLarge, Trimmed, Unavailable
from neuralake.queue import (
    Appended,
    Bounds,
    ProducerSequence,
    SqliteQueue,
    open_queue,
    sqlite_file,
    sqlite_log,
)
from neuralake.settings import LakeSettings, QueueSettings, Settings
from neuralake.telemetry import Telemetry

NEVER_S = float("inf")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lake" / ".neuralake" / "queue.sqlite"


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold the file's write lock as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


# What survives


def test_a_reopened_queue_goes_on_where_it_was(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        identity = queue.id
        for i in range(3):
            queue.append("t", b"%d" % i, 1, key=f"k{i}")
        queue.trim("t", through=2, appended_before_s=NEVER_S)

    with closing(SqliteQueue(path)) as queue:
        assert queue.id == identity
        assert queue.bounds("t") == Bounds(last=3, trimmed=2, rows=1, bytes=1)
        assert queue.append("t", b"0", 1, key="k0").repeated
        with pytest.raises(Trimmed):
            queue.read("t", after=1)


def test_positions_are_not_reused_when_all_was_trimmed_before_a_restart(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        last = queue.append("t", b"x", 1).position
        queue.trim("t", through=last, appended_before_s=NEVER_S)

    with closing(SqliteQueue(path)) as queue:
        assert queue.append("t", b"x", 1).position > last


def test_a_queue_made_anew_has_another_identity(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        first = queue.id
    path.unlink()

    with closing(SqliteQueue(path)) as queue:
        assert queue.id != first


def test_two_open_queues_see_each_other_at_once(path: Path) -> None:
    with closing(SqliteQueue(path)) as one, closing(SqliteQueue(path)) as two:
        position = one.append("t", b"x", 1, key="k").position

        assert [e.position for e in two.read("t", after=0)] == [position]
        assert two.append("t", b"x", 1, key="k").repeated
        assert two.append("t", b"y", 1).position > position
        two.trim("t", through=position, appended_before_s=NEVER_S)
        assert one.bounds("t").trimmed == position


def test_expired_keys_are_pruned_from_the_file(path: Path) -> None:
    """However many keys have passed, those within the retention are what is kept."""
    clock = ManualClock()
    with closing(SqliteQueue(path, clock=clock, keys_retention_s=10.0)) as queue:
        for i in range(200):
            queue.append("t", b"", 1, key=f"k{i}")
            clock.advance(1)
    with closing(sqlite3.connect(path)) as file:
        (keys,) = file.execute("SELECT count(*) FROM keys").fetchone()

    assert keys == 11


# What is shared


def test_submits_that_wait_for_the_disk_share_one_commit(path: Path) -> None:
    telemetry = Telemetry()
    with closing(SqliteQueue(path, telemetry=telemetry)) as queue:
        with write_lock(path), ThreadPoolExecutor(20) as pool:
            waiting = pool.map(lambda i: queue.submit("t", b"%d" % i, 1), range(1_000))
            futures = list(waiting)
        positions = {future.result().position for future in futures}

    assert len(positions) == 1_000
    assert telemetry.counter("queue_submits") == 1_000
    # The first group is what had come when the lock was met, the second all the rest.
    assert telemetry.counter("queue_commits") <= 2


def test_a_key_twice_in_one_commit_is_stored_once(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        with write_lock(path):
            futures = [queue.submit("t", b"x", 1, key="k") for _ in range(5)]
        answers = [future.result() for future in futures]

        assert [answer.repeated for answer in answers] == [False, True, True, True, True]
        assert queue.bounds("t").rows == 1


def test_acknowledged_means_synced(path: Path) -> None:
    """The guard of the whole promise: commits wait for the disk, in a log that is replayed."""
    with closing(SqliteQueue(path)) as queue, queue._file.writer() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# Where it lies


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        queue.append("t", b"x", 1)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}

    names = [f"queue.sqlite{end}" for end in ("", "-wal", "-shm", "-gate", "-turn")]
    assert modes == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_settings_say_where_the_queue_is_and_how_much_it_holds(tmp_path: Path) -> None:
    settings = Settings(
        folder=str(tmp_path),
        lake=LakeSettings(root="data"),
        queue=QueueSettings(bytes_max=64 * 1024 * 1024),
    )
    with closing(open_queue(settings)) as queue:
        queue.append("t", b"x", 1)
        with pytest.raises(TooLarge) as caught:
            queue.append("t", b"x" * (64 * 1024 * 1024 + 1), 1)

    assert caught.value.limit == 64 * 1024 * 1024
    assert (tmp_path / "data" / ".neuralake" / "queue.sqlite").is_file()


# Space


def test_trimmed_space_is_used_again(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        for _ in range(12):
            futures = [queue.submit("t", b"x" * 10_000, 1) for _ in range(200)]
            last = futures[-1].result().position
            queue.trim("t", through=last, appended_before_s=NEVER_S)

    assert path.stat().st_size < 2 * 200 * 10_000 + 1_000_000


def test_space_of_a_peak_goes_back_to_the_disk(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        last = [queue.submit("t", b"x" * 500_000, 1) for _ in range(100)][-1].result().position
        for mark in range(1, last + 1):
            queue.trim("t", through=mark, appended_before_s=NEVER_S)

    assert path.stat().st_size < 20 * 1024 * 1024


def test_the_log_shrinks_again_after_a_long_reader(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a reader is in the middle the log must grow; when it ends, the log begins anew."""
    monkeypatch.setattr(sqlite_log, "_FOLD_BYTES", 256 * 1024)
    monkeypatch.setattr(sqlite_log, "_LOG_BYTES_MAX", 2 * 1024 * 1024)
    monkeypatch.setattr(sqlite_log, "_READERS_MS_MAX", 1)
    monkeypatch.setattr(sqlite_file, "_LOG_BYTES_KEPT", 1024 * 1024)
    log = path.with_name(path.name + "-wal")
    with closing(SqliteQueue(path)) as queue:
        queue.append("t", b"x", 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM topics").fetchall()
            for _ in range(100):
                queue.append("t", b"x" * 50_000, 1)
            assert log.stat().st_size > 5 * 1024 * 1024
        for _ in range(10_000):
            queue.append("t", b"x" * 1_000, 1)
            if log.stat().st_size <= 1024 * 1024:
                break

        assert log.stat().st_size <= 1024 * 1024
        assert queue.bounds("t").bytes == sum(len(e.payload) for e in queue.read("t", after=0))


def test_the_log_is_bounded_under_a_steady_stream(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is folded again and again beside the commits and the readers."""
    monkeypatch.setattr(sqlite_log, "_FOLD_BYTES", 256 * 1024)
    log = path.with_name(path.name + "-wal")
    with closing(SqliteQueue(path)) as queue:
        appended = 0
        while appended < 20_000_000 or log.stat().st_size > appended / 3:
            assert appended < 1_000_000_000
            position = queue.append("t", b"x" * 50_000, 1).position
            queue.read("t", after=position - 1)
            appended += 50_000


# Faults


def test_a_lock_held_too_long_is_a_reason_to_wait(path: Path) -> None:
    with closing(SqliteQueue(path, lock_s_max=0.02)) as queue:
        with write_lock(path), pytest.raises(Unavailable, match="nothing was stored") as caught:
            queue.append("t", b"lost", 1)

        assert caught.value.retry_after_s > 0
        assert caught.value.sqlite == "SQLITE_BUSY"
        assert queue.append("t", b"kept", 1).position > 0
        assert [e.payload for e in queue.read("t", after=0)] == [b"kept"]


def test_reads_do_not_wait_for_a_writer(path: Path) -> None:
    with closing(SqliteQueue(path, lock_s_max=0.02)) as queue:
        queue.append("t", b"x", 1)
        with write_lock(path):
            assert len(queue.read("t", after=0)) == 1
            assert queue.bounds("t").last == 1
            assert queue.trim("t", through=0, appended_before_s=NEVER_S) == 0
            with pytest.raises(Unavailable):
                queue.trim("t", through=1, appended_before_s=NEVER_S)


def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(path: Path) -> None:
    """One large submit among small ones of one group: the small ones are stored."""
    with closing(SqliteQueue(path)) as queue:
        with queue._file.writer() as connection:
            connection.execute("PRAGMA max_page_count = 40")
        with write_lock(path):
            futures = [
                queue.submit("t", b"x" * size, 1) for size in (10, 10, 500_000, 10, 500_000, 10)
            ]
        errors = [type(future.exception()) for future in futures]

        assert errors == [type(None)] * 2 + [Unavailable, type(None), Unavailable, type(None)]
        assert "disk is full" in str(futures[2].exception()).lower()
        assert queue.bounds("t").rows == 4

        with queue._file.writer() as connection:
            connection.execute("PRAGMA max_page_count = 100000")
        assert queue.append("t", b"x" * 500_000, 1).position > 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for an open file there")
def test_a_commit_whose_index_cannot_grow_may_be_stored(path: Path, tmp_path: Path) -> None:
    """The log was synced before; who makes the index anew, as after a kill, finds the commit."""
    index_frames, frame_bytes = 4062, 4096 + 24  # Of the first 32 KiB of the index; of the log.
    log = path.with_name("queue.sqlite-wal")
    with closing(SqliteQueue(path, file_bytes_min=20)) as queue:
        queue.append("t", b"x", 1)
        with queue._file.writer() as connection:
            connection.execute("CREATE TABLE filler AS SELECT zeroblob(3900 * 4096)")
        while log.stat().st_size < index_frames * frame_bytes:
            with queue._file.writer() as connection:
                connection.execute("INSERT INTO filler VALUES (1)")

        shm, links = Path(f"{path}-shm").resolve(), Path("/proc/self/fd").iterdir()
        index = next(int(link.name) for link in links if link.resolve() == shm)
        kept, read_only = os.dup(index), os.open(shm, os.O_RDONLY)
        writer = queue._file._writer
        writer.create_function("hinder", 0, lambda: os.dup2(read_only, index))
        writer.execute(
            "CREATE TEMP TRIGGER late AFTER INSERT ON envelopes BEGIN SELECT hinder(); END"
        )
        with pytest.raises(NeedsAttention, match="unknown") as caught:
            queue.append("t", b"y" * 20, 1)
        os.dup2(kept, index)
        for handle in (kept, read_only):
            os.close(handle)
        copied = shutil.copytree(
            path.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("*-shm")
        )

    assert caught.value.sqlite == "SQLITE_IOERR_SHMSIZE"
    with closing(SqliteQueue(copied / path.name)) as queue:
        assert [e.payload for e in queue.read("t", after=0)] == [b"x", b"y" * 20]


def test_a_read_only_file_stores_nothing_and_takes_more_when_it_is_over(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        with queue._file.writer() as connection:
            connection.execute("PRAGMA query_only = 1")

        with pytest.raises(Unavailable, match="read-only") as caught:
            queue.append("t", b"x", 1)
        assert queue.bounds("t").last == 0

        queue._file._writer.execute("PRAGMA query_only = 0")
        assert queue.append("t", b"x", 1).position == 1

    assert caught.value.sqlite == "SQLITE_READONLY"


def test_a_probe_fails_as_an_append_would(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        queue.probe()
        queue._file._trimmer.execute("PRAGMA query_only = 1")
        with pytest.raises(Unavailable, match="read-only"):
            queue.probe()


def test_a_damaged_file_needs_a_person(path: Path) -> None:
    with closing(SqliteQueue(path)) as queue:
        for _ in range(100):
            queue.append("t", b"x" * 1_000, 1)
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * (path.stat().st_size - 3 * 4096))

    with pytest.raises(NeedsAttention) as caught, closing(SqliteQueue(path)) as queue:
        queue.append("t", b"x", 1)

    assert caught.value.sqlite.startswith("SQLITE_CORRUPT")
    assert caught.value.path == str(path)


def test_a_file_that_is_no_queue_is_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(NeedsAttention, match="not a database"):
        SqliteQueue(path)

    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE somebody_elses (x)")
    before = path.read_bytes()
    with pytest.raises(NeedsAttention, match="not a queue"):
        SqliteQueue(path)
    assert path.read_bytes() == before


def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    SqliteQueue(path).close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")

    with pytest.raises(NeedsAttention, match="Upgrade") as caught:
        SqliteQueue(path)

    assert caught.value.found == 99


def test_a_path_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(NeedsAttention, match="Cannot make"):
        SqliteQueue(tmp_path / "file" / "queue.sqlite")


def test_a_file_of_the_first_layout_keeps_its_keys_and_positions(path: Path) -> None:
    queue = SqliteQueue(path)
    queue.append("t", b"first", 1, key="k", fingerprint=b"1")
    queue.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("ALTER TABLE keys DROP COLUMN fingerprint")
        file.execute("DROP TABLE producers")
        file.execute("PRAGMA user_version = 1")

    queue = SqliteQueue(path)

    again = queue.append("t", b"first", 1, key="k", fingerprint=b"1")
    assert again == Appended(1, repeated=True, partition="t")
    assert queue.append("t", b"second", 1, key="l", fingerprint=b"2").position == 2
    with pytest.raises(KeyReused):
        queue.append("t", b"third", 1, key="l", fingerprint=b"3")
    queue.close()


def test_a_file_of_the_second_layout_learns_of_producers(path: Path) -> None:
    queue = SqliteQueue(path)
    queue.append("t", b"first", 1, key="k", fingerprint=b"1")
    queue.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE producers")
        file.execute("PRAGMA user_version = 2")

    queue = SqliteQueue(path)

    assert queue.append("t", b"first", 1, key="k", fingerprint=b"1").repeated
    answers = [queue.append("t", b"", 0, producer=ProducerSequence("p", 1)) for _ in range(2)]
    assert [answer.repeated for answer in answers] == [False, True]
    queue.close()
