"""The platform's own server shows the site, and answers every request that the pages show."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from site_lake import fill, make_catalog

from neuralake.ingest.server import start_server
from neuralake.manifest import describe
from neuralake.site import build_site
from neuralake.site.snippets import snippets


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    fill(folder)
    catalog = make_catalog(folder)
    with start_server(catalog) as server:
        build_site(catalog, folder / catalog.settings.site.folder, base_url=server.url)
        Path(folder, "requests.json").write_text(json.dumps(requests(catalog, server.url)))
        yield f"{server.url} {folder}"
    catalog.queue().close()


def requests(catalog: Any, base_url: str) -> dict[str, list[str]]:
    """Every curl command of the site, as words, by table and kind."""
    manifest = describe(catalog, base_url=base_url)
    return {
        f"{table.name} {snippet.id}": shlex.split(snippet.code.replace("\\\n", " "))
        for table in manifest.tables()
        for snippet in snippets(manifest, table)
        if snippet.language == "shell" and table.problem is None
    }


def test_the_server_shows_the_index_and_the_pages(url: str) -> None:
    base, _ = url.split(" ", 1)

    index = httpx.get(f"{base}/", timeout=60)
    page = httpx.get(f"{base}/tables/neural/spikes.html", timeout=60)

    assert (index.status_code, page.status_code) == (200, 200)
    assert index.headers["content-type"].startswith("text/html")
    assert f"{base}/v1/neural/spikes" in page.text


def test_every_request_of_the_pages_is_answered(url: str) -> None:
    """A query of each table that can be read, and a row for each that can be sent to."""
    _, folder = url.split(" ", 1)
    answers = {}
    for name, words in json.loads(Path(folder, "requests.json").read_text()).items():
        kind, value = words[words.index("-H") + 1].split(": ")
        body = words[words.index("-d") + 1]
        answer = httpx.post(words[2], headers={kind: value}, content=body, timeout=60)
        answers[name] = answer.status_code

    assert answers == {
        "spikes curl": 200,
        "spikes send": 202,
        "everything curl": 200,
        "everything send": 202,
        "old_spikes curl": 200,
        "waiting curl": 200,
        "waiting send": 202,
        "weather curl": 200,
        "optional curl": 200,
    }
