"""Where files are is told to nobody who asks by SQL: a table's name stands for its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from neuralake.serve.messages import Source
from neuralake.storage import is_local

__all__ = ["concealer"]

_STORE = "the store"


def concealer(
    databases: Mapping[str, Mapping[str, Source]],
    *,
    spill_folder: Path,
    endpoints: Sequence[str] = (),
) -> Callable[[str], str]:
    """A function that puts `database.table` for the address of each table in a text.

    Servers of object stores, `endpoints`, are told as little.
    """
    local, remote = {str(spill_folder): "the spill folder"}, dict[str, str]()
    for database, tables in databases.items():
        for name, source in tables.items():
            if source.uri:
                places = local if is_local(source.uri) else remote
                places[source.uri] = f"{database}.{name}"
    of_paths, of_stores = _of_paths(local), _of_stores(remote, endpoints)
    return lambda text: of_stores(of_paths(text))


def _of_paths(names: Mapping[str, str]) -> Callable[[str], str]:
    # The engine spells a path as a URL or without its first slash.
    spellings = {
        spelling: name
        for address, name in names.items()
        for spelling in (address, address.lstrip("/"), quote(address), quote(address.lstrip("/")))
    }
    pattern = re.compile(rf"(?:file://)?/?(?:{_longest_first(spellings)})")

    def name(found: re.Match[str]) -> str:
        bare = found[0].removeprefix("file://")
        return spellings.get(bare) or spellings[bare.removeprefix("/")]

    return lambda text: pattern.sub(name, text)


def _of_stores(names: Mapping[str, str], endpoints: Sequence[str]) -> Callable[[str], str]:
    """Places in stores: `s3://bucket/key`, `http://server/bucket/key`, or the key of a file."""
    if not names:
        return lambda text: text
    buckets = {uri.split("/")[2] for uri in names}
    keys = {
        spelling: name
        for uri, name in names.items()
        for key in ["/".join(uri.split("/")[3:]).rstrip("/")]
        for spelling in (key, quote(key))
    }
    servers = [endpoint.rstrip("/") for endpoint in endpoints if endpoint]
    servers += [f"{scheme}://{bucket}" for scheme in ("s3", "s3a", "s3n") for bucket in buckets]
    # A key alone may be a word of the query: only as the beginning of a file's name.
    whole = (
        rf"\w+://[^/\s]+/(?:(?:{_longest_first(buckets)})/)?(?P<a>{_longest_first(keys)})(?![\w-])"
    )
    alone = rf"(?<![\w./-])(?P<b>{_longest_first(keys)})(?=/)"
    table, server = re.compile(f"{whole}|{alone}"), re.compile(_longest_first(servers))
    return lambda text: server.sub(
        _STORE, table.sub(lambda found: keys[found["a"] or found["b"]], text)
    )


def _longest_first(texts: Mapping[str, str] | Sequence[str] | set[str]) -> str:
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))
