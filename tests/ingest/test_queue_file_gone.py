"""The queue's file goes under a running platform: a server process, a writer and readers say so."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from ingest_lake import lake, stored
from ingest_server import served

from neuralake.catalog import Catalog
from neuralake.errors import Unavailable
from neuralake.writer import run_writer

NOTES = "/v1/lab/notes"


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


def until(client: httpx.Client, status: int) -> httpx.Response:
    """The first answer with `status`; a look may be a second old, as rows were refused."""
    while (answer := client.get("/health/ready")).status_code != status:
        pass
    return answer


def texts(folder: Path) -> list[str]:
    catalog = lake(folder)
    found = [row["text"] for row in stored(catalog.queue(), "lab.notes")]
    catalog.close()
    return found


@pytest.mark.parametrize("change", [remove, replace])
def test_a_server_refuses_rows_until_it_is_started_anew(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = lake(tmp_path).settings.queue_path
    with served(tmp_path) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        first = client.post(NOTES, json={"text": "first"})
        change(path)
        refused = [client.post(NOTES, json={"text": "void"}) for _ in range(3)]
        asked = [client.get("/v1"), client.get(NOTES), client.get(f"{NOTES}/tail?after=0")]
        red = until(client, 503)
        server.kill()
        server.restart()
        green = until(client, 200)
        last = client.post(NOTES, json={"text": "last"})

    assert (first.status_code, last.status_code) == (202, 202)
    for answer in [*refused, *asked]:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "removed or replaced while they were open: queue.sqlite" in answer.json()["detail"]
        assert "it begins a new queue" in answer.json()["detail"]
    (reason,) = red.json()["reasons"]
    assert reason["part"] == "queue"
    assert reason["detail"] == (
        "Unavailable (a file of it was removed or replaced: see the server's log)"
    )
    assert str(tmp_path) not in red.text
    assert green.json() == {"status": "ready"}
    assert "void" not in texts(tmp_path)
    assert "last" in texts(tmp_path)


def test_a_removed_log_loses_nothing_of_what_a_server_acknowledged(tmp_path: Path) -> None:
    """Somebody makes room on a disk by removing the largest file that has a strange name."""
    path = lake(tmp_path).settings.queue_path
    with served(tmp_path) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for number in range(20):
            assert client.post(NOTES, json={"text": str(number)}).status_code == 202
        path.with_name(path.name + "-wal").unlink()
        refused = client.post(NOTES, json={"text": "void"})
        server.kill()

    assert refused.status_code == 503
    assert "first stop all of it" in refused.json()["detail"]
    assert texts(tmp_path) == [str(number) for number in range(20)]


def test_a_writer_and_live_frames_do_not_go_on_with_a_file_that_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other rows may be in its place: a live frame without those would be wrong."""
    catalog: Catalog = lake(tmp_path)
    with served(tmp_path) as server:
        assert httpx.post(server.url + NOTES, json={"text": "first"}, timeout=60).status_code == 202
        frame = catalog.db("lab").table("notes", live=True)
        assert frame.collect()["text"].to_list() == ["first"]
        remove(catalog.settings.queue_path)
        server.kill()
        server.restart()
        assert (
            httpx.post(server.url + NOTES, json={"text": "second"}, timeout=60).status_code == 202
        )

        with pytest.raises(Unavailable, match="removed or replaced"):
            frame.collect()
        stop = threading.Event()
        stop.set()  # One round.
        run_writer(catalog, stop=stop)
    assert "lab.notes waits, tried again in 0.5 s: The queue" in caplog.text
    catalog.close()
