"""The SQLite file below the queue, opened by many processes at once.

Holds the connections of one process: one that commits with full sync, one that trims, and as many
readers as there are threads reading at once. What is in it says `sqlite_layout.py`.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from neuralake.errors import NeedsAttention, Unavailable, UsageError
from neuralake.queue.open_files import OpenFiles
from neuralake.queue.sqlite_errors import explain, file_gone, log_gone, unreadable, written_over
from neuralake.queue.sqlite_layout import make_file, pragma, prepare
from neuralake.queue.sqlite_log import LogFolder
from neuralake.queue.turns import Turns

__all__ = ["SqliteFile"]

# `LogFolder` folds the log long before this, beside the commits; but a process may only trim, or
# its thread may have ended.
_LOG_PAGES = 16 * 1024
# The log file keeps its size: a fdatasync that need not write a new length is twice as fast.
_LOG_BYTES_KEPT = 64 * 1024 * 1024

# Free pages are reused; they go back to the disk when they are the greater part of the file, in
# steps that hold the write lock for about as long as a trim does.
_FREE_BYTES_KEPT = 16 * 1024 * 1024
_FREE_PAGES_STEP = 2048

_log = logging.getLogger(__name__)


class SqliteFile:
    """Connections to the queue's file, which is made if it is not there."""

    def __init__(self, path: Path, *, lock_s_max: float) -> None:
        self.path = path.absolute()
        self._lock_s_max = lock_s_max
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._readers_out = 0
        self._closed = self._is_abandoned = False
        self._trim_lock = threading.Lock()
        self._is_folded = self._is_loss_told = False
        try:
            make_file(self.path)
        except OSError as error:
            raise NeedsAttention(
                f"Cannot make the queue's file {self.path}: {error.strerror}.", path=str(self.path)
            ) from error
        try:
            with _opened_by_one(self.path):
                self._writer = self._connect("FULL")
                try:
                    self.id = prepare(self._writer, self.path)
                    self._files = self._opened()
                except BaseException:
                    self._writer.close()
                    raise
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self.path) from error
        opened = [self._writer]
        try:
            # Trims need no fsync of their own: lost ones come back as envelopes at their old
            # positions, and the next append's fsync covers the same log.
            self._trimmer = self._connect("NORMAL")
            opened.append(self._trimmer)
            folding = self._connect("FULL")
            opened.append(folding)
            self._folder = LogFolder(
                folding,
                self._writer,
                log=self.path.with_name(self.path.name + "-wal"),
                lock_s_max=lock_s_max,
            )
        except BaseException as error:
            self._let_go(opened)
            if isinstance(error, sqlite3.Error):
                raise explain(error, self.path) from error
            raise
        self._writer_turns, self._trimmer_turns = Turns(self.path), Turns(self.path)

    @contextmanager
    def writer(self) -> Iterator[sqlite3.Connection]:
        """A durable transaction; only one thread may ask.

        Raises:
            sqlite3.Error: see `explain`.
            Unavailable: the files are not those that are open; nothing was stored.
            NeedsAttention: the same, found after the commit: what it is worth is unknown.
        """
        with self._writer_turns.turn():
            self.check_files()
            with _transaction(self._writer) as connection:
                yield connection
        try:
            self.check_files()
        except Unavailable as error:
            raise NeedsAttention(
                f"Whether the last appends were stored is unknown. {error.message}", **error.facts
            ) from error

    def committed(self, payload_bytes: int) -> None:
        """After each use of `writer`, by its thread: keeps the log short."""
        self._folder.committed(payload_bytes)

    @contextmanager
    def trimmer(self, *, is_durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction that a power loss may undo, unless it `is_durable`.

        Raises:
            NeuralakeError: see `explain`; Unavailable also if the files are not those that are
                open.
        """
        with self._trimming() as trimmer:
            trimmer.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            with self._trimmer_turns.turn(), _transaction(trimmer) as connection:
                yield connection

    def give_back(self) -> None:
        """Return free pages to the disk, if they are most of the file; a bounded step."""
        with self._trimming() as connection:
            free, pages, page_bytes = (
                pragma(connection, name) for name in ("freelist_count", "page_count", "page_size")
            )
            if free * 2 > pages and free * page_bytes > _FREE_BYTES_KEPT:
                # `execute` would stop after the first page: each page is a row without columns.
                connection.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES_STEP})")

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of the calling thread's own for the moment.

        Raises:
            sqlite3.Error: see `explain`.
            Unavailable: the files are not those that are open.
        """
        self.check_process()
        self._check_open()  # First: the last one that closes takes the log with it.
        self.check_files()
        with self._lock:
            self._check_open()
            connection = self._readers.pop() if self._readers else None
            self._readers_out += 1
        try:
            if connection is None:
                connection = self._connect("NORMAL")
            yield connection
        finally:
            self._take_back(connection)

    def close(self) -> None:
        """Close every connection; the last one of all processes folds the log into the file.

        Whoever reads at the moment goes on, and closes what is left.
        """
        with self._trim_lock, self._lock:
            if self._closed:
                return
            self._closed = True
            self._folder.close()
            self._let_go([*self._readers, self._trimmer, self._writer])
            self._writer_turns.close()
            self._trimmer_turns.close()

    def check_process(self) -> None:
        """Raise UsageError in a forked child: SQLite's locks do not survive a fork."""
        if os.getpid() != self._process:
            raise UsageError(
                "This queue was opened before a fork. Start processes with 'spawn', and open the "
                "queue in each."
            )

    def check_files(self) -> None:
        """Raise Unavailable if a file was removed, replaced or written over, or cannot be read.

        What goes there goes nowhere.

        A log that was removed is folded into the file, if nobody has opened that since.
        """
        gone, over = self._look()
        if not gone and not over:
            return
        self._check_open()  # The last one that closes removes the log itself.
        if over:
            raise written_over(self.path, over)
        if str(self.path) in gone:
            raise file_gone(self.path, gone)
        self._fold_once()
        is_lost = self._files.is_log_lost() and not self._is_folded
        error = log_gone(self.path, gone, is_lost=is_lost)
        if is_lost and not self._is_loss_told:
            self._is_loss_told = True
            _log.error("%s", error)
        raise error

    def _look(self) -> tuple[list[str], list[str]]:
        """What is gone, and what was written over."""
        try:
            gone = self._files.gone()
            return gone, [] if gone else self._files.written_over()
        except OSError as error:
            self._check_open()  # It has closed what we look through.
            raise unreadable(self.path, error) from error

    @contextmanager
    def _trimming(self) -> Iterator[sqlite3.Connection]:
        self.check_process()
        self._check_open()  # First, as in `reader`.
        self.check_files()
        with self._trim_lock:
            self._check_open()
            try:
                yield self._trimmer
            except sqlite3.Error as error:
                raise explain(error, self.path) from error

    def _opened(self) -> OpenFiles:
        try:
            return OpenFiles(self.path)
        except FileNotFoundError as error:
            # SQLite goes on with one that was removed, if this process has it open already.
            raise log_gone(self.path, [error.filename], is_lost=False) from error
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._lock_s_max,
            isolation_level=None,  # We begin transactions ourselves.
            check_same_thread=False,  # Handed from thread to thread, never used by two.
        )
        try:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA fullfsync = 1")  # macOS: fsync alone stays in the drive.
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES_KEPT}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_back(self, reader: sqlite3.Connection | None) -> None:
        with self._lock:
            self._readers_out -= 1
            readers = [] if reader is None else [reader]
            if self._closed:
                self._let_go(readers)
            else:
                self._readers += readers

    def _let_go(self, connections: Sequence[sqlite3.Connection]) -> None:
        """Close them; behind the last one the handles, with which this process's locks go.

        Without these, another process may take the log away below who still reads.
        """
        if connections and not self._may_fold():
            self._is_abandoned = True
            for connection in connections:
                _abandon(connection)
            return
        for connection in connections:
            connection.close()
        if not self._readers_out and not self._is_abandoned:
            self._files.close()

    def _may_fold(self) -> bool:
        with suppress(OSError):  # What cannot be read is not to be written to.
            return not self._files.has_other_log() and not self._files.written_over()
        return False

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("The queue is closed.")

    def _fold_once(self) -> None:
        """Put what the removed log holds into the file, where the next process looks for it."""
        if self._is_folded or not self._trim_lock.acquire(blocking=False):
            return
        try:
            # Whoever opens the file now would go on without the log: it waits for us. Who has
            # opened it keeps what it has read, and must not have the file changed below it.
            with (
                suppress(OSError, sqlite3.Error),
                _opened_by_one(self.path, wait=False),
                self._files.alone() as is_alone,
            ):
                if is_alone and not self._closed and not self._files.has_other_log():
                    busy, _, _ = self._trimmer.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
                    self._is_folded = not busy
        finally:
            self._trim_lock.release()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # Some errors (disk full) have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _abandon(connection: sqlite3.Connection) -> None:
    """Leave a connection to the end of the process, which closes its files and does no more.

    SQLite would fold our log, which is no file any more, into what another process has gone on
    with, and remove that one's log, by its name. Or into a file that was written over.
    """
    # A reference that nobody gives back: Python, too, closes what it lets go of.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


@contextmanager
def _opened_by_one(path: Path, *, wait: bool = True) -> Iterator[None]:
    """One process at a time: switching to WAL does not wait for others by itself."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)
