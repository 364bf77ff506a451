"""The tables of the queue's file: how it is made, and brought from an older release to this one."""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

from neuralake.errors import NeedsAttention
from neuralake.queue.payload_files import payload_folder, sync_folder

__all__ = ["make_file", "pragma", "prepare"]

_APPLICATION_ID = 0x4E4C4B51  # "NLKQ": tells our files from other people's.
_LAYOUT = 4

_PRODUCERS = """
CREATE TABLE producers (
    topic INTEGER NOT NULL,
    producer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    position INTEGER NOT NULL,
    appended_s REAL NOT NULL,
    fingerprint BLOB,
    UNIQUE (topic, producer, sequence)
);
"""
_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE identity (id TEXT NOT NULL);
CREATE TABLE topics (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last INTEGER NOT NULL DEFAULT 0,
    trimmed INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
);
-- The payload is last: what comes before it is read without touching its overflow pages. A text is
-- no payload, but the name of the file that has it.
CREATE TABLE envelopes (
    slot INTEGER PRIMARY KEY,
    rows INTEGER NOT NULL,
    appended_s REAL NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE keys (
    topic INTEGER NOT NULL,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    appended_s REAL NOT NULL,
    fingerprint BLOB,
    UNIQUE (topic, key)
);
{_PRODUCERS}
"""
# What makes a file of an older layout one of the next, in one transaction with its new number.
# (The third knew no payloads in files; nothing of what it has is changed.)
_UPGRADES = {1: "ALTER TABLE keys ADD COLUMN fingerprint BLOB;", 2: _PRODUCERS, 3: ""}


def make_file(path: Path) -> None:
    """An empty file that only the owner may open; its name survives power loss."""
    _refuse_orphans(path)
    new_folders = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # Only a file that is new is opened here: closing any handle of a file that SQLite has
        # open in this process would drop SQLite's locks on it.
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        return
    os.close(handle)
    sync_folder(path.parent)
    for folder in new_folders:
        sync_folder(folder.parent)


def _refuse_orphans(path: Path) -> None:
    """A file that is made beside the log of another one would have that one's rows, or half.

    Nor is one made beside another one's payloads: they would be taken for what belongs to it.
    """
    if path.exists():
        return
    left = [log for end in ("-wal", "-shm") if (log := Path(f"{path.resolve()}{end}")).exists()]
    payloads = payload_folder(path)
    if payloads.is_dir() and any(payloads.iterdir()):
        left.append(payloads)
    if left and not path.exists():  # Else another process has just made all of them.
        raise NeedsAttention(
            f"The queue's file {path} is not there, and of it there are still "
            f"{' and '.join(map(str, left))}: they may hold rows that are in no table yet. Put the "
            f"file back beside them. If it is lost, stop all of the platform, move them away, with "
            f"{payloads.name} if there is one, and start it: it begins a new queue.",
            path=str(path),
            found=[str(each) for each in left],
        )


def prepare(connection: sqlite3.Connection, path: Path) -> str:
    """Make the tables if the file is new; the identity of the contents either way."""
    layout = pragma(connection, "user_version")
    owner = pragma(connection, "application_id")
    if layout == 0 and owner == 0:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise NeedsAttention(f"{path} is a SQLite file, but not a queue.", path=str(path))
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise NeedsAttention(f"{path} cannot have a write-ahead log here.", path=str(path))
        connection.executescript(_TABLES)
        connection.execute("INSERT INTO identity VALUES (?)", (uuid.uuid4().hex,))
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_LAYOUT}")
        connection.execute("COMMIT")
    elif owner == _APPLICATION_ID and layout in _UPGRADES:
        for older in range(layout, _LAYOUT):
            connection.executescript(
                f"BEGIN IMMEDIATE; {_UPGRADES[older]} PRAGMA user_version = {older + 1}; COMMIT;"
            )
    elif owner != _APPLICATION_ID or layout != _LAYOUT:
        raise NeedsAttention(
            f"{path} is not a queue of this release: application {owner:#x}, layout {layout}; "
            f"this release reads layout {_LAYOUT}. Upgrade neuralake, or move the file away.",
            path=str(path),
            found=layout,
            known=_LAYOUT,
        )
    return str(connection.execute("SELECT id FROM identity").fetchone()[0])


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of one that is a number."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
