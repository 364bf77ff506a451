"""SQL without a server, for programs and the command line: the same engine, guard and limits."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from neuralake.catalog import Catalog
from neuralake.serve.gateway import Gateway, limits_of

__all__ = ["TRUNCATED", "query"]

TRUNCATED = b"neuralake.truncated"
"""Key of the schema's metadata that says `true` if rows were cut, else `false`."""


def query(
    catalog: Catalog,
    sql: str,
    *,
    timeout_s: float | None = None,
    rows_max: int | None = None,
    live: bool = False,
) -> pa.Table:
    """The answer to one reading statement; `database.table` are the names.

    `live`: stream tables have every row that was acknowledged before the call, each once.

    At most `rows_max` rows come back; `schema.metadata[TRUNCATED]` says whether there were more.
    Both limits default to the lake's settings. A process is started for it (0.4 s).

    Raises:
        QueryError: it does not plan, is not read-only, or needs too much memory.
        TimedOut: it did not end within `timeout_s`.
        UnknownName: it names a table that is not there.
    """
    limits = limits_of(catalog)
    limits = msgspec.structs.replace(
        limits,
        timeout_s=limits.timeout_s if timeout_s is None else timeout_s,
        rows_max=limits.rows_max if rows_max is None else rows_max,
    )
    with (
        Gateway(catalog, processes=1, limits=limits) as gateway,
        gateway.query(sql, "arrow", limit=limits.rows_max, live=live) as running,
    ):
        running.open()
        answer = b"".join(running.parts())
        is_truncated = running.tail is not None and running.tail.truncated
    rows = pa.ipc.open_stream(pa.py_buffer(answer)).read_all()
    return rows.replace_schema_metadata({TRUNCATED: b"true" if is_truncated else b"false"})
