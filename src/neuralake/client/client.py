"""`Client`: hand over rows and go on; a thread of its own delivers them, each once and in order."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from neuralake.client.body import parts_of
from neuralake.client.connection import Connection
from neuralake.client.options import Options, Rejected
from neuralake.client.outbox import Outbox
from neuralake.client.spool import Spool
from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeuralakeError, UsageError

__all__ = ["Client"]

_AT_EXIT_S = 5.0
_FLUSH_S = 60.0


class Client:
    """Sends rows to tables of the server at `url`. Use it from any number of threads.

    Rows of one table arrive in the order in which `send` returned for them, each once: requests
    carry a producer's identity and a sequence, are repeated until they are answered, and are
    recognised if they were stored before.

    Without a `spool` rows that are not acknowledged end with the process. With one they are on disk
    when `send` returns, survive kill -9 and power loss, and are sent by the next client with that
    folder; one client at a time can use it.

    Args:
        url: of the server, such as `http://127.0.0.1:8765`. The certificate of an `https` server is
            checked by those of the system, or of the file that SSL_CERT_FILE names.
        token: for a server that asks for one.
        spool: a folder for rows that are not acknowledged yet.
        spool_bytes_max: how many bytes of rows it may hold, before `send` waits.
        batch_rows_max: rows of one request at most, and
        batch_bytes_max: about how many bytes.
        linger_s: how long a request waits for more rows.
        bytes_max: without a spool, bytes of rows held in memory, before `send` waits.
        block_s_max: how long `send` waits for room; 0: not at all.
        compression: of requests, where the network is slow.
        on_rejected: is called, by the client's thread, with rows that the server will never take;
            after a crash perhaps a second time. It must not wait for the client. Without it `flush`
            raises them; with a spool they are kept in its folder `rejected`, too.
        in_doubt: what becomes of a request that was not answered, if the server has forgotten this
            sender since (after `queue.producers_retention_hours`, or with its queue):
            `stop` and let a person look, `resend` (perhaps twice) or `drop` (perhaps never).

    Raises:
        UsageError: an argument is out of range, or another client uses the spool.
        NeedsAttention: something in the spool is damaged.
        OSError: the spool cannot be opened.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        spool: Path | str | None = None,
        spool_bytes_max: int = 1024 * 1024 * 1024,
        batch_rows_max: int = 10_000,
        batch_bytes_max: int = 4 * 1024 * 1024,
        linger_s: float = 0.05,
        bytes_max: int = 64 * 1024 * 1024,
        block_s_max: float = 60.0,
        compression: Literal["gzip", "zstd"] | None = None,
        on_rejected: Callable[[Rejected], None] | None = None,
        in_doubt: Literal["stop", "resend", "drop"] = "stop",
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._options = Options(
            batch_rows_max=batch_rows_max,
            batch_bytes_max=batch_bytes_max,
            linger_s=linger_s,
            bytes_max=bytes_max if spool is None else spool_bytes_max,
            block_s_max=block_s_max,
            compression=compression,
            in_doubt=in_doubt,
            on_rejected=on_rejected,
        )
        connection = Connection(url, clock=clock, token=token)
        folder = None if spool is None else Path(spool).absolute()
        self._spool_folder, self._process = folder, os.getpid()
        opened = Spool(folder)
        try:
            self._outbox = Outbox(connection, opened, self._options, clock=clock)
        except BaseException:
            opened.close()
            raise
        atexit.register(self._at_exit)

    @property
    def rows_waiting(self) -> int:
        """Rows that are not acknowledged yet, also those that an earlier process spooled."""
        self._check_process()
        return self._outbox.rows_waiting

    def send(self, table: str, rows: Any) -> None:
        """Hand over rows for `table` (as `database.table`).

        Args:
            rows: a dict, several of them, an Arrow table or batch, a Polars or pandas frame.
                Values of dicts are written as JSON: times and dates as ISO 8601, bytes as base64.

        Raises:
            UsageError: they are no rows, or the client is closed.
            QueueFull: there was no room within `block_s_max`; nothing of `rows` was taken.
            TooLarge: there never is; nothing was taken.
            Unavailable: the spool's disk is full, or a file of it was removed while it was open;
                `error.rows_taken` of them were taken.
            NeedsAttention: the client has stopped, and says why.
        """
        self._check_process()
        database, _, name = table.partition(".")
        if not (database and name):
            raise UsageError(f"{table!r} is no table; name it as 'database.table'.", name=table)
        options = self._options
        parts = parts_of(rows, rows_max=options.batch_rows_max, bytes_max=options.batch_bytes_max)
        if parts:
            self._outbox.add(table, parts, block_s_max=options.block_s_max)

    def flush(self, timeout_s: float = _FLUSH_S) -> None:
        """Wait until all that was sent before is acknowledged: durable at the server.

        Raises:
            Unavailable: it is not within `timeout_s`; it is still being sent. `error.rows` says
                how much.
            NeuralakeError: rows were refused (`error.rejected`, a list of `Rejected`), or something
                must be mended before they can be sent: the token, the table's name, the spool.
        """
        self._check_process()
        self._outbox.flush(timeout_s)

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """`flush`, then stop. Closing again does nothing.

        A connection that is just being made is waited for, up to ten seconds more.

        Raises:
            NeuralakeError: as `flush`. The client is closed nevertheless: rows in a spool are sent
                by the next client, rows in memory are lost.
        """
        if os.getpid() != self._process or self._outbox.is_closed:
            return
        atexit.unregister(self._at_exit)
        try:
            self._outbox.flush(timeout_s)
        finally:
            self._outbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(NeuralakeError):  # What happened first is what is to be told.
            self.close()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise UsageError(
                "This client was opened before a fork, and its thread is in the parent. Open a "
                "client in each process, each with a spool of its own."
            )

    def _at_exit(self) -> None:
        try:
            self.close(_AT_EXIT_S)
        except NeuralakeError as error:
            sys.stderr.write(f"neuralake client at exit: {error.message}\n")
