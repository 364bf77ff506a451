"""Import the catalog that the settings name, from the folder of the settings file.

Several projects can be loaded in one process, one after the other: modules of another project's
folder are forgotten first, so that two projects may both have a `tables.py`.
"""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from neuralake.catalog.catalog import Catalog
from neuralake.errors import UnknownName, UsageError, suggestion
from neuralake.settings import Settings

__all__ = ["load_catalog"]

_lock = threading.Lock()
_folders: list[str] = []
"""Folders from which catalogs were loaded; those on `sys.path` were put there by us."""


def load_catalog(settings: Settings) -> Catalog:
    """The catalog at `settings.lake.catalog` (`module:attribute`), under `settings`.

    The settings file's folder comes first on `sys.path`, and stays there for imports to come.

    Raises:
        UnknownName: no such module, or no such attribute in it; with what there is.
        UsageError: the attribute is no Catalog, or the module fails when imported; the message
            names the line.
    """
    name, _, attribute = settings.lake.catalog.partition(":")
    if not name or not attribute:
        raise UsageError(
            f"lake.catalog is {settings.lake.catalog!r}; write module:attribute, as in "
            f"'lake:catalog'.",
        )
    with _lock:
        folder = str(Path(settings.folder).absolute())
        _enter(folder)
        try:
            module = _import(name, settings)
        except BaseException:
            _forget([folder])  # What was imported before the failure may be edited, too.
            raise
    found = getattr(module, attribute, None)
    if isinstance(found, Catalog):
        return found.bound_to(settings)
    catalogs = [key for key, value in vars(module).items() if isinstance(value, Catalog)]
    if found is None:
        raise UnknownName(
            f"{module.__file__} has no {attribute!r}.{suggestion(attribute, catalogs)} "
            f"Catalogs in it: {', '.join(catalogs) or 'none'}.",
            kind="attribute",
            name=attribute,
            known=catalogs,
        )
    raise UsageError(
        f"{settings.lake.catalog!r} is {type(found).__name__}, not a Catalog. Catalogs in "
        f"{module.__file__}: {', '.join(catalogs) or 'none'}.",
        name=attribute,
    )


def _enter(folder: str) -> None:
    """Make `folder` the first place of imports, and forget modules of other projects."""
    others = [other for other in _folders if other != folder]
    _forget(others, but=[folder])
    sys.path[:] = [folder, *(entry for entry in sys.path if entry not in (folder, *others))]
    _folders[:] = [folder]
    # Files younger than the last look into the folder would otherwise not be seen.
    importlib.invalidate_caches()


def _forget(folders: Sequence[str], *, but: Sequence[str] = ()) -> None:
    for name, module in list(sys.modules.items()):
        if _is_of(module, folders) and not _is_of(module, but):
            del sys.modules[name]


def _is_of(module: ModuleType, folders: Sequence[str]) -> bool:
    """Whether it is a project's own code: not a virtual environment in its folder, not ours."""
    file = getattr(module, "__file__", None)
    if not file or module.__name__.partition(".")[0] in ("__main__", "neuralake"):
        return False
    path = Path(file)
    return any(path.is_relative_to(folder) for folder in folders) and not (
        {"site-packages", "dist-packages"}.intersection(path.parts)
    )


def _import(name: str, settings: Settings) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(f"{error.name}."):
            raise _failure(name, error, settings) from error
        known = sorted(
            file.stem
            for file in Path(settings.folder).glob("*.py")
            if not file.name.startswith("_")
        )
        raise UnknownName(
            f"No module {name!r} for lake.catalog = {settings.lake.catalog!r}."
            f"{suggestion(name, known)} Modules in {settings.folder}: "
            f"{', '.join(known) or 'none'}.",
            kind="module",
            name=name,
            known=known,
        ) from error
    except Exception as error:
        # The user's code may raise anything; a mistake in a definition is a NeuralakeError.
        raise _failure(name, error, settings) from error


def _failure(name: str, error: Exception, settings: Settings) -> UsageError:
    place = _place(error, Path(settings.folder).absolute())
    where = f" at {place['file']}:{place['line']}" if place else ""
    return UsageError(
        f"Importing {name!r} failed{where}: {type(error).__name__}: {error}", name=name, **place
    )


def _place(error: Exception, folder: Path) -> dict[str, str | int]:
    """The last line of the project's own code that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename:
        return {"file": error.filename, "line": error.lineno or 0}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder) and "site-packages" not in frame.filename
    ]
    return {"file": frames[-1].filename, "line": frames[-1].lineno or 0} if frames else {}
