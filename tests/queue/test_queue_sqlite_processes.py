"""Claims about the durable queue among processes: together, killed, cut off in mid-write."""

import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neuralake.queue import ProducerSequence, SqliteQueue

CHILD = Path(__file__).with_name("children") / "queue_child.py"
TOPIC = "lab.events"


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def finish(child: "subprocess.Popen[str]") -> list[tuple[int, str]]:
    """The `(position, payload)` lines of a child that must end well."""
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return [(int(position), payload) for position, payload in map(str.split, out.splitlines())]


def kept(path: Path) -> list[tuple[int, str]]:
    queue = SqliteQueue(path)
    after = queue.bounds(TOPIC).trimmed
    read = queue.read(TOPIC, after=after, envelopes_max=10**6)
    queue.close()
    return [(envelope.position, envelope.payload.decode()) for envelope in read]


def test_processes_append_follow_and_trim_one_file_at_once(tmp_path: Path) -> None:
    """The follower sees every acknowledged envelope, in position order, once."""
    path = tmp_path / "queue.sqlite"
    appenders = [start("append", path, name, 40) for name in "ab"]
    follower = start("follow", path, 2 * 40 * 3, 0)

    acknowledged = sorted(line for child in appenders for line in finish(child))
    followed = finish(follower)

    assert followed == acknowledged
    assert kept(path) == acknowledged[-5:]


def test_processes_that_make_the_file_at_once_agree_on_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deeper" / "queue.sqlite"
    children = [start("append", path, name, 1) for name in "abcd"]

    acknowledged = sorted(line for child in children for line in finish(child))

    assert kept(path) == acknowledged
    assert len({position for position, _ in acknowledged}) == 12


def test_threads_that_make_the_file_at_once_agree_on_its_identity(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        queues = list(pool.map(lambda _: SqliteQueue(tmp_path / "queue.sqlite"), range(8)))

    assert len({queue.id for queue in queues}) == 1
    for queue in queues:
        queue.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_loses_and_doubles_no_acknowledged_append(
    tmp_path: Path, seed: int
) -> None:
    """kill -9 at a seeded moment, then again from a process that sends everything once more."""
    path = tmp_path / "queue.sqlite"
    acknowledged: set[tuple[int, str]] = set()
    child = start("append", path, "x", 10_000)
    assert child.stdout is not None
    for _ in range(random.Random(seed).randrange(1, 60)):
        position, payload = child.stdout.readline().split()
        acknowledged.add((int(position), payload))
    child.kill()
    for line in child.stdout.read().splitlines(keepends=True):
        if line.endswith("\n"):
            position, payload = line.split()
            acknowledged.add((int(position), payload))
    child.wait()
    child.stdout.close()

    after_the_kill = kept(path)
    repeats = finish(start("append", path, "x", 25))
    at_the_end = kept(path)

    assert acknowledged <= set(after_the_kill)
    assert at_the_end[: len(after_the_kill)] == after_the_kill
    assert set(repeats) <= set(at_the_end)
    payloads = [payload for _, payload in at_the_end]
    assert len(payloads) == len(set(payloads))
    assert [position for position, _ in at_the_end] == sorted({p for p, _ in at_the_end})


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_leaves_each_number_once_and_goes_on(tmp_path: Path, seed: int) -> None:
    """kill -9 at a seeded moment: sequences and envelopes are of one transaction."""
    path = tmp_path / "queue.sqlite"
    child = start("produce", path, "x", 10_000)
    assert child.stdout is not None
    for _ in range(random.Random(seed).randrange(1, 60)):
        child.stdout.readline()
    child.kill()
    child.stdout.close()
    child.wait()
    stored = [payload for _, payload in kept(path)]

    queue = SqliteQueue(path)
    again = queue.append(TOPIC, b"", 1, producer=ProducerSequence("x", len(stored)))
    following = queue.append(TOPIC, b"", 1, producer=ProducerSequence("x", len(stored) + 1))
    queue.close()

    assert stored == [f"x/{n}" for n in range(1, len(stored) + 1)]
    assert (again.repeated, following.repeated) == (True, False)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_follower_goes_on_at_its_position_beside_an_appender(
    tmp_path: Path, seed: int
) -> None:
    """kill -9 in the middle of reads and trims, three times; nothing is missed or seen twice."""
    path, rng = tmp_path / "queue.sqlite", random.Random(seed)
    appender = start("append", path, "x", 100)
    followed: list[tuple[int, str]] = []
    for _ in range(3):
        follower = start("follow", path, 300 - len(followed), followed[-1][0] if followed else 0)
        assert follower.stdout is not None
        lines = [follower.stdout.readline() for _ in range(rng.randrange(1, 60))]
        follower.kill()
        lines += follower.stdout.readlines()
        follower.wait()
        follower.stdout.close()
        # The last line may be cut off; and none are left for a follower of a finished stream.
        whole = [line.split() for line in lines if line.endswith("\n")]
        followed += [(int(position), payload) for position, payload in whole]
    acknowledged = finish(appender)
    left = len(acknowledged) - len(followed)
    followed += finish(start("follow", path, left, followed[-1][0]))

    assert followed == acknowledged


@pytest.mark.parametrize("seed", range(8))
def test_a_log_cut_off_anywhere_gives_a_prefix_without_gaps(tmp_path: Path, seed: int) -> None:
    """What a power loss leaves of unsynced bytes: the rest opens, and goes on from there."""
    rng = random.Random(seed)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    queue = SqliteQueue(whole / "queue.sqlite")
    for i in range(30):
        queue.append(TOPIC, b"%d" % i * rng.randrange(1, 3_000), 1, key=str(i))
        if i == 20:
            queue.trim(TOPIC, through=4, appended_before_s=float("inf"))
    sent = queue.read(TOPIC, after=4)
    shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("*-shm"))
    queue.close()
    log = cut / "queue.sqlite-wal"
    # The tables came first; a file that lost those is made again, with an identity of its own.
    with log.open("r+b") as file:
        file.truncate(rng.randrange(80_000, log.stat().st_size))

    recovered = SqliteQueue(cut / "queue.sqlite")
    bounds = recovered.bounds(TOPIC)
    read = recovered.read(TOPIC, after=bounds.trimmed)
    following = recovered.append(TOPIC, b"next", 1).position
    recovered.close()

    assert [e for e in read if e.position > 4] == sent[: max(0, bounds.last - 4)]
    assert bounds.rows == len(read) == bounds.last - bounds.trimmed
    assert bounds.bytes == sum(len(envelope.payload) for envelope in read)
    assert following == bounds.last + 1


def test_a_queue_that_was_opened_before_a_fork_refuses_to_be_used_in_the_child(
    tmp_path: Path,
) -> None:
    child = start("fork", tmp_path / "queue.sqlite")
    out, _ = child.communicate(timeout=60)

    assert out.count("opened before a fork") == 3
