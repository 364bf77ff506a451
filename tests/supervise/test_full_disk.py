"""The platform on a disk that fills up: it stays up, says so, and loses nothing it acknowledged.

On a real small file system where the tests may mount one, and with a limit on the size of files
(which every write meets, as on a disk that went read-only) anywhere.
"""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from lab_project import SETTINGS, eventually, ids_in, make_project
from small_disks import mounted
from watched_platform import watched

from neuralake.settings import Settings, load_settings
from neuralake.supervise import Supervisor

EVENTS = "/v1/lab/events"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    with mounted(tmp_path / "disk", "tmpfs", "size=24m") as disk:
        yield disk


class Sender:
    """Sends events one after the other, each once, and remembers what was answered."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._next = 0
        self.stored: list[int] = []

    def send(self, rows: int = 1, text: str = "") -> httpx.Response:
        ids = list(range(self._next, self._next + rows))
        self._next += rows
        body = json.dumps([{"id": number, "text": text} for number in ids])
        answer = self._client.post(
            EVENTS, content=body, headers={"content-type": "application/json"}
        )
        if answer.status_code == 202:
            self.stored += ids
        return answer

    def ready(self) -> httpx.Response:
        return self._client.get("/health/ready")

    def is_not_ready(self) -> bool:
        answer = self.ready()
        return answer.status_code == 503 and bool(answer.json()["reasons"])

    def is_refused(self) -> bool:
        """One more is refused, as it must be."""
        answer = self.send(rows=20, text="x" * 20_000)
        if answer.status_code == 202:
            return False
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) >= 1
        return True


def survives(
    settings: Settings, fill: Callable[[Supervisor], None], free: Callable[[], None]
) -> None:
    """The platform on a disk that `fill` fills and `free` gives room again."""
    with (
        Supervisor(settings) as platform,
        watched(platform),
        httpx.Client(base_url=platform.url, timeout=60) as client,
    ):
        before, sender = platform.pids, Sender(client)
        for _ in range(20):
            assert sender.send().status_code == 202
        assert sender.ready().status_code == 200

        fill(platform)
        assert eventually(sender.is_refused)
        assert eventually(sender.is_not_ready)
        for _ in range(5):
            sender.is_refused()

        free()
        assert eventually(lambda: sender.send().status_code == 202)
        assert eventually(lambda: sender.ready().status_code == 200)
        assert sender.send(rows=20, text="x" * 20_000).status_code == 202
        assert (platform.pids["serve"], platform.pids["write"]) == (
            before["serve"],
            before["write"],
        ), "server and writer stayed up"
        assert eventually(lambda: ids_in(settings) == sorted(sender.stored))

    # What was refused is not there, what was acknowledged is, each once.
    assert ids_in(settings) == sorted(sender.stored)


def test_a_full_disk_is_survived(tmp_path: Path, small_disk: Path) -> None:
    make_project(tmp_path)
    settings_file = tmp_path / "neuralake.toml"
    settings_file.write_text(SETTINGS.replace('root = "lake"', f'root = "{small_disk}/lake"'))
    filler = small_disk / "filler"

    def fill(_: Supervisor) -> None:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(16 * 1024))
                file.flush()

    survives(load_settings(settings_file, environment={}), fill, filler.unlink)


def test_a_disk_that_takes_no_write_is_survived(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    limited: list[int] = []

    def limit(most: int) -> None:
        for pid in limited:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))

    def fill(platform: Supervisor) -> None:
        limited.extend(platform.pids.values())
        limit(1)

    survives(settings, fill, lambda: limit(resource.RLIM_INFINITY))
