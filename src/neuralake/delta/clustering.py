"""Rows of a file sorted by the columns that queries filter by, in bounded memory.

A table asks for it with its property `neuralake.clusterBy`. Row groups of a sorted file have narrow
bounds, so that readers skip most of them. Rows that are equal in these columns keep their order;
nulls come last. A file that was sorted says by what in the `tags` of its `add`, so that it is not
sorted again. Sorting spills runs to temporary files that have no name, and merges them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from neuralake.delta.protocol import TableState
from neuralake.errors import UsageError

__all__ = [
    "CLUSTERED_BY",
    "CLUSTER_BY",
    "clustering_of",
    "clustering_properties",
    "mark_of",
    "sorted_batches",
]

CLUSTER_BY = "neuralake.clusterBy"
"""The table property: a JSON list of columns."""
CLUSTERED_BY = "neuralake.clusteredBy"
"""The tag of a sorted file, with the same value."""

_RUN_BYTES = 192 * 1024 * 1024
_PIECE_ROWS = 32 * 1024
_RUN = "neuralake run"  # Not a name that a table's column can have: it has a space.


def clustering_of(state: TableState, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The columns to sort a table's files by: `asked`, or those that its property names.

    Raises:
        UsageError: one is not a column of the files, or cannot be sorted by; with `column`.
    """
    by = _recorded(state) if asked is None else tuple(asked)
    for name in by:
        if name not in state.schema.names or name in state.partition_by:
            raise UsageError(
                f"The table cannot be clustered by {name!r}: its files have the columns "
                f"{', '.join(n for n in state.schema.names if n not in state.partition_by)}.",
                column=name,
            )
        if pa.types.is_nested(state.schema.field(name).type):
            raise UsageError(
                f"The table cannot be clustered by {name!r}, which is "
                f"{state.schema.field(name).type}: lists and structs have no order.",
                column=name,
            )
    return by


def mark_of(by: Sequence[str]) -> str:
    """What the property and the tag hold for these columns; empty for none."""
    return msgspec.json.encode([*by]).decode() if by else ""


def clustering_properties(by: Sequence[str]) -> dict[str, str]:
    """The table properties that ask for files sorted by these columns; none for none."""
    return {CLUSTER_BY: mark_of(by)} if by else {}


def _recorded(state: TableState) -> tuple[str, ...]:
    text = state.metadata.configuration.get(CLUSTER_BY) or "[]"
    try:
        return tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.DecodeError as error:
        raise UsageError(
            f"The table property {CLUSTER_BY!r} is {text!r}, but must be a JSON list of columns, "
            f'such as ["time"].',
            property=CLUSTER_BY,
            value=text,
        ) from error


def sorted_batches(
    batches: Iterable[pa.Table],
    by: Sequence[str],
    *,
    run_bytes: int = _RUN_BYTES,
    piece_rows: int = _PIECE_ROWS,
) -> Iterator[pa.Table]:
    """The rows of `batches` sorted by `by`.

    Holds about twice `run_bytes` of them in memory, and `piece_rows` of each run while it merges.
    """
    runs: list[Iterator[pa.Table]] = []
    held: list[pa.Table] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= run_bytes:
            runs.append(_spilled(_sorted(held, by), piece_rows))
            held, size = [], 0
    if not runs:
        if held:
            yield from _pieces(_sorted(held, by), piece_rows)
        return
    if held:
        runs.append(_pieces(_sorted(held, by), piece_rows))
        held = []
    yield from _merged(runs, by, piece_rows)


def _sorted(tables: list[pa.Table], by: Sequence[str]) -> pa.Table:
    rows = pa.concat_tables(tables)
    # Stable, by Arrow's documentation.
    return rows.take(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in by]))


def _pieces(rows: pa.Table, piece_rows: int) -> Iterator[pa.Table]:
    for start in range(0, rows.num_rows, piece_rows):
        yield rows.slice(start, piece_rows)


def _spilled(rows: pa.Table, piece_rows: int) -> Iterator[pa.Table]:
    """`rows` written aside now, and read back piece by piece later."""
    # The iterator holds the file, which has no name and goes with it, whatever happens.
    file = tempfile.TemporaryFile()  # noqa: SIM115 as said above
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.ipc.new_stream(file, rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=piece_rows)
    file.seek(0)

    def read() -> Iterator[pa.Table]:
        with file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    return read()


def _merged(
    runs: list[Iterator[pa.Table]], by: Sequence[str], piece_rows: int
) -> Iterator[pa.Table]:
    """The rows of sorted `runs` in order; of equal rows, those of the first run come first.

    Keeps some rows of every run that is not at its end. Of these, sorted together, everything up to
    the first run's last one is certain: what that run still has to give cannot come before it.
    """
    waiting = dict(enumerate(runs))
    pending: pa.Table | None = None
    counts = dict.fromkeys(waiting, 0)
    while True:
        parts = [] if pending is None else [pending]
        for number, run in [*waiting.items()]:
            # All that are low together, or each would have everything sorted again.
            while counts[number] <= piece_rows // 2 and number in waiting:
                piece = next(run, None)
                if piece is None:
                    del waiting[number]
                    break
                parts.append(piece.append_column(_RUN, pa.repeat(number, piece.num_rows)))
                counts[number] += piece.num_rows
        if not parts:
            return
        rows = _sorted(parts, [*by, _RUN])
        certain = rows.num_rows
        for number, last in _lasts(rows).items():
            if number in waiting:
                certain = min(certain, last + 1)
        yield rows.slice(0, certain).drop_columns([_RUN])
        pending = rows.slice(certain) if certain < rows.num_rows else None
        counts = dict.fromkeys(counts, 0) | ({} if pending is None else _counts(pending))


def _lasts(rows: pa.Table) -> dict[int, int]:
    """Where the last row of each run is."""
    places = pa.table({"run": rows[_RUN], "place": pa.array(range(rows.num_rows), pa.int64())})
    found = places.group_by("run", use_threads=False).aggregate([("place", "max")])
    return dict(zip(found["run"].to_pylist(), found["place_max"].to_pylist(), strict=True))


def _counts(rows: pa.Table) -> dict[int, int]:
    found = pc.value_counts(rows[_RUN]).to_pylist()
    return {each["values"]: each["counts"] for each in found}
