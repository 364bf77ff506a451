"""A door between a client and a server that tears connections in the middle of what they carry."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

__all__ = ["torn"]

# Requests and answers of the tests are of some hundred bytes: some come through, some do not.
_BYTES_MAX = 3000


@contextlib.contextmanager
def torn(upstream: str, chance: random.Random) -> Iterator[str]:
    """The URL of a door to `upstream`; each connection ends after some bytes of either way."""
    at = urlsplit(upstream)
    threads: list[threading.Thread] = []

    def carry(source: socket.socket, target: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError):
            while left > 0 and (data := source.recv(min(left, 500))):
                target.sendall(data)
                left -= len(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def join(client: socket.socket, there: int, back: int) -> None:
        with client, contextlib.suppress(OSError):
            server = socket.create_connection((at.hostname or "", at.port or 0))
            with server:
                other = threading.Thread(target=carry, args=(client, server, there))
                other.start()
                carry(server, client, back)
                other.join()

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            lengths = chance.randrange(_BYTES_MAX), chance.randrange(_BYTES_MAX)
            threads.append(threading.Thread(target=join, args=(client, *lengths)))
            threads[-1].start()

    listening = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for thread in threads:
            thread.join()
