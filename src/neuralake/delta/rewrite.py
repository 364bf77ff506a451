"""Several data files as one, with the same live rows, checked before anybody relies on it.

Row groups of a good size are copied byte for byte, the rest is decoded and encoded anew, in order;
or everything is sorted. A file that was made is opened again: its footer, as Arrow reads it, must
have all the rows that the log says there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from neuralake.delta.clustering import sorted_batches
from neuralake.delta.files import DataFiles, NewFile
from neuralake.delta.snapshot import DataFile
from neuralake.errors import CommitConflict, NeedsAttention

__all__ = ["rewrite"]


def rewrite(
    files: DataFiles,
    inputs: Sequence[DataFile],
    *,
    by: Sequence[str] = (),
    guard: Callable[[], None] = lambda: None,
) -> NewFile:
    """Store the live rows of `inputs`, files of one partition, as one durable file.

    Args:
        by: columns to sort the rows by; none: they keep their order.
        guard: called every few MiB; what it raises ends the work, and no file is left.

    Raises:
        NeedsAttention: a file is missing (`missing`), damaged, or has other rows than the log says;
            or the new file has not exactly their rows. No file is left.
        CommitConflict: this took so long that vacuum removed the new file.
        SchemaMismatch: a value does not fit the table's columns.
    """
    counted = 0

    def batches() -> Iterator[pa.Table]:
        nonlocal counted
        for file in inputs:
            for batch in files.read(file):
                guard()
                counted += batch.num_rows
                yield batch

    partition = inputs[0].partition
    written = None if by else files.join(partition, inputs, guard=guard)
    if written is None:
        written = files.write_one(partition, sorted_batches(batches(), by) if by else batches())
    else:
        counted = written.content.rows
    said = [file.live_rows for file in inputs]
    wanted = counted if None in said else sum(count or 0 for count in said)
    stored = _stored_rows(files, written)
    if stored is None:
        raise CommitConflict(
            f"{written.name} in {files.store.uri} is gone: so much time passed since it was "
            f"written that vacuum took it. Read again.",
        )
    if not stored == written.content.rows == counted == wanted:
        files.remove([written])
        raise NeedsAttention(
            f"{inputs[0].path} and its neighbours in {files.store.uri} have {wanted} rows by the "
            f"log and {counted} when they were read, but {stored} are in the file that was made of "
            f"them. It is not used.",
            path=inputs[0].path,
            missing=False,
        )
    return written


def _stored_rows(files: DataFiles, written: NewFile) -> int | None:
    with files.store.open(written.name) as source:
        return None if source is None else int(pq.read_metadata(source).num_rows)
