"""Rewrite data files into one by copying the row groups that are large enough as they are.

Only the small files in between are decoded and encoded again. See `row_groups.py` for what may be
copied; the statistics are combined from the log's, so a file whose rows the log does not tell is
not copied.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from neuralake.delta.parquet import EncodedFile
from neuralake.delta.row_groups import Footer, Joiner, read_footer
from neuralake.delta.snapshot import DataFile
from neuralake.delta.statistics import combine
from neuralake.storage import LogStore, Sink

__all__ = ["Part", "parts_of", "write_joined"]

# A row group of this size is read as quickly as a larger one, and pays for its part of the footer.
_GROUP_BYTES_MIN = 512 * 1024
# Below this share of bytes that can be copied, one good file is worth more than the time.
_COPIED_SHARE_MIN = 0.5

Encode = Callable[[Sequence[DataFile], Sink], EncodedFile]


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbours that are copied (each has a footer), or encoded anew together (none has)."""

    files: tuple[DataFile, ...]
    footers: tuple[Footer, ...]


def parts_of(
    files: Sequence[DataFile], name_of: Callable[[DataFile], str], store: LogStore
) -> list[Part] | None:
    """How to make `files`, in order, one file with little decoding; None if that is not worth it.

    Reads the footers of the files that are large enough, a request each.
    """
    if sum(file.bytes for file in files if _may_copy(file)) < _share(files):
        return None
    footers = [_footer(file, name_of(file), store) if _may_copy(file) else None for file in files]
    kin = {footer.kinship for footer in footers if footer is not None}
    copied = sum(file.bytes for file, footer in zip(files, footers, strict=True) if footer)
    if len(kin) != 1 or copied < _share(files):
        return None
    pairs = zip(files, footers, strict=True)
    return [_part([*run]) for _, run in groupby(pairs, key=lambda pair: pair[1] is not None)]


def write_joined(
    parts: Sequence[Part],
    sink: Sink,
    *,
    store: LogStore,
    name_of: Callable[[DataFile], str],
    encode: Encode,
    guard: Callable[[], None],
) -> EncodedFile:
    """Write `parts` to `sink` as one Parquet file; calls `guard` before each file.

    Raises:
        ValueError: they turn out not to fit together, or to be damaged. What was written must be
            thrown away, and the files be decoded, which tells what is wrong with them.
    """
    joiner, stats = Joiner(sink), []
    for part in parts:
        if part.footers:
            for file, footer in zip(part.files, part.footers, strict=True):
                guard()
                with store.open(name_of(file)) as source:
                    if source is None or footer.file_bytes != source.seek(0, 2):
                        raise ValueError(f"{file.path} was replaced.")
                    joiner.add(footer, source)
                stats.append(file.stats)
            continue
        with tempfile.TemporaryFile() as aside:
            stats.append(encode(part.files, aside).stats)
            footer_anew = read_footer(aside)
            if footer_anew is None or footer_anew.kinship != _kinship(parts):
                raise ValueError(f"{part.files[0].path} is encoded otherwise now.")
            joiner.add(footer_anew, aside)
    joiner.close()
    if (combined := combine(stats)) is None:
        raise ValueError("Statistics are missing.")
    return EncodedFile(joiner.size_bytes, joiner.rows, combined)


def _share(files: Sequence[DataFile]) -> float:
    return max(1.0, sum(file.bytes for file in files) * _COPIED_SHARE_MIN)


def _may_copy(file: DataFile) -> bool:
    return (
        file.bytes >= _GROUP_BYTES_MIN
        and file.deletion_vector is None
        and combine([file.stats]) is not None
    )


def _footer(file: DataFile, name: str, store: LogStore) -> Footer | None:
    with store.open(name) as source:
        footer = None if source is None else read_footer(source)
    if footer is None or not footer.is_copyable() or footer.rows != file.rows:
        return None
    return footer if footer.group_bytes_mean >= _GROUP_BYTES_MIN else None


def _part(run: list[tuple[DataFile, Footer | None]]) -> Part:
    return Part(
        tuple(file for file, _ in run), tuple(footer for _, footer in run if footer is not None)
    )


def _kinship(parts: Sequence[Part]) -> bytes:
    return next(part.footers[0].kinship for part in parts if part.footers)
