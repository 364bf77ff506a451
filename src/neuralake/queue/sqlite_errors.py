"""What SQLite and the disk say of the queue's file, as our errors: is it stored, what helps."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from neuralake.errors import NeedsAttention, NeuralakeError, TooLarge, Unavailable
from neuralake.queue.payload_files import payload_folder

__all__ = [
    "explain",
    "file_gone",
    "is_disk_full",
    "is_surely_unstored",
    "log_gone",
    "unreadable",
    "written_over",
]

# What stored nothing and may pass, and why. A write that failed did nothing by half: its frames in
# the log count only with the last one. A failed sync is not here: what it left is unknown.
_HELD = "Another process holds it"
_WAIT_AND_RETRY = {
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_FULL: "The disk is full",
    sqlite3.SQLITE_READONLY: "The disk or the file is read-only",
    sqlite3.SQLITE_CANTOPEN: "It cannot be opened",
    sqlite3.SQLITE_IOERR_WRITE: "The disk refuses to be written to",
    # The index of the log, which is a file beside it, could not grow.
    sqlite3.SQLITE_IOERR_SHMSIZE: "The disk is full",
    sqlite3.SQLITE_IOERR_SHMOPEN: "The disk refuses to be written to",
    sqlite3.SQLITE_IOERR_SHMMAP: "The disk refuses to be written to",
}
# Not so of a commit: it writes to the index after the log was synced. What the log has then counts
# if this process dies, as whoever makes the index anew finds it; else the next commit replaces it.
_UNKNOWN_OF_COMMIT = {
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMMAP,
}


def explain(
    error: sqlite3.Error | OSError, path: Path, *, of_commit: bool = False
) -> NeuralakeError:
    """The error of ours for `error`: what happened to the file, and what to do.

    Args:
        of_commit: a transaction raised it, of which somebody is to know whether it is stored.
    """
    if isinstance(error, OSError):
        return _explain_payload_file(error, path)
    code, primary = _code(error), _primary_code(error)
    why = _WAIT_AND_RETRY.get(code) or _WAIT_AND_RETRY.get(primary)
    facts = {"path": str(path), "sqlite": getattr(error, "sqlite_errorname", type(error).__name__)}
    if why is not None and not (of_commit and code in _UNKNOWN_OF_COMMIT):
        return Unavailable(
            f"The queue's file {path} took nothing: {error}. {why}; nothing was stored.",
            retry_after_s=1.0,
            **facts,
        )
    if primary == sqlite3.SQLITE_TOOBIG:
        return TooLarge(f"{path}: {error}. Send fewer rows at once.", **facts)
    return NeedsAttention(
        f"The queue's file {path} failed: {error} ({facts['sqlite']}). Whether the last appends "
        f"were stored is unknown; send them again with the same keys once it is repaired.",
        **facts,
    )


def _explain_payload_file(error: OSError, path: Path) -> NeuralakeError:
    facts = {"path": str(path), "code": errno.errorcode.get(error.errno or 0, "")}
    if error.errno != errno.EIO:
        return Unavailable(
            f"A file of the queue {path} could not be written: {error.strerror}; nothing was "
            f"stored.",
            retry_after_s=1.0,
            **facts,
        )
    return NeedsAttention(
        f"A file of the queue {path} failed: {error}. Nothing was stored; send it again once the "
        f"disk is repaired.",
        **facts,
    )


def file_gone(path: Path, names: Sequence[str]) -> Unavailable:
    """The error when the file itself, with others of `names`, is not the one that is open."""
    return _refusing(
        path,
        f"because files of it were removed or replaced while they were open: {_short(names)}. "
        f"Put back what was moved away, and it goes on. If that is lost, {_anew(path)}",
        reason="a file of it was removed or replaced",
    )


def log_gone(path: Path, names: Sequence[str], *, is_lost: bool) -> Unavailable:
    """The error when the log or its index, `names`, are not those that are open.

    Args:
        is_lost: another process has gone on without what the log held.
    """
    what = f"because files of it were removed or replaced while they were open: {_short(names)}. "
    restart = "Restart the platform: first stop all of it, and do not kill it."
    if not is_lost:
        return _refusing(path, what + restart, reason="a file of it was removed or replaced")
    return _refusing(
        path,
        f"{what}Rows are lost: another process has gone on without what the removed log held, that "
        f"is what was acknowledged since it was last folded into the file and is in no table yet. "
        f"{restart} Then compare what was sent last with the tables, and send again what is "
        f"missing.",
        reason="its log was removed, and acknowledged rows are lost with it",
    )


def written_over(path: Path, names: Sequence[str]) -> Unavailable:
    """The error when the files `names` do not hold any more what SQLite has put there."""
    return _refusing(
        path,
        f"because files of it were written over or cut while they were open: {_short(names)}. "
        f"What they held and is in no table yet is lost, unless you have a copy. To go on, "
        f"{_anew(path)} A copy that was made while nothing had the queue open may be put in their "
        f"place before that, whole.",
        reason="a file of it was written over or cut",
    )


def unreadable(path: Path, error: OSError) -> Unavailable:
    """The error when the disk does not say whether the files are still those that are open."""
    return _refusing(
        path,
        f"because the disk does not let its files be looked at: {error.strerror}. It goes on when "
        f"they can be read again.",
        reason="a file of it cannot be read",
    )


def _refusing(path: Path, why: str, *, reason: str) -> Unavailable:
    return Unavailable(
        f"The queue {path} takes and gives nothing, {why}",
        path=str(path),
        reason=f"{reason}: see the server's log",
        retry_after_s=5.0,
    )


def _short(names: Sequence[str]) -> str:
    return ", ".join(Path(name).name for name in names)


def _anew(path: Path) -> str:
    return (
        f"stop all of the platform, move what is left of these files and "
        f"{payload_folder(path).name} away, and start it: it begins a new queue, and rows that are "
        f"in no table yet are lost with the old one."
    )


def is_disk_full(error: sqlite3.Error | OSError) -> bool:
    """Whether a smaller transaction could have been stored."""
    if isinstance(error, OSError):
        return True  # Others of the group need no file.
    return _primary_code(error) == sqlite3.SQLITE_FULL


def is_surely_unstored(error: sqlite3.Error | OSError) -> bool:
    """Whether nothing of a transaction that raised `error` is stored; else it is unknown."""
    if isinstance(error, OSError):
        return True  # Of a payload's file, before the transaction was to be committed.
    code = _code(error)
    return code not in _UNKNOWN_OF_COMMIT and not {code, code & 0xFF}.isdisjoint(_WAIT_AND_RETRY)


def _code(error: sqlite3.Error) -> int:
    # Errors of Python's own module have no code.
    return int(getattr(error, "sqlite_errorcode", 0))


def _primary_code(error: sqlite3.Error) -> int:
    return _code(error) & 0xFF
