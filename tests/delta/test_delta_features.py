"""What each part of neuralake makes of each Delta feature: tried, and compared with the docs.

A part either does a thing right or refuses it by the feature's name; wrong rows fail here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta_tables import delete_rows, inline_vector, put_entry
from deltalake import DeltaTable

from neuralake.batch import BatchWriter
from neuralake.clock import ManualClock
from neuralake.delta import TableLog, checkpoint, compact_once, create_table, snapshot
from neuralake.delta.actions import (
    Action,
    Add,
    CommitInfo,
    DomainMetadata,
    MetaData,
    ProtocolAction,
)
from neuralake.delta.log import read_entry
from neuralake.delta.protocol import IMPLEMENTED, REFUSED_IN_USE
from neuralake.errors import QueryError, UnsupportedFeature, UsageError
from neuralake.filters import Filter
from neuralake.frame.delta import scan_delta
from neuralake.serve.guard import plan
from neuralake.serve.messages import Source
from neuralake.serve.session import Session
from neuralake.storage import LocalStore

DOCS = Path(__file__).parents[2] / "docs" / "protocol.md"
SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
NTZ = pa.schema([("id", pa.int64()), ("p", pa.string()), ("at", pa.timestamp("us"))])
READER_FEATURES = {"typeWidening", "vacuumProtocolCheck", "variantType"}


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids), "p": ["a"] * len(ids)}, SCHEMA)


def ours(schema: pa.Schema = SCHEMA, **properties: str) -> Callable[[str], None]:
    """A table as `create_table` makes it, with two files of two rows."""

    def make(uri: str) -> None:
        named = {f"delta.{name.replace('__', '.')}": value for name, value in properties.items()}
        create_table(uri, schema, properties=named)
        for ids in ((0, 1), (2, 3)):
            TableLog.open(uri).append(rows(*ids))

    return make


def vectored(uri: str) -> None:
    ours(enableDeletionVectors="true")(uri)
    delete_rows(uri, snapshot(uri).files[0], inline_vector([1]))


def checkpointed(uri: str) -> None:
    ours(checkpointPolicy="v2")(uri)
    checkpoint(uri)


def by_hand(
    *features: str,
    configuration: Mapping[str, str] | None = None,
    column: Mapping[str, Any] | None = None,
) -> Callable[[str], None]:
    """A table of another writer, which lists `features` and may use them in a column `x`."""

    def make(uri: str) -> None:
        fields = [
            {"name": "id", "type": "long", "nullable": True, "metadata": {}},
            {"name": "p", "type": "string", "nullable": True, "metadata": dict(column or {})},
        ]
        both = [name for name in features if name in READER_FEATURES]
        protocol = ProtocolAction(
            min_reader_version=3 if both else 1,
            min_writer_version=7,
            reader_features=both or None,
            writer_features=[*features],
        )
        metadata = MetaData(
            id="0d9c6c3c-6f0b-4b3e-8b7e-0e8b7f5d4c3a",
            schema_string=msgspec.json.encode({"type": "struct", "fields": fields}).decode(),
            partition_columns=[],
            configuration=dict(configuration or {}),
        )
        actions: list[Action] = [CommitInfo(operation="CREATE TABLE"), protocol, metadata]
        if "domainMetadata" in features:
            actions.append(DomainMetadata(domain="d", configuration="{}", removed=False))
        put_entry(uri, 0, actions)
        for version, ids in enumerate(((0, 1), (2, 3)), 1):
            put_entry(uri, version, [written(uri, *ids)])

    return make


def written(uri: str, *ids: int) -> Add:
    """A data file as any engine writes it."""
    path = Path(uri, f"part-{ids[0]}.parquet")
    pq.write_table(rows(*ids), path)
    return Add(
        path=path.name,
        partition_values={},
        size=path.stat().st_size,
        modification_time=1_700_000_000_000 + ids[0],
        data_change=True,
        stats=f'{{"numRecords":{len(ids)}}}',
    )


TABLES: dict[str, Callable[[str], None]] = {
    "versions 1 and 2, no feature": ours(),
    "appendOnly": ours(appendOnly="true"),
    "timestampNtz": ours(NTZ),
    "columnMapping, name": ours(columnMapping__mode="name"),
    "columnMapping, id": ours(columnMapping__mode="id"),
    "deletionVectors": vectored,
    "v2Checkpoint": checkpointed,
    "inCommitTimestamp": ours(enableInCommitTimestamps="true"),
    "changeDataFeed": ours(enableChangeDataFeed="true"),
    "domainMetadata": by_hand("domainMetadata"),
    "vacuumProtocolCheck": by_hand("vacuumProtocolCheck"),
    "constraints and the like, listed only": by_hand(*sorted(REFUSED_IN_USE)),
    "checkConstraints": by_hand(
        "checkConstraints", configuration={"delta.constraints.c": "id > 0"}
    ),
    "invariants": by_hand("invariants", column={"delta.invariants": '{"expression": {}}'}),
    "generatedColumns": by_hand("generatedColumns", column={"delta.generationExpression": "id"}),
    "identityColumns": by_hand("identityColumns", column={"delta.identity.start": 1}),
    "allowColumnDefaults": by_hand("allowColumnDefaults", column={"CURRENT_DEFAULT": "'a'"}),
    "rowTracking": by_hand("rowTracking", "domainMetadata"),
    "clustering": by_hand("clustering", "domainMetadata"),
    "typeWidening": by_hand("typeWidening"),
    "variantType": by_hand("variantType"),
    "icebergCompatV2": by_hand("icebergCompatV2"),
}


def attempt(step: Callable[[], object]) -> bool:
    """Whether it was done; False if it was refused by name."""
    try:
        step()
    except UsageError as error:
        if "features" not in error.facts and "property" not in error.facts:
            raise
        return False
    return True


def by_frame(uri: str) -> list[int]:
    return sorted(scan_delta(uri, SCHEMA).collect()["id"].to_list())


def by_sql(uri: str) -> list[int]:
    session = Session(
        {"lab": {"t": Source(kind="delta", uri=uri)}},
        function_rows=lambda *_: pa.table({}),
        memory_bytes_max=2**29,
        spill_folder=Path(uri).parent,
    )
    try:
        frame = session.plan(lambda context: plan(context, "SELECT id FROM t WHERE id >= 0"))
    except QueryError:
        raise (session.failure or AssertionError("no reason")) from None
    return sorted(row for batch in frame.collect() for row in batch.column(0).to_pylist())


def tried(uri: str, name: str) -> list[str]:
    """What each part does with such a table, in the words of the docs."""
    TABLES[name](uri)
    held = [0, 2, 3] if name == "deletionVectors" else [0, 1, 2, 3]

    def reads(read: Callable[[str], list[int]]) -> str:
        found: list[int] = []
        if not attempt(lambda: found.extend(read(uri))):
            return "refused"
        assert found == held
        return "yes"

    def appends() -> None:
        TableLog.open(uri).append(rows(9))
        held.append(9)

    def deletes() -> None:
        BatchWriter(uri).delete(Filter("id", "=", 9))
        held.remove(9)

    frames, sql = reads(by_frame), reads(by_sql)
    append = attempt(appends)
    added = attempt(lambda: BatchWriter(uri).append(rows(10)))
    held += [10] * added
    compacted = attempt(lambda: compact_once(uri, target_bytes=2**20, files_min=2))
    assert reads(by_sql) == sql, "also after we wrote"
    assert reads(by_frame) == frames
    batch = "refused" if not added else "yes" if attempt(deletes) else "appends"
    assert reads(by_sql) == sql
    said = {True: "yes", False: "refused"}
    return [said[append], said[compacted], batch, frames, sql]


def documented() -> dict[str, list[str]]:
    text = DOCS.read_text(encoding="utf-8")
    lines = text.split("test_delta_features.py -->\n")[1].split("\n<!-- end")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {name: found for name, *found in cells}


def test_the_docs_have_each_table_and_no_other() -> None:
    assert [*documented()] == [*TABLES]


@pytest.mark.parametrize("name", TABLES)
def test_each_part_does_with_a_feature_what_the_docs_say(tmp_path: Path, name: str) -> None:
    assert tried(str(tmp_path / "table"), name) == documented()[name]


@pytest.mark.parametrize("name", [name for name in TABLES if " " not in name])
def test_a_feature_is_refused_by_its_own_name(tmp_path: Path, name: str) -> None:
    uri = str(tmp_path / "table")
    TABLES[name](uri)
    refused = documented()[name][0] == "refused"

    assert refused == (name not in IMPLEMENTED)
    if refused:
        with pytest.raises(UnsupportedFeature) as caught:
            TableLog.open(uri)
        assert caught.value.features == [name]
        assert "deltalake" in str(caught.value)


@pytest.mark.parametrize("name", [n for n, said in documented().items() if said[0] == "refused"])
def test_what_is_refused_has_stored_nothing(tmp_path: Path, name: str) -> None:
    uri = str(tmp_path / "table")
    TABLES[name](uri)
    before = sorted(Path(uri).rglob("*"))
    for step in (
        lambda: TableLog.open(uri).append(rows(9)),
        lambda: BatchWriter(uri).append(rows(9)),
        lambda: BatchWriter(uri).overwrite(rows(9)),
        lambda: BatchWriter(uri).delete(Filter("id", "=", 1)),
        lambda: BatchWriter(uri).merge(rows(1, 9), on=["id"]),
        lambda: compact_once(uri, target_bytes=2**20, files_min=2),
    ):
        assert not attempt(step)
    assert sorted(Path(uri).rglob("*")) == before


@pytest.mark.parametrize(("reader", "writer"), [(1, 8), (4, 7)])
def test_versions_beyond_ours_are_refused(tmp_path: Path, reader: int, writer: int) -> None:
    uri = str(tmp_path)
    create_table(uri, SCHEMA)
    put_entry(uri, 1, [ProtocolAction(min_reader_version=reader, min_writer_version=writer)])

    with pytest.raises(UnsupportedFeature, match="version"):
        TableLog.open(uri)


def test_a_new_table_lists_what_its_properties_use_and_nothing_else(tmp_path: Path) -> None:
    """Section "Table Features": at writer version 7 also what lower versions imply."""
    create_table(str(tmp_path / "a"), SCHEMA, properties={"delta.appendOnly": "true"})
    create_table(str(tmp_path / "b"), NTZ, properties={"delta.appendOnly": "true"})
    create_table(str(tmp_path / "c"), SCHEMA, properties={"delta.enableChangeDataFeed": "true"})
    required = pa.schema([("s", pa.struct([pa.field("x", pa.int8(), nullable=False)]))])
    create_table(str(tmp_path / "d"), pa.schema([*NTZ, *required]))
    create_table(str(tmp_path / "e"), required)
    one, two, three, four, five = (
        snapshot(str(tmp_path / name)).state.protocol for name in "abcde"
    )

    assert (one.min_reader_version, one.min_writer_version) == (1, 2)
    assert two.reader_features == ["timestampNtz"]
    assert two.writer_features == ["timestampNtz", "appendOnly"]
    assert (three.min_reader_version, three.reader_features) == (1, None)
    assert three.writer_features == ["changeDataFeed"]
    assert four.writer_features == ["timestampNtz", "invariants"], "or Spark refuses it"
    assert (five.min_reader_version, five.min_writer_version) == (1, 2)
    for name in "abcde":
        assert DeltaTable(tmp_path / name).version() == 0, "delta-rs opens it, too"


def timestamps(uri: str) -> list[int | None]:
    found = []
    for version in range(snapshot(uri).version + 1):
        entry = read_entry(LocalStore(uri), version)
        assert entry is not None
        info = entry.lines[0].commit_info
        assert info is not None, "the first action of an entry"
        found.append(info.in_commit_timestamp)
    return found


def test_in_commit_timestamps_grow_strictly_also_when_the_clock_goes_back(tmp_path: Path) -> None:
    uri, clock = str(tmp_path), ManualClock()
    properties = {"delta.enableInCommitTimestamps": "true"}
    create_table(uri, SCHEMA, properties=properties, clock=clock)
    log = TableLog.open(uri, clock=clock)
    log.append(rows(1))
    clock.advance(-100)
    log.append(rows(2))
    other = TableLog.open(uri, clock=clock)  # Knows the last one from the log.
    put_entry(uri, 3, [CommitInfo(in_commit_timestamp=1_800_000_000_000, operation="OTHER")])
    other.append(rows(3))
    TableLog.open(uri, clock=clock).append(rows(4))

    found = [time or 0 for time in timestamps(uri)]
    assert found == sorted({*found})
    assert found[4] == 1_800_000_000_001
    assert found[0] == 1_700_000_000_000


def test_a_table_without_in_commit_timestamps_has_none(tmp_path: Path) -> None:
    uri = str(tmp_path)
    ours()(uri)

    assert timestamps(uri) == [None, None, None]


def test_in_commit_timestamps_begin_when_another_engine_turns_them_on(tmp_path: Path) -> None:
    uri, clock = str(tmp_path), ManualClock()
    create_table(uri, SCHEMA, clock=clock)
    log = TableLog.open(uri, clock=clock)
    log.append(rows(1))
    turned_on = {
        "delta.enableInCommitTimestamps": "true",
        "delta.inCommitTimestampEnablementVersion": "2",
        "delta.inCommitTimestampEnablementTimestamp": "1900000000000",
    }
    put_entry(
        uri,
        2,
        [
            CommitInfo(in_commit_timestamp=1_900_000_000_000, operation="SET TBLPROPERTIES"),
            ProtocolAction(
                min_reader_version=1,
                min_writer_version=7,
                writer_features=["inCommitTimestamp"],
            ),
            msgspec.structs.replace(log.state.metadata, configuration=turned_on),
        ],
    )
    log.append(rows(2))

    assert timestamps(uri) == [None, None, 1_900_000_000_000, 1_900_000_000_001]
    assert sorted(pl.scan_delta(uri).collect()["id"].to_list()) == [1, 2]


def test_domains_of_others_are_kept_by_appends_compaction_and_checkpoints(tmp_path: Path) -> None:
    uri = str(tmp_path)
    by_hand("domainMetadata")(uri)
    compact_once(uri, target_bytes=2**20, files_min=2)
    checkpoint(uri)
    TableLog.open(uri).append(rows(5))

    assert [*snapshot(uri).domains] == ["d"]
