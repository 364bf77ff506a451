"""Imports point down only, and each outside library has one owner.

The table of layers is in this file and nowhere else. Every import counts, also one inside a
function: a cycle that hides there still ties the parts together.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "neuralake"

# Bottom up. A part imports only from lower rows, or from its own folder.
LAYERS = (
    ("errors",),
    ("clock", "settings"),
    ("telemetry",),
    ("schema", "filters", "storage", "client"),
    ("queue", "delta", "tables"),
    ("frame", "batch", "records"),
    ("live",),
    ("catalog",),
    ("writer", "maintain", "manifest", "serve"),
    ("site", "ingest"),
    ("supervise",),
    ("demo",),
    ("cli",),
)

# The package itself and `python -m neuralake` stand above all parts.
ABOVE_ALL = ("__init__", "__main__")

# An outside library and the only places that may import it. Everything else goes through them.
OWNERS = {
    "deltalake": ("delta/",),
    "pyroaring": ("delta/",),
    "datafusion": ("serve/",),
    "obstore": ("storage/bucket.py",),
    "boto3": ("storage/dynamodb.py",),
    "botocore": ("storage/dynamodb.py",),
    "starlette": ("ingest/", "serve/"),
    "uvicorn": ("ingest/",),
    "jinja2": ("site/",),
    "markupsafe": ("site/",),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/", "demo/"),
    "sqlite3": ("queue/",),
    "confluent_kafka": ("queue/",),
    "fastavro": ("records/",),
    "google": ("records/protobuf",),
    "prometheus_client": ("ingest/metrics.py",),
    "dataframely": ("records/rules.py",),
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import: the module it names, and where it stands."""

    module: str
    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


# Read once for all tests: the source has hundreds of files, and the tables above dozens of rows.
@cache
def nodes() -> tuple[tuple[str, ast.Import | ast.ImportFrom | ast.Call], ...]:
    """Every import and call of the source, each with its file."""
    return tuple(
        (file.relative_to(SOURCE).as_posix(), node)
        for file in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
    )


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for path, node in nodes() for found in imports_of(path, node))


def imports_of(path: str, node: ast.AST) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, path, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path}:{node.lineno}: write the import absolute"
        assert node.module is not None
        if node.module == "neuralake":
            # `from neuralake import schema` names a part, or a name of the package.
            yield from (
                Import(f"neuralake.{alias.name}", path, node.lineno)
                if is_part(alias.name)
                else Import("neuralake", path, node.lineno)
                for alias in node.names
                if alias.name != "__version__"
            )
        else:
            yield Import(node.module, path, node.lineno)


def is_part(name: str) -> bool:
    return (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()


def part_of(path: str) -> str:
    """`delta` of `delta/log.py`, `clock` of `clock.py`."""
    return path.split("/")[0].removesuffix(".py")


def row_of(part: str) -> int:
    return next(row for row, parts in enumerate(LAYERS) if part in parts)


def test_every_part_has_its_row() -> None:
    """A new folder or module finds its place in the table before it is merged."""
    named = {part for row in LAYERS for part in row} | set(ABOVE_ALL)
    found = {
        part_of(path.relative_to(SOURCE).as_posix())
        for path in SOURCE.iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
    }

    assert found <= named


def test_imports_point_down() -> None:
    wrong = [
        str(found)
        for found in imports()
        if found.module.startswith("neuralake.")
        and (here := part_of(found.path)) not in ABOVE_ALL
        and (there := found.module.split(".")[1]) != here
        and row_of(there) >= row_of(here)
    ]

    assert not wrong


def test_parts_do_not_import_the_package_itself() -> None:
    """`import neuralake` inside the package would load a part through the top.

    The exceptions are its version, which is a string and needs no part, and the definitions of the
    demo, which are written as a user's are.
    """
    wrong = [
        str(found)
        for found in imports()
        if found.module == "neuralake"
        and part_of(found.path) not in ABOVE_ALL
        and not found.path.startswith("demo/tables/")
    ]

    assert not wrong


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owner_only(library: str) -> None:
    wrong = [
        str(found)
        for found in imports()
        if found.module.split(".")[0] == library and not found.path.startswith(OWNERS[library])
    ]

    assert not wrong


# Deterministic parts reach for nothing: time comes from a clock, output goes to the caller, and
# a forked process breaks the Rust libraries' runtimes.
BANNED = {
    "time.time": ("clock.py",),
    "time.monotonic": ("clock.py",),
    "time.sleep": ("clock.py",),
    "datetime.now": ("clock.py",),
    "datetime.utcnow": (),
    "datetime.today": (),
    "date.today": (),
    "os.fork": (),
    "os.forkpty": (),
    "print": ("cli/", "demo/"),
}


@cache
def calls() -> tuple[tuple[str, str, int], ...]:
    """`(dotted name, path, line)` of every call; of `a.b.c()` the last two names."""
    return tuple(
        (".".join(ast.unparse(node.func).split(".")[-2:]), path, node.lineno)
        for path, node in nodes()
        if isinstance(node, ast.Call)
    )


@pytest.mark.parametrize("banned", BANNED)
def test_nothing_reaches_for_time_output_or_fork(banned: str) -> None:
    wrong = [
        f"{path}:{line} calls {name}"
        for name, path, line in calls()
        if name == banned and not (BANNED[banned] and path.startswith(BANNED[banned]))
    ]

    assert not wrong


@pytest.mark.parametrize("module", ["time", "os"])
def test_banned_calls_are_not_hidden_behind_a_name(module: str) -> None:
    """`from time import sleep` would pass the test above unseen."""
    hidden = {"time": {"time", "sleep", "monotonic"}, "os": {"fork", "forkpty"}}[module]
    wrong = [
        f"{path}:{node.lineno}"
        for path, node in nodes()
        if isinstance(node, ast.ImportFrom)
        and node.module == module
        and hidden & {alias.name for alias in node.names}
    ]

    assert not wrong
