"""The spool: what a crash may leave in it, and what it does about damage."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neuralake.client.answer import Answer
from neuralake.client.body import Part, parts_of
from neuralake.client.lane import Lane
from neuralake.client.options import Options, Rejected
from neuralake.client.shelf import Batch
from neuralake.client.spool import FolderShelf, Spool
from neuralake.errors import Conflict, InvalidRows, NeedsAttention, NeuralakeError, Unavailable
from neuralake.ingest import Client
from neuralake.queue import MemoryQueue, ProducerSequence
from neuralake.serve.problem import problem

NOBODY = "http://127.0.0.1:9"
OPTIONS = Options(batch_rows_max=3, linger_s=0.0)


def part(*numbers: int) -> Part:
    (found,) = parts_of([{"n": n} for n in numbers], rows_max=100, bytes_max=10_000)
    return found


def numbers(parts: list[Part]) -> list[int]:
    return [int(line[5:-1]) for found in parts for line in found.content.splitlines()]


def lane(folder: Path, options: Options = OPTIONS) -> Lane:
    return Lane("lab.t", FolderShelf(folder, "lab.t"), options, now_s=0.0)


def left(folder: Path) -> list[int]:
    """What a new process finds."""
    found = lane(folder)
    shelf = FolderShelf(folder, "lab.t")
    rows: list[int] = []
    for batch in found.batches:
        shelf.seal(batch)
        rows += numbers(shelf.parts(batch))
    return rows


def filled(folder: Path, count: int) -> list[Path]:
    """Files with the rows 1, 2, …, a part each, three in a file."""
    made = lane(folder)
    for n in range(1, count + 1):
        made.add(part(n), now_s=0.0)
    made.close()
    return sorted(folder.glob("*.open"))


def test_rows_are_found_by_the_next_process(tmp_path: Path) -> None:
    assert [path.name for path in filled(tmp_path, 7)] == [f"{n:016d}.open" for n in (1, 2, 3)]
    assert left(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


def test_whatever_a_crash_cuts_off_the_rows_before_it_are_there(tmp_path: Path) -> None:
    (path,) = filled(tmp_path / "whole", 2)
    whole = path.read_bytes()
    (shorter,) = filled(tmp_path / "shorter", 1)
    first = len(shorter.read_bytes())
    for length in range(len(whole)):
        for filler in (b"", b"\0" * 7):
            folder = tmp_path / f"{length}-{len(filler)}"
            folder.mkdir()
            (folder / "producer.json").write_bytes((path.parent / "producer.json").read_bytes())
            (folder / path.name).write_bytes(whole[:length] + filler)

            assert left(folder) == ([1] if length >= first else [])


def test_a_batch_goes_on_behind_what_was_cut_off(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 2)
    path.write_bytes(path.read_bytes()[:-1])
    again = lane(tmp_path)
    again.add(part(3), now_s=0.0)
    again.close()

    assert left(tmp_path) == [1, 3]


def test_damage_is_never_taken_for_a_crash(tmp_path: Path) -> None:
    """Any byte of a batch that was sent, and any byte of one that has whole frames behind it."""
    (path,) = filled(tmp_path, 3)
    whole = path.read_bytes()
    chance = random.Random(1)
    sealed = path.with_suffix(".sealed")
    path.rename(sealed)
    for at in chance.sample(range(len(whole)), 40):
        sealed.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(NeedsAttention, match="damaged"):
            lane(tmp_path)
    sealed.write_bytes(whole[:-3])
    with pytest.raises(NeedsAttention, match="damaged"):
        lane(tmp_path)
    sealed.unlink()
    at = whole.index(b'{"n":2}')
    path.write_bytes(whole[:at] + b"?" + whole[at + 1 :])
    with pytest.raises(NeedsAttention, match="damaged"):
        Client(NOBODY, spool=_as_spool(tmp_path))
    Spool(tmp_path).close()


def _as_spool(folder: Path) -> Path:
    (folder / "lab.t").mkdir()
    for path in [*folder.iterdir()]:
        if path.is_file():
            path.rename(folder / "lab.t" / path.name)
    return folder


def test_a_file_that_is_missing_in_the_middle_is_told(tmp_path: Path) -> None:
    filled(tmp_path, 7)[1].unlink()

    with pytest.raises(NeedsAttention, match="missing"):
        lane(tmp_path)


def test_a_disk_that_is_full_takes_nothing_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    client = Client(NOBODY, spool=tmp_path)
    for number in range(1, 6):
        if number % 2:
            monkeypatch.setattr(os, "fdatasync", full)
            with pytest.raises(Unavailable, match="No space") as caught:
                client.send("lab.t", {"n": number})
            assert caught.value.rows_taken == 0
            monkeypatch.undo()
        else:
            client.send("lab.t", {"n": number})
    with pytest.raises(Unavailable):
        client.close(timeout_s=0.0)

    assert left(tmp_path / "lab.t") == [2, 4]


class Crash(BaseException):
    """The process ends here."""


class Disk(FolderShelf):
    """Crashes before or after a call; a power loss brings back what was removed and not synced."""

    def __init__(self, folder: Path, chance: random.Random, crash: float) -> None:
        super().__init__(folder, "lab.t")
        self._chance, self._crash = chance, crash
        self._unsynced: list[tuple[Path, bytes]] = []

    def _maybe(self) -> None:
        if self._chance.random() < self._crash:
            for path, content in self._unsynced:
                if self._chance.random() < 0.5:
                    path.write_bytes(content)
            raise Crash

    def add(self, batch: Batch, part: Part) -> None:
        self._maybe()
        super().add(batch, part)
        self._maybe()

    def seal(self, batch: Batch) -> None:
        self._maybe()
        super().seal(batch)
        self._unsynced = []
        self._maybe()

    def remove(self, batch: Batch) -> None:
        self._maybe()
        path = self._path(batch, ".sealed")
        self._unsynced.append((path, path.read_bytes()))
        super().remove(batch)
        self._maybe()

    def replace(self, batch: Batch, parts: Any) -> None:
        self._maybe()
        super().replace(batch, parts)
        self._unsynced = []
        self._maybe()

    def restart(self, producer: Any) -> None:
        self._maybe()
        super().restart(producer)
        self._unsynced = []
        self._maybe()


class Server:
    """A queue behind answers that may get lost. It refuses every tenth number."""

    def __init__(self, chance: random.Random) -> None:
        self.queue, self._chance = MemoryQueue(), chance

    def post(self, producer: str, sequence: int, parts: list[Part]) -> Answer | None:
        fate = self._chance.random()
        if fate < 0.15:
            return None
        rows = numbers(parts)
        bad = next((index for index, n in enumerate(rows) if n % 10 == 0), None)
        if bad is not None:
            return answer(422, problem(InvalidRows("no", row=bad)))
        body = b" ".join(b"%d" % n for n in rows)
        try:
            found = self.queue.append(
                "t",
                body,
                len(rows),
                producer=ProducerSequence(producer, sequence),
                fingerprint=body,
            )
        except (Conflict, NeuralakeError) as error:
            members = problem(error)
            return answer(members["status"], members)
        said = answer(202, {"position": found.position}, queue=self.queue.id)
        return None if fate < 0.3 else said

    def stored(self) -> list[int]:
        envelopes = self.queue.read("t", after=0, envelopes_max=10_000)
        return [int(n) for envelope in envelopes for n in envelope.payload.split()]


def answer(status: int, members: dict[str, Any], *, queue: str = "") -> Answer:
    return Answer(status, {"neuralake-queue": queue}, msgspec.json.encode(members))


def step(found: Lane, server: Server) -> None:
    if not found.producer.queue:
        found.learn(answer(200, {"queue": server.queue.id}), now_s=0.0)
    batch, parts = found.take()
    producer = found.producer
    said = server.post(producer.id, producer.sequence_of(batch.ordinal), parts)
    if said is None:
        found.unanswered(Unavailable("lost"), retry_at_s=0.0)
    else:
        found.answered(said, parts, now_s=0.0)
    assert not found.is_stopped, found.trouble


@pytest.mark.parametrize("seed", range(24))
def test_any_crashes_and_lost_answers_leave_each_row_once(tmp_path: Path, seed: int) -> None:
    """Crashes around every step on the disk, answers that get lost, rows that are refused."""
    chance = random.Random(seed)
    server, refused = Server(chance), list[int]()

    def note(rejected: Rejected) -> None:
        refused.extend(row["n"] for row in rejected.rows())

    options = Options(batch_rows_max=3, linger_s=0.0, on_rejected=note)

    def opened(crash: float) -> Lane:
        return Lane("lab.t", Disk(tmp_path, chance, crash), options, now_s=0.0)

    taken: list[int] = []
    unsure: set[int] = set()
    number = 0
    for _ in range(25):
        try:
            found = opened(0.03)
            for _ in range(chance.randrange(1, 40)):
                if chance.random() < 0.6:
                    number += 1
                    unsure.add(number)
                    found.add(part(number), now_s=0.0)
                    unsure.discard(number)
                    taken.append(number)
                elif found.batches:
                    step(found, server)
            raise Crash
        except Crash:
            pass
    last = opened(0.0)
    while last.batches:
        step(last, server)

    stored = server.stored()
    assert stored == sorted({*stored}), "in order, and none twice"
    assert {n for n in taken if n % 10} <= {*stored} <= {*taken, *unsure}
    assert {n for n in taken if n % 10 == 0} <= {*refused}
    assert [*tmp_path.glob("*.open"), *tmp_path.glob("*.sealed")] == []
