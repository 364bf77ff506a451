"""Send a file's rows to a table through the HTTP API, each once, also over breaks.

Batches carry keys made of the file's content, the table and the batch's number: a batch whose
answer was lost is sent again and recognised. A run that was interrupted goes on where it was; the
same file sent again within the queue's `keys_retention_hours` adds nothing.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from neuralake.clock import Clock, SystemClock
from neuralake.errors import Unavailable, UsageError
from neuralake.ingest.decode import encode
from neuralake.ingest.file_rows import FileBatch, format_of, read_batches
from neuralake.ingest.progress_file import Progress, ProgressFile
from neuralake.ingest.sender import Sender

__all__ = ["FileProgress", "FileReport", "send_file"]

BATCH_ROWS = 50_000
# Envelopes are kept well below the server's limit on bodies (64 MiB unless set otherwise).
_PAYLOAD_BYTES_MAX = 16 * 1024 * 1024


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


@dataclass(frozen=True, slots=True)
class _Part:
    """What one request carries."""

    payload: bytes
    rows: int
    key: str


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
    on_progress: Callable[[FileProgress], None] | None = None,
    clock: Clock | None = None,
    stop: threading.Event | None = None,
    give_up_s: float = 300.0,
) -> FileReport:
    """Send every row of `path` (CSV, TSV, NDJSON or Parquet) to `database.table`.

    When this returns all rows are durable. Rows before a row that does not fit may be stored.

    Args:
        url: of the server, such as `http://127.0.0.1:8765`.
        schema: the table's declared schema.
        state_folder: where progress is kept between runs.
        null_values: texts of CSV fields that mean null, where they are not quoted.
        on_progress: called after each batch.
        stop: set it to stop after the batch that is on its way.
        give_up_s: how long an absent or full server is waited for.

    Raises:
        InvalidRows, SchemaMismatch: the file does not fit the table; `row` counts from 0.
        UsageError: the file cannot be read, or the server refuses it.
        Unavailable: the server went away for too long, or `stop` was set; run again to go on.
    """
    if batch_rows < 1:
        raise UsageError(f"batch_rows is {batch_rows}; it must be at least 1.")
    format_of(path)
    stop = stop or threading.Event()
    name = f"{database}.{table}"
    transfer = _transfer(path, name, batch_rows)
    sender = Sender(url, clock=clock or SystemClock(), stop=stop, give_up_s=give_up_s)
    try:
        queue = str(sender.progress(database, table)["queue"])
        kept = ProgressFile(state_folder, transfer)
        begun = kept.load(queue)
        total, rows, repeated = path.stat().st_size, begun.rows, 0
        batches = read_batches(
            path, schema, name=name, batch_rows=batch_rows, null_values=null_values
        )
        for batch, parts in _ahead(batches, begun.batches, transfer):
            if stop.is_set():
                raise Unavailable(
                    f"Stopped: {rows} rows of {path.name} are stored. Send it again to go on."
                )
            for part in parts:
                found = sender.send(database, table, part.payload, key=part.key)
                repeated += part.rows if found.repeated else 0
            rows += batch.rows.num_rows
            kept.save(Progress(queue=queue, batches=batch.number + 1, rows=rows))
            if on_progress:
                on_progress(FileProgress(batch.bytes_read, total, rows))
        kept.remove()
    finally:
        sender.close()
    return FileReport(rows=rows, rows_skipped=begun.rows, rows_repeated=repeated)


def _transfer(path: Path, name: str, batch_rows: int) -> str:
    """What names this transfer: the same for the same bytes, table and batch size."""
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.", path=str(path)) from error
    return hashlib.sha256(f"{content} {name} {batch_rows}".encode()).hexdigest()[:40]


def _ahead(
    batches: Iterator[FileBatch], skip: int, transfer: str
) -> Iterator[tuple[FileBatch, list[_Part]]]:
    """Batches from number `skip` on, each read while the one before is on its way."""

    def following() -> tuple[FileBatch, list[_Part]] | None:
        for batch in batches:
            if batch.number >= skip:
                return batch, _parts(batch, transfer)
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="read-file") as reader:
        upcoming = reader.submit(following)
        while (found := upcoming.result()) is not None:
            upcoming = reader.submit(following)
            yield found


def _parts(batch: FileBatch, transfer: str) -> list[_Part]:
    """The batch as one request, or as several of equal rows if it is too large for one."""
    key = f"file-{transfer}-{batch.number}"
    whole = encode(batch.rows)
    count = min(-(-len(whole.payload) // _PAYLOAD_BYTES_MAX), batch.rows.num_rows)
    if count == 1:
        return [_Part(whole.payload, whole.rows, key)]
    step = -(-batch.rows.num_rows // count)
    slices = [batch.rows.slice(at, step) for at in range(0, batch.rows.num_rows, step)]
    encoded = [encode(rows) for rows in slices]
    return [_Part(part.payload, part.rows, f"{key}.{index}") for index, part in enumerate(encoded)]
