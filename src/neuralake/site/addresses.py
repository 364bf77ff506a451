"""Where each page lives in the folder: safe, stable, portable file names for any table name.

Plain names keep themselves; every other name is cut to plain characters and gets eight digits of
its SHA-256, so that no name can leave the folder, collide on a case-blind disk or be a name that
some system reserves. All links between pages are relative.
"""

from __future__ import annotations

import hashlib
import re
from itertools import takewhile

__all__ = ["INDEX", "database_page", "relative", "table_page"]

INDEX = "index.html"

_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_-]{0,79}")
_RESERVED = re.compile(r"index|con|prn|aux|nul|(com|lpt)[0-9]")


def database_page(database: str) -> str:
    return f"tables/{_slug(database)}/{INDEX}"


def table_page(database: str, table: str) -> str:
    return f"tables/{_slug(database)}/{_slug(table)}.html"


def relative(page: str, target: str) -> str:
    """The link from `page` to `target`, both given from the site's folder."""
    here, there = page.split("/")[:-1], target.split("/")
    folders = zip(here, there[:-1], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], folders))
    return "/".join([".."] * (len(here) - shared) + there[shared:])


def _slug(name: str) -> str:
    if _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    plain = re.sub(r"[^a-z0-9_]+", "-", name.lower())[:60].strip("-")
    return f"{plain}-{digest}" if plain else digest
