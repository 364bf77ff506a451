"""Column mapping: files and log know physical names and ids, people know the names they chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta_tables import put_entry, read_all
from deltalake import DeltaTable, QueryBuilder
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.delta import TableLog, compact_once, create_table, snapshot
from neuralake.delta.actions import MetaData
from neuralake.delta.column_mapping import Columns, assigned
from neuralake.delta.log import read_entry
from neuralake.delta.types import from_schema_string, to_schema_string
from neuralake.errors import NeedsAttention
from neuralake.storage import LocalStore, MemoryStore

INNER = pa.struct([("u", pa.int32()), ("v", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("p", pa.string()),
        ("inner", INNER),
        ("many", pa.list_(pa.field("element", INNER))),
        ("plain", pa.list_(pa.field("element", pa.int32()))),
    ]
)
MODES = ["name", "id"]


def rows(*ids: int, p: str | None = "a") -> pa.Table:
    return pa.table(
        {
            "id": list(ids),
            "p": [p] * len(ids),
            "inner": [{"u": i, "v": f"v{i}"} if i % 3 else None for i in ids],
            "many": [[{"u": i, "v": None}, None] if i % 2 else None for i in ids],
            "plain": [[i, None] for i in ids],
        },
        SCHEMA,
    )


@pytest.fixture(params=MODES)
def uri(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    uri = str(tmp_path / "table")
    create_table(
        uri, SCHEMA, partition_by=["p"], properties={"delta.columnMapping.mode": request.param}
    )
    return uri


def ask(uri: str, sql: str) -> list[dict[str, Any]]:
    """Rows as delta-rs reads them."""
    found = QueryBuilder().register("t", DeltaTable(uri)).execute(sql)
    rows: list[dict[str, Any]] = pa.table(found.read_all()).to_pylist()
    return rows


def renamed(uri: str, **names: str) -> None:
    """Another engine renames columns: only labels change."""
    log = TableLog.open(uri)
    metadata = log.state.metadata
    schema = msgspec.json.decode(metadata.schema_string)
    for field in schema["fields"]:
        field["name"] = names.get(field["name"], field["name"])
    changed = msgspec.structs.replace(
        metadata,
        schema_string=msgspec.json.encode(schema).decode(),
        partition_columns=[names.get(name, name) for name in metadata.partition_columns],
    )
    put_entry(uri, log.version + 1, [changed])


def test_files_and_log_have_physical_names_and_ids_only(uri: str) -> None:
    TableLog.open(uri).append(rows(1, 2))
    state, file = snapshot(uri).state, snapshot(uri).files[0]
    entry = read_entry(LocalStore(uri), 1)
    assert entry is not None
    add = next(line.add for line in entry.lines if line.add is not None)
    stored = pq.read_schema(Path(uri, file.path))

    physical = state.columns.physical
    assert len({*physical.names, *SCHEMA.names}) == 10
    assert stored.names == [physical.names[i] for i in (0, 2, 3, 4)]
    assert [field.metadata[b"PARQUET:field_id"] for field in stored] == [b"1", b"3", b"6", b"9"]
    assert [field.metadata[b"PARQUET:field_id"] for field in stored.field(1).type] == [b"4", b"5"]
    assert add.partition_values == {physical.names[1]: "a"}
    stats = msgspec.json.decode(add.stats or "")
    assert {*stats["minValues"]} == {physical.names[0], physical.names[2]}
    assert {*stats["nullCount"]} == {physical.names[i] for i in (0, 2, 3, 4)}
    assert state.metadata.configuration["delta.columnMapping.maxColumnId"] == "9"
    assert file.partition == {"p": "a"}


def test_delta_rs_reads_what_we_append(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(1, 2, 3))
    log.append(rows(4, 5, 6, p=None))

    every = pa.concat_tables([rows(1, 2, 3), rows(4, 5, 6, p=None)])
    assert ask(uri, "SELECT * FROM t ORDER BY id") == every.to_pylist()
    assert ask(uri, "SELECT id FROM t WHERE p = 'a' AND id >= 2 ORDER BY id") == [
        {"id": 2},
        {"id": 3},
    ]


def test_we_read_what_we_append(uri: str) -> None:
    TableLog.open(uri).append(rows(1, 2, 3, 4, 5, 6))

    assert read_all(uri).equals(rows(1, 2, 3, 4, 5, 6).drop_columns(["p"]))


def test_a_renamed_column_keeps_its_rows_also_when_names_are_swapped(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(1, 2))
    renamed(uri, inner="many", many="inner", id="number", p="part")
    again = rows(3).rename_columns(["number", "part", "many", "inner", "plain"])
    TableLog.open(uri).append(again)

    found = {row["number"]: row for row in ask(uri, "SELECT * FROM t")}
    assert sorted(found) == [1, 2, 3]
    assert found[1]["many"] == {"u": 1, "v": "v1"}
    assert found[3]["inner"] == rows(3)["many"].to_pylist()[0]
    assert {row["part"] for row in found.values()} == {"a"}
    assert sorted(read_all(uri)["number"].to_pylist()) == [1, 2, 3]


def test_compaction_keeps_rows_names_and_partitions(uri: str) -> None:
    log = TableLog.open(uri)
    for i in range(1, 5):
        log.append(rows(i))
    log.append(rows(9, p="b"))
    before = ask(uri, "SELECT * FROM t ORDER BY id")
    renamed(uri, id="number")
    assert compact_once(uri, target_bytes=2**20, files_min=2).files_removed == 4

    after = ask(uri, "SELECT * FROM t ORDER BY number")
    assert [{**row, "id": row["number"]} for row in after] == [
        {**row, "number": row["id"]} for row in before
    ]
    assert [file.partition for file in snapshot(uri).files] == [{"p": "a"}, {"p": "b"}]


def test_a_column_added_or_dropped_by_another_engine_is_null_or_left_out(uri: str) -> None:
    log = TableLog.open(uri)
    log.append(rows(1))
    metadata = log.state.metadata
    schema = msgspec.json.decode(metadata.schema_string)
    dropped = schema["fields"].pop(2)
    new = {
        "name": dropped["name"],  # The same name for another column.
        "type": "long",
        "nullable": True,
        "metadata": {"delta.columnMapping.id": 10, "delta.columnMapping.physicalName": "col-new"},
    }
    schema["fields"].append(new)
    text = msgspec.json.encode(schema).decode()
    put_entry(uri, 2, [msgspec.structs.replace(metadata, schema_string=text)])

    assert read_all(uri)["inner"].to_pylist() == [None]
    assert ask(uri, "SELECT inner FROM t") == [{"inner": None}]


def test_by_id_columns_are_found_whatever_a_file_calls_them(tmp_path: Path) -> None:
    """Files of an engine that took other names, as imported Parquet has."""
    uri = str(tmp_path / "table")
    schema = pa.schema(
        [("a", pa.int64()), ("s", pa.struct([("x", pa.int32()), ("y", pa.int32())]))]
    )
    create_table(uri, schema, properties={"delta.columnMapping.mode": "id"})
    log = TableLog.open(uri)
    log.append(pa.table({"a": [1], "s": [{"x": 2, "y": 3}]}, schema))

    def numbered(name: str, kind: pa.DataType, number: int) -> pa.Field:
        return pa.field(name, kind, metadata={"PARQUET:field_id": str(number)})

    # Ids: a 1, s 2, x 3, y 4; the fields of the struct have each other's names.
    physical = snapshot(uri).state.columns.physical.field(1).type
    inner = pa.struct(
        [numbered(physical[1].name, pa.int32(), 3), numbered(physical[0].name, pa.int32(), 4)]
    )
    other = pa.schema([numbered("S", inner, 2), numbered("A", pa.int64(), 1)])
    file = snapshot(uri).files[0]
    value = {physical[1].name: 20, physical[0].name: 30}
    pq.write_table(pa.table([[value], [10]], schema=other), Path(uri, file.path))

    assert read_all(uri).to_pylist() == [{"a": 10, "s": {"x": 20, "y": 30}}]


def test_by_id_a_file_without_ids_is_refused(tmp_path: Path) -> None:
    """The protocol allows nulls, too; they would look like the truth."""
    uri = str(tmp_path / "table")
    schema = pa.schema([("a", pa.int64())])
    create_table(uri, schema, properties={"delta.columnMapping.mode": "id"})
    TableLog.open(uri).append(pa.table({"a": [1]}, schema))
    pq.write_table(pa.table({"a": [1]}), Path(uri, snapshot(uri).files[0].path))

    with pytest.raises(NeedsAttention, match="no field ids"):
        read_all(uri)


def test_a_mapping_without_physical_names_needs_a_person(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, properties={"delta.columnMapping.mode": "name"})
    metadata: MetaData = TableLog.open(uri).state.metadata
    broken = msgspec.structs.replace(metadata, schema_string=to_schema_string(SCHEMA))
    put_entry(uri, 1, [broken])

    with pytest.raises(NeedsAttention, match="'id' has no physical name"):
        TableLog.open(uri)


def test_the_property_counts_only_where_the_protocol_allows_it(tmp_path: Path) -> None:
    """Section "Column Mapping": otherwise it is a word without meaning."""
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA)
    metadata = TableLog.open(uri).state.metadata
    put_entry(
        uri,
        1,
        [msgspec.structs.replace(metadata, configuration={"delta.columnMapping.mode": "name"})],
    )

    TableLog.open(uri).append(rows(1))
    assert snapshot(uri).state.columns.mode == "none"
    assert ask(uri, "SELECT id FROM t") == [{"id": 1}]


KINDS = st.recursive(
    st.sampled_from([pa.int32(), pa.string()]),
    lambda inner: st.one_of(
        inner.map(lambda kind: pa.list_(pa.field("element", kind))),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct([pa.field(f"f{i}", kind) for i, kind in enumerate(kinds)])
        ),
    ),
    max_leaves=6,
)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    inner: st.SearchStrategy[Any]
    if pa.types.is_struct(kind):
        inner = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    elif pa.types.is_list(kind):
        inner = st.lists(values(kind.value_type), max_size=3)
    else:
        inner = st.integers(0, 9) if pa.types.is_integer(kind) else st.text(max_size=2)
    return st.none() | inner


@settings(max_examples=examples(20), deadline=None)
@given(data=st.data(), mode=st.sampled_from(MODES))
def test_rows_of_any_nested_type_come_back(data: st.DataObject, mode: str) -> None:
    """Also from slices, which hold more than they show."""
    kind = data.draw(KINDS)
    schema = pa.schema([("n", pa.int64()), ("x", kind)])
    cells = data.draw(st.lists(values(kind), min_size=1, max_size=8))
    whole = pa.table([pa.array(range(len(cells))), pa.array(cells, kind)], schema=schema)
    start = data.draw(st.integers(0, len(cells) - 1))
    store = MemoryStore()
    create_table(store, schema, properties={"delta.columnMapping.mode": mode})
    TableLog.open(store).append(whole.slice(start))

    assert read_all(store).to_pylist() == whole.slice(start).to_pylist()


def test_every_field_has_an_id_and_a_name_of_its_own() -> None:
    text, highest = assigned(to_schema_string(SCHEMA))
    columns = Columns.of("id", from_schema_string(text), text)

    def flat(fields: Any) -> list[pa.Field]:
        found = []
        for field in fields:
            found.append(field)
            kind = field.type
            while pa.types.is_list(kind):
                kind = kind.value_type
            found += flat(kind) if pa.types.is_struct(kind) else []
        return found

    fields = flat(columns.physical)
    assert highest == len(fields) == 9
    assert len({field.name for field in fields}) == 9
    assert [int(field.metadata[b"PARQUET:field_id"]) for field in fields] == [*range(1, 10)]


def test_a_table_of_ours_stays_unmapped_by_default(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, partition_by=["p"])
    TableLog.open(uri).append(rows(1))

    assert snapshot(uri).state.columns.mode == "none"
    names = pq.read_schema(Path(uri, snapshot(uri).files[0].path)).names
    assert names == ["id", "inner", "many", "plain"]
