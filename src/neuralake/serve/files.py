"""Parquet files as an Arrow dataset: a file, a folder or a glob, with values from folder names."""

from __future__ import annotations

import fnmatch
import posixpath
import re

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from neuralake.errors import UnknownName
from neuralake.serve.messages import Source

__all__ = ["parquet_dataset"]

_GLOB = re.compile(r"[*?\[]")


def parquet_dataset(source: Source) -> ds.Dataset:
    """The files of `source`, as they are now.

    Raises:
        UnknownName: there are no files.
    """
    if "://" in source.uri:
        system, path = fs.FileSystem.from_uri(source.uri)
    else:
        system, path = fs.LocalFileSystem(), source.uri
    base = _base(path)
    files = _files(system, path, base)
    if not files:
        raise UnknownName(
            f"There are no Parquet files at {source.uri}.", kind="file", name=source.uri, known=[]
        )
    schema = None if source.schema is None else pa.ipc.read_schema(pa.py_buffer(source.schema))
    return ds.dataset(
        files,
        schema=schema,
        filesystem=system,
        format="parquet",
        partitioning=_partitioning(source),
        partition_base_dir=base,
    )


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
