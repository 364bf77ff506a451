"""Readers: every version inside the retention is there, whole, and as the history says."""

from __future__ import annotations

from collections import Counter

from tests.simulation.actors import Sender
from tests.simulation.history import History, Version
from tests.simulation.lake import TOPIC, Lake, Round
from tests.simulation.rows import PARTITION_BY, SCHEMA, maker_of
from tests.simulation.weather import spread
from tests.simulation.world import Process, Violation

from neuralake import delta
from neuralake.delta.files import store_name
from neuralake.errors import Trimmed, UnknownName
from neuralake.live import read_tail

__all__ = ["LiveReader", "check_snapshot", "reader"]

_HELD_S_MAX = 20 * 3600.0


def reader(lake: Lake, process: Process) -> Round:
    """Opens the newest version or an older one, and reads its files some time later."""
    store, chance = lake.store(process), lake.world.random

    def read() -> None:
        history = lake.history
        if chance.random() < 0.5:
            known = history.newest.number
            found = delta.snapshot(store)
            if found.version < known:
                raise Violation(f"Opened version {found.version}, after {known} was there.")
        else:
            version = chance.choice(history.readable_versions())
            try:
                found = delta.snapshot(store, version)
            except UnknownName as error:
                if history.readable(version):
                    raise Violation(
                        f"Version {version} is inside the retention: {error}"
                    ) from error
                process.note(f"version {version} is too old by now")
                return
        process.note(f"opened version {found.version}")
        check_snapshot(found, history)
        process.pause(spread(chance, 0.01, _HELD_S_MAX))
        _check_files(found, history, process)

    return read


def check_snapshot(found: delta.Snapshot, history: History) -> None:
    """Compare what the engine says of a version with what it was."""
    version = history.versions[found.version]
    if found.schema != SCHEMA or found.partition_by != PARTITION_BY:
        raise Violation(f"Version {found.version} has the columns {found.schema}.")
    said = [(file.path, file.partition["site"], file.rows) for file in found.files]
    true = [(file.path, file.site, len(file.ids)) for file in version.files()]
    if said != true:
        raise Violation(f"Version {found.version} has the files {true}, but reads as {said}.")
    txns = {app_id: found.txn(app_id) for app_id in version.txns}
    if txns != version.txns:
        raise Violation(f"Version {found.version} is at {version.txns}, but reads as {txns}.")


def _check_files(found: delta.Snapshot, history: History, process: Process) -> None:
    """The files of a version are there, as long as it is not too old; all at one moment."""
    if not history.readable(found.version):
        process.note(f"version {found.version} is too old by now")
        return
    for file in found.files:
        data = history.store.read(store_name(file.path))
        if data is None:
            raise Violation(f"{file.path} of version {found.version} is gone.")
        if not history.is_as_stored(store_name(file.path), data):
            raise Violation(f"{file.path} is not what was stored.")


class LiveReader:
    """Reads the table and the queue's tail behind it: every acknowledged row, each once."""

    def __init__(self, senders: list[Sender]) -> None:
        self._senders = senders

    def __call__(self, lake: Lake, process: Process) -> Round:
        store, queue = lake.store(process), lake.queue_of(process)

        def read() -> None:
            due = {number for sender in self._senders for number in sender.acknowledged}
            trimmed = queue.bounds(TOPIC).trimmed
            found = delta.snapshot(store)
            committed = found.txn(lake.app_id)
            try:
                after = trimmed if committed is None else committed
                tail = read_tail(queue, TOPIC, after=after, schema=SCHEMA)["id"].to_pylist()
            except Trimmed:
                return
            rows = self._streamed(lake.history.versions[found.version]) + tail
            process.note(f"live: {len(rows)} rows at version {found.version}")
            if doubled := [number for number, times in Counter(rows).items() if times > 1]:
                raise Violation(f"A live frame has rows twice: {doubled}.")
            if missing := due - set(rows) - lake.ledger.deleted:
                raise Violation(f"A live frame misses acknowledged rows: {sorted(missing)}.")

        return read

    def _streamed(self, version: Version) -> list[int]:
        makers = {sender.maker for sender in self._senders}
        return [number for number in version.ids() if maker_of(number) in makers]
