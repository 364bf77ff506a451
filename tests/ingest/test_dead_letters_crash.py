"""Server and writer are killed with -9 in traffic: good rows and dead letters are there once."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from pathlib import Path

import httpx
import letter_lake as support
import pytest
from ingest_server import Server, served
from letter_lake import letter_lake, letters, written

CHILD = Path(support.__file__).with_name("letter_lake_child.py")


class Device(threading.Thread):
    """Sends a good and a bad row in each request, with a key, until it is acknowledged."""

    def __init__(self, server: Server, first: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[int] = []
        self._server, self.next, self._stop_event = server, first, stop

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop_event.is_set():
                if self._is_delivered(client, self.next):
                    self.acknowledged.append(self.next)
                    self.next += 1

    def _is_delivered(self, client: httpx.Client, number: int) -> bool:
        try:
            answer = client.post(
                f"{self._server.url}/v1/lab/events",
                json=[{"id": number}, {"id": str(number)}],
                headers={"idempotency-key": f"event-{number}"},
            )
        except httpx.TransportError:
            self._stop_event.wait(0.01)
            return False
        assert answer.status_code == 202, answer.text
        return True


@pytest.mark.parametrize("seed", [1, 2])
def test_killing_server_and_writer_loses_and_doubles_no_row_and_no_letter(
    tmp_path: Path, seed: int
) -> None:
    chance, stop = random.Random(seed), threading.Event()
    with served(tmp_path, CHILD) as server:
        devices = [Device(server, first, stop) for first in (0, 10_000)]
        for device in devices:
            device.start()
        for _ in range(4):
            stop.wait(chance.uniform(0.05, 0.5))  # The moment of death, not a wait for something.
            server.kill()
            server.restart()
        while not all(device.acknowledged for device in devices):
            stop.wait(0.01)
        stop.set()
        for device in devices:
            device.join(timeout=60)
    catalog = letter_lake(tmp_path)
    written(catalog)
    acknowledged = {number for device in devices for number in device.acknowledged}
    tried = acknowledged | {device.next for device in devices}
    rows = Counter(catalog.db("lab").table("events").collect()["id"].to_list())
    bad = Counter(int(json.loads(letter["value"])["id"]) for letter in letters(catalog))
    catalog.close()

    assert acknowledged
    for found in (rows, bad):
        assert acknowledged <= set(found) <= tried
        assert set(found.values()) == {1}
    assert rows == bad
