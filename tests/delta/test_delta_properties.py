"""Table properties: decoded as Delta's engines write them, refused by name, and honoured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from neuralake.delta import TableLog, create_table, exists, snapshot
from neuralake.delta.properties import Properties
from neuralake.errors import UsageError

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("delta.appendOnly", "TRUE", "append_only", True),
        ("delta.logRetentionDuration", "interval 30 days", "log_retention_s", 30 * DAY_S),
        ("delta.logRetentionDuration", "interval 1 week", "log_retention_s", 7 * DAY_S),
        ("delta.logRetentionDuration", "INTERVAL 1 Day 2 HOURS", "log_retention_s", 93_600.0),
        ("delta.deletedFileRetentionDuration", "90 minutes", "deleted_file_retention_s", 5_400.0),
        ("delta.deletedFileRetentionDuration", "interval 0 seconds",
         "deleted_file_retention_s", 0.0),
        ("delta.enableExpiredLogCleanup", "false", "expired_log_cleanup", False),
        ("delta.checkpointInterval", "100", "checkpoint_commits", 100),
        ("delta.checkpointPolicy", "v2", "checkpoint_policy", "v2"),
        ("delta.targetFileSize", "134217728", "target_bytes", 2**27),
        ("delta.targetFileSize", "128mb", "target_bytes", 2**27),
        ("delta.targetFileSize", "1 GiB", "target_bytes", 2**30),
        ("delta.dataSkippingNumIndexedCols", "-1", "indexed_columns_max", -1),
        ("delta.dataSkippingStatsColumns", "a, b.c , `d,e`.`f``g`", "stats_columns",
         (("a",), ("b", "c"), ("d,e", "f`g"))),
        ("delta.columnMapping.mode", "name", "column_mapping", "name"),
        ("delta.enableInCommitTimestamps", "true", "in_commit_timestamps", True),
        ("delta.enableChangeDataFeed", "true", "change_data_feed", True),
        ("delta.isolationLevel", "Serializable", "serializable", True),
        ("delta.isolationLevel", "WriteSerializable", "serializable", False),
        ("DELTA.APPENDONLY", "true", "append_only", True),
        ("neuralake.coordination", "dynamodb", "coordination", "dynamodb"),
    ],
)  # fmt: skip
def test_a_property_is_decoded(name: str, text: str, field: str, value: Any) -> None:
    assert getattr(Properties.of({name: text}), field) == value


def test_what_is_not_set_has_deltas_defaults() -> None:
    found = Properties.of({"delta.unknown": "x", "mine": "", "delta.appendOnly": ""})

    assert found == Properties()
    assert (found.log_retention_s, found.deleted_file_retention_s) == (30 * DAY_S, 7 * DAY_S)
    assert (found.indexed_columns_max, found.append_only) == (32, False)


@pytest.mark.parametrize(
    ("name", "text", "helps"),
    [
        ("delta.appendOnly", "yes", "'true' or 'false'"),
        ("delta.logRetentionDuration", "P7D", "ISO 8601"),
        ("delta.logRetentionDuration", "PT1H", "ISO 8601"),
        ("delta.logRetentionDuration", "7", "interval 7 days"),
        ("delta.logRetentionDuration", "interval", "interval 7 days"),
        ("delta.logRetentionDuration", "interval 1 month", "no fixed length"),
        ("delta.logRetentionDuration", "interval -1 day", "interval 7 days"),
        ("delta.logRetentionDuration", "interval 1 day or so", "interval 7 days"),
        ("delta.checkpointInterval", "0", "from 1"),
        ("delta.checkpointInterval", "ten", "from 1"),
        ("delta.targetFileSize", "big", "number of bytes"),
        ("delta.targetFileSize", "0", "number of bytes"),
        ("delta.dataSkippingNumIndexedCols", "-2", "-1 for all"),
        ("delta.dataSkippingStatsColumns", "a,,b", "commas between"),
        ("delta.columnMapping.mode", "yes", "'none', 'id', 'name'"),
        ("delta.isolationLevel", "strict", "WriteSerializable"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, text: str, helps: str
) -> None:
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(UsageError, match=name) as caught:
        create_table(str(tmp_path / "t"), schema, properties={name: text})

    assert (caught.value.property, caught.value.value) == (name, text)
    assert helps in str(caught.value)
    assert not exists(str(tmp_path / "t"))


@given(
    spans=st.lists(
        st.tuples(
            st.integers(0, 999), st.sampled_from(["week", "day", "hour", "minute", "second"])
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_interval_is_the_sum_of_its_spans(spans: list[tuple[int, str]]) -> None:
    text = "interval " + " ".join(f"{count} {unit}s" for count, unit in spans)
    units = {"week": 7 * DAY_S, "day": DAY_S, "hour": 3600, "minute": 60, "second": 1}

    found = Properties.of({"delta.logRetentionDuration": text})
    assert found.log_retention_s == sum(count * units[unit] for count, unit in spans)


@given(text=st.text(max_size=30))
def test_any_text_is_decoded_or_refused_by_name(text: str) -> None:
    for name in ("delta.dataSkippingStatsColumns", "delta.logRetentionDuration"):
        try:
            Properties.of({name: text})
        except UsageError as error:
            assert error.property == name  # noqa: PT017 either outcome is right


WIDE = pa.schema(
    [
        ("a", pa.int32()),
        ("s", pa.struct([("x", pa.int32()), ("y", pa.struct([("z", pa.string())]))])),
        ("many", pa.list_(pa.field("element", pa.int32()))),
        ("b", pa.int32()),
    ]
)


@pytest.mark.parametrize("mapping", ["none", "name"])
@pytest.mark.parametrize(
    ("properties", "counted", "bounded"),
    [
        ({"delta.dataSkippingNumIndexedCols": "0"}, set(), set()),
        ({"delta.dataSkippingNumIndexedCols": "1"}, {"a", "many"}, {"a"}),
        ({"delta.dataSkippingNumIndexedCols": "2"}, {"a", "s", "many"}, {"a", "s"}),
        ({"delta.dataSkippingNumIndexedCols": "-1"}, {"a", "s", "many", "b"}, {"a", "s", "b"}),
        ({"delta.dataSkippingStatsColumns": "b,s.y"}, {"b", "s"}, {"b", "s"}),
        ({"delta.dataSkippingStatsColumns": "B"}, {"b"}, {"b"}),
        (
            {"delta.dataSkippingStatsColumns": "a", "delta.dataSkippingNumIndexedCols": "-1"},
            {"a"},
            {"a"},
        ),
    ],
)
def test_statistics_are_of_the_columns_that_the_table_asks_for(
    tmp_path: Path, properties: dict[str, str], counted: set[str], bounded: set[str], mapping: str
) -> None:
    uri = str(tmp_path)
    create_table(uri, WIDE, properties={**properties, "delta.columnMapping.mode": mapping})
    row = {"a": 1, "s": {"x": 2, "y": {"z": "t"}}, "many": [1], "b": 4}
    TableLog.open(uri).append(pa.Table.from_pylist([row], WIDE))
    found = snapshot(uri)
    columns = found.state.columns
    names = dict(zip(columns.physical.names, columns.logical.names, strict=True))
    stats = msgspec.json.decode(found.files[0].stats or "")

    assert {names[name] for name in stats["nullCount"]} == counted
    assert {names[name] for name in stats["minValues"]} == bounded
    assert {names[name] for name in stats["maxValues"]} == bounded
    assert stats["numRecords"] == 1


def test_properties_of_a_table_follow_a_change_by_another_engine(tmp_path: Path) -> None:
    uri = str(tmp_path)
    create_table(uri, pa.schema([("a", pa.int64())]))
    log = TableLog.open(uri)
    DeltaTable(uri).alter.set_table_properties({"delta.dataSkippingNumIndexedCols": "0"})
    log.append(pa.table({"a": [1]}))

    assert log.state.properties.indexed_columns_max == 0
    stats = msgspec.json.decode(snapshot(uri).files[0].stats or "")
    assert (stats["numRecords"], stats["minValues"]) == (1, {})
