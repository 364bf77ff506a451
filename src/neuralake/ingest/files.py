"""Send a file's rows to a table through the HTTP API, each once, also over breaks.

Parts carry keys made of their content and what is before it in the file (`file_parts`): a part
whose answer was lost is sent again and recognised, and so is everything of a file that was mended
or has grown, up to the first row that differs. `--again` is how to store equal rows twice.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from neuralake.clock import Clock, SystemClock
from neuralake.errors import (
    InvalidRows,
    NeuralakeError,
    SchemaMismatch,
    Unavailable,
    UsageError,
)
from neuralake.ingest.file_lines import line_of_row
from neuralake.ingest.file_parts import FilePart, Known, RowSource, beginning, cut
from neuralake.ingest.file_rows import format_of, read_tables
from neuralake.ingest.progress_file import ProgressFile, remove_old
from neuralake.ingest.sender import Sender

__all__ = ["GIVE_UP_S", "FileProgress", "FileReport", "send_file"]

BATCH_ROWS = 50_000
GIVE_UP_S = 300.0
"""How long an absent or full server is waited for."""
# A file below this is read twice, so that a row that does not fit is found before any is stored:
# a second or two. A larger one stores the rows before it, which the mended file does not repeat.
_CHECKED_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileProgress:
    """For a progress bar."""

    bytes_done: int
    bytes_total: int
    rows: int
    """Rows of this file that are durable, including those of an earlier run."""


@dataclass(frozen=True, slots=True)
class FileReport:
    rows: int
    """Rows of the file; all of them are durable."""
    rows_skipped: int
    """Of these, rows that an earlier run had delivered, by its progress file."""
    rows_repeated: int
    """Of these, rows that the server had already, by their keys."""
    dead_letters: int = 0
    """Of these, rows that do not keep the table's rules, and are dead letters."""


def send_file(
    path: Path,
    *,
    url: str,
    database: str,
    table: str,
    schema: pa.Schema,
    state_folder: Path,
    batch_rows: int = BATCH_ROWS,
    null_values: Sequence[str] = ("",),
    again: bool = False,
    checked_bytes_max: int = _CHECKED_BYTES_MAX,
    on_progress: Callable[[FileProgress], None] | None = None,
    clock: Clock | None = None,
    stop: threading.Event | None = None,
    give_up_s: float = GIVE_UP_S,
    token: str = "",
) -> FileReport:
    """Send every row of `path` (CSV, TSV, NDJSON or Parquet) to `database.table`.

    When this returns all rows are durable. If a row does not fit, the error says how many rows
    before it are stored: none, if the file is smaller than `checked_bytes_max`.

    Args:
        url: of the server, such as `http://127.0.0.1:8765`.
        schema: the table's declared schema.
        state_folder: where progress is kept between runs.
        null_values: texts of CSV fields that mean null, where they are not quoted.
        again: store rows that were sent before a second time. After a break go on without it.
        on_progress: called after each part.
        stop: set it to stop after the part that is on its way.
        give_up_s: how long an absent or full server is waited for.
        token: for a server that asks for one.

    Raises:
        InvalidRows, SchemaMismatch: the file does not fit the table; `row` counts from 0, `line`
            from 1 (None if unknown), `rows_stored` are the rows of the file that are durable.
        UsageError: the file cannot be read, or the server refuses it.
        Unavailable: the server went away for too long, or `stop` was set; run again to go on.
    """
    if batch_rows < 1:
        raise UsageError(f"batch_rows is {batch_rows}; it must be at least 1.")
    format_of(path)
    name = f"{database}.{table}"
    clock, stop = clock or SystemClock(), stop or threading.Event()
    sender = Sender(url, clock=clock, stop=stop, give_up_s=give_up_s, token=token)
    remove_old(state_folder, clock=clock)

    def tables() -> Iterator[tuple[pa.Table, int]]:
        for found in read_tables(path, schema, name=name, null_values=null_values):
            if stop.is_set():
                raise Unavailable("Stopped.")
            yield found

    transfer = _Transfer(path, sender, database, table, on_progress, stop)
    copying = False
    try:
        queue = str(sender.progress(database, table)["queue"])
        if _is_checked(path, checked_bytes_max):
            for _ in tables():
                pass
        source = RowSource(tables(), schema)
        begun = beginning(source, topic=name)
        if begun is not None:
            kept = ProgressFile(state_folder, begun, queue=queue)
            if again:
                kept.begin(uuid.uuid4().hex, ())
                copying = True
            transfer.run(
                cut(source, topic=name, salt=kept.salt, known=kept.parts[:], batch_rows=batch_rows),
                kept,
            )
    except Unavailable as error:
        raise _stopped(error, path, transfer.rows, copying=copying) from error
    except NeuralakeError as error:
        raise _explained(error, path, transfer.rows) from error
    finally:
        sender.close()
    return FileReport(
        transfer.rows, transfer.rows_skipped, transfer.rows_repeated, transfer.dead_letters
    )


class _Transfer:
    """One run over one file."""

    def __init__(
        self,
        path: Path,
        sender: Sender,
        database: str,
        table: str,
        on_progress: Callable[[FileProgress], None] | None,
        stop: threading.Event,
    ) -> None:
        self._path, self._sender, self._stop = path, sender, stop
        self._database, self._table = database, table
        self._on_progress = on_progress
        self.rows = self.rows_skipped = self.rows_repeated = self.dead_letters = 0

    def run(self, parts: Iterator[FilePart], kept: ProgressFile) -> None:
        """Deliver `parts` in order, but those that are known."""
        total, known = self._path.stat().st_size, 0
        for part in _ahead(parts):
            if self._stop.is_set():
                raise Unavailable("Stopped.")
            if part.known:
                known += 1
                self.rows_skipped += part.rows
            else:
                if known < len(kept.parts) or not kept.parts:
                    # From here on it is another file, or a new one.
                    salt = kept.salt if known or not kept.parts else ""
                    kept.begin(salt, kept.parts[:known])
                self._send(part)
                kept.add(Known(part.rows, part.key))
                known += 1
            self.rows += part.rows
            if self._on_progress:
                self._on_progress(FileProgress(part.bytes_read, total, self.rows))

    def _send(self, part: FilePart) -> None:
        try:
            found = self._sender.send(
                self._database, self._table, part.payload, key=f"file-{part.key}"
            )
        except (InvalidRows, SchemaMismatch) as error:
            if "rule" in error.facts:
                raise UsageError(
                    f"Among the rows from row {part.first_row:,} on (counted from there): "
                    f"{error.message} The {self.rows:,} rows before are stored, and not stored "
                    f"twice.",
                    first_row=part.first_row,
                    rows_stored=self.rows,
                ) from error
            # They fit our definition, so the server has another one.
            raise UsageError(
                f"The server refuses what the definition here allows, among the {part.rows:,} rows "
                f"from row {part.first_row:,} on: {error.message} Restart it if the definition "
                f"has changed. The {self.rows:,} rows before are stored, and not stored twice.",
                first_row=part.first_row,
                rows_stored=self.rows,
            ) from error
        self.rows_repeated += part.rows if found.repeated else 0
        self.dead_letters += found.dead_letters


def _is_checked(path: Path, bytes_max: int) -> bool:
    """Whether the file is read once before anything of it is sent."""
    try:
        return path.is_file() and path.stat().st_size < bytes_max
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.", path=str(path)) from error


def _ahead(parts: Iterator[FilePart]) -> Iterator[FilePart]:
    """`parts`, each made while the one before is on its way."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-file") as reader:
        upcoming = reader.submit(next, parts, None)
        while (part := upcoming.result()) is not None:
            upcoming = reader.submit(next, parts, None)
            yield part


def _stopped(error: Unavailable, path: Path, rows: int, *, copying: bool) -> Unavailable:
    how = (
        "Send it again without --again (what comes after it, with)" if copying else "Send it again"
    )
    return Unavailable(
        f"{error.message} {rows:,} rows of {path.name} are stored. {how} to go on.",
        **{**error.facts, "rows_stored": rows},
    )


def _explained(error: NeuralakeError, path: Path, rows: int) -> NeuralakeError:
    """The error of a file that does not fit, with where that is and what was stored."""
    row = error.facts.get("row")
    if row is None and not isinstance(error, (InvalidRows, SchemaMismatch)):
        return error
    line = line_of_row(path, row) if row is not None else None
    where = f" It is on line {line:,} of {path.name}." if line is not None else ""
    stored = (
        f" The {rows:,} rows before it are stored. Mend the file and send it again: they are "
        f"not stored twice."
        if rows
        else " Nothing was sent. Mend the file and send it again."
    )
    facts = {**error.facts, "line": line, "rows_stored": rows}
    return type(error)(error.message + where + stored, **facts)
