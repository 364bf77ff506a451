"""Copied code works: the Python runs, the SQL finds rows, the body of the request is accepted."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import datafusion
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from datafusion.catalog import Schema
from site_lake import EVERYTHING, SPIKES, write_project

from neuralake.delta import snapshot
from neuralake.manifest import Manifest, Parameter, Table
from neuralake.records.decode import Decoder
from neuralake.records.media_types import JSON
from neuralake.settings import IngestSettings
from neuralake.site.snippets import Snippet, snippets
from neuralake.tables import DeltaTable

Site = Any


def by_id(manifest: Manifest, name: str) -> dict[str, Snippet]:
    table = next(table for table in manifest.tables() if table.name == name)
    return {snippet.id: snippet for snippet in snippets(manifest, table)}


def shell_words(code: str) -> list[str]:
    return shlex.split(code.replace("\\\n", " "))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


def test_the_python_of_every_readable_table_runs_as_it_stands(
    friendly: Site, project: Path
) -> None:
    """In a fresh interpreter in the project's folder, as somebody who copied it would."""
    names = ["spikes", "everything", "old_spikes", "waiting", "weather", "insertions", "argued"]
    codes = {
        f"{name} {kind}": snippet.code
        for name in names
        for kind, snippet in by_id(friendly.manifest, name).items()
        if snippet.language == "python"
    }
    program = (
        "import json, sys\n"
        "heights = {}\n"
        "for name, code in json.load(sys.stdin).items():\n"
        "    scope = {}\n"
        "    exec(code, scope)\n"
        "    heights[name] = scope['frame'].collect().height\n"
        "print(json.dumps(heights))\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        input=json.dumps(codes),
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == {
        "spikes python": 2,  # session "it's 12" and channel in 1, 2
        "spikes live": 2,
        "everything python": 1,
        "everything live": 1,
        "old_spikes python": 0,
        "waiting python": 0,
        "waiting live": 0,
        "weather python": 3,
        "insertions python": 3,
        "argued python": 1,
    }


@pytest.fixture
def context(lake: Path) -> datafusion.SessionContext:
    context = datafusion.SessionContext()
    for database in ("neural", "lab"):
        context.catalog().register_schema(database, Schema.memory_schema())
    neural = context.catalog().schema("neural")
    for definition in (SPIKES, EVERYTHING):
        found = snapshot(str(lake / "data" / definition.uri)).delta_table
        neural.register_table(definition.name, datafusion.catalog.Table(found))
    weather = ds.dataset(lake / "data" / "raw" / "weather", partitioning="hive")
    context.catalog().schema("lab").register_table("weather", datafusion.catalog.Table(weather))
    return context


@pytest.mark.parametrize(("name", "rows"), [("spikes", 2), ("everything", 1), ("weather", 3)])
def test_the_sql_finds_the_rows_that_the_python_finds(
    site: Site, context: datafusion.SessionContext, name: str, rows: int
) -> None:
    found = context.sql(by_id(site.manifest, name)["sql"].code).to_arrow_table()

    assert found.num_rows == rows


@pytest.mark.parametrize("name", ["spikes", "everything", "weather", "attack"])
def test_the_query_request_carries_the_same_sql(site: Site, name: str) -> None:
    found = by_id(site.manifest, name)
    words = shell_words(found["curl"].code)

    assert words[:3] == ["curl", "-sS", "http://127.0.0.1:8765/api/sql"]
    body = json.loads(words[words.index("-d") + 1])
    assert list(body) == ["sql"]
    if name != "attack":  # whose value has line breaks of its own
        assert body["sql"].split() == found["sql"].code.split()


@pytest.mark.parametrize("definition", [SPIKES, EVERYTHING], ids=lambda d: d.name)
def test_the_row_of_the_request_is_accepted_with_every_type(
    site: Site, definition: DeltaTable
) -> None:
    words = shell_words(by_id(site.manifest, definition.name)["send"].code)
    decoder = Decoder(
        definition.schema,
        name=definition.name,
        partition_by=definition.partition_by,
        limits=IngestSettings(),
    )

    rows = decoder.rows(words[words.index("-d") + 1].encode(), JSON)

    assert words[2] == f"http://127.0.0.1:8765/v1/neural/{definition.name}"
    assert "Content-Type: application/json" in words
    assert rows.schema == definition.schema
    assert rows.num_rows == 1
    assert all(rows[name].null_count == 0 for name in rows.schema.names)


def test_hostile_values_stay_values_in_every_language(site: Site) -> None:
    found = by_id(site.manifest, "attack")

    compile(found["python"].code, "python", "exec")
    compile(found["live"].code, "live", "exec")
    assert json.loads(shell_words(found["send"].code)[-1])["'DROP--"].startswith("</script>")
    context = datafusion.SessionContext()
    context.catalog().register_schema("hostile", Schema.memory_schema())
    empty = ds.dataset(
        pa.table({'<b>"x': pa.array([], pa.int64()), "'DROP--": pa.array([], pa.string())})
    )
    context.catalog().schema("hostile").register_table("attack", datafusion.catalog.Table(empty))
    assert context.sql(found["sql"].code).to_arrow_table().num_rows == 0


def test_a_table_without_a_stream_takes_no_rows(site: Site) -> None:
    assert set(by_id(site.manifest, "old_spikes")) == {"python", "sql", "curl"}
    assert set(by_id(site.manifest, "spikes")) == {"python", "live", "sql", "curl", "send"}


def test_a_function_that_needs_an_argument_has_no_sql(site: Site) -> None:
    assert set(by_id(site.manifest, "insertions")) == {"python"}
    assert set(by_id(site.manifest, "optional")) == {"python", "sql", "curl"}


def test_the_example_of_the_definition_replaces_ours() -> None:
    table = Table(database="d", name="t", kind="delta", docs_example="\nmine()\n")

    assert snippets(Manifest(), table)[0].code == "mine()"


def test_a_catalog_of_another_name_is_imported_under_it() -> None:
    table = Table(database="d", name="t", kind="function", parameters=(Parameter(name="a"),))

    code = snippets(Manifest(catalog="my.lab:lake"), table)[0].code

    assert code.splitlines()[0] == "from my.lab import lake as catalog"
    assert 'catalog.db("d").table("t", a=...)' in code


def test_the_pages_show_the_code_that_was_tried(site: Site) -> None:
    page = site.pages["tables/neural/spikes.html"]
    codes = [e.text for e in page.all("code") if "pre" in e.parents]

    for snippet in by_id(site.manifest, "spikes").values():
        assert snippet.code in codes
