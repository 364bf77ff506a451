"""`GET /metrics`: what the platform does, as Prometheus reads it."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import httpx
import pytest
from ingest_lake import lake
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import neuralake
from neuralake.catalog import Catalog
from neuralake.clock import ManualClock
from neuralake.ingest.metrics import HELP
from neuralake.ingest.server import start_server
from neuralake.ingest.tokens import TokenFile
from neuralake.supervise import run_part

SPIKES, NOTES = "/v1/lab/spikes", "/v1/lab/notes"
NOTE = {"author": "ada", "text": '\u00e9\n"quoted"'}
SOURCE = Path(neuralake.__file__).parent


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of a sample by its labels, without those of the process."""
    return {
        tuple(v for k, v in sorted(sample.labels.items()) if k not in ("part", "pid")): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == name
    }


def test_what_is_accepted_and_refused_is_counted(client: httpx.Client) -> None:
    client.post(NOTES, json=[NOTE, NOTE])
    client.post(NOTES, json={"nonsense": 1})
    client.post("/v1/lab/nothing", json=NOTE)

    answer = client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert samples(answer.text, "neuralake_ingest_rows_total") == {("lab.notes",): 2}
    assert samples(answer.text, "neuralake_ingest_refused_total") == {("422",): 1, ("404",): 1}
    assert samples(answer.text, "neuralake_ingest_request_seconds_count") == {(): 1}
    assert samples(answer.text, "neuralake_queue_commits_total") == {(): 1}


def test_the_lag_is_what_is_acknowledged_and_not_in_the_table(tmp_path: Path) -> None:
    catalog, clock = lake(tmp_path), ManualClock(1_000.0)
    queue = catalog.queue()
    with (
        start_server(catalog, clock=clock) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        client.post(NOTES, json=[NOTE, NOTE])
        first = queue.read("lab.notes", after=0)[0]
        clock.advance(first.appended_s + 30 - clock.now_s())
        before = client.get("/metrics").text
        stop = threading.Event()
        writer = threading.Thread(target=run_part, args=("write", catalog), kwargs={"stop": stop})
        writer.start()
        client.post(f"{NOTES}?wait=committed", json=NOTE)
        clock.advance(2)
        after = client.get("/metrics").text
        stop.set()
        writer.join()
    catalog.close()

    note = ("lab.notes",)
    assert samples(before, "neuralake_queue_lag_rows")[note] == 2
    assert samples(before, "neuralake_queue_lag_bytes")[note] == len(first.payload)
    assert samples(before, "neuralake_queue_lag_seconds")[note] == pytest.approx(30)
    assert samples(after, "neuralake_queue_lag_rows")[note] == 0
    assert samples(after, "neuralake_queue_lag_seconds")[note] == 0
    assert samples(after, "neuralake_table_up")[note] == 1
    assert samples(after, "neuralake_table_version")[note] >= 1


def test_what_the_other_parts_do_is_told_too(tmp_path: Path) -> None:
    catalog, stop = lake(tmp_path), threading.Event()
    writer = threading.Thread(target=run_part, args=("write", catalog), kwargs={"stop": stop})
    writer.start()
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        client.post(f"{NOTES}?wait=committed", json=NOTE)
        # Told once a second, perhaps in the middle of what a commit counts.
        while not all(
            labels in samples(text := client.get("/metrics").text, name)
            for name, labels in (
                ("neuralake_writer_rows_total", ("lab.notes",)),
                ("neuralake_writer_commit_seconds_count", ("lab.notes",)),
                ("neuralake_writer_freshness_seconds_bucket", ("+Inf", "lab.notes")),
            )
        ):
            threading.Event().wait(0.05)
        stop.set()
        writer.join()
    catalog.close()

    assert samples(text, "neuralake_writer_rows_total")[("lab.notes",)] == 1
    assert samples(text, "neuralake_writer_commit_seconds_count")[("lab.notes",)] == 1
    assert samples(text, "neuralake_writer_freshness_seconds_bucket")[("+Inf", "lab.notes")] == 1
    assert all(
        value > 1e7 for value in samples(text, "neuralake_process_resident_memory_bytes").values()
    )


def test_a_table_whose_lag_cannot_be_told_hides_no_other(catalog: Catalog) -> None:
    folder = Path(catalog.uri_of(catalog.definition("lab", "notes")), "_delta_log")
    folder.mkdir(parents=True)
    (folder / f"{0:020d}.json").write_text("no log entry")
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        up = samples(client.get("/metrics").text, "neuralake_table_up")

    assert (up[("lab.notes",)], up[("lab.spikes",)]) == (0, 1)


def test_openmetrics_is_given_to_those_who_ask_for_it(client: httpx.Client) -> None:
    client.post(NOTES, json=NOTE)
    accept = "application/openmetrics-text; version=1.0.0"

    answer = client.get("/metrics", headers={"accept": accept})

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "neuralake_ingest_rows" in {family.name for family in openmetrics(answer.text)}  # type: ignore[no-untyped-call]  # theirs


def test_a_token_sees_the_tables_that_it_may_read_or_write(catalog: Catalog) -> None:
    tokens = TokenFile(catalog.settings.tokens_path)
    _, some = tokens.create("some", read=[], write=["lab.notes"])
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        nobody = client.get("/metrics")
        text = client.get("/metrics", headers={"authorization": f"Bearer {some}"}).text

    assert nobody.status_code == 401
    assert set(samples(text, "neuralake_table_up")) == {("lab.notes",)}


def test_every_metric_is_explained_here_and_in_the_docs() -> None:
    counted = {
        name
        for file in SOURCE.rglob("*.py")
        for name in re.findall(
            r"""(?:\.(?:count|gauge|observe)\(|Series\("gauge", )\s*"([a-z_]+)\"""",
            file.read_text(encoding="utf-8"),
        )
    }
    page = (SOURCE.parents[1] / "docs" / "how-to" / "observe.md").read_text(encoding="utf-8")

    assert counted == set(HELP)
    assert {name for name in counted if f"`neuralake_{name}" not in page} == set()
