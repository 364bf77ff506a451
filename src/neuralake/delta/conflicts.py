"""What a commit may come after: each operation against what others have committed meanwhile.

Pure. The rules are Delta's write-serializable isolation, judged by what an entry holds and not by
what it calls itself, since any engine may have written it; what we cannot judge is a conflict for
everyone but an append, which depends on no other file. `docs/concurrency.md` shows the same as a
table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from neuralake.delta.actions import Add, Line, Remove
from neuralake.delta.log import Entry

__all__ = ["Footprint", "Operation", "conflict"]


class Operation(Enum):
    """What a commit of ours does to the table."""

    APPEND = "append"
    """Adds rows, having read none."""
    COMPACTION = "compaction"
    """Rewrites files, changing no row."""
    OVERWRITE = "overwrite"
    """Replaces the rows that a predicate holds for, or all."""
    DELETE = "delete"
    MERGE = "merge"
    SCHEMA_CHANGE = "schema change"
    """Changes columns, properties or protocol."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a commit depends on."""

    operation: Operation
    removes: frozenset[str] = frozenset()
    """`add.path` of the files that it removes."""
    reads: Callable[[Add], bool] | None = None
    """Whether it would have read a file, had that been there; None: it has read no rows."""
    app_id: str | None = None
    """The application of its `txn`; not asked of appends, which compare transaction versions."""
    version: int | None = None
    """The version of the table that all this was found out at; None: where the handle is."""


def conflict(ours: Footprint, theirs: Entry, *, serializable: bool = False) -> str | None:
    """Why `ours` must not be committed after `theirs`, in words; None if it may.

    `serializable` is the stricter isolation (the table's `delta.isolationLevel`), in which rows of
    blind appends count as read, too.
    """
    if ours.operation is Operation.APPEND:
        # It has read nothing. Its rows are fitted anew to a changed schema, or refused, and a txn
        # that is there already is found by its version.
        return None
    is_blind = _is_blind_append(theirs)
    for line in theirs.lines:
        reason = _of_line(ours, line)
        if reason is None and line.add is not None and (serializable or not is_blind):
            reason = _of_new_rows(ours, line.add)
        if reason is not None:
            return f"version {theirs.version} {reason}"
    return None


def _of_line(ours: Footprint, line: Line) -> str | None:
    """The rules that hold for a line alone."""
    if line.protocol is not None:
        return "changed the protocol"
    if line.meta_data is not None:
        return "changed the schema or the properties"
    if line.txn is not None and line.txn.app_id == ours.app_id:
        return f"has a transaction of {ours.app_id!r}"
    if line.remove is not None:
        return _of_removed(ours, line.remove)
    if line.add is not None and line.add.path in ours.removes:
        return f"changed what is known of file {line.add.path}"
    if _is_unknown(line):
        return "has an action that we do not know"
    return None


def _of_removed(ours: Footprint, remove: Remove) -> str | None:
    if remove.path in ours.removes:
        return f"removed file {remove.path}"
    if ours.reads is None or not remove.data_change:
        return None  # A compaction's rows are where they were, but for what `removes` names.
    if remove.partition_values is None or ours.reads(_as_add(remove, remove.partition_values)):
        return f"removed rows of file {remove.path}, which were read"
    return None


def _of_new_rows(ours: Footprint, add: Add) -> str | None:
    if ours.reads is not None and add.data_change and ours.reads(add):
        return f"added file {add.path}, which should have been read"
    return None


def _as_add(remove: Remove, partition_values: dict[str, str | None]) -> Add:
    """The removed file as far as its tombstone tells, which is all but the statistics."""
    return Add(
        path=remove.path,
        partition_values=partition_values,
        size=remove.size or 0,
        modification_time=0,
        data_change=True,
    )


def _is_blind_append(entry: Entry) -> bool:
    """Whether it only adds rows and says that it has read none."""
    says_so = any(line.commit_info and line.commit_info.is_blind_append for line in entry.lines)
    return says_so and not any(line.remove is not None for line in entry.lines)


def _is_unknown(line: Line) -> bool:
    # Change files repeat what adds and removes say. Domains are kept by the log, and nothing that
    # we commit depends on one.
    return all(getattr(line, name) is None for name in line.__struct_fields__)
