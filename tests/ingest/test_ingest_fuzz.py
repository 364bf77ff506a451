"""Whatever is sent: the answer is 2xx or 4xx, and the server goes on."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_lake import lake, stored

from neuralake.ingest.server import start_server

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["session", "time", "channel", "rate", "x"]), inner)
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(json.dumps).map(str.encode),
    st.lists(json_values.map(json.dumps), max_size=4).map("\n".join).map(str.encode),
    st.fixed_dictionaries({"session": st.text(max_size=3)}, optional={"channel": json_values})
    .map(json.dumps)
    .map(str.encode),
)
types = st.sampled_from(
    ["application/json", "application/x-ndjson", "application/vnd.apache.arrow.stream", "", "a;b"]
)
keys = st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5)


def test_any_request_is_stored_or_refused(tmp_path: Path) -> None:
    catalog = lake(tmp_path)
    rows = 0
    with start_server(catalog) as server, httpx.Client(base_url=server.url) as client:

        @given(bodies, types, keys)
        @settings(max_examples=400, deadline=None)
        def send(body: bytes, content_type: str, key: str | None) -> None:
            nonlocal rows
            headers = {"content-type": content_type} | ({"idempotency-key": key} if key else {})
            answer = client.post("/v1/lab/spikes", content=body, headers=headers)
            assert answer.status_code == 202 or 400 <= answer.status_code < 500, answer.text
            if answer.status_code == 202 and not answer.json()["repeated"]:
                rows += answer.json()["rows"]

        send()
    found = stored(catalog.queue(), "lab.spikes")
    catalog.queue().close()

    assert len(found) == rows
