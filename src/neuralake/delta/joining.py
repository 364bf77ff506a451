"""Rewrite data files into one with as little decoding as a reader could not tell apart.

Row groups that are large enough are copied as they are (`row_groups.py`). Smaller ones become
larger ones by laying their pages end to end, as far as their columns allow it (`pages.py`). Only
files of other writers or shapes, and those with deleted rows, are decoded and encoded again. The
statistics are combined from the log's, so a file whose rows the log does not tell is decoded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from itertools import groupby

from neuralake.delta.pages import Pages, are_like
from neuralake.delta.parquet import EncodedFile
from neuralake.delta.row_groups import Footer, FooterReader, Joiner, read_footer
from neuralake.delta.snapshot import DataFile
from neuralake.delta.statistics import combine
from neuralake.storage import LogStore, Sink

__all__ = ["Part", "Way", "parts_of", "write_joined"]

# A row group of this size is read as quickly as a larger one, and pays for its part of the footer.
_GROUP_BYTES_MIN = 512 * 1024
# Below this share of bytes that need no decoding, one good file is worth more than the time.
_COPIED_SHARE_MIN = 0.5

Encode = Callable[[Sequence[DataFile], Sink], EncodedFile]
Recode = Callable[[Sequence[tuple[str, bytes]], Sequence[str], Collection[str]], bytes]


class Way(Enum):
    """What is done with a file."""

    COPY = "copy its row groups"
    MERGE = "lay its pages end to end with those of its neighbours"
    ENCODE = "decode and encode it"


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbours with which the same is done."""

    way: Way
    files: tuple[DataFile, ...]
    footers: tuple[Footer, ...] = ()
    """Of each file that is copied."""


def parts_of(
    files: Sequence[DataFile],
    name_of: Callable[[DataFile], str],
    store: LogStore,
    *,
    columns: Sequence[str],
) -> list[Part] | None:
    """How to make `files`, in order, one file with little decoding; None if that is not worth it.

    Reads the footers of the files that are large enough to be copied, and of one of those whose
    pages may be merged; a request each.

    Args:
        columns: of the table's files as they are written now.
    """
    if sum(file.bytes for file in files if _may_copy(file) or _may_merge(file)) < _share(files):
        return None
    footers = [_footer(file, name_of(file), store) if _may_copy(file) else None for file in files]
    first = next((footer for footer in footers if footer), None)
    is_merging, share = False, 0.0
    if (sample := next(filter(_may_merge, files), None)) is not None:
        found = _opened(sample, name_of(sample), store)
        if found is not None and (first is None or found.is_kin(first)):
            share = _merged_share(found, columns)
            is_merging, first = share >= _COPIED_SHARE_MIN, first or found
    ways = [
        Way.COPY if footer else Way.MERGE if is_merging and _may_merge(file) else Way.ENCODE
        for file, footer in zip(files, footers, strict=True)
    ]
    weight = {Way.COPY: 1.0, Way.MERGE: share, Way.ENCODE: 0.0}
    spared = sum(file.bytes * weight[way] for file, way in zip(files, ways, strict=True))
    if spared < _share(files) or not all(
        footer.is_kin(first) for footer in footers if footer and first
    ):
        return None
    return [
        Part(way, tuple(file for _, file, _ in run), tuple(footer for *_, footer in run if footer))
        for way, run in (
            (way, [*run]) for way, run in groupby(zip(ways, files, footers, strict=True), _way)
        )
    ]


def write_joined(
    parts: Sequence[Part],
    sink: Sink,
    *,
    store: LogStore,
    name_of: Callable[[DataFile], str],
    encode: Encode,
    recode: Recode,
    guard: Callable[[], None],
    footers: FooterReader,
) -> EncodedFile:
    """Write `parts` to `sink` as one Parquet file; calls `guard` before each file.

    Args:
        footers: has perhaps read such files before.
        recode: some columns of files (by path and bytes) as a Parquet file; see `recoded`.

    Raises:
        ValueError: they turn out not to fit together, or to be damaged. What was written must be
            thrown away, and the files be decoded, which tells what is wrong with them.
    """
    joined = _Joined(sink, store, name_of, guard, footers)
    for part in parts:
        if part.way is Way.COPY:
            joined.copy(part)
        elif part.way is Way.MERGE:
            joined.merge(part, encode, recode)
        else:
            joined.encode(part, encode)
    return joined.close()


class _Joined:
    """The file that is being written."""

    def __init__(
        self,
        sink: Sink,
        store: LogStore,
        name_of: Callable[[DataFile], str],
        guard: Callable[[], None],
        footers: FooterReader,
    ) -> None:
        self._joiner, self._store = Joiner(sink), store
        self._name_of, self._guard, self._footers = name_of, guard, footers
        self._first: Footer | None = None
        self._stats: list[str | None] = []

    def copy(self, part: Part) -> None:
        for file, footer in zip(part.files, part.footers, strict=True):
            self._guard()
            with self._store.open(self._name_of(file)) as source:
                if source is None or footer.file_bytes != source.seek(0, 2):
                    raise ValueError(f"{file.path} was replaced.")
                self._take(file, footer)
                self._joiner.add(footer, source)
            self._stats.append(file.stats)

    def merge(self, part: Part, encode: Encode, recode: Recode) -> None:
        group: Pages | None = None
        for file in part.files:
            piece = self._piece(file)
            if piece is None:
                self._end(group, recode)
                group = None
                self.encode(Part(Way.ENCODE, (file,)), encode)
                continue
            footer, data = piece
            if group is not None and not group.has_room_for(footer):
                self._end(group, recode)
                group = None
            group = group or Pages(footer)
            group.add(file.path, footer, data)
            self._stats.append(file.stats)
        self._end(group, recode)

    def _end(self, group: Pages | None, recode: Recode) -> None:
        """Write the row group of the files that were gathered."""
        if group is None:
            return
        recipe, recoded = group.recipe(), []
        if recipe.small:
            files = [(group.files[0][0], group.excerpt(recipe.small))]
            recoded.append(_recoded(recode(files, recipe.small, recipe.by_dictionary), group))
        if recipe.anew:
            made = recode(group.files, recipe.anew, recipe.by_dictionary)
            recoded.append(_recoded(made, group))
        merged = group.merged(recoded, self._joiner.size_bytes)
        self._joiner.add_group(group.first, merged.group, merged.chunks, merged.rows)

    def encode(self, part: Part, encode: Encode) -> None:
        with tempfile.TemporaryFile() as aside:
            self._stats.append(encode(part.files, aside).stats)
            footer = read_footer(aside)
            if footer is None:
                raise ValueError(f"{part.files[0].path} is encoded otherwise now.")
            self._take(part.files[0], footer)
            self._joiner.add(footer, aside)

    def close(self) -> EncodedFile:
        self._joiner.close()
        if (combined := combine(self._stats)) is None:
            raise ValueError("Statistics are missing.")
        return EncodedFile(self._joiner.size_bytes, self._joiner.rows, combined)

    def _piece(self, file: DataFile) -> tuple[Footer, bytes] | None:
        """A whole file, with one request; None: it is not like the others."""
        self._guard()
        data = self._store.read(self._name_of(file))
        if data is None:
            raise ValueError(f"{file.path} is missing.")
        footer = self._footers.read(BytesIO(data))
        if footer is None or not footer.is_copyable() or footer.rows != file.rows:
            return None
        self._first = self._first or footer
        return (footer, data) if footer.is_kin(self._first) else None

    def _take(self, file: DataFile, footer: Footer) -> None:
        """Raises ValueError: it is of another kinship than the others."""
        self._first = self._first or footer
        if not footer.is_kin(self._first):
            raise ValueError(f"{file.path} and its neighbours are described otherwise.")


def _recoded(data: bytes, group: Pages) -> Pages:
    """Columns that were encoded anew."""
    footer = read_footer(BytesIO(data))
    if footer is None or len(footer.chunks) > 1 or not are_like(group.first, footer):
        raise ValueError("Columns are encoded otherwise now.")
    pages = Pages(footer)
    pages.add("", footer, data)
    return pages


def _share(files: Sequence[DataFile]) -> float:
    return max(1.0, sum(file.bytes for file in files) * _COPIED_SHARE_MIN)


def _may_copy(file: DataFile) -> bool:
    return file.bytes >= _GROUP_BYTES_MIN and _is_told(file)


def _may_merge(file: DataFile) -> bool:
    return file.bytes < _GROUP_BYTES_MIN and _is_told(file)


def _is_told(file: DataFile) -> bool:
    """Whether the log says how many rows there are, all of them alive."""
    return file.deletion_vector is None and file.rows is not None


def _footer(file: DataFile, name: str, store: LogStore) -> Footer | None:
    """The footer of a file whose row groups are large enough to be copied."""
    footer = _opened(file, name, store)
    if footer is None or footer.group_bytes_mean < _GROUP_BYTES_MIN:
        return None
    return footer


def _opened(file: DataFile, name: str, store: LogStore) -> Footer | None:
    with store.open(name) as source:
        footer = None if source is None else read_footer(source)
    if footer is None or not footer.is_copyable() or footer.rows != file.rows:
        return None
    return footer


def _merged_share(footer: Footer, columns: Sequence[str]) -> float:
    """The share of a file's bytes that needs no decoding; 0: its columns are not the table's.

    What must be decoded for its small pages only counts, too: it is decoded all at once, which
    takes less than half of the time.
    """
    try:
        pages = Pages(footer)
        pages.add("", footer, b"")
    except ValueError:
        return 0.0
    if pages.names != [*columns]:
        return 0.0
    recipe = pages.recipe()
    return pages.size_bytes({*recipe.joined, *recipe.small}) / max(1, footer.file_bytes)


def _way(each: tuple[Way, DataFile, Footer | None]) -> Way:
    return each[0]
