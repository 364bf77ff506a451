"""What a module offers is what its `__all__` says, and each offered name says what it means."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "neuralake"

# Modules that run: nothing is imported from them.
PROGRAMS = {"neuralake.__main__"}


def modules() -> list[str]:
    files = sorted(SOURCE.rglob("*.py"))
    names = (
        ".".join(("neuralake", *file.relative_to(SOURCE).with_suffix("").parts)) for file in files
    )
    return [name.removesuffix(".__init__") for name in names if name not in PROGRAMS]


def tree(module: str) -> ast.Module:
    path = SOURCE.parent / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def offered(module: str) -> list[str]:
    return list(getattr(importlib.import_module(module), "__all__", ()))


@pytest.mark.parametrize("module", modules())
def test_a_module_says_what_it_promises(module: str) -> None:
    assert ast.get_docstring(tree(module))


@pytest.mark.parametrize("module", modules())
def test_all_is_there_and_true(module: str) -> None:
    """Every name of `__all__` exists, none twice, and every public definition is in it."""
    loaded = importlib.import_module(module)
    assert hasattr(loaded, "__all__")

    missing = [name for name in offered(module) if not hasattr(loaded, name)]
    defined = {
        node.name
        for node in tree(module).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    }

    assert not missing
    assert len(offered(module)) == len(set(offered(module)))
    assert defined <= set(offered(module))


def undocumented(name: str, value: object) -> Iterator[str]:
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return
    # A dataclass without a docstring gets its signature as one: that says nothing.
    doc = value.__doc__ or ""
    if not doc.strip() or doc.startswith(f"{name}("):
        yield name


def front_doors() -> list[str]:
    """The modules that other parts and users import from: `neuralake` and `neuralake.<part>`."""
    return [module for module in modules() if module.count(".") <= 1]


@pytest.mark.parametrize("module", front_doors())
def test_public_names_have_docstrings(module: str) -> None:
    """Functions and classes of a part's front door, wherever in the part they are written."""
    loaded = importlib.import_module(module)
    without = [
        missing
        for name in offered(module)
        if getattr(getattr(loaded, name), "__module__", "").startswith("neuralake")
        for missing in undocumented(name, getattr(loaded, name))
    ]

    assert not without


SERVER_LIBRARIES = ("starlette", "uvicorn", "datafusion", "typer", "rich", "jinja2")


def test_importing_the_package_loads_no_server_library() -> None:
    script = "import sys, neuralake; print(*sorted(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    loaded = {name.split(".")[0] for name in answer.stdout.split()}
    assert not loaded & set(SERVER_LIBRARIES)


def test_the_processes_of_the_platform_start_without_polars() -> None:
    """Loading it takes a third of a second, and they look definitions up and move bytes."""
    parts = "catalog, cli.app, ingest.server, maintain, serve.worker, supervise, writer"
    script = f"import sys; {'; '.join(f'import neuralake.{part}' for part in parts.split(', '))}"
    answer = subprocess.run(
        [sys.executable, "-c", f"{script}; print('polars' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "False\n"


def test_the_decorator_is_not_hidden_by_the_folder_of_the_same_name() -> None:
    """Python puts each imported submodule on its parent; `nl.table` stays callable."""
    script = "import neuralake.catalog, neuralake.tables, neuralake as nl; nl.table(lambda: None)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "not callable" not in answer.stderr
