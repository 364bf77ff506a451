"""Which topics this process is to write: leases in the queue's file, for processes of one machine.

Each writing process is a row of `writers` that it renews all the time, and each topic that is
written a row of `leases`, in force while its holder's row is. A process that dies drops the lock on
a file of its own, which the others see at their next look; one that is paused loses its topics when
`lease_s` is over. Topics are shared out evenly among those that want them.

A saving of work, not a lock: who is paused in the middle of a commit does not know that its time is
over, and the table's `txn` refuses it. `fence` grows with each change of holder, so that what a
former holder still has to trim is left to the new one.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from neuralake.clock import Clock
from neuralake.errors import NeuralakeError, Unavailable, UsageError
from neuralake.queue.sqlite_errors import explain
from neuralake.queue.sqlite_file import SqliteFile

__all__ = ["LEASE_S", "LEASE_S_MAX", "TopicLeases"]

LEASE_S = 10.0
LEASE_S_MAX = 60.0
"""A longer lease in the file is of before a restart of the machine: its clock begins anew."""

# Each look is a transaction without an fsync. Looks are also when a free topic is found.
_LOOKS_PER_LEASE = 8
# Like Kafka's `max.poll.interval`: who was not heard of for so long does not write any more.
_CLAIM_S_MAX = 600.0

# Not part of the file's layout: releases that do not know them ignore them, and are still right.
_TABLES = """
CREATE TABLE IF NOT EXISTS writers (
    holder TEXT PRIMARY KEY,
    topics TEXT NOT NULL,
    expires_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS leases (
    topic TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    fence INTEGER NOT NULL
);
"""

_ASIDE = ".new"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Writer:
    """A process that is at work: what it wants, and what it has."""

    wanted: set[str]
    held: set[str] = field(default_factory=set)


class TopicLeases:
    """The leases of one process. Any thread may call.

    Args:
        clock: its monotonic time is compared with other processes': the machine's is the same for
            all of them.
        lease_s: for how long others believe that this process is at work, at most `LEASE_S_MAX`.
    """

    def __init__(self, file: SqliteFile, *, clock: Clock, lease_s: float) -> None:
        self._file, self._clock, self._lease_s = file, clock, lease_s
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._alive = -1
        self._claimed_s: dict[str, float] = {}
        self._fences: dict[str, int] = {}
        self._expires_s = float("-inf")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self, topic: str) -> bool:
        """Whether `topic` is this process's to write now. Quick, but for the first time.

        Raises:
            Unavailable, NeedsAttention: the file cannot be read.
            UsageError: closed.
        """
        with self._lock:
            if self._ending.is_set():
                raise UsageError("The queue is closed.")
            now_s = self._clock.monotonic_s()
            is_new = topic not in self._claimed_s
            self._claimed_s[topic] = now_s
            if is_new:
                try:
                    self._look()
                except BaseException:
                    del self._claimed_s[topic]
                    raise
                self._begin()
            return topic in self._fences and now_s < self._expires_s

    def release(self, topic: str) -> None:
        """Leave `topic` to others, who find it at their next look."""
        with self._lock:
            if self._claimed_s.pop(topic, None) is not None and not self._ending.is_set():
                with suppress(NeuralakeError):  # It is free when the time is over.
                    self._look()

    def is_former(self, connection: sqlite3.Connection, topic: str) -> bool:
        """Whether this process once held `topic`, and another one does now."""
        fence = self._fences.get(topic)
        if fence is None:
            return topic in self._claimed_s
        found = connection.execute("SELECT fence FROM leases WHERE topic = ?", (topic,)).fetchone()
        return found is not None and found[0] != fence

    def look(self) -> None:
        """Renew, take what is free, and give up what is too much; done all the time by itself."""
        with self._lock:
            self._look()

    def close(self) -> None:
        """Leave everything to others. Closing again does nothing."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._alive < 0:
                return
            with suppress(NeuralakeError), self._file.trimmer() as connection:
                connection.execute("DELETE FROM writers WHERE holder = ?", (self._holder,))
            self._life_file(self._holder).unlink(missing_ok=True)
            os.close(self._alive)
            self._alive = -1
            self._fences.clear()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="neuralake-queue-leases", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        # Real time, whatever the clock is: the others' patience is real, too.
        while not self._ending.wait(self._lease_s / _LOOKS_PER_LEASE):
            with suppress(NeuralakeError):  # Told by `claim`, when the time is over.
                self.look()

    def _look(self) -> None:
        now_s = self._clock.monotonic_s()
        wanted = {topic for topic, at_s in self._claimed_s.items() if now_s - at_s < _CLAIM_S_MAX}
        try:
            self._show_life()
            with self._file.trimmer() as connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                held = self._share(connection, wanted, now_s)
        except NeuralakeError as error:
            # A disk that takes nothing: nobody can take a topic over, and rows are to go on to
            # where there is room. What nobody else holds is ours then; the tables stay right.
            others = self._others_read(now_s)
            _log.warning("Leases cannot be written; going on without: %s", error)
            held = {topic: self._fences.get(topic, 0) for topic in wanted - others}
        for topic in held.keys() - self._fences.keys():
            _log.info("%s is written by this process now", topic)
        for topic in self._fences.keys() - held.keys():
            _log.info("%s is not written by this process any more", topic)
        self._fences = held
        self._expires_s = now_s + self._lease_s

    def _share(
        self, connection: sqlite3.Connection, wanted: set[str], now_s: float
    ) -> dict[str, int]:
        """What this process holds from now on, with its fences."""
        writers = self._others(connection, now_s)
        mine = writers[self._holder] = _Writer(wanted)
        connection.execute(
            "INSERT OR REPLACE INTO writers VALUES (?, ?, ?)",
            (self._holder, json.dumps(sorted(wanted)), now_s + self._lease_s),
        )
        fences: dict[str, int] = {}
        for topic, holder, fence in connection.execute("SELECT topic, holder, fence FROM leases"):
            fences[topic] = fence
            if holder in writers and topic in writers[holder].wanted:
                writers[holder].held.add(topic)
        taken = {topic for writer in writers.values() for topic in writer.held}
        moves = dict.fromkeys(wanted - taken, self._holder)
        mine.held |= moves.keys()
        moves |= _given(self._holder, writers)
        for topic, holder in moves.items():
            fences[topic] = fences.get(topic, 0) + 1
            connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (topic, holder, fences[topic])
            )
        return {topic: fences[topic] for topic in mine.held}

    def _others(self, connection: sqlite3.Connection, now_s: float) -> dict[str, _Writer]:
        """The other processes that are at work; those that are not are forgotten."""
        found: dict[str, _Writer] = {}
        for holder, topics, expires_s in connection.execute("SELECT * FROM writers").fetchall():
            if holder == self._holder:
                continue
            if now_s < expires_s <= now_s + LEASE_S_MAX and not self._is_dead(holder):
                found[holder] = _Writer(set(json.loads(topics)))
            else:
                connection.execute("DELETE FROM writers WHERE holder = ?", (holder,))
        return found

    def _others_read(self, now_s: float) -> set[str]:
        """The topics that others hold, from a file that cannot be written."""
        try:
            with self._file.reader() as connection:
                if not connection.execute(
                    "SELECT 1 FROM sqlite_master WHERE name = 'leases'"
                ).fetchone():
                    return set()
                found = connection.execute(
                    "SELECT topic, holder FROM leases JOIN writers USING (holder) "
                    "WHERE holder != ? AND expires_s > ?",
                    (self._holder, now_s),
                ).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._file.path) from error
        return {topic for topic, holder in found if not self._is_dead(holder)}

    def _show_life(self) -> None:
        """Hold the lock that ends with this process, before anybody can look for it."""
        if self._alive >= 0:
            return
        path, handle = self._life_file(self._holder), -1
        aside = path.with_name(path.name + _ASIDE)
        try:
            handle = os.open(aside, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            aside.rename(path)
        except OSError as error:
            if handle >= 0:
                os.close(handle)
            raise Unavailable(f"{path} cannot be made: {error.strerror}.") from error
        self._alive = handle
        self._sweep()

    def _sweep(self) -> None:
        """Remove what processes left that were killed when nobody knew them any more."""
        before = self._life_file("")
        for path in before.parent.glob(f"{before.name}*"):
            if not path.name.endswith(_ASIDE):
                self._is_dead(path.name.removeprefix(before.name))

    def _is_dead(self, holder: str) -> bool:
        path = self._life_file(holder)
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # Then its time decides.
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(handle)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return True

    def _life_file(self, holder: str) -> Path:
        return self._file.path.with_name(f"{self._file.path.name}-writer-{holder}")


def _given(holder: str, writers: dict[str, _Writer]) -> dict[str, str]:
    """What `holder` gives up, and to whom: to those who have less, by two or more.

    It is taken off `holder`'s and not yet added to the other's in the file's sense: that one finds
    it at its next look. Until then nobody writes it, which is better than both.
    """
    given: dict[str, str] = {}
    mine = writers[holder]
    # Sorted: everybody decides alike, and tests can say what.
    for topic in sorted(mine.held):
        takers = [name for name, other in writers.items() if topic in other.wanted]
        least = min(takers, key=lambda name: (len(writers[name].held), name), default=holder)
        if len(writers[least].held) + 1 < len(mine.held):
            given[topic] = least
            mine.held.remove(topic)
            writers[least].held.add(topic)
    return given
