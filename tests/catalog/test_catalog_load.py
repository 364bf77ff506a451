"""The catalog that the settings name is imported from their folder, or the error says where."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuralake.catalog import load_catalog
from neuralake.errors import UnknownName, UsageError
from neuralake.settings import LakeSettings, Settings, load_settings

TABLES = """
import pyarrow as pa
from neuralake.tables import DeltaTable, Stream
spikes = DeltaTable("{name}", "spikes", pa.schema([("n", pa.int32())]), stream=Stream())
"""
LAKE = """
import tables
from neuralake.catalog import Catalog, ModuleDatabase
catalog = Catalog({"neural": ModuleDatabase(tables)})
number = 3
"""


@pytest.fixture(autouse=True)
def _untouched_imports() -> Iterator[None]:
    """Tests share one process; each gives `sys` back as it found it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name in ("lake", "tables", "helper", "pack", "pack.lake"):
            del sys.modules[name]


def project(folder: Path, *, name: str = "spikes", lake: str = LAKE) -> Settings:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "neuralake.toml").write_text("")
    (folder / "tables.py").write_text(TABLES.format(name=name))
    (folder / "lake.py").write_text(lake)
    return load_settings(folder / "neuralake.toml", environment={})


def test_the_catalog_is_found_and_has_the_settings(tmp_path: Path) -> None:
    settings = project(tmp_path)

    catalog = load_catalog(settings)

    assert catalog.neural.tables() == ["spikes"]
    assert catalog.settings is settings
    assert load_catalog(settings) is catalog


def test_two_projects_with_modules_of_one_name_do_not_mix(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", name="one"), project(tmp_path / "two", name="two")

    found = [load_catalog(settings).neural.tables() for settings in (one, two, one)]

    assert found == [["one"], ["two"], ["one"]]


def test_what_is_installed_inside_a_projects_folder_is_not_forgotten(tmp_path: Path) -> None:
    """A virtual environment below the project: its modules stay, whatever is loaded next."""
    site = tmp_path / "one/.venv/lib/site-packages"
    site.mkdir(parents=True)
    (site / "helper.py").write_text("")
    one = project(tmp_path / "one", lake=LAKE + f"import sys; sys.path.append({str(site)!r})\n"
                  "import helper\n")  # fmt: skip
    load_catalog(one)
    helper = sys.modules["helper"]

    load_catalog(project(tmp_path / "two"))

    assert sys.modules["helper"] is helper


def test_other_settings_get_a_catalog_of_their_own(tmp_path: Path) -> None:
    settings = project(tmp_path)
    first = load_catalog(settings)

    second = load_catalog(Settings(folder=settings.folder, lake=LakeSettings(root="elsewhere")))

    assert first.settings is settings
    assert second.settings.root == str(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("target", "kind", "reason"),
    [
        ("lak:catalog", "module", "No module 'lak'.*Did you mean 'lake'.*lake, tables"),
        ("pack.lake:catalog", "module", "No module 'pack.lake'"),
        ("lake:catalogue", "attribute", "no 'catalogue'. Did you mean 'catalog'.*: catalog"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_what_is(
    tmp_path: Path, target: str, kind: str, reason: str
) -> None:
    folder = project(tmp_path).folder

    with pytest.raises(UnknownName, match=reason) as caught:
        load_catalog(Settings(folder=folder, lake=LakeSettings(catalog=target)))

    assert caught.value.kind == kind
    assert caught.value.known


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("lake:number", "'lake:number' is int, not a Catalog. Catalogs in .*lake.py: catalog"),
        ("lake", "write module:attribute"),
        (":catalog", "write module:attribute"),
    ],
)
def test_what_is_no_catalog_is_refused(tmp_path: Path, target: str, reason: str) -> None:
    folder = project(tmp_path).folder

    with pytest.raises(UsageError, match=reason):
        load_catalog(Settings(folder=folder, lake=LakeSettings(catalog=target)))


@pytest.mark.parametrize(
    ("tables", "line", "reason"),
    [
        ("import os\n\n1 / 0\n", 3, "ZeroDivisionError: division by zero"),
        ("x = 1\ndef f(:\n", 2, "SyntaxError"),
        ("\nimport nothing_of_this_name\n", 2, "No module named 'nothing_of_this_name'"),
        (
            "import pyarrow as pa\nfrom neuralake.tables import DeltaTable\n"
            "t = DeltaTable('T', 'u', pa.schema([('n', pa.int8())]))\n",
            3,
            "cannot be named 'T'",
        ),
        ("raise KeyboardInterrupt\n", 0, ""),
    ],
    ids=["exception", "syntax", "import", "definition", "interrupt"],
)
def test_code_that_fails_is_named_with_its_line(
    tmp_path: Path, tables: str, line: int, reason: str
) -> None:
    settings = project(tmp_path)
    (tmp_path / "tables.py").write_text(tables)
    if not line:  # Ctrl-C while importing is the user's, not an error of the code.
        with pytest.raises(KeyboardInterrupt):
            load_catalog(settings)
        return

    with pytest.raises(
        UsageError, match=f"Importing 'lake' failed at .*tables.py:{line}"
    ) as caught:
        load_catalog(settings)

    assert reason in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "tables.py"), line)
    assert caught.value.__cause__ is not None


def test_after_a_mistake_everything_is_read_again(tmp_path: Path) -> None:
    """Also what was imported before the mistake was met."""
    settings = project(tmp_path, lake="import tables\n1 / 0\n")
    with pytest.raises(UsageError):
        load_catalog(settings)

    project(tmp_path, name="corrected_spikes")

    assert load_catalog(settings).neural.tables() == ["corrected_spikes"]


def test_a_package_is_a_module_too(tmp_path: Path) -> None:
    settings = project(tmp_path)
    (tmp_path / "pack").mkdir()
    (tmp_path / "lake.py").rename(tmp_path / "pack/lake.py")
    (tmp_path / "pack/__init__.py").write_text("")

    other = Settings(folder=settings.folder, lake=LakeSettings(catalog="pack.lake:catalog"))

    assert load_catalog(other).neural.tables() == ["spikes"]


def test_it_is_found_from_any_folder_in_a_fresh_process(tmp_path: Path) -> None:
    """As the CLI does it: the settings' folder, not the working one, is where modules are."""
    project(tmp_path / "project")
    code = (
        "from pathlib import Path; from neuralake.settings import load_settings\n"
        "from neuralake.catalog import load_catalog\n"
        "print(load_catalog(load_settings(Path('project/neuralake.toml'))).neural.tables())"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert answer.stdout.strip() == "['spikes']", answer.stderr
