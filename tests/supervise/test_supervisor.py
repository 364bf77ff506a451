"""The tree of processes: it starts, heals, stops in order, and leaves nothing behind."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import msgspec
import pytest
from lab_project import eventually, ids_in, is_running, kill, make_project, post, start_cli
from watched_platform import watched

from neuralake.errors import NeedsAttention, UsageError
from neuralake.settings import Settings
from neuralake.supervise import PARTS, Supervisor, read_state


def test_after_the_stop_every_acknowledged_row_is_in_the_table_and_nothing_runs(
    tmp_path: Path,
) -> None:
    """Also those that were acknowledged a moment before: the writer drains. A second platform on
    the lake is refused meanwhile."""
    settings = make_project(tmp_path)
    with Supervisor(settings) as platform:
        pids = platform.pids
        assert set(pids) == set(PARTS)
        state = read_state(settings.state_folder)
        assert state is not None
        assert (state.url, state.processes) == (platform.url, pids)
        with pytest.raises(UsageError, match="already runs"):
            Supervisor(settings).__enter__()
        for first in range(0, 500, 5):
            post(platform.url, range(first, first + 5))

    assert ids_in(settings) == list(range(500))
    assert not [pid for pid in pids.values() if is_running(pid)]
    assert read_state(settings.state_folder) is None


def test_a_platform_that_is_stopped_while_its_writer_starts_still_drains(tmp_path: Path) -> None:
    """Rows that a server took before wait in the queue; the writer is told to stop at once."""
    settings = make_project(tmp_path)
    with Supervisor(settings, parts=["serve"]) as platform:
        post(platform.url, range(10))
    with Supervisor(settings, parts=["write"]):
        pass

    assert ids_in(settings) == list(range(10))


def test_a_killed_part_is_started_again_and_why_is_said(tmp_path: Path) -> None:
    """The server keeps its address; rows before and after are in the table once."""
    settings, said = make_project(tmp_path), []
    with (
        Supervisor(settings, on_line=lambda name, line: said.append(f"{name}: {line}")) as platform,
        watched(platform),
    ):
        url = platform.url
        post(url, range(10))
        before = platform.pids
        for pid in before.values():
            kill(pid)

        assert eventually(lambda: all(platform.restarts[name] == 1 for name in PARTS))
        assert eventually(lambda: answers(url, range(10, 20)))
        state = read_state(settings.state_folder)
        assert state is not None
        assert state.restarts == dict.fromkeys(PARTS, 1)
        assert not set(platform.pids.values()) & set(before.values())

    assert ids_in(settings) == list(range(20))
    for name in PARTS:
        assert any(
            f"up: WARNING {name} (process {before[name]}) was killed by SIGKILL" in line
            for line in said
        )


def answers(url: str, ids: range) -> bool:
    try:
        post(url, ids)
    except OSError:
        return False
    return True


WAIT = """\
import pathlib, threading

while not pathlib.Path(%r).exists():
    threading.Event().wait(0.01)
"""


def test_a_server_that_is_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    lake, go_on = tmp_path / "lake.py", tmp_path / "go on"
    lake.write_text(f"{WAIT % str(go_on)}\n{lake.read_text()}")

    def serving() -> int:
        state = read_state(settings.state_folder)
        return 0 if state is None else state.processes.get("serve", 0)

    def kill_the_first() -> None:
        assert eventually(lambda: serving() != 0)
        kill(serving())
        go_on.touch()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with Supervisor(settings) as platform:
        killer.join()
        assert platform.restarts["serve"] == 1
        post(platform.url, range(10))

    assert ids_in(settings) == list(range(10))


def test_no_part_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    """And the next platform starts cleanly, with what the first had acknowledged."""
    settings = make_project(tmp_path)
    folder = settings.state_folder
    with start_cli(tmp_path, "up") as up:
        assert eventually(
            lambda: (state := read_state(folder)) is not None and "serve" in state.processes
        )
        state = read_state(folder)
        assert state is not None
        assert eventually(lambda: answers(state.url, range(10)))
        kill(up.pid)

        assert eventually(lambda: not any(is_running(pid) for pid in state.processes.values()))

    with Supervisor(settings) as platform:
        post(platform.url, range(10, 20))
    assert ids_in(settings) == list(range(20))


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    settings = make_project(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}") as refused:
            Supervisor(with_port(settings, port)).__enter__()

    assert refused.value.port == port
    assert read_state(settings.state_folder) is None


def with_port(settings: Settings, port: int) -> Settings:
    server = msgspec.structs.replace(settings.server, port=port)
    return msgspec.structs.replace(settings, server=server)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """What it wrote last is in the error, and no other part is left running."""
    settings = make_project(tmp_path)
    (tmp_path / "lake.py").write_text("raise RuntimeError('the lake is dry')\n")

    with pytest.raises(NeedsAttention, match="the lake is dry") as failed:
        Supervisor(settings).__enter__()

    assert failed.value.part == "serve"
    with Supervisor(settings, parts=()) as platform:
        assert platform.pids == {}
