"""Parquet files are read lazily, with the values of their folders, and a wrong path is an error."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from neuralake.errors import NeedsAttention, UnknownName, UsageError
from neuralake.filters import Filter
from neuralake.frame import NlkDataFrame, scan_parquet

PARTITIONS = pa.schema([("device", pa.string()), ("day", pa.date32())])
DECLARED = pa.schema([("day", pa.date32()), ("v", pa.int64()), ("device", pa.string())])


def write(folder: Path, *values: int, name: str = "part-0.parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"v": values}, schema={"v": pl.Int64}).write_parquet(folder / name)
    return folder / name


@pytest.fixture(params=["hive", "hive in odd folders", "directory"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, bool]:
    """Two devices on two days; odd is a folder whose name looks like a partition and a glob."""
    hive = request.param != "directory"
    top = tmp_path / ("raw" if request.param == "hive" else "run=5/[raw] *")
    for device in ("d1", "d 2/ü"):
        for day in ("2024-03-01", "2024-03-02"):
            safe = device.replace("/", "%2F" if hive else "-")
            inside = f"device={safe}/day={day}" if hive else f"{safe}/{day}"
            write(top / inside, len(device), int(day[-1]))
    (top / "_SUCCESS").write_text("")
    write(top / "_temporary" / "0", 666)
    return str(top), hive


def test_folder_names_give_the_partition_columns(tree: tuple[str, bool]) -> None:
    uri, hive = tree

    rows = scan_parquet(uri, partition_schema=PARTITIONS, hive=hive).collect()

    assert rows.schema == pl.Schema({"v": pl.Int64, "device": pl.String, "day": pl.Date})
    assert rows.height == 8
    assert set(rows["device"]) == {"d1", "d 2/ü" if hive else "d 2-ü"}
    assert set(rows["day"]) == {date(2024, 3, 1), date(2024, 3, 2)}


def test_filters_decide_which_folders_are_opened(tree: tuple[str, bool]) -> None:
    uri, hive = tree
    for file in Path(uri).rglob("*02/*.parquet"):
        file.write_bytes(b"not Parquet, and never looked at")
    given = [Filter("device", "=", "d1"), Filter("day", "<", "2024-03-02"), Filter("v", ">", 1)]

    frame = scan_parquet(uri, DECLARED, given, partition_schema=PARTITIONS, hive=hive)
    later = scan_parquet(uri, DECLARED, partition_schema=PARTITIONS, hive=hive).filter(
        pl.col("day") == date(2024, 3, 1), pl.col("v") == 2
    )

    assert frame.collect().rows() == [(date(2024, 3, 1), 2, "d1")]
    assert later.select("device").collect().rows() == [("d1",)]
    assert type(frame) is NlkDataFrame


def test_filters_that_no_folder_passes_give_no_rows(tree: tuple[str, bool]) -> None:
    uri, hive = tree
    filters = [Filter("device", "=", "d9")]

    for schema in (None, DECLARED):
        rows = scan_parquet(uri, schema, filters, partition_schema=PARTITIONS, hive=hive).collect()
        assert rows.height == 0
        assert set(rows.columns) == {"v", "device", "day"}


def test_a_condition_over_partitions_and_values_together_is_right(tree: tuple[str, bool]) -> None:
    uri, hive = tree
    frame = scan_parquet(uri, DECLARED, partition_schema=PARTITIONS, hive=hive)
    condition = (pl.col("device") == "d1") | (pl.col("v") == 5)

    assert frame.filter(condition).collect().height == frame.collect().filter(condition).height > 4


def test_folders_that_are_not_declared_give_no_columns(tmp_path: Path) -> None:
    write(tmp_path / "t" / "device=d1" / "day=2024-03-01", 1)
    partitions = pa.schema([("device", pa.string())])

    rows = scan_parquet(str(tmp_path / "t"), partition_schema=partitions).collect()

    assert rows.rows() == [(1, "d1")]
    assert rows.columns == ["v", "device"]


def test_a_null_partition_is_null_in_hive_folders(tmp_path: Path) -> None:
    write(tmp_path / "t" / "device=__HIVE_DEFAULT_PARTITION__", 1)
    write(tmp_path / "t" / "device=d1", 2)
    partitions = pa.schema([("device", pa.string())])

    rows = scan_parquet(str(tmp_path / "t"), partition_schema=partitions).collect()

    assert sorted(rows.rows()) == [(1, None), (2, "d1")]


@pytest.mark.parametrize("uri", ["one.parquet", "deep", "deep/*/p*.parquet", "deep/**/*.parquet"])
def test_a_file_a_folder_and_a_glob_name_files(tmp_path: Path, uri: str) -> None:
    write(tmp_path, 1, name="one.parquet")
    write(tmp_path / "deep" / "er", 1)

    assert scan_parquet(str(tmp_path / uri)).collect()["v"].to_list() == [1]


@pytest.mark.parametrize("uri", ["nothing", "nothing.parquet", "nothing/*.parquet", "empty/*.p"])
@pytest.mark.parametrize("schema", [None, DECLARED], ids=["undeclared", "declared"])
def test_a_path_that_is_not_there_never_looks_empty(tmp_path: Path, uri: str, schema: Any) -> None:
    (tmp_path / "empty").mkdir()
    frame = scan_parquet(str(tmp_path / uri), schema, name="lab.raw")

    with pytest.raises(UnknownName, match=r"'lab.raw': there are no Parquet files at .*"):
        frame.collect()


def test_an_empty_folder_is_an_empty_table_if_its_columns_are_declared(tmp_path: Path) -> None:
    assert scan_parquet(str(tmp_path), DECLARED).collect().schema == pl.Schema(DECLARED)
    with pytest.raises(UnknownName, match="no Parquet files"):
        scan_parquet(str(tmp_path)).collect()


def test_every_collect_sees_new_files(tmp_path: Path) -> None:
    write(tmp_path, 1)
    frame = scan_parquet(str(tmp_path))
    before = frame.collect().height

    write(tmp_path, 2, name="part-1.parquet")

    assert (before, frame.collect().height) == (1, 2)


def test_a_file_that_drifted_is_an_error_that_names_the_column(tmp_path: Path) -> None:
    write(tmp_path, 1)
    pl.DataFrame({"v": ["text"]}).write_parquet(tmp_path / "part-1.parquet")
    declared = pa.schema([("v", pa.int64())])

    with pytest.raises(pl.exceptions.SchemaError, match="column v"):
        scan_parquet(str(tmp_path), declared).collect()


def test_a_folder_that_is_no_value_of_its_column_is_named(tmp_path: Path) -> None:
    write(tmp_path / "t" / "day=monday", 1)
    partitions = pa.schema([("day", pa.date32())])

    with pytest.raises(NeedsAttention, match=r"'monday' in .* is no date32") as caught:
        scan_parquet(str(tmp_path / "t"), partition_schema=partitions).collect()
    assert caught.value.column == "day"

    write(tmp_path / "u", 1)
    with pytest.raises(NeedsAttention, match="no folder for partition column 'day'"):
        scan_parquet(str(tmp_path / "u"), partition_schema=partitions, hive=False).collect()


def test_filters_on_columns_that_only_the_files_know_are_checked_then(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)

    assert scan_parquet(str(tmp_path), None, Filter("v", ">", 1)).collect()["v"].to_list() == [2]
    with pytest.raises(UnknownName, match="no column 'w'"):
        scan_parquet(str(tmp_path), None, Filter("w", ">", 1)).collect()
    with pytest.raises(UsageError, match="do not compare"):
        scan_parquet(str(tmp_path), None, Filter("v", ">", "a")).collect()
    with pytest.raises(UnknownName, match="no column 'w'"):
        scan_parquet("/nowhere", DECLARED, Filter("w", ">", 1))
