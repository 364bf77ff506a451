"""A server that dies: what was acknowledged is stored once, and what was asked again not twice."""

from __future__ import annotations

import json
import random
import threading
from functools import partial
from pathlib import Path

import httpx
import pytest
from ingest_lake import NOTES, SPIKES, lake, stored
from ingest_server import Server, served

from neuralake.clock import SystemClock
from neuralake.errors import Unavailable, UnknownName, UsageError
from neuralake.ingest.files import FileProgress, send_file
from neuralake.ingest.server import start_server

SPIKE = {"session": "s-1", "time": "2026-01-02T03:04:05.5Z", "rate": 1.5}


def stored_channels(folder: Path) -> list[int]:
    catalog = lake(folder)
    rows = stored(catalog.queue(), "lab.spikes")
    catalog.queue().close()
    return [row["channel"] for row in rows]


class Device(threading.Thread):
    """Sends events `first`, `first + 1`, …, each with a key until it is acknowledged."""

    def __init__(self, server: Server, first: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[int] = []
        self.tries = 0
        self._server, self._next, self._stop_event = server, first, stop

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop_event.is_set():
                if self._delivered(client, self._next):
                    self.acknowledged.append(self._next)
                    self._next += 1

    def _delivered(self, client: httpx.Client, channel: int) -> bool:
        self.tries += 1
        try:
            answer = client.post(
                f"{self._server.url}/v1/lab/spikes",
                json=SPIKE | {"channel": channel},
                headers={"idempotency-key": f"event-{channel}"},
            )
        except httpx.TransportError:
            self._stop_event.wait(0.01)
            return False
        assert answer.status_code == 202, answer.text
        return True


def test_killing_the_server_in_traffic_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Every acknowledged event is stored once; one that was only tried, at most once."""
    chance, stop = random.Random(1), threading.Event()
    with served(tmp_path) as server:
        devices = [Device(server, first, stop) for first in (0, 10_000, 20_000)]
        for device in devices:
            device.start()
        for _ in range(3):
            stop.wait(chance.uniform(0.1, 0.4))
            server.kill()
            server.restart()
        while sum(len(device.acknowledged) for device in devices) <= 50:
            stop.wait(0.01)
        stop.set()
        for device in devices:
            device.join(timeout=60)
    acknowledged = [channel for device in devices for channel in device.acknowledged]

    found = stored_channels(tmp_path)

    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + len(devices)
    assert len(acknowledged) > 50


def test_a_signal_lets_requests_in_flight_finish(tmp_path: Path) -> None:
    """SIGTERM in traffic: the process ends with code 0, and no answered event is missing."""
    stop = threading.Event()
    with served(tmp_path) as server:
        device = Device(server, 0, stop)
        device.start()
        while len(device.acknowledged) < 20:
            stop.wait(0.001)
        code = server.stop()
        stop.set()
        device.join(timeout=60)
        server.restart()

    assert code == 0
    assert set(device.acknowledged) <= set(stored_channels(tmp_path))


def ndjson_file(folder: Path, rows: int) -> Path:
    path = folder / "spikes.ndjson"
    path.write_text("".join(json.dumps(SPIKE | {"channel": n}) + "\n" for n in range(rows)))
    return path


def test_a_transfer_over_server_kills_stores_each_row_once_and_in_order(tmp_path: Path) -> None:
    path = ndjson_file(tmp_path, 2000)
    with served(tmp_path) as server:
        kills = iter([300, 900, 1500])
        at, restarting = next(kills), threading.Thread()

        def kill_sometimes(progress: FileProgress) -> None:
            nonlocal at, restarting
            if progress.rows >= at:
                if at > 300:
                    restarting.join()  # It answers, but we may not know its process yet.
                at = next(kills, 10**9)
                server.kill()
                restarting = threading.Thread(target=server.restart)
                restarting.start()

        report = send_file(
            path,
            url=server.url,
            database="lab",
            table="spikes",
            schema=SPIKES,
            state_folder=tmp_path / "state",
            batch_rows=100,
            on_progress=kill_sometimes,
        )
        restarting.join()

    assert report.rows == 2000
    assert stored_channels(tmp_path) == list(range(2000))


def test_an_interrupted_transfer_goes_on_where_it_was(tmp_path: Path) -> None:
    path, stop = ndjson_file(tmp_path, 1000), threading.Event()
    catalog = lake(tmp_path)

    def stop_at_300(progress: FileProgress) -> None:
        if progress.rows >= 300:
            stop.set()

    with start_server(catalog) as server:
        run = partial(
            send_file,
            path,
            url=server.url,
            database="lab",
            table="spikes",
            schema=SPIKES,
            state_folder=tmp_path / "state",
            batch_rows=100,
        )
        with pytest.raises(Unavailable, match="300 rows"):
            run(stop=stop, on_progress=stop_at_300)
        found, again = run(), run()
    rows = [row["channel"] for row in stored(catalog.queue(), "lab.spikes")]
    catalog.queue().close()

    assert (found.rows, found.rows_skipped, found.rows_repeated) == (1000, 300, 0)
    assert (again.rows, again.rows_skipped, again.rows_repeated) == (1000, 1000, 0)
    assert rows == list(range(1000))


def test_an_absent_server_is_an_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="neuralake up"):
        send_file(
            ndjson_file(tmp_path, 1),
            url="http://127.0.0.1:9",
            database="lab",
            table="spikes",
            schema=SPIKES,
            state_folder=tmp_path,
            clock=SystemClock(),
            give_up_s=0.0,
        )


def test_a_batch_too_large_for_one_request_goes_in_parts(tmp_path: Path) -> None:
    """40 MB in one batch: its parts have keys too, so that sending it again adds nothing."""
    path = tmp_path / "notes.ndjson"
    path.write_text(
        "".join(json.dumps({"author": str(n), "text": "x" * 1_000_000}) + "\n" for n in range(40))
    )
    catalog = lake(tmp_path)
    with start_server(catalog) as server:
        run = partial(
            send_file,
            path,
            url=server.url,
            database="lab",
            table="notes",
            schema=NOTES,
            state_folder=tmp_path / "state",
        )
        first, again = run(), run(state_folder=tmp_path / "other")
    rows = stored(catalog.queue(), "lab.notes")
    envelopes = len(catalog.queue().read("lab.notes", after=0, bytes_max=2**40))
    catalog.queue().close()

    assert (first.rows, first.rows_repeated, again.rows_repeated) == (40, 0, 40)
    assert [row["author"] for row in rows] == [str(n) for n in range(40)]
    assert envelopes > 1


@pytest.mark.parametrize(
    ("table", "url", "kind", "said"),
    [
        ("spike", None, UnknownName, "spikes"),
        ("fixed", None, UsageError, "no stream"),
        ("spikes", "ftp://x", UsageError, "ftp://x"),
    ],
)
def test_what_the_server_refuses_for_good_is_not_tried_again(
    tmp_path: Path, table: str, url: str | None, kind: type[Exception], said: str
) -> None:
    catalog = lake(tmp_path)
    with start_server(catalog) as server, pytest.raises(kind, match=said):
        send_file(
            ndjson_file(tmp_path, 1),
            url=url or server.url,
            database="lab",
            table=table,
            schema=SPIKES,
            state_folder=tmp_path,
        )
    catalog.queue().close()
