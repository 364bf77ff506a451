"""Where files are is told to nobody who asks by SQL: a table's name stands for its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from neuralake.serve.messages import Source

__all__ = ["concealer"]


def concealer(
    databases: Mapping[str, Mapping[str, Source]], *, spill_folder: Path
) -> Callable[[str], str]:
    """A function that puts `database.table` for the address of each table in a text."""
    names = {str(spill_folder): "the spill folder"}
    for database, tables in databases.items():
        for name, source in tables.items():
            if source.uri:
                names[source.uri] = f"{database}.{name}"
    # The engine spells a path as a URL or without its first slash.
    spellings = {
        spelling: name
        for address, name in names.items()
        for spelling in (address, address.lstrip("/"), quote(address), quote(address.lstrip("/")))
    }
    longest_first = sorted(spellings, key=len, reverse=True)
    pattern = re.compile(rf"(?:file://)?/?(?:{'|'.join(map(re.escape, longest_first))})")

    def conceal(text: str) -> str:
        return pattern.sub(lambda found: _name(spellings, found[0]), text)

    return conceal


def _name(spellings: Mapping[str, str], found: str) -> str:
    bare = found.removeprefix("file://")
    return spellings.get(bare) or spellings[bare.removeprefix("/")]
