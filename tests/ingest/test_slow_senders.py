"""A real server that somebody holds hundreds of connections to still takes rows."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
from ingest_server import served
from lab_project import eventually

HEADS = (
    b"",
    b"POST /v1/lab/notes HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
    b"POST /v1/lab/notes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n{",
)


def test_a_server_full_of_slow_senders_takes_rows_of_others(tmp_path: Path) -> None:
    with served(tmp_path) as server, ExitStack() as close:
        host, port = server.url.removeprefix("http://").split(":")

        def is_stored() -> bool:
            answer = httpx.post(
                f"{server.url}/v1/lab/notes", json={"text": "an honest row"}, timeout=60
            )
            assert answer.status_code in (202, 503)
            return answer.status_code == 202

        for number in range(600):
            client = close.enter_context(socket.create_connection((host, int(port)), timeout=30))
            with suppress(ConnectionError):  # It came while there was no room.
                client.sendall(HEADS[number % len(HEADS)])
        for _ in range(10):
            assert eventually(is_stored)
