"""Dead letters are replayed at most once each, whatever dies, and whoever else replays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from letter_lake import letter_lake, written

from neuralake.catalog import Catalog
from neuralake.delta import TableLog
from neuralake.errors import NeedsAttention, UnknownName, UsageError
from neuralake.ingest.server import start_server
from neuralake.tables import DeltaTable
from neuralake.writer import LetterBox, Replacement, Replayer


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """`lab.events` has the rows 0 and 1, and the letters "2" to "6"."""
    found = letter_lake(tmp_path)
    with start_server(found) as server:
        rows = [{"id": 0}, {"id": 1}, *({"id": str(number)} for number in range(2, 7))]
        assert httpx.post(f"{server.url}/v1/lab/events", json=rows, timeout=60).status_code == 202
    written(found)
    yield found
    found.close()


def definition(catalog: Catalog) -> DeltaTable:
    found = catalog.definition("lab", "events")
    assert isinstance(found, DeltaTable)
    return found


def box(catalog: Catalog) -> LetterBox:
    return LetterBox(catalog, "lab", definition(catalog))


def replayer(catalog: Catalog) -> Replayer:
    return Replayer(catalog, "lab", definition(catalog))


def mended(catalog: Catalog) -> list[Replacement]:
    """What the letters that are open should have been."""
    return [
        Replacement(each.id, (each.value or b"").replace(b'"', b"").replace(b"id", b'"id"'), "json")
        for each in box(catalog).letters(values=True)
    ]


def ids(catalog: Catalog) -> list[int]:
    return sorted(catalog.db("lab").table("events").collect()["id"].to_list())


class Crash(Exception):
    pass


def crash(monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
    """The append number `at` from now on does not take place: 0 is the claim, 1 the rows."""
    original, count = TableLog.append, iter(range(10))

    def append(self: TableLog, *arguments: object, **options: object) -> object:
        if next(count) == at:
            raise Crash
        return original(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TableLog, "append", append)


def test_letters_that_fit_now_are_in_the_table_once_and_open_no_more(catalog: Catalog) -> None:
    replacements = mended(catalog)

    report = replayer(catalog).replay(replacements)
    again = replayer(catalog).replay(replacements)

    assert (report.letters, report.rows, report.misfits) == (5, 5, [])
    assert (again.letters, again.rows, len(again.already)) == (0, 0, 5)
    assert ids(catalog) == [0, 1, 2, 3, 4, 5, 6]
    assert box(catalog).letters() == []
    assert all(each.is_replayed for each in box(catalog).letters(replayed=True))


def test_what_does_not_fit_stays_open_with_the_reason(catalog: Catalog) -> None:
    good, *others = mended(catalog)
    bad = [Replacement(each.id, b'{"id": "x"}', "json") for each in others]

    report = replayer(catalog).replay([good, *bad])

    assert (report.letters, [each.column for each in report.misfits]) == (1, ["id"] * 4)
    assert len(box(catalog).letters()) == 4
    assert len(ids(catalog)) == 3


@pytest.mark.parametrize(("at", "claimed"), [(0, False), (1, True)])
def test_a_replay_that_dies_is_completed_or_done_by_the_next(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, at: int, claimed: bool
) -> None:
    replacements = mended(catalog)
    with monkeypatch.context() as patch:
        crash(patch, at=at)
        with pytest.raises(Crash):
            replayer(catalog).replay(replacements)
    assert ids(catalog) == [0, 1]

    report = replayer(catalog).replay(replacements)

    assert (report.completed, report.letters) == ((5, 0) if claimed else (0, 5))
    assert ids(catalog) == [0, 1, 2, 3, 4, 5, 6]


def test_a_claim_that_does_not_fit_the_table_any_more_needs_a_person(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        crash(patch, at=1)
        with pytest.raises(Crash):
            replayer(catalog).replay(mended(catalog))

    later = replayer(catalog)
    monkeypatch.setattr(later._reader, "rows", _refuses)

    with pytest.raises(NeedsAttention, match="claimed"):
        later.replay([])


def _refuses(_each: Replacement) -> None:
    raise UsageError("no such column")


def test_replays_at_once_put_each_letter_into_the_table_once(catalog: Catalog) -> None:
    replacements = mended(catalog)
    box(catalog).letters()
    errors: list[Exception] = []

    def run() -> None:
        try:
            for each in replacements:
                replayer(catalog).replay([each])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert ids(catalog) == [0, 1, 2, 3, 4, 5, 6]


def test_letters_that_there_are_not_and_one_named_twice_are_refused(catalog: Catalog) -> None:
    first, *_ = mended(catalog)

    with pytest.raises(UnknownName):
        replayer(catalog).replay([Replacement("0" * 16, b"{}", "json")])
    with pytest.raises(UsageError, match="twice"):
        replayer(catalog).replay([first, first])
