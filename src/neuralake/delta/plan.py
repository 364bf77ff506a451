"""Which files of a table to rewrite together, from what the log says of them: no file is opened.

Pure. The promises, per partition, with sizes by the log (of a file with deleted rows, the share
that lives):

- **Order.** A bin is a run of neighbours in commit order, so joining it reorders no row.
- **Good files are left alone:** those above half of the target without much deleted in them.
- **A row is rewritten O(log) times.** Files wait until the newer ones weigh as much as they do, so
  each rewrite after the first at least doubles the file that a row is in (below 1/64 of the
  target, where a rewrite costs next to nothing, it grows by a quarter at least).
- **The number of files is bounded.** Where nothing is left to do, a run of small files between two
  good ones has at most `files_min + log2(target_bytes / bytes of the smallest)` members
  (`files_max`). Under small appends there is one such run, and a full file per half of the target.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from neuralake.delta.clustering import CLUSTERED_BY
from neuralake.delta.snapshot import DataFile

__all__ = ["Bin", "files_max", "in_commit_order", "plan", "shares"]

# Below this part of the target a file joins the newer ones when they weigh a quarter of it: with
# fewer files to read, for rewrites of 2 MiB at most (128 MiB / 64).
_TINY_PART = 64
_TINY_PATIENCE = 4
# A reader of a file with a deletion vector reads its dead rows too; from this share on, the one
# rewrite is worth it.
_DEAD_SHARE_MAX = 0.1


@dataclass(frozen=True, slots=True)
class Bin:
    """Files of one partition to become one: neighbours in commit order, oldest first.

    One file alone is there to lose its deleted rows, or to be sorted.
    """

    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def partition(self) -> dict[str, str | None]:
        return self.files[0].partition


def plan(
    files: Sequence[DataFile],
    *,
    target_bytes: int,
    files_min: int,
    clustering: str = "",
    left_alone: Collection[str] = (),
) -> list[Bin]:
    """Bins of at most `target_bytes` of the live `files`; those of a partition follow one another.

    Args:
        files_min: files that must be worth joining before any is.
        left_alone: paths of files that are in no bin, and stay where they are in the order.
        clustering: tag of the files that are sorted as the table asks (`clustering.py`); a full
            file without it is rewritten once. Empty: the table asks for none.
    """
    partitions: dict[tuple[str | None, ...], list[DataFile]] = {}
    for file in in_commit_order(files):
        partitions.setdefault(tuple(file.partition.values()), []).append(file)
    return [
        Bin(tuple(packed))
        for members in partitions.values()
        for run in _runs(members, left_alone)
        for packed in _partition(run, target_bytes, files_min, clustering)
    ]


def in_commit_order(files: Sequence[DataFile]) -> list[DataFile]:
    """`files` with the oldest rows first: the order of rows between the files of a partition."""
    return sorted(files, key=lambda file: (file.modified_s, file.path))


def files_max(*, target_bytes: int, files_min: int, bytes_min: int) -> int:
    """Most files in a run of small ones, of at least `bytes_min` each, that `plan` leaves alone."""
    return files_min + max(0, math.ceil(math.log2(target_bytes / bytes_min)))


def shares(bins: Sequence[Bin], *, bytes_max: int) -> Iterator[list[Bin]]:
    """`bins` in groups of about `bytes_max` of input: what one commit takes on."""
    group: list[Bin] = []
    size = 0
    for packed in bins:
        if group and size + packed.bytes > bytes_max:
            yield group
            group, size = [], 0
        group.append(packed)
        size += packed.bytes
    if group:
        yield group


def _runs(files: list[DataFile], left_alone: Collection[str]) -> Iterator[list[DataFile]]:
    """What is between those that are left alone."""
    run: list[DataFile] = []
    for file in files:
        if file.path in left_alone:
            yield run
            run = []
        else:
            run.append(file)
    yield run


def _partition(
    files: list[DataFile], target_bytes: int, files_min: int, clustering: str
) -> Iterator[list[DataFile]]:
    run: list[DataFile] = []
    for file in files:
        if 2 * _weight(file) <= target_bytes:
            run.append(file)
            continue
        yield from _run(run, target_bytes, files_min)
        run = []
        if _is_worn(file) or (clustering and (file.tags or {}).get(CLUSTERED_BY) != clustering):
            yield [file]
    yield from _run(run, target_bytes, files_min)


def _run(run: list[DataFile], target_bytes: int, files_min: int) -> Iterator[list[DataFile]]:
    """Bins of a run of small files; those with deleted rows are in one in any case."""
    taken = 0
    for first, end in _joined(run, target_bytes, files_min):
        yield from ([file] for file in run[taken:first] if file.deletion_vector)
        yield run[first:end]
        taken = end
    yield from ([file] for file in run[taken:] if file.deletion_vector)


def _joined(run: list[DataFile], target_bytes: int, files_min: int) -> Iterator[tuple[int, int]]:
    """The parts `(first, end)` of a run of small files that are worth joining, oldest first."""
    start = 0
    while (first := _worth_joining(run, start, target_bytes)) is not None:
        if len(run) - first < files_min:
            return
        end, size = first, 0.0
        while end < len(run) and size + _weight(run[end]) <= target_bytes:
            size += _weight(run[end])
            end += 1
        yield first, end  # Two at least: each is at most half of the target.
        start = end


def _worth_joining(run: list[DataFile], start: int, target_bytes: int) -> int | None:
    """The oldest file, from `start` on, of which the newer ones weigh enough; None: wait."""
    newer = sum(_weight(file) for file in run[start:])
    for index in range(start, len(run) - 1):
        weight = _weight(run[index])
        newer -= weight
        patience = _TINY_PATIENCE if weight * _TINY_PART <= target_bytes else 1
        if weight <= newer * patience:
            return index
    return None


def _weight(file: DataFile) -> float:
    """Bytes of a file's live rows."""
    return file.bytes * (1 - _dead_share(file))


def _is_worn(file: DataFile) -> bool:
    return _dead_share(file) >= _DEAD_SHARE_MAX


def _dead_share(file: DataFile) -> float:
    """The part of a file's rows that is deleted; of unknown rows, all, so that it is rewritten."""
    if file.deletion_vector is None:
        return 0.0
    return file.deletion_vector.cardinality / file.rows if file.rows else 1.0
