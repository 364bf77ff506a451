"""How checkpoints are called, and the file that points at the newest one.

Sections "Checkpoint Naming Scheme" and "Last Checkpoint File" of the Delta protocol. The pointer is
a hint and no more: it may be old, torn, or point at a checkpoint that was never finished.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from neuralake.delta.log import FOLDER
from neuralake.storage import LogStore

__all__ = [
    "LAST_CHECKPOINT",
    "SIDECARS",
    "CheckpointName",
    "checkpoint_version",
    "complete_checkpoints",
    "hinted",
]

LAST_CHECKPOINT = f"{FOLDER}/_last_checkpoint"
SIDECARS = f"{FOLDER}/_sidecars"

_NAME = re.compile(
    r"(?P<version>\d{20})\.checkpoint"
    r"(?:\.(?P<part>\d{10})\.(?P<parts>\d{10})\.parquet"
    r"|\.(?P<uuid>[0-9A-Za-z-]{8,64})\.(?:parquet|json)"
    r"|\.parquet)"
)


@dataclass(frozen=True, slots=True)
class CheckpointName:
    """The checkpoint of `version` in `files`, names within the log folder; several: its parts."""

    version: int
    files: tuple[str, ...]

    @classmethod
    def classic(cls, version: int) -> CheckpointName:
        return cls(version, (f"{version:020d}.checkpoint.parquet",))

    @classmethod
    def of_parts(cls, version: int, parts: int) -> CheckpointName:
        names = (f"{version:020d}.checkpoint.{i:010d}.{parts:010d}.parquet" for i in _parts(parts))
        return cls(version, tuple(names))


class _V2(msgspec.Struct):
    path: str


class _Hint(msgspec.Struct, rename="camel"):
    version: int
    parts: int | None = None
    v2_checkpoint: _V2 | None = None


def hinted(store: LogStore) -> CheckpointName | None:
    """The checkpoint that `_last_checkpoint` names; None if it is missing, torn or nonsense."""
    data = store.read(LAST_CHECKPOINT)
    if data is None:
        return None
    try:
        hint = msgspec.json.decode(data, type=_Hint)
    except msgspec.DecodeError:
        return None
    if hint.v2_checkpoint is not None:
        # Some writers give the whole path.
        name = hint.v2_checkpoint.path.rsplit("/", 1)[-1]
        found = _NAME.fullmatch(name)
        right = found is not None and int(found["version"]) == hint.version
        return CheckpointName(hint.version, (name,)) if right else None
    if hint.parts is not None and hint.parts > 1:
        return CheckpointName.of_parts(hint.version, hint.parts)
    return CheckpointName.classic(hint.version)


def complete_checkpoints(names: Iterable[str]) -> list[CheckpointName]:
    """The checkpoints of a listing that have all their parts, newest first."""
    found: list[CheckpointName] = []
    parts: dict[tuple[int, int], set[int]] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        version = int(match["version"])
        if match["parts"]:
            parts.setdefault((version, int(match["parts"])), set()).add(int(match["part"]))
        else:
            found.append(CheckpointName(version, (name,)))
    found += (
        CheckpointName.of_parts(version, count)
        for (version, count), seen in parts.items()
        if seen == set(_parts(count))
    )
    # Of one version the single files first: unlike parts, they appear whole or not at all.
    return sorted(found, key=lambda name: (-name.version, len(name.files), name.files))


def checkpoint_version(name: str) -> int | None:
    """The version that a file of the log folder is a checkpoint of, or a part of one."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match["version"])


def _parts(count: int) -> range:
    return range(1, count + 1)
