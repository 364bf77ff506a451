"""The audit log of several server processes: one file, whole lines."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neuralake.ingest.audit import AuditLog

LINES = 400


def write(path: Path, name: int, bytes_max: int) -> None:
    log = AuditLog(path, bytes_max=bytes_max)

    async def notes() -> None:
        for number in range(LINES):
            log.note(0.0, token=f"{name}", table="t" * (number % 50), position=number)
            if number % 7 == 0:
                log.flush()
        log.flush()

    asyncio.run(notes())


def written(path: Path, bytes_max: int) -> list[tuple[str, int]]:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: write(path, name, bytes_max), range(4)))
    files = [path.with_name(path.name + ".1"), path]
    text = "".join(file.read_text() for file in files if file.exists())
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line["token"], line["position"]) for line in lines]


def test_lines_of_several_processes_are_all_there_and_whole(tmp_path: Path) -> None:
    found = written(tmp_path / "audit.jsonl", 10**9)

    assert sorted(found) == sorted((f"{name}", i) for name in range(4) for i in range(LINES))
    for name in range(4):
        mine = [position for token, position in found if token == f"{name}"]
        assert mine == list(range(LINES))


@pytest.mark.parametrize("bytes_max", [5_000, 40_000])
def test_a_full_file_is_put_aside_once(tmp_path: Path, bytes_max: int) -> None:
    """By whoever is first; nobody waits for that one, and lines go on into the file meanwhile."""
    path = tmp_path / "audit.jsonl"
    found = written(path, bytes_max)

    assert len(found) == len(set(found))
    assert bytes_max < path.with_name("audit.jsonl.1").stat().st_size


def test_what_is_kept_are_the_newest_lines_about_two_files_of_them(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 0, 5_000)

    assert 5_000 < path.with_name("audit.jsonl.1").stat().st_size < 10_000
    assert path.stat().st_size < 10_000
    assert json.loads(path.read_text().splitlines()[-1])["position"] == LINES - 1
