"""The parts as commands of their own: each works until it is told to stop."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from lab_project import eventually, ids_in, post, run_cli, start_cli

from neuralake.catalog import load_catalog
from neuralake.settings import Settings
from neuralake.supervise import Platform, Supervisor, read_state

Run = Callable[..., Any]


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_server_and_writer_work_apart(project: Settings) -> None:
    """Rows wait in the queue until a writer comes, and a stopped writer has drained."""
    folder = Path(project.folder)
    with start_cli(folder, "serve", "--port", "0") as server:
        url = first_line(server).removeprefix("Listening on ")
        post(url, range(20))
        with start_cli(folder, "write", "lab.events") as writer:
            assert eventually(lambda: ids_in(project) == list(range(20)))
            post(url, range(20, 40))
            writer.send_signal(signal.SIGTERM)
            writer.communicate(timeout=60)
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)

    assert (server.returncode, writer.returncode) == (0, 0)
    assert ids_in(project) == list(range(40))


@pytest.mark.parametrize("part", ["compact", "vacuum"])
def test_maintenance_stops_when_told(project: Settings, part: str) -> None:
    with start_cli(Path(project.folder), part) as process:
        # It says nothing when it is ready: stopping early must work as well.
        assert eventually(lambda: process.poll() is not None or handles_term(process.pid))
        process.terminate()
        process.communicate(timeout=60)

    assert process.returncode == 0


def handles_term(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM yet, by what the kernel knows."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_one_pass_says_what_it_did(run: Run, project: Settings) -> None:
    catalog = load_catalog(project)
    with Platform(catalog) as platform:
        for number in range(6):
            post(platform.url, [number])
            assert eventually(lambda number=number: number in ids_in(project))  # type: ignore[misc]  # on purpose

    orphan = Path(catalog.uri_of(catalog.definition("lab", "events")), "part-orphan.parquet")
    orphan.write_bytes(b"x")
    os.utime(orphan, (0, 0))
    told = run("vacuum", "--full", "--dry-run").stdout
    assert "lab.events: 1 files could go (1 bytes)" in told
    assert "part-orphan.parquet  1 bytes" in told
    assert "no version inside the retention mentions it" in told
    assert run("vacuum", "--once").exit_code == 0
    assert orphan.exists()
    assert "1 files removed" in run("vacuum", "--full").stdout
    assert not orphan.exists()
    compacted = run("compact", "--once")
    assert compacted.exit_code == 0, compacted.stderr
    assert ids_in(project) == list(range(6))


@pytest.mark.parametrize("command", [("compact", "--once"), ("vacuum", "--dry-run")])
def test_a_pass_that_leaves_a_table_out_fails(
    run: Run, project: Settings, command: tuple[str, ...]
) -> None:
    """A timer looks at the exit code alone."""
    catalog = load_catalog(project)
    log = Path(catalog.uri_of(catalog.definition("lab", "events")), "_delta_log")
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("no entry")

    answer = run(*command)
    assert answer.exit_code == 70
    assert "1 of the tables" in answer.stderr


def test_files_go_to_the_platform_that_runs_here(project: Settings) -> None:
    """Sent twice, stored once."""
    folder = Path(project.folder)
    text = "id,text\n" + "".join(f"{number},-\n" for number in range(1000))
    (folder / "events.csv").write_text(text)
    with Supervisor(project):
        first = run_cli(folder, "ingest", "lab.events", "events.csv")
        again = run_cli(folder, "ingest", "lab.events", "events.csv")

    assert first.stdout == "events.csv: 1,000 rows are in lab.events\n"
    assert "all of them since an earlier run" in again.stdout
    assert ids_in(project) == list(range(1000))


def test_without_a_server_ingest_says_so_when_stopped(project: Settings) -> None:
    folder = Path(project.folder)
    (folder / "events.csv").write_text("id,text\n1,-\n")
    with start_cli(
        folder, "ingest", "lab.events", "events.csv", "--url", "http://127.0.0.1:9"
    ) as it:
        assert "Nothing answers at http://127.0.0.1:9 yet" in first_line(it)
        assert eventually(lambda: it.poll() is not None or handles_term(it.pid))
        it.terminate()
        printed, _ = it.communicate(timeout=60)

    assert it.returncode == 75
    assert "neuralake up" in printed


def test_up_says_where_and_serves_the_site(project: Settings) -> None:
    folder = Path(project.folder)
    with start_cli(folder, "up") as up:
        line = first_line(up)
        while "neuralake is up" not in line:
            line = first_line(up)
        state = read_state(project.state_folder)
        assert state is not None
        assert state.url in line
        parts = urlsplit(state.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.request("GET", "/health/ready")
        assert connection.getresponse().status == 200
        connection.close()
        up.send_signal(signal.SIGINT)
        printed, _ = up.communicate(timeout=60)

    assert up.returncode == 0
    assert "Stopped." in printed


def test_as_json_each_log_line_says_what_it_is_about(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a table whose log is damaged; `up` says itself where it listens."""
    monkeypatch.setenv("NEURALAKE_LOG_FORMAT", "json")
    log = Path(project.root, "lab", "events", "_delta_log")
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("no log entry")
    lines: list[dict[str, Any]] = []
    with start_cli(Path(project.folder), "up", "--port", "0") as process:
        assert process.stdout is not None
        while not any(line.get("table") for line in lines):
            lines.append(json.loads(process.stdout.readline()))
        process.terminate()
        # Not `communicate`, which does not see what `readline` has read ahead.
        lines += map(json.loads, process.stdout)

    trouble = next(line for line in lines if line.get("table"))
    assert (trouble["table"], trouble["level"]) == ("lab.events", "ERROR")
    assert "needs attention" in trouble["message"]
    assert {line["part"] for line in lines} >= {"up", trouble["part"]}
    assert any(line["message"].startswith("neuralake is up: http") for line in lines)
