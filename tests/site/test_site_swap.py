"""A build swaps files one by one: a crash or a second build never leaves a half site."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from site_lake import make_catalog

from neuralake.clock import ManualClock
from neuralake.errors import NeedsAttention, UsageError
from neuralake.manifest import Database, Manifest, Table
from neuralake.site import build_site, write_site
from neuralake.site.files import RECORD, swap

Site = Any


class PowerCut(Exception):
    pass


class Interrupted(Mapping[str, bytes]):
    """Files that are there to be listed, of which only the first can be read."""

    def __init__(self, files: dict[str, bytes], readable: int) -> None:
        self.files, self.readable = files, readable

    def __getitem__(self, name: str) -> bytes:
        if list(self.files).index(name) >= self.readable:
            raise PowerCut(name)
        return self.files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def shown(folder: Path) -> dict[str, bytes]:
    """What a reader can reach: everything but our own dot files."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


OLD = {"a/one.html": b"one", "a/two.html": b"two", "index.html": b"old"}
NEW = {"a/one.html": b"ONE", "b/three.html": b"three", "index.html": b"new"}


def test_the_folder_ends_with_exactly_the_new_files(tmp_path: Path) -> None:
    swap(tmp_path, OLD)

    report = swap(tmp_path, NEW)

    assert shown(tmp_path) == NEW
    assert report.written == ("a/one.html", "b/three.html", "index.html")
    assert report.removed == ("a/two.html",)
    assert not list(tmp_path.rglob("*aside*"))


def test_files_that_did_not_change_are_left_alone(tmp_path: Path) -> None:
    swap(tmp_path, OLD)
    before = (tmp_path / "a" / "one.html").stat()

    report = swap(tmp_path, OLD)

    assert report.written == ()
    assert (tmp_path / "a" / "one.html").stat().st_ino == before.st_ino


def test_a_folder_that_becomes_empty_is_removed(tmp_path: Path) -> None:
    swap(tmp_path, {"x/y/z.html": b"", "index.html": b""})
    swap(tmp_path, {"index.html": b""})

    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("readable", range(4))
def test_after_a_crash_every_file_is_whole_and_the_next_build_completes(
    tmp_path: Path, readable: int
) -> None:
    """Whatever the moment: old or new, never half; and no page is left behind for ever."""
    swap(tmp_path, OLD)

    if readable < len(NEW):
        with pytest.raises(PowerCut):
            swap(tmp_path, Interrupted(NEW, readable))
    else:
        swap(tmp_path, NEW)
    for name, content in shown(tmp_path).items():
        assert content in (OLD.get(name), NEW.get(name))
    if readable < len(NEW):
        assert shown(tmp_path)["index.html"] == b"old", "the index comes last"

    swap(tmp_path, OLD)
    assert shown(tmp_path) == OLD


def test_a_file_of_somebody_else_is_never_replaced_or_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "index.html").write_text("mine")

    with pytest.raises(UsageError, match="not made by a site build") as caught:
        swap(tmp_path, NEW)

    assert caught.value.path == str(tmp_path / "index.html")
    assert shown(tmp_path) == {"notes.txt": b"mine", "index.html": b"mine"}
    (tmp_path / "index.html").unlink()
    swap(tmp_path, NEW)
    swap(tmp_path, {})
    assert shown(tmp_path) == {"notes.txt": b"mine"}


def test_a_record_that_names_a_file_outside_removes_nothing_there(tmp_path: Path) -> None:
    outside = tmp_path / "precious.txt"
    outside.write_text("mine")
    folder = tmp_path / "site"
    swap(folder, NEW)
    (folder / RECORD).write_text('{"format":1,"files":["../precious.txt","index.html"]}')

    with pytest.raises(UsageError):
        swap(folder, OLD)
    swap(folder, {"index.html": b"x"})

    assert outside.read_text() == "mine"


def test_a_damaged_record_stops_the_build(tmp_path: Path) -> None:
    swap(tmp_path, OLD)
    (tmp_path / RECORD).write_text("{")

    with pytest.raises(NeedsAttention, match="damaged"):
        swap(tmp_path, NEW)
    assert shown(tmp_path) == OLD


def test_builds_of_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    sites = [{f"{i}/page{k}.html": b"x" * 1000 for k in range(20)} for i in range(4)]
    threads = [threading.Thread(target=swap, args=(tmp_path, site)) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert shown(tmp_path) in sites


def test_a_killed_build_does_not_lock_the_folder(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from neuralake.site.files import swap\n"
        "class Files(dict):\n"
        "    def items(self): os.kill(os.getpid(), 9)\n"
        "swap(Path(sys.argv[1]), Files({'index.html': b'new'}))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    assert killed.returncode == -9
    swap(tmp_path, NEW)
    assert shown(tmp_path) == NEW


def test_the_page_of_a_dropped_table_goes_and_the_rest_stays(tmp_path: Path) -> None:
    def manifest(*names: str) -> Manifest:
        tables = tuple(Table(database="db", name=name, kind="delta") for name in names)
        return Manifest(databases=(Database(name="db", tables=tables),))

    write_site(manifest("kept", "dropped"), tmp_path)
    report = write_site(manifest("kept"), tmp_path)

    assert not (tmp_path / "tables" / "db" / "dropped.html").exists()
    assert (tmp_path / "tables" / "db" / "kept.html").exists()
    # The old search index goes with it: its name has a digest of its content.
    assert report.removed == 2
    assert len(list(tmp_path.glob("assets/catalog-*.js"))) == 1


def test_the_same_catalog_gives_the_same_site(lake: Path, tmp_path: Path) -> None:
    clock = ManualClock()
    first = build_site(make_catalog(lake), tmp_path / "a", clock=clock)
    second = build_site(make_catalog(lake), tmp_path / "b", clock=clock)
    third = build_site(make_catalog(lake), tmp_path / "a", clock=clock)

    assert shown(tmp_path / "a") == shown(tmp_path / "b")
    assert (first.written, second.written, third.written) == (first.files, first.files, 0)
