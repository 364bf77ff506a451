"""Tables are found by name, and what is not there is answered with what is."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from neuralake.catalog import Catalog, Database, ModuleDatabase
from neuralake.errors import SchemaMismatch, UnknownName, UsageError, outcome
from neuralake.filters import Filter
from neuralake.frame import NlkDataFrame
from neuralake.settings import LakeSettings, Settings
from neuralake.tables import (
    DeltalakeTable,
    DeltaTable,
    ParquetTable,
    Partition,
    PartitioningScheme,
    Stream,
    table,
)

SCHEMA = pa.schema([("session", pa.string()), ("n", pa.int32())])


def spikes(**changes: Any) -> DeltaTable:
    arguments: dict[str, Any] = {
        "name": "spikes",
        "uri": "neural/spikes",
        "schema": SCHEMA,
        "partition_by": ["session"],
        "stream": Stream(),
        "description": "Counts.\nIn bins.",
    }
    return DeltaTable(**(arguments | changes))


@table
def insertions(session: str = "all", limit: int = 2) -> pl.DataFrame:
    """Every insertion."""
    return pl.DataFrame({"session": [session] * limit, "depth": range(limit)})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=str(tmp_path))


@pytest.fixture
def catalog(settings: Settings, tmp_path: Path) -> Catalog:
    """`neural` with spikes (a stream), batch, raw, old (deprecated) and insertions (a function)."""
    write_deltalake(
        str(tmp_path / "lake/neural/batch"),
        pa.table([["s-1", "s-2", "s-2"], [1, 2, 3]], schema=SCHEMA),
        partition_by=["session"],
    )
    for session in ("s-1", "s-2"):
        (tmp_path / "lake/raw" / session).mkdir(parents=True)
        pl.DataFrame({"v": [1]}).write_parquet(tmp_path / "lake/raw" / session / "p.parquet")
    raw = ParquetTable(
        "raw",
        "raw",
        partitioning=[Partition("session", pl.String)],
        partitioning_scheme=PartitioningScheme.DIRECTORY,
    )
    tables = [
        spikes(),
        spikes(name="batch", uri="neural/batch", stream=None),
        spikes(name="old", uri="neural/batch", stream=None, deprecated="Use batch."),
        raw,
        insertions,
    ]
    return Catalog({"neural": Database(tables), "other": Database([])}, settings)


def test_a_program_of_datarepo_runs_when_its_import_is_changed(tmp_path: Path) -> None:
    tables = ModuleType("tpch_tables")
    vars(tables)["part"] = DeltalakeTable(
        name="part",
        uri=str(tmp_path / "part"),
        schema=SCHEMA,
        docs_filters=[Filter("n", "=", 1)],
        unique_columns=["n"],
        description="Parts.",
        table_metadata_args={"data_input": "ERP"},
    )
    vars(tables)["supplier"] = insertions
    write_deltalake(tmp_path / "part", pa.table([["a", "b"], [1, 2]], schema=SCHEMA))

    catalog = Catalog(dbs={"tpch": ModuleDatabase(tables)}, settings=Settings())
    part = catalog.db("tpch").table(
        "part", (Filter("n", "in", [1, 3]), Filter("session", "in", ["a", "b"]))
    )

    assert part.select("n").collect().rows() == [(1,)]
    metadata = catalog.db("tpch").get_tables()["part"].table_metadata
    assert (metadata.table_type, metadata.data_input) == ("DELTA_LAKE", "ERP")


def test_names_are_listed(catalog: Catalog) -> None:
    neural = catalog.db("neural")

    assert catalog.dbs() == ["neural", "other"]
    assert neural.tables() == ["batch", "insertions", "raw", "spikes"]
    assert neural.tables(show_deprecated=True) == ["batch", "insertions", "old", "raw", "spikes"]
    assert [(database, entry.name) for database, entry in catalog.definitions()] == [
        ("neural", name) for name in neural.tables(show_deprecated=True)
    ]
    assert neural.get_tables()["spikes"] is catalog.definition("neural", "spikes")


def test_attributes_are_names_too_and_complete(catalog: Catalog) -> None:
    assert catalog.neural is catalog.db("neural")
    assert {"neural", "other"} <= set(dir(catalog))
    assert {"spikes", "insertions"} <= set(dir(catalog.neural))
    assert "old" not in dir(catalog.neural)
    assert catalog.neural.batch.collect().height == 3
    assert not hasattr(catalog, "nothing")
    assert not hasattr(catalog.neural, "_repr_mimebundle_")


def test_a_name_that_is_not_there_is_answered_with_what_is(catalog: Catalog) -> None:
    with pytest.raises(
        UnknownName, match=r"No table 'spike' in database 'neural'. Did you mean"
    ) as no:
        catalog.neural.table("spike")
    assert (no.value.kind, no.value.name) == ("table", "spike")
    assert no.value.known == ["batch", "insertions", "old", "raw", "spikes"]
    assert outcome(no.value).status == 404

    with pytest.raises(
        UnknownName, match=r"No database 'neurl'.*'neural'.*It has: neural, other"
    ) as no:
        catalog.db("neurl")
    assert (no.value.kind, no.value.known) == ("database", ["neural", "other"])
    with pytest.raises(UnknownName, match=r"No table 'x' in database 'other'. It has: none"):
        catalog.definition("other", "x")


def test_filters_and_columns_are_given_with_the_name(catalog: Catalog) -> None:
    neural = catalog.db("neural")
    one, two = Filter("session", "=", "s-2"), Filter("n", ">", 2)

    assert neural.table("batch", one, two, columns=["n"]).collect().rows() == [(3,)]
    assert neural.table("batch", (one, two)).collect().height == 1
    assert neural.table("batch", [[one], [two]]).collect().height == 2
    assert neural.table("batch", filters=[one, two]).collect().height == 1
    assert neural.table("raw", one, columns=["session"]).collect().rows() == [("s-2",)]
    assert "session=s-1" not in neural.table("batch", one).explain()


def test_a_stream_without_commits_is_empty_and_a_batch_table_without_files_an_error(
    settings: Settings,
) -> None:
    tables = [spikes(), spikes(name="batch", uri="typo", stream=None)]
    catalog = Catalog({"neural": tables}, settings)

    assert catalog.neural.spikes.collect().schema == pl.Schema(SCHEMA)
    with pytest.raises(UnknownName, match=r"'neural\.batch': there is no Delta table at"):
        catalog.neural.batch.collect()


def test_a_version_is_a_delta_tables(catalog: Catalog) -> None:
    assert catalog.neural.table("batch", version=0).collect().height == 3
    for name in ("raw", "insertions"):
        with pytest.raises(UsageError, match="version"):
            catalog.neural.table(name, version=0)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        (
            "batch",
            {"session": "s-1"},
            r"no argument 'session'\. To filter, write Filter\('session', '=', 's-1'\)",
        ),
        ("batch", {"colums": ["n"]}, "Did you mean 'columns'"),
        ("batch", {"columns": ["m"]}, "'neural.batch' has no column 'm'"),
        ("batch", {"columns": "n"}, "columns is a list"),
        ("batch", {"filters": "n > 1"}, "Expected filters, found str"),
        ("batch", {"live": True}, "no stream, so there is nothing live"),
        ("raw", {"live": True}, "no stream"),
        ("spikes", {"live": True, "version": 1}, "live is the newest"),
        ("insertions", {"live": True}, "takes neither live nor version"),
        ("insertions", {"sesion": "s-1"}, "no argument 'sesion'. Did you mean 'session'"),
    ],
    ids=str,
)
def test_an_argument_that_a_table_does_not_take_is_refused(
    catalog: Catalog, name: str, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        catalog.neural.table(name, **arguments)


def test_a_function_is_called_with_its_arguments(catalog: Catalog) -> None:
    frame = catalog.neural.table("insertions", Filter("depth", ">", 0), session="s-9", limit=3)

    assert type(frame) is NlkDataFrame
    assert frame.collect().rows() == [("s-9", 1), ("s-9", 2)]
    assert catalog.neural.insertions.collect().height == 2
    assert catalog.neural.table("insertions", columns=["depth"]).collect().columns == ["depth"]


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, pa.table], ids=lambda k: k.__name__)
def test_a_function_may_return_what_holds_rows(
    settings: Settings, kind: Callable[[dict[str, list[int]]], Any]
) -> None:
    @table
    def rows() -> Any:
        return kind({"n": [1]})

    assert Catalog({"d": [rows]}, settings).d.rows.collect().rows() == [(1,)]


def test_a_declared_function_gives_what_it_declares_or_names_the_column(
    settings: Settings,
) -> None:
    @table(schema=pa.schema([("n", pa.int64())]))
    def rows(kind: str = "good") -> pl.LazyFrame:
        return {
            "good": pl.LazyFrame({"more": [1], "n": [2]}),
            "text": pl.LazyFrame({"n": ["a"]}),
            "none": pl.LazyFrame({"m": [1]}),
        }[kind]

    database = Catalog({"d": [rows]}, settings).d

    assert database.rows.collect().rows() == [(2,)]
    for kind in ("text", "none"):
        with pytest.raises(SchemaMismatch, match=r"'d\.rows' has .*'n'") as caught:
            database.table("rows", kind=kind).collect()
        assert caught.value.column == "n"


def test_a_function_that_returns_something_else_is_told(settings: Settings) -> None:
    @table
    def rows() -> dict[str, int]:
        return {}

    with pytest.raises(UsageError, match=r"'d\.rows' gave dict"):
        Catalog({"d": [rows]}, settings).db("d").table("rows")


def test_a_deprecated_table_is_hidden_and_warns_at_the_line_that_uses_it(
    catalog: Catalog,
) -> None:
    uses: list[Callable[[], NlkDataFrame]] = [
        lambda: catalog.neural.old,
        lambda: catalog.db("neural").table("old"),
    ]
    for use in uses:
        with pytest.warns(DeprecationWarning, match=r"'old' is deprecated: Use batch.") as caught:
            frame = use()
        assert caught[0].filename == __file__
        assert frame.collect().height == 3
    with warnings.catch_warnings(action="error"):
        assert catalog.definition("neural", "old").deprecated == "Use batch."


def test_a_module_gives_every_definition_it_has_under_a_public_name(settings: Settings) -> None:
    module = ModuleType("tables")
    vars(module).update(spikes=spikes(), also=insertions, _hidden=spikes(name="hidden"), SCHEMA=1)
    vars(module)["again"] = vars(module)["spikes"]

    assert ModuleDatabase(module).tables() == ["insertions", "spikes"]
    assert Catalog({"neural": module}, settings).neural.tables() == ["insertions", "spikes"]


def test_a_database_is_a_module_or_a_list_or_a_dict_of_definitions() -> None:
    assert Database({"any": spikes()}).tables() == Database([spikes()]).tables() == ["spikes"]
    with pytest.raises(UsageError, match=r"holds table definitions.*found str"):
        Database(["spikes"])  # type: ignore[list-item]  # on purpose
    with pytest.raises(UsageError, match="takes a module, found list"):
        ModuleDatabase([])  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UsageError, match="'d' is int"):
        Catalog({"d": 3})  # type: ignore[dict-item]  # on purpose
    with pytest.raises(UsageError, match="belongs to no catalog"):
        Database([spikes()]).table("spikes")


def test_two_tables_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Two tables are named 'spikes': .*'a'.* and .*'b'"):
        Database([spikes(uri="a"), spikes(uri="b")])


def test_two_streams_at_one_place_are_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"'a\.spikes' and 'b\.spikes' are both streams"):
        Catalog({"a": [spikes()], "b": [spikes()]}, settings)

    Catalog({"a": [spikes(stream=None)], "b": [spikes()]}, settings)


def test_a_database_is_of_one_catalog(settings: Settings) -> None:
    shared = Database([])
    Catalog({"a": shared}, settings)

    with pytest.raises(UsageError, match="is 'a' of a catalog already"):
        Catalog({"b": shared}, settings)


@pytest.mark.parametrize("name", ["tpc-h", "Neural", "1st"])
def test_a_database_name_that_sql_would_quote_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"A database cannot be named .* Try '"):
        Catalog({name: []})


def test_places_are_below_the_root(catalog: Catalog, tmp_path: Path) -> None:
    definition = catalog.definition("neural", "spikes")

    assert catalog.uri_of(definition) == str(tmp_path / "lake/neural/spikes")
    assert catalog.uri_of(spikes(uri="s3://bucket/t")) == "s3://bucket/t"
    with pytest.raises(UsageError, match="has no files"):
        catalog.uri_of(insertions)


def test_a_catalog_shows_what_is_in_it(catalog: Catalog) -> None:
    assert repr(catalog) == "Catalog\n  neural: batch, insertions, raw, spikes\n  other: -"
    assert repr(catalog.neural) == "Database neural: batch, insertions, raw, spikes"
    assert "<th>spikes</th><td>delta</td><td>Counts.</td>" in catalog.neural._repr_html_()
    assert "<th>neural</th>" in catalog._repr_html_()
    assert copy.copy(catalog).dbs() == catalog.dbs()


def test_the_queue_is_opened_once(catalog: Catalog, tmp_path: Path) -> None:
    assert not (tmp_path / "lake/.neuralake").exists()

    queue = catalog.queue()
    try:
        assert catalog.queue() is queue
    finally:
        queue.close()


def test_definitions_travel_between_processes(catalog: Catalog) -> None:
    entries = catalog.definitions()

    there = pickle.loads(pickle.dumps(entries))  # noqa: S301 our own bytes

    assert [entry for _, entry in there] == [entry for _, entry in entries]


def test_settings_are_those_of_the_file_beside_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalog is the same lake from whatever folder it is used."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "neuralake.toml").write_text('[lake]\nroot = "here"\n')
    code = "from neuralake.catalog import Catalog\ncatalog = Catalog({})\n"
    names: dict[str, Any] = {}
    exec(compile(code, str(project / "lake.py"), "exec"), names)  # noqa: S102 our own text
    monkeypatch.chdir(tmp_path)

    assert names["catalog"].settings.root == str(project / "here")


def test_settings_bound_later_do_not_change_a_catalog_that_has_some(catalog: Catalog) -> None:
    other = Settings(folder="/elsewhere", lake=LakeSettings(root="r"))

    copied = catalog.bound_to(other)

    assert catalog.bound_to(catalog.settings) is catalog
    assert copied.uri_of(copied.definition("neural", "spikes")) == "/elsewhere/r/neural/spikes"
    assert catalog.settings != other
    assert copied.neural.tables() == catalog.neural.tables()


def test_a_catalog_that_is_no_dict_says_what_one_is() -> None:
    with pytest.raises(UsageError, match=r"a dict of databases by name.*found list"):
        Catalog([])  # type: ignore[arg-type]  # what is told is the point
