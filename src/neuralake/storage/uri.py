"""Where a table's files are: a URI of a definition becomes one absolute address.

Pure text, no I/O: nothing is opened, made or followed (symbolic links stay as written). What comes
out has one of two shapes: an absolute local path, or an object store URL with its scheme. A
relative URI never leaves the lake's root, so a definition cannot reach another lake's files by
accident.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from neuralake.errors import UsageError

__all__ = ["is_local", "local_path", "resolve"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def resolve(root: str, uri: str) -> str:
    """The absolute address of `uri`: a local path, or an object store URL as it was given.

    A relative `uri` is seen from `root` (itself a folder or a URL). Absolute paths and URLs do not
    depend on `root`; `file://` becomes the path that it names. `.`, doubled and trailing slashes
    are removed from paths, so that two spellings of one folder are one address.

    Raises:
        UsageError: `uri` is empty, leaves `root` through `..`, is `root` itself (every other table
            would lie inside that table, and its vacuum would delete them), or names another host.
    """
    if not uri or "\0" in uri:
        raise UsageError(f"The URI {uri!r} is empty or has a NUL character.", uri=uri)
    if _is_file_url(uri):
        return _from_file_url(uri)
    if _SCHEME.match(uri):
        return uri
    if uri.startswith("/"):
        return _normal(uri)
    inside = posixpath.normpath(uri)
    if inside == "." or inside == ".." or inside.startswith("../"):
        raise UsageError(
            f"The URI {uri!r} does not name a folder below the lake's root {root!r}. Use a name "
            f"below it, or an absolute path or URL for data that lives elsewhere.",
            uri=uri,
            root=root,
        )
    if is_local(root):
        return posixpath.join(str(local_path(root).absolute()), inside)
    return root.rstrip("/") + "/" + inside


def is_local(uri: str) -> bool:
    """Whether `uri` is a path or `file://`: readable through the file system, not a store."""
    return _is_file_url(uri) or not _SCHEME.match(uri)


def local_path(uri: str) -> Path:
    """The path of a local `uri`, as it stands (a relative one stays relative).

    Raises:
        UsageError: it is an object store URL, or a `file://` of another host.
    """
    if not is_local(uri):
        raise UsageError(f"{uri!r} is not on the local file system.", uri=uri)
    return Path(_from_file_url(uri) if _is_file_url(uri) else uri)


def _is_file_url(uri: str) -> bool:
    return uri[:7].lower() == "file://"


def _from_file_url(uri: str) -> str:
    # A path may hold '?' and '#'; `urlsplit` would cut there, and only for the host is it needed.
    host = urlsplit(uri).netloc
    if host not in ("", "localhost"):
        raise UsageError(f"{uri!r} names the host {host!r}; write file:///path.", uri=uri)
    path = unquote(uri[len("file://") + len(host) :])
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"{uri!r} names no absolute path; write file:///path.", uri=uri)
    return _normal(path)


def _normal(path: str) -> str:
    # POSIX lets exactly two leading slashes mean something else; for us they do not.
    return "/" + posixpath.normpath(path).lstrip("/")
