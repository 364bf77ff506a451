"""The one atomic step of a commit, and what failures of the disk become."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from neuralake.errors import NeedsAttention, Unavailable, UnsupportedFeature, UsageError
from neuralake.storage import AlreadyThere, Bytes, LocalStore, local_path, open_store

NAME = "_delta_log/00000000000000000000.json"


def test_of_many_puts_for_one_name_exactly_one_succeeds(tmp_path: Path) -> None:
    racers, rounds = 8, 50
    barrier = threading.Barrier(racers)
    won: list[tuple[int, bytes]] = []

    def race(me: int) -> None:
        store = LocalStore(tmp_path)
        for number in range(rounds):
            barrier.wait()
            try:
                store.put_if_absent(f"log/{number}", b"%d" % me * 1000)
            except AlreadyThere:
                continue
            won.append((number, b"%d" % me * 1000))

    threads = [threading.Thread(target=race, args=(me,)) for me in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(number for number, _ in won) == list(range(rounds))
    assert all(LocalStore(tmp_path).read(f"log/{number}") == data for number, data in won)
    assert LocalStore(tmp_path).names("log") == sorted(str(number) for number in range(rounds))


def test_a_second_put_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent(NAME, b"first")
    with pytest.raises(AlreadyThere):
        store.put_if_absent(NAME, b"second")

    assert store.read(NAME) == b"first"
    assert [path.name for path in (tmp_path / "_delta_log").iterdir()] == [Path(NAME).name]


def test_what_is_not_there_reads_as_none_and_lists_as_empty(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    assert store.read("nothing") is None
    assert store.names("nothing") == []
    store.remove(["nothing"])


class FailingStore(LocalStore):
    """One step fails with an error of the operating system."""

    def __init__(self, folder: Path, step: str, code: int) -> None:
        super().__init__(folder)
        # Of the steps only a link names two files.
        names = ("aside", None, "path") if step == "link" else ("aside",)
        self._failing, self._error = step, OSError(code, os.strerror(code), *names)

    def _write_new(self, path: str, data: Bytes) -> None:
        if self._failing == "write":
            raise self._error
        super()._write_new(path, data)

    def _link(self, aside: str, path: str) -> None:
        if self._failing == "link":
            raise self._error
        super()._link(aside, path)

    def _sync_folder(self, path: str) -> None:
        if self._failing == "sync":
            raise self._error
        super()._sync_folder(path)


@pytest.mark.parametrize("step", ["write", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_disk_that_is_full_or_read_only_is_unavailable_and_nothing_is_stored(
    tmp_path: Path, step: str, code: int
) -> None:
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(Unavailable) as caught:
        FailingStore(tmp_path, step, code).put_if_absent(NAME, b"x")

    assert caught.value.code == errno.errorcode[code]
    assert [path.name for path in (tmp_path / "_delta_log").iterdir()] == []


def test_data_files_are_all_stored_or_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        # A folder cannot be made below a file.
        LocalStore(tmp_path).put({"p=1/a": b"1", "p=2/a": b"2", "file/a": b"3"})

    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_a_file_system_without_hard_links_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(UnsupportedFeature, match="no hard links") as caught:
        FailingStore(tmp_path, "link", errno.EPERM).put_if_absent(NAME, b"x")
    assert caught.value.features == ["hard links"]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_atomic_create_is_refused_by_name(tmp_path: Path, code: int) -> None:
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(UnsupportedFeature, match="no atomic create") as caught:
        FailingStore(tmp_path, "write", code).put_if_absent(NAME, b"x")
    assert caught.value.features == ["atomic create"]


def test_a_put_that_fails_takes_no_file_that_was_there_before(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put({"old": b"before", "file": b""})
    with pytest.raises(Unavailable):
        store.put({"old": b"after", "new": b"1", "file/below": b"2"})

    assert store.read("old") in (b"before", b"after")
    assert sorted(file.name for file in store.files()) == ["file", "old"]


def test_an_entry_whose_folder_cannot_be_synced_needs_a_person(tmp_path: Path) -> None:
    """It is visible, so it cannot be taken back, but it may not survive power loss."""
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(NeedsAttention, match="could not be synced"):
        FailingStore(tmp_path, "sync", errno.EIO).put_if_absent(NAME, b"x")
    assert LocalStore(tmp_path).read(NAME) == b"x"


def test_a_table_is_a_path_or_a_file_url() -> None:
    assert local_path("/lake/t") == local_path("file:///lake/t") == Path("/lake/t")
    assert open_store("relative").uri == str(Path.cwd() / "relative")
    for uri in ["s3://bucket", "file://host/t", "az://x"]:
        with pytest.raises(UsageError, match=r"local folders|names the host"):
            open_store(uri)
