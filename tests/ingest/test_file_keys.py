"""A file that is sent again, mended, grown or renamed stores each of its rows once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_lake import SPIKES, lake, stored

from neuralake.clock import SystemClock
from neuralake.errors import InvalidRows, SchemaMismatch, Unavailable, UsageError
from neuralake.ingest.file_parts import Known, RowSource, cut
from neuralake.ingest.files import FileReport, send_file
from neuralake.ingest.progress_file import ProgressFile, remove_old
from neuralake.ingest.server import start_server


@dataclass
class Lab:
    """A running server, and what it has stored."""

    folder: Path
    url: str
    channels: Callable[[], list[int]]

    def send(self, path: Path, **options: Any) -> FileReport:
        arguments: dict[str, Any] = {
            "url": self.url,
            "database": "lab",
            "table": "spikes",
            "schema": SPIKES,
            "state_folder": self.folder / "state",
            "batch_rows": 100,
            "checked_bytes_max": 0,
        }
        return send_file(path, **{**arguments, **options})

    def csv(self, channels: Any, name: str = "a.csv", session: str = "s") -> Path:
        path = self.folder / name
        rows = "".join(f"{session},{channel}\n" for channel in channels)
        path.write_text(f"session,channel\n{rows}")
        return path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    catalog = lake(tmp_path)

    def channels() -> list[int]:
        return [row["channel"] for row in stored(catalog.queue(), "lab.spikes")]

    with start_server(catalog) as server:
        yield Lab(tmp_path, server.url, channels)
    catalog.queue().close()


# Some 210 rows are read at a time.
LONG = "s" * 20_000


def test_a_mended_file_repeats_nothing_of_what_was_stored(lab: Lab) -> None:
    with pytest.raises(InvalidRows) as caught:
        lab.send(lab.csv([*range(250), "x", *range(251, 400)], session=LONG))
    error = caught.value
    assert (error.row, error.line, error.rows_stored) == (250, 252, 200)
    assert "line 252 of a.csv" in error.message
    assert "200 rows before it are stored" in error.message

    report = lab.send(lab.csv(range(400), session=LONG))

    assert (report.rows, report.rows_skipped) == (400, 200)
    assert lab.channels() == list(range(400))


def test_a_mended_file_is_known_without_the_progress_file_too(lab: Lab) -> None:
    """From another machine, or with the bad row cut out: the keys tell."""
    with pytest.raises(InvalidRows):
        lab.send(lab.csv([*range(250), "x", *range(251, 400)], session=LONG))

    kept = [*range(250), *range(251, 400)]
    report = lab.send(lab.csv(kept, "mended.csv", LONG), state_folder=lab.folder / "other")

    assert (report.rows, report.rows_skipped, report.rows_repeated) == (399, 0, 200)
    assert lab.channels() == kept


def test_of_a_small_file_that_does_not_fit_nothing_is_stored(lab: Lab) -> None:
    with pytest.raises(InvalidRows, match="Nothing was sent") as caught:
        lab.send(lab.csv([*range(250), "x"]), checked_bytes_max=2**20)

    assert caught.value.rows_stored == 0
    assert lab.channels() == []


def test_of_a_file_that_grows_only_the_new_rows_are_sent(lab: Lab) -> None:
    """Its old end was in the middle of a batch; it may be renamed as well."""
    sizes = [1, 130, 131, 400, 400]
    skipped = [
        lab.send(lab.csv(range(size), f"{index}.csv")).rows_skipped
        for index, size in enumerate(sizes)
    ]

    assert skipped == [0, *sizes[:-1]]
    assert lab.channels() == list(range(400))


def test_equal_batches_of_one_file_are_all_stored(lab: Lab) -> None:
    report = lab.send(lab.csv([7] * 300))

    assert (report.rows, report.rows_repeated) == (300, 0)
    assert lab.channels() == [7] * 300


def test_files_that_are_alike_further_on_are_different_files(lab: Lab) -> None:
    """Rows of a second file are not taken for those of the first, if it began otherwise."""
    lab.send(lab.csv([1, *[0] * 399], "monday.csv"))

    report = lab.send(lab.csv([2, *[0] * 399], "tuesday.csv"))

    assert (report.rows_skipped, report.rows_repeated) == (0, 0)
    assert len(lab.channels()) == 800


def test_files_that_begin_with_the_same_row_do_not_confuse_each_other(lab: Lab) -> None:
    one, two = lab.csv([0, *range(30)], "one.csv"), lab.csv([0, *range(100, 350)], "two.csv")

    for path in (one, two, one, two):
        lab.send(path)

    assert lab.channels() == [0, *range(30), 0, *range(100, 350)]


def test_the_same_rows_are_the_same_in_every_format(lab: Lab) -> None:
    lab.send(lab.csv(range(250)))
    rows = [{"session": "s", "channel": channel} for channel in range(250)]
    ndjson, parquet = lab.folder / "a.ndjson", lab.folder / "a.parquet"
    ndjson.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), parquet, row_group_size=33)

    for path in (ndjson, parquet):
        assert lab.send(path, state_folder=lab.folder / path.suffix).rows_repeated == 250


def test_again_stores_the_rows_once_more(lab: Lab) -> None:
    path = lab.csv(range(250))
    lab.send(path)

    report = lab.send(path, again=True)

    assert (report.rows_skipped, report.rows_repeated) == (0, 0)
    assert lab.send(path).rows_skipped == 250
    assert lab.channels() == [*range(250), *range(250)]


def test_a_second_copy_that_was_interrupted_goes_on(lab: Lab) -> None:
    path, stop = lab.csv(range(250)), threading.Event()
    lab.send(path)
    with pytest.raises(Unavailable, match="without --again") as caught:
        lab.send(path, again=True, stop=stop, on_progress=lambda _: stop.set())
    assert caught.value.rows_stored == 100

    lab.send(path)

    assert lab.channels() == [*range(250), *range(250)]


def test_a_server_with_an_older_definition_is_named_as_the_cause(lab: Lab) -> None:
    schema = pa.schema([*SPIKES, ("extra", pa.int8())])

    with pytest.raises(UsageError, match="Restart it if the definition has changed") as caught:
        lab.send(lab.csv(range(250)), schema=schema)

    assert caught.value.rows_stored == 0


@pytest.mark.parametrize(
    ("name", "text", "row", "line"),
    [
        ("a.csv", 'session,channel\n"a\nb",1\n\nc,x\n', 1, 5),
        ("a.csv", "session,channel\na,1\nb\n", 1, 3),
        ("a.tsv", "channel\tsession\r\n1\ta\r\nx\tb\r\n", 1, 3),
        ("a.ndjson", '{"session": "a"}\n\n{"session": 1}\n', 1, 3),
        ("a.ndjson", '{"session":\n"a"}\n{"session": 1}\n', 1, None),
        ("a.ndjson", '{"session": "a"}\nnonsense\n', 1, 2),
    ],
)
def test_the_line_of_a_row_is_that_of_an_editor(
    lab: Lab, name: str, text: str, row: int, line: int | None
) -> None:
    path = lab.folder / name
    path.write_bytes(text.encode())

    with pytest.raises(UsageError, match="Mend the file") as caught:
        lab.send(path)

    assert (caught.value.row, caught.value.line) == (row, line)


def test_a_header_that_does_not_fit_has_no_row(lab: Lab) -> None:
    path = lab.folder / "a.csv"
    path.write_text("session,chanel\na,1\n")

    with pytest.raises(SchemaMismatch, match="Nothing was sent"):
        lab.send(path)


def test_a_file_without_rows_is_done_at_once(lab: Lab) -> None:
    assert lab.send(lab.csv([])) == FileReport(0, 0, 0)


def tables_of(values: list[int | None], sizes: list[int]) -> Iterator[tuple[pa.Table, int]]:
    """Rows with a bit column, nulls and text, in blocks of `sizes`."""
    rows = [
        {"n": value, "odd": None if value is None else value % 2 == 1, "text": str(value)}
        for value in values
    ]
    whole, at = pa.Table.from_pylist(rows, schema=ROWS), 0
    for size in [*sizes, len(values)]:
        yield whole.slice(at, size), at
        at += size


ROWS = pa.schema([("n", pa.int8()), ("odd", pa.bool_()), ("text", pa.string())])
VALUES = st.lists(st.none() | st.integers(0, 9), max_size=40)
SIZES = st.lists(st.integers(0, 20), max_size=5)


def parts_of(values: list[int | None], sizes: list[int], known: list[Known]) -> list[Known]:
    source = RowSource(tables_of(values, sizes), ROWS)
    parts = list(cut(source, topic="t", salt="", known=known, batch_rows=7, bytes_max=900))
    assert [part.first_row for part in parts] == [
        sum(part.rows for part in parts[:index]) for index in range(len(parts))
    ]
    assert sum(part.rows for part in parts) == len(values)
    assert [part.known for part in parts] == sorted((p.known for p in parts), reverse=True)
    return [Known(part.rows, part.key) for part in parts]


@given(VALUES, SIZES, SIZES)
@settings(max_examples=examples(25), deadline=None)
def test_keys_depend_on_rows_only(
    values: list[int | None], sizes: list[int], others: list[int]
) -> None:
    """Not on the blocks in which they were read."""
    assert parts_of(values, sizes, []) == parts_of(values, others, [])


@given(VALUES, VALUES, SIZES, SIZES)
@settings(max_examples=examples(25), deadline=None)
def test_what_was_known_is_found_at_the_beginning_of_what_has_grown(
    values: list[int | None], more: list[int | None], sizes: list[int], others: list[int]
) -> None:
    before = parts_of(values, sizes, [])

    assert parts_of(values + more, others, before)[: len(before)] == before


@given(VALUES, st.integers(0, 39))
@settings(max_examples=examples(25), deadline=None)
def test_no_key_from_a_changed_row_on_is_known(values: list[int | None], at: int) -> None:
    values = [*values, 1]
    at %= len(values)
    changed = [*values[:at], 10, *values[at + 1 :]]

    before, after = parts_of(values, [], []), parts_of(changed, [], [])

    ends = [sum(part.rows for part in before[: index + 1]) for index in range(len(before))]
    same = sum(end <= at for end in ends)
    assert before[:same] == after[:same]
    assert not {part.key for part in before[same:]} & {part.key for part in after}


def test_progress_that_broke_off_counts_in_whole_lines(tmp_path: Path) -> None:
    kept = ProgressFile(tmp_path, "a", queue="q")
    kept.begin("salt", ())
    kept.add(Known(3, "k"))
    with (tmp_path / "a.progress").open("ab") as file:
        file.write(b"17 ab")

    found = ProgressFile(tmp_path, "a", queue="q")
    assert (found.salt, found.parts) == ("salt", [Known(3, "k")])
    other = ProgressFile(tmp_path, "a", queue="another")
    assert (other.salt, other.parts) == ("", [])


class MonthsLater(SystemClock):
    def now_s(self) -> float:
        return super().now_s() + 40 * 24 * 3600


def test_progress_that_nobody_touched_for_a_month_goes(tmp_path: Path) -> None:
    ProgressFile(tmp_path, "a", queue="q").begin("", ())

    remove_old(tmp_path, clock=SystemClock())
    assert len(list(tmp_path.iterdir())) == 1
    remove_old(tmp_path, clock=MonthsLater())
    assert list(tmp_path.iterdir()) == []
