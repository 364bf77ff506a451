"""Change how the writers of a table agree on the next entry, from one way to another.

The change is a commit like any other, made in the old way: a writer of the old way either comes
before it, or meets it as the entry that was quicker, reads the new properties, and refuses to go
on. That holds for writers of ours. Others do not read our properties: stop them first, and start
them again with the new setting.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import msgspec

from neuralake.clock import Clock, SystemClock
from neuralake.delta.actions import CommitInfo, encode_entry
from neuralake.delta.coordination import (
    COORDINATION,
    LOCK_TABLE,
    TABLE_PATH,
    check_coordination,
    recorded,
)
from neuralake.delta.log import entry_name
from neuralake.delta.protocol import TableState
from neuralake.delta.replay import replay
from neuralake.delta.table import ENGINE
from neuralake.errors import CommitConflict
from neuralake.storage import AlreadyThere, LogStore

__all__ = ["Handover", "hand_over"]


@dataclass(frozen=True, slots=True)
class Handover:
    """What was changed: the properties before and after, and the version that did it."""

    version: int | None
    """None: the table said so already, and nothing was written."""
    before: dict[str, str]
    after: dict[str, str]


def hand_over(old: LogStore, new: LogStore, *, clock: Clock | None = None) -> Handover:
    """Record in the table that its writers agree as those of `new` do, by a commit through `old`.

    A table that does not say yet how its writers agree is told that it is the way of `new`; `old`
    must then be `new`.

    Raises:
        UnknownName: there is no table.
        UsageError: the table's writers agree in another way than `old`; nothing was written.
        CommitConflict: another writer was quicker: it still runs. Nothing was written.
        OutcomeUnknown: the store gave no answer; look at the table.
    """
    log = replay(old)
    configuration = log.metadata.configuration
    names = (COORDINATION, LOCK_TABLE, TABLE_PATH)
    before = {name: configuration[name] for name in names if name in configuration}
    if before:
        check_coordination(configuration, old)
    after = recorded(new)
    if before == after:
        return Handover(None, before, after)
    kept = {name: value for name, value in configuration.items() if name not in names}
    metadata = msgspec.structs.replace(log.metadata, configuration={**kept, **after})
    state = TableState.of(log.protocol, metadata)
    now_s = (clock or SystemClock()).now_s()
    now_ms = max(int(now_s * 1000), log.newest_ms + 1, (log.in_commit_ms or 0) + 1)
    info = CommitInfo(
        in_commit_timestamp=now_ms if state.properties.in_commit_timestamps else None,
        timestamp=now_ms,
        operation="SET TBLPROPERTIES",
        operation_parameters={"properties": msgspec.json.encode(after).decode()},
        read_version=log.version,
        is_blind_append=False,
        engine_info=ENGINE,
        txn_id=uuid.uuid4().hex,
    )
    version = log.version + 1
    try:
        old.put_if_absent(entry_name(version), encode_entry([info, metadata]))
    except AlreadyThere as error:
        raise CommitConflict(
            f"Version {version} of {old.uri} was committed by another writer meanwhile: stop all "
            f"writers of the table, and try again. Nothing was changed.",
            version=version,
        ) from error
    return Handover(version, before, after)
