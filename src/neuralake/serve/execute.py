"""One query from text to the bytes of its answer, within its limits.

The first `held_bytes_max` of an answer are kept back: an error until then, or an answer that is
complete by then, is known before the first byte goes out. An answer in CSV or Arrow has no place
to say that it was cut, so one that outgrows `rows_max` later fails instead; a cut that was asked
for (`limit`) is not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
from datafusion import DataFrame

from neuralake.clock import Clock
from neuralake.errors import QueryError, TooLarge, Unavailable
from neuralake.serve.encode import encoder
from neuralake.serve.guard import check_text, engine_text, plan
from neuralake.serve.messages import Data, Head, Limits, Run, Tail
from neuralake.serve.plain import plain_batch, plain_schema
from neuralake.serve.session import Session

__all__ = ["execute"]

_PART_BYTES = 256 * 1024
# Rows are turned into Python values in pieces of about this many Arrow bytes.
_PIECE_BYTES = 4 * 1024 * 1024


def execute(
    run: Run, session: Session, limits: Limits, clock: Clock
) -> Iterator[Head | Data | Tail]:
    """`Head`, then `Data`, then `Tail`; or an error at any point, of which the caller tells.

    Raises:
        QueryError: the text does not plan, is not read-only, or fails while it runs.
        TooLarge: the text or the answer is larger than its limit.
        UnknownName: it names a table that is not there.
        Unavailable: files of the table vanished while it ran; ask again.
    """
    began_s = clock.monotonic_s()
    check_text(run.sql, bytes_max=limits.query_bytes_max)
    frame = _plan(session, run.sql)
    rows_max = limits.rows_max if run.limit is None else min(run.limit, limits.rows_max)
    is_asked = run.limit is not None and run.limit <= limits.rows_max
    batches = _batches(frame, rows_max, session.conceal)
    encode = encoder(run.format)
    schema = next(batches)
    assert isinstance(schema, pa.Schema)  # noqa: S101 the first item, always; for mypy
    waiting = bytearray(encode.start(schema))
    rows, total, is_truncated, is_headed = 0, len(waiting), False, False
    for batch in batches:
        if rows + batch.num_rows > rows_max:
            is_truncated = True
            batch = batch.slice(0, rows_max - rows)
            if is_headed and not is_asked and run.format != "json":
                raise TooLarge(
                    f"The answer has more than {rows_max} rows. Ask for fewer, or state a limit.",
                    limit=rows_max,
                )
        rows += batch.num_rows
        part = encode.batch(batch)
        waiting += part
        total += len(part)
        if total > limits.answer_bytes_max:
            raise TooLarge(
                f"The answer is larger than {limits.answer_bytes_max} bytes. Ask for fewer rows or "
                f"columns.",
                limit=limits.answer_bytes_max,
            )
        if not is_headed and len(waiting) > limits.held_bytes_max:
            is_headed = True
            yield Head(truncated=None, rows=None, versions=session.versions)
        if is_headed and len(waiting) >= _PART_BYTES:
            yield from _parts(waiting)
        if is_truncated:
            break
    elapsed_ms = round((clock.monotonic_s() - began_s) * 1000, 3)
    waiting += encode.end(
        {"truncated": is_truncated, "elapsed_ms": elapsed_ms, "versions": session.versions}
    )
    if not is_headed:
        yield Head(truncated=is_truncated, rows=rows, versions=session.versions)
    yield from _parts(waiting)
    yield Tail(rows=rows, truncated=is_truncated)


def _plan(session: Session, sql: str) -> DataFrame:
    try:
        return session.plan(lambda context: plan(context, sql))
    except QueryError as error:
        # A name that is missing, or a table that does not open: the engine kept only a text of it.
        if session.failure is not None and error.reason == "plan":
            raise session.failure from error
        raise


def _batches(
    frame: DataFrame, rows_max: int, conceal: Callable[[str], str]
) -> Iterator[pa.Schema | pa.RecordBatch]:
    """The schema, then pieces of rows, in plain types; one row more than `rows_max` at most."""
    try:
        is_explained = _kind(frame) in ("Explain", "Analyze")
        stream = _bounded(frame, rows_max + 1).execute_stream()
        found = next(stream, None)
        engine_schema = frame.schema() if found is None else found.to_pyarrow().schema
        schema = plain_schema(engine_schema)
        yield schema
        while found is not None:
            batch = plain_batch(found.to_pyarrow(), schema)
            yield from _pieces(_concealed(batch, conceal) if is_explained else batch)
            found = next(stream, None)
    except (QueryError, GeneratorExit):
        raise
    except Exception as error:  # DataFusion raises plain Exception for all of its own.
        raise _failure(error) from error


def _bounded(frame: DataFrame, rows_max: int) -> DataFrame:
    # EXPLAIN and DESCRIBE must stay the root of their plans; they are short.
    is_short = _kind(frame) in ("Explain", "Analyze", "DescribeTable")
    return frame if is_short else frame.limit(rows_max)


def _kind(frame: DataFrame) -> str:
    return type(frame.logical_plan().to_variant()).__name__


def _concealed(batch: pa.RecordBatch, conceal: Callable[[str], str]) -> pa.RecordBatch:
    """The lines of a plan, which name the files that are read."""
    columns = [
        pa.array([None if text is None else conceal(text) for text in column.to_pylist()])
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    count = 1 + batch.nbytes // _PIECE_BYTES
    rows = max(1, -(-batch.num_rows // count))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _parts(waiting: bytearray) -> Iterator[Data]:
    for start in range(0, len(waiting), _PART_BYTES):
        yield Data(part=bytes(waiting[start : start + _PART_BYTES]))
    waiting.clear()


def _failure(error: Exception) -> Exception:
    text = engine_text(error)
    if "Resources exhausted" in text or "memory allocation failed" in text:
        return QueryError(
            "The query needs more memory than it may use. Ask for fewer rows or groups.",
            reason="memory",
        )
    if "Object at location" in text and "not found" in text:
        return Unavailable(
            "Files of this version of the table are gone: it was vacuumed meanwhile. Ask again.",
            retry_after_s=1.0,
        )
    return QueryError(text, reason="run")
