"""Parquet files as an Arrow dataset: a file, a folder or a glob, with values from folder names."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from neuralake.errors import UnknownName
from neuralake.serve.messages import Source
from neuralake.serve.remote import filesystem
from neuralake.storage import LogStore, is_local
from neuralake.tables.parquet_files import list_parquet

__all__ = ["parquet_dataset"]

_GLOB = re.compile(r"[*?\[]")


def parquet_dataset(
    source: Source, store_at: Callable[[str], LogStore]
) -> tuple[ds.FileSystemDataset, LogStore | None]:
    """The files of `source`, as they are now, and the store they are in unless they are local.

    Raises:
        UnknownName: there are no files.
    """
    store: LogStore | None = None
    if is_local(source.uri):
        system: fs.FileSystem = fs.LocalFileSystem()
        base = _base(source.uri)
        files = _files(system, source.uri, base)
    else:
        found = list_parquet(source.uri, store_at)
        store, system = found.store, filesystem(found.store)
        base = found.store.uri.partition("://")[2]
        files = [f"{base}/{file.name}" for file in found.files]
    if not files:
        raise UnknownName(
            f"There are no Parquet files at {source.uri}.", kind="file", name=source.uri, known=[]
        )
    schema = None if source.schema is None else pa.ipc.read_schema(pa.py_buffer(source.schema))
    dataset = ds.dataset(
        files,
        schema=schema,
        filesystem=system,
        format="parquet",
        partitioning=_partitioning(source),
        partition_base_dir=base,
    )
    return dataset, store


def _partitioning(source: Source) -> ds.Partitioning | None:
    if source.partition_schema is None:
        return None
    schema = pa.ipc.read_schema(pa.py_buffer(source.partition_schema))
    if len(schema) == 0:
        return None
    return ds.partitioning(schema, flavor="hive" if source.is_hive else None)


def _base(path: str) -> str:
    """The folder above the first wildcard of a glob, else `path`."""
    kept = []
    for part in path.split("/"):
        if _GLOB.search(part):
            break
        kept.append(part)
    return "/".join(kept)


def _files(system: fs.FileSystem, path: str, base: str) -> list[str]:
    info = system.get_file_info(base)
    if info.type == fs.FileType.File:
        return [base]
    found = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    names = sorted(entry.path for entry in found if entry.type == fs.FileType.File)
    if base != path:
        return [name for name in names if _matches(name, path)]
    return [
        name
        for name in names
        if name.endswith(".parquet") and not posixpath.basename(name).startswith(("_", "."))
    ]


def _matches(name: str, pattern: str) -> bool:
    """As a shell does it: `*` stays within a folder, `**` does not."""
    if "**" in pattern:
        return fnmatch.fnmatchcase(name, pattern.replace("**/", "*"))
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
