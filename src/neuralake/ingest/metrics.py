"""What the platform does, in the text that Prometheus reads: `GET /metrics`.

Counters and durations come from all parts that run on the lake, each with its `part` and `pid`:
this server's own, and the others' as they tell them (`telemetry.shared`). How far tables are behind
is looked up now. A caller sees the tables that its token may read or write.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from neuralake.catalog import Catalog
from neuralake.clock import Clock
from neuralake.ingest.lag import Lag, Lags
from neuralake.serve.caller import Caller, caller_of
from neuralake.telemetry import BOUNDS_S, Series, Telemetry, Told, told

__all__ = ["HELP", "Metrics"]

HELP = {
    "compact_bytes": "Bytes of data files that compaction wrote.",
    "compact_conflicts": "Compactions that gave way to another commit.",
    "compact_files_added": "Data files that compaction wrote.",
    "compact_files_removed": "Data files that compaction replaced.",
    "ingest_bytes": "Bytes of bodies that were accepted, unpacked.",
    "ingest_dead_letters": "Rows that did not fit and were accepted as dead letters.",
    "ingest_dropped_values": "Values of unknown columns that were left out of accepted rows.",
    "ingest_refused": "Requests that were refused, by status.",
    "ingest_request_seconds": "From a request's first byte to its answer, of accepted ones.",
    "ingest_rows": "Rows that were accepted: valid, and durable in the queue.",
    "log_files_removed": "Log entries and checkpoints that clean-up removed.",
    "maintain_errors": "Times that maintenance of a table failed, by kind of error.",
    "process_resident_memory_bytes": "Memory that the process holds.",
    "process_start_time_seconds": "When the process started, in Unix seconds.",
    "queue_commits": "Transactions of the embedded queue, each one fsync.",
    "queue_lag_bytes": "Bytes that are acknowledged and not in the table yet; 0 over Kafka.",
    "queue_lag_rows": "Rows that are acknowledged and not in the table yet; over Kafka, messages.",
    "queue_lag_seconds": "Age of the oldest row that is acknowledged and not in the table yet.",
    "queue_submits": "Appends to the embedded queue.",
    "tail_rows": "Rows that were read from the tail of a table over HTTP.",
    "table_up": "1 if the lag of the table could be looked up, else 0.",
    "table_version": "Newest version of the table.",
    "vacuum_bytes_removed": "Bytes of files that vacuum removed.",
    "vacuum_files_removed": "Files that vacuum removed.",
    "writer_bytes": "Bytes of data files that the writer committed.",
    "writer_commit_seconds": "Encoding and committing one batch to the table.",
    "writer_commits": "Commits of the writer.",
    "writer_dropped_values": "Values of unknown columns that the writer left out of messages.",
    "writer_errors": "Steps of the writer that failed and are tried again, by kind of error.",
    "writer_flush_seconds": "From reading a batch of the queue to its commit.",
    "writer_freshness_seconds": "Age of the oldest row of each commit when it was committed.",
    "writer_last_commit_timestamp_seconds": "When the writer last committed, in Unix seconds.",
    "writer_rejected": "Messages that give no row and were put into the table of rejected ones.",
    "writer_rows": "Rows that the writer committed.",
}
"""What each metric means; its name there begins with `neuralake_`."""


class Metrics:
    """Answers `GET /metrics`. Use it from one event loop."""

    def __init__(self, catalog: Catalog, telemetry: Telemetry, lags: Lags, *, clock: Clock) -> None:
        self._folder = catalog.settings.state_folder
        self._telemetry, self._lags, self._clock = telemetry, lags, clock

    async def get(self, request: Request) -> Response:
        """All metrics, in the format that the caller accepts."""
        others = await asyncio.to_thread(told, self._folder, clock=self._clock)
        lags = await self._lags.look()
        here = Told("serve", os.getpid(), self._clock.now_s(), self._telemetry.series())
        caller = caller_of(request.scope)
        families = _Families()
        for one in [here, *(o for o in others if (o.part, o.pid) != (here.part, here.pid))]:
            process = {"part": one.part, "pid": str(one.pid)}
            families.add(_seen(caller, one.series), process)
        families.add(_seen(caller, _of(lags)), {})
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(families), headers={"content-type": content_type})


def _seen(caller: Caller, series: Iterable[Series]) -> Iterator[Series]:
    for one in series:
        table = dict(one.labels).get("table")
        if table is None or caller.may("read", table) or caller.may("write", table):
            yield one


def _of(lags: list[Lag]) -> Iterator[Series]:
    for lag in lags:
        labels = (("table", lag.table),)
        yield Series("gauge", "table_up", labels, float(lag.trouble is None))
        if lag.trouble is not None:
            continue
        yield Series("gauge", "queue_lag_rows", labels, lag.rows)
        yield Series("gauge", "queue_lag_bytes", labels, lag.bytes)
        yield Series("gauge", "queue_lag_seconds", labels, lag.seconds)
        if lag.version is not None:
            yield Series("gauge", "table_version", labels, lag.version)


class _Families:
    """Series by name, as the encoder asks for them: a registry that lives for one answer."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, tuple[str, ...]], Metric] = {}

    def add(self, series: Iterable[Series], labels: dict[str, str]) -> None:
        for one in series:
            named = {**dict(one.labels), **labels}
            family = self._family(one, tuple(sorted(named)))
            values = [named[name] for name in sorted(named)]
            if isinstance(family, HistogramMetricFamily):
                bounds = [*map(str, BOUNDS_S), "+Inf"]
                buckets = list(zip(bounds, accumulate(one.counts), strict=True))
                family.add_metric(values, buckets, one.value)
            elif isinstance(family, (CounterMetricFamily, GaugeMetricFamily)):
                family.add_metric(values, one.value)

    def collect(self) -> Iterable[Metric]:
        """The families; those of one name with other labels become one."""
        joined: dict[str, Metric] = {}
        for (name, _), family in sorted(self._found.items()):
            if name in joined:
                joined[name].samples += family.samples
            else:
                joined[name] = family
        return joined.values()

    def _family(self, one: Series, labels: tuple[str, ...]) -> Metric:
        if (one.name, labels) not in self._found:
            kinds = {
                "counter": CounterMetricFamily,
                "gauge": GaugeMetricFamily,
                "histogram": HistogramMetricFamily,
            }
            help_ = HELP.get(one.name, one.name)
            family = kinds[one.kind](f"neuralake_{one.name}", help_, labels=labels)
            self._found[one.name, labels] = family
        return self._found[one.name, labels]
