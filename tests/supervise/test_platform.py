"""The platform in threads: the same promises, inside one process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pyarrow as pa
import pytest
from lab_project import ids_in, make_project, post

from neuralake.catalog import Catalog, Database
from neuralake.errors import UnknownName, UsageError
from neuralake.settings import Settings
from neuralake.supervise import Platform, read_state, run_part
from neuralake.tables import DeltaTable, Stream


def lake(settings: Settings) -> Catalog:
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    events = DeltaTable("events", "lab/events", schema, stream=Stream())
    return Catalog({"lab": Database({"events": events})}, settings)


def test_rows_are_live_at_once_and_in_the_table_after_the_block(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    with Platform(lake(settings)) as platform:
        post(platform.url, range(100))
        live = platform.catalog.db("lab").table("events", live=True).collect()
        assert sorted(live["id"]) == list(range(100))

    assert ids_in(settings) == list(range(100))


def test_commands_of_this_lake_find_it(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    with Platform(lake(settings)) as platform:
        state = read_state(settings.state_folder)
        assert state is not None
        assert (state.url, state.pid) == (platform.url, os.getpid())

    assert read_state(settings.state_folder) is None


def test_it_can_be_entered_again(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    for first in (0, 10):
        with Platform(lake(settings)) as platform:
            post(platform.url, range(first, first + 10))

    assert ids_in(settings) == list(range(20))


def test_it_is_started_and_stopped_without_a_block(tmp_path: Path) -> None:
    """As in a notebook, whose cells no block spans; the same one may be started again."""
    settings = make_project(tmp_path)
    platform = Platform(lake(settings)).start()
    post(platform.url, range(10))
    platform.stop()
    platform.stop()

    platform.start()
    post(platform.url, range(10, 20))
    platform.stop()

    assert ids_in(settings) == list(range(20))


def test_two_on_one_lake_are_refused(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    with Platform(lake(settings)), pytest.raises(UsageError, match="already runs"):
        Platform(lake(settings)).__enter__()


def test_a_taken_port_raises_and_leaves_the_lake_free(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match="Cannot listen"):
            Platform(lake(settings), port=other.getsockname()[1]).__enter__()

    with Platform(lake(settings)) as platform:
        assert platform.url


def test_an_unknown_part_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="serve, write, compact, vacuum"):
        run_part("drink", lake(make_project(tmp_path)), stop=None)  # type: ignore[arg-type]  # on purpose
