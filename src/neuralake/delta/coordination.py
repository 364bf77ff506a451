"""How the writers of a table agree on the next entry: one way per table, recorded in the table.

Two ways on one table lose commits without an error: a writer that asks the lock table and one that
relies on conditional puts do not see one another. So the way is a property of the table, written
when it is created, and a writer that is set up otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from neuralake.errors import UsageError
from neuralake.storage import LogStore

__all__ = ["COORDINATION", "LOCK_TABLE", "TABLE_PATH", "check_coordination", "recorded"]

COORDINATION = "neuralake.coordination"
LOCK_TABLE = "neuralake.coordination.lockTable"
TABLE_PATH = "neuralake.coordination.tablePath"

# Of these a table without the property can only be: nothing else commits to a folder or to memory.
_BY_NATURE = {"local", "memory"}


def recorded(store: LogStore) -> dict[str, str]:
    """The properties that record how writers through `store` agree."""
    found = {COORDINATION: store.coordination}
    if store.coordination == "dynamodb":
        # The spelling of the path is part of the key: `s3://b/t` and `s3a://b/t` are two tables
        # to the lock table.
        found[LOCK_TABLE] = str(getattr(store, "lock_table", ""))
        found[TABLE_PATH] = str(getattr(store, "table_path", ""))
    return found


def check_coordination(configuration: Mapping[str, str], store: LogStore) -> None:
    """Refuse to write to a table with this `configuration` through `store` if they disagree.

    Raises:
        UsageError: they do, or the table does not say. Facts: `uri`, `recorded`, `found`.
    """
    ours = recorded(store)
    if COORDINATION not in configuration:
        if store.coordination in _BY_NATURE:
            return
        raise UsageError(
            f"The table at {store.uri} does not say how its writers agree on the next entry, and "
            f"two ways on one table lose data. If all of them do it by {_words(ours)}, record "
            f"that: neuralake storage set-coordination {store.uri} {store.coordination}",
            uri=store.uri,
            recorded={},
            found=ours,
        )
    theirs = {key: configuration.get(key, "") for key in ours if key in configuration}
    theirs[COORDINATION] = configuration[COORDINATION]
    if theirs == ours:
        return
    theirs |= {key: configuration[key] for key in (LOCK_TABLE, TABLE_PATH) if key in configuration}
    raise UsageError(
        f"The writers of the table at {store.uri} agree on the next entry by {_words(theirs)}, but "
        f"this one is set up for {_words(ours)}: together they would lose data. Set this one up "
        f"alike in its storage profile, or stop all writers and change the table: neuralake "
        f"storage set-coordination {store.uri} {store.coordination}",
        uri=store.uri,
        recorded=theirs,
        found=ours,
    )


def _words(properties: Mapping[str, str]) -> str:
    mode = repr(properties[COORDINATION])
    lock_table, path = properties.get(LOCK_TABLE), properties.get(TABLE_PATH)
    return f"{mode} (lock table {lock_table!r}, path {path!r})" if lock_table or path else mode
