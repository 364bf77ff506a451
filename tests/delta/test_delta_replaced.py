"""A table that is deleted, replaced or restored under an open handle takes no commit from it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from neuralake.delta import TableLog, Txn, create_table, exists
from neuralake.delta.log import entry_name
from neuralake.errors import CommitConflict, NeedsAttention, Unavailable
from neuralake.storage import LocalStore

SCHEMA = pa.schema([("id", pa.int64())])
OTHER = pa.schema([("id", pa.int64()), ("note", pa.string())])


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids)}, SCHEMA)


def ids(uri: str) -> list[int]:
    return sorted(pl.scan_delta(uri).collect()["id"].to_list())


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA)
    return uri


def opened(uri: str, *, commits: int) -> TableLog:
    log = TableLog.open(uri)
    for i in range(commits):
        log.append(rows(i), txn=Txn("w", i + 1))
    return log


@pytest.mark.parametrize("gone", ["", "_delta_log"])
def test_a_deleted_table_is_not_brought_back_by_a_commit(uri: str, gone: str) -> None:
    log = opened(uri, commits=2)
    shutil.rmtree(Path(uri) / gone)

    with pytest.raises(NeedsAttention, match="deleted or replaced"):
        log.append(rows(9), txn=Txn("w", 3))

    assert not exists(uri)


def test_an_entry_is_never_the_first_of_a_new_log_folder(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        LocalStore(tmp_path).put_if_absent(entry_name(5), b"x")

    assert not (tmp_path / "_delta_log").exists()


def test_a_table_made_anew_with_fewer_entries_gets_no_entry_beyond_a_gap(uri: str) -> None:
    log = opened(uri, commits=3)
    shutil.rmtree(uri)
    create_table(uri, OTHER)

    with pytest.raises(CommitConflict, match="replaced"):
        log.append(rows(9), txn=Txn("w", 4))

    assert ids(uri) == []


def test_a_table_made_anew_with_more_entries_is_read_from_its_beginning(uri: str) -> None:
    log = opened(uri, commits=2)
    shutil.rmtree(uri)
    create_table(uri, OTHER)
    newer = TableLog.open(uri)
    for i in range(5):
        newer.append(pa.table({"id": [100 + i], "note": ["x"]}, OTHER))

    with pytest.raises(CommitConflict, match="replaced"):
        log.append(rows(9), txn=Txn("w", 3, after=2))

    assert log.refresh() == 5
    assert log.schema == OTHER
    assert log.committed("w") is None
    assert ids(uri) == [100, 101, 102, 103, 104]


def test_a_table_restored_from_a_copy_says_what_it_holds(uri: str, tmp_path: Path) -> None:
    log = opened(uri, commits=2)
    shutil.copytree(uri, tmp_path / "copy")
    log.append(rows(2), txn=Txn("w", 3))
    shutil.rmtree(uri)
    shutil.copytree(tmp_path / "copy", uri)

    with pytest.raises(CommitConflict):
        log.append(rows(3), txn=Txn("w", 4, after=3))

    assert log.refresh() == 2
    assert log.committed("w") == 2


class LateErrorStore(LocalStore):
    """Fails in `step`, once the entry has its name."""

    step = ""

    def _link(self, aside: str, path: str) -> None:
        super()._link(aside, path)
        if self.step == "link":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _unlink(self, path: str) -> None:
        if self.step == "unlink" and path.endswith(".tmp"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        super()._unlink(path)


@pytest.mark.parametrize("step", ["link", "unlink"])
def test_an_entry_that_is_there_keeps_its_files_whatever_failed_after(uri: str, step: str) -> None:
    store = LateErrorStore(uri)
    log = TableLog.open(store)
    store.step = step

    log.append(rows(1, 2), txn=Txn("w", 1))

    assert ids(uri) == [1, 2]
