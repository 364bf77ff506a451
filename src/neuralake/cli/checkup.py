"""What `neuralake check` looks at: settings, catalog, server, queue, tables and disk.

Each finding says what was seen and, if something is wrong, what helps. A check that cannot be made
is itself a finding: one broken table hides nothing about the others. Nothing is changed.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from neuralake import delta
from neuralake.catalog import Catalog
from neuralake.cli.session import Session
from neuralake.clock import SystemClock
from neuralake.delta.coordination import check_coordination
from neuralake.errors import NeuralakeError
from neuralake.queue import Queue
from neuralake.queue.topic import app_id, topic_of
from neuralake.settings import Settings
from neuralake.storage import is_local
from neuralake.supervise import read_state
from neuralake.supervise.answering import unready
from neuralake.tables import Definition, DeltaTable
from neuralake.writer import refuse_contradiction

__all__ = ["Finding", "examine"]

_DISK_BYTES_MIN = 1 << 30
# A partition of more small files than this is slow to read, and compaction is behind or not there.
_FILES_PER_PARTITION_MAX = 1000
_UNCOMMITTED_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `hint`: it works, but something could be better."""

    grade: Literal["ok", "hint", "wrong"]
    about: str
    text: str


def examine(session: Session) -> Iterator[Finding]:
    """The findings, as they are made.

    Raises:
        SettingsError: the settings cannot be read; without them there is nothing to look at.
    """
    settings = session.settings
    yield Finding("ok", "settings", f"{settings.folder}, lake at {settings.root}")
    yield _versions()
    yield from _disk(settings)
    yield _server(settings)
    try:
        catalog = session.catalog
        definitions = catalog.definitions()
    except Exception as error:  # noqa: BLE001 the user's code: it may raise anything
        yield Finding("wrong", "catalog", f"{settings.lake.catalog}: {_reason(error)}")
        return
    yield Finding("ok", "catalog", f"{_count(definitions)} in {', '.join(catalog.dbs())}")
    for database, definition in definitions:
        if definition.kind == "delta":
            yield _table(catalog, database, definition)
    queues: list[Callable[[], Queue]] = []
    if _has_queue(settings):
        queues.append(catalog.queue)
    if fed := [found for _, found in definitions if _is_fed(found)]:
        queues.append(lambda: catalog.queue_of(fed[0]))
    told: set[tuple[str, str]] = set()
    for queue in queues:
        for finding in _queue(catalog, queue):
            # Where rows are staged on Kafka, too, the second lists them again.
            if (finding.grade, finding.about) not in told:
                told.add((finding.grade, finding.about))
                yield finding


def _count(definitions: Sized) -> str:
    return "1 table" if len(definitions) == 1 else f"{len(definitions)} tables"


def _versions() -> Finding:
    parts = [f"Python {platform.python_version()}"]
    for name in ("neuralake", "polars", "pyarrow", "deltalake", "datafusion"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return Finding("wrong", "versions", f"{name} is not installed: pip install neuralake")
    return Finding("ok", "versions", ", ".join(parts))


def _disk(settings: Settings) -> Iterator[Finding]:
    if not is_local(settings.root):
        return
    folder = Path(settings.root)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / 1e9:.1f} GB free at {there}"
    if free < _DISK_BYTES_MIN:
        yield Finding("wrong", "disk", f"{text}: writing will fail soon; make room.")
    else:
        yield Finding("ok", "disk", text)


def _server(settings: Settings) -> Finding:
    running = read_state(settings.state_folder)
    if running is None:
        return Finding("hint", "platform", "not running: `neuralake up` starts it")
    again = [f"{name} {count}x" for name, count in running.restarts.items() if count]
    text = f"{running.url}, process {running.pid}"
    reasons = unready(running.url)
    if reasons is None:
        return Finding("wrong", "platform", f"{text}: the server does not answer")
    if reasons:
        return Finding("wrong", "platform", f"{text} takes no rows now: {'; '.join(reasons)}")
    if again:
        return Finding("hint", "platform", f"{text}; parts were started again: {', '.join(again)}")
    return Finding("ok", "platform", text)


def _table(catalog: Catalog, database: str, definition: Definition) -> Finding:
    name = topic_of(database, definition.name)
    try:
        store = catalog.store_of(definition)
        if not delta.exists(store):
            return Finding("hint", name, "no rows yet; the writer makes the table")
        now = delta.snapshot(store)
        check_coordination(now.state.metadata.configuration, store)
        difference = _difference(definition, now)
        # Asking makes a queue where there is none, and a check changes nothing.
        may_ask = not difference and (_has_queue(catalog.settings) or _is_fed(definition))
        if may_ask and isinstance(definition, DeltaTable) and definition.stream is not None:
            refuse_contradiction(catalog, database, definition)
        files = now.files
    except Exception as error:  # noqa: BLE001 one table hides nothing about the others
        return Finding("wrong", name, _reason(error))
    if difference:
        return Finding("wrong", name, difference)
    partitions = len({tuple(file.partition.items()) for file in files})
    text = f"version {now.version}, {now.rows or 0:,} rows in {len(files):,} files"
    if store.coordination != "local":
        text += f", commits by {store.coordination}"
    if len(files) > _FILES_PER_PARTITION_MAX * max(1, partitions):
        return Finding("hint", name, f"{text}: compaction is behind; `neuralake compact --once`")
    return Finding("ok", name, text)


def _difference(definition: Definition, now: delta.Snapshot) -> str | None:
    """The first column in which definition and table differ, as a sentence."""
    for field in definition.schema or ():
        if field.name not in now.schema.names:
            return f"column {field.name!r} is defined, but the table does not have it"
        found = now.schema.field(field.name).type
        if found != field.type:
            return f"column {field.name!r} is defined as {field.type}, but the table has {found}"
    if tuple(definition.partition_by) != now.partition_by:
        return (
            f"defined with partitions {list(definition.partition_by)}, but the table has "
            f"{list(now.partition_by)}"
        )
    return None


def _has_queue(settings: Settings) -> bool:
    return settings.queue.kind != "sqlite" or settings.queue_path.exists()


def _is_fed(definition: Definition) -> bool:
    """Whether others' messages on Kafka become the table's rows."""
    return definition.stream is not None and definition.stream.kafka is not None


def _queue(catalog: Catalog, open_queue: Callable[[], Queue]) -> Iterator[Finding]:
    try:
        queue = open_queue()
        for topic in queue.topics():
            for partition in queue.partitions(topic):
                yield _partition(catalog, queue, topic, partition)
    except NeuralakeError as error:
        yield Finding("wrong", "queue", _reason(error))


def _partition(catalog: Catalog, queue: Queue, topic: str, partition: str) -> Finding:
    """Whether the writer keeps up with a partition of a topic."""
    about = f"queue {partition}"
    homes = {topic_of(database, found.name): found for database, found in catalog.definitions()}
    if topic not in homes:
        rows = queue.bounds(partition).rows
        return Finding("hint", about, f"{rows:,} rows of a table that the catalog does not have")
    store = catalog.store_of(homes[topic])
    mark = app_id(queue.id, partition)
    committed = delta.snapshot(store).txn(mark) if delta.exists(store) else None
    waiting = queue.read(partition, after=max(committed or 0, queue.bounds(partition).trimmed))
    waiting = [envelope for envelope in waiting if envelope.rows]
    if not waiting:
        return Finding("ok", about, "everything is committed")
    age_s = SystemClock().now_s() - waiting[0].appended_s
    text = f"{sum(e.rows for e in waiting):,} rows or more wait for the writer since {age_s:.0f} s"
    if age_s > _UNCOMMITTED_S_MAX:
        return Finding("wrong", about, f"{text}: is it running? `neuralake up`, `neuralake write`")
    return Finding("ok", about, text)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, NeuralakeError) else f"{type(error).__name__}: {error}"
