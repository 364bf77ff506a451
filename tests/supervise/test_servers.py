"""Several server processes on one port: all of them serve, and one may die under load."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from ingest_lake import lake
from lab_project import (
    eventually,
    ids_in,
    is_running,
    is_stopped,
    kill,
    make_project,
    post,
    start_cli,
)
from watched_platform import watched

from neuralake.catalog import Catalog
from neuralake.ingest.server import start_server
from neuralake.settings import ServerSettings, Settings
from neuralake.supervise import Supervisor
from neuralake.supervise.servers import listen

SERVERS = ("serve", "serve-2")


def two_servers(folder: Path) -> Settings:
    settings = make_project(folder)
    server = msgspec.structs.replace(settings.server, processes=2)
    return msgspec.structs.replace(settings, server=server)


class Device(threading.Thread):
    """Sends single events, each again with its key until it is answered."""

    def __init__(self, url: str, first: int, stop: threading.Event) -> None:
        super().__init__()
        self._url, self._stop_it = url, stop
        self._next = first
        self.acknowledged: list[int] = []

    def run(self) -> None:
        # Each request has a connection of its own: whoever takes it, answers.
        alone = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self._url, limits=alone, timeout=30) as client:
            while not self._stop_it.is_set():
                self._send(client, self._next)
                self.acknowledged.append(self._next)
                self._next += 1

    def _send(self, client: httpx.Client, number: int) -> None:
        while True:
            try:
                answer = client.post(
                    "/v1/lab/events",
                    content=json.dumps({"id": number}),
                    headers={"content-type": "application/json", "idempotency-key": str(number)},
                )
            except httpx.TransportError:
                continue
            assert answer.status_code == 202, answer.text
            return


def test_each_of_two_servers_answers_on_the_port(tmp_path: Path) -> None:
    """While one is paused, the other takes what comes."""
    settings = two_servers(tmp_path)
    with Supervisor(settings) as platform:
        assert set(SERVERS) <= set(platform.pids)
        assert eventually(lambda: len(listeners(platform)) == 2)
        for number, name in enumerate(SERVERS):
            with paused(platform.pids[name]):
                post(platform.url, range(number * 10, number * 10 + 10))

    assert ids_in(settings) == list(range(20))


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process does nothing while the block runs; it has begun nothing new."""
    os.kill(pid, signal.SIGSTOP)
    try:
        assert eventually(lambda: is_stopped(pid))
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def listeners(platform: Supervisor) -> set[str]:
    """The servers that are up: each has said so."""
    found = set()
    for name in SERVERS:
        (other,) = (platform.pids[other] for other in SERVERS if other != name)
        with paused(other), suppress(httpx.TransportError):
            if httpx.get(f"{platform.url}/health/live", timeout=5).status_code == 200:
                found.add(name)
    return found


def test_a_server_that_is_killed_under_load_loses_nothing_and_the_other_serves_on(
    tmp_path: Path,
) -> None:
    settings, stop = two_servers(tmp_path), threading.Event()
    with Supervisor(settings) as platform, watched(platform):
        assert eventually(lambda: len(listeners(platform)) == 2)
        devices = [Device(platform.url, 100_000 * number, stop) for number in range(6)]
        for device in devices:
            device.start()
        try:
            for name in SERVERS:
                before = [len(device.acknowledged) for device in devices]
                kill(platform.pids[name])
                assert eventually(
                    lambda: all(
                        len(device.acknowledged) > had + 10
                        for device, had in zip(devices, before, strict=True)  # noqa: B023
                    )
                )
                assert eventually(lambda: platform.restarts[name] == 1)  # noqa: B023
        finally:
            stop.set()
            for device in devices:
                device.join()

    # The last of each may be stored although its answer was lost; then it was sent again.
    acknowledged = sorted(number for device in devices for number in device.acknowledged)
    assert ids_in(settings) == acknowledged


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_serve_with_processes_ends_with_all_of_them(tmp_path: Path, number: int) -> None:
    make_project(tmp_path)
    with start_cli(tmp_path, "serve", "--processes", "2", "--port", "0") as serve:
        assert serve.stdout is not None
        urls: set[str] = set()
        while len(urls) < 1 or len(children(serve.pid)) < 2:
            line = serve.stdout.readline()
            urls.add(line.split()[-1])
        (url,) = urls
        post(url, range(3))
        pids = children(serve.pid)
        serve.send_signal(number)
        serve.communicate(timeout=60)

    assert serve.returncode == (0 if number == signal.SIGTERM else -number)
    assert eventually(lambda: not any(map(is_running, pids)))


def test_each_grants_its_share_of_a_senders_rate(tmp_path: Path) -> None:
    base = lake(tmp_path)
    server = ServerSettings(requests_per_s_max=0.002, processes=2)
    catalog = Catalog(
        {"lab": [definition for _, definition in base.definitions()]},
        msgspec.structs.replace(base.settings, server=server),
    )
    shared = listen("127.0.0.1", 0)
    # A burst of two seconds: 0.004 requests for one, 0.002 for each of two.
    with start_server(catalog, listening=shared) as running:
        answer = httpx.post(f"{running.url}/v1/lab/notes", json={"text": "x"}, timeout=60)
    catalog.close()

    assert answer.status_code == 429
    assert "0.001 requests" in answer.json()["detail"]
