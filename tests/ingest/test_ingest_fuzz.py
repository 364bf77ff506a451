"""Whatever is sent: the answer is 2xx or 4xx, and the server goes on."""

from __future__ import annotations

import gzip
import http.client
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_lake import SPIKES, lake, stored

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
    [
        "application/json",
        "application/x-ndjson",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
        "",
        "a;b",
    ]
)
keys = st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5)


def test_any_request_is_stored_or_refused(tmp_path: Path) -> None:
    catalog = lake(tmp_path)
    rows = 0
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        @given(bodies, types, keys)
        @settings(max_examples=examples(100), deadline=None)
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


SEEDLINGS: list[dict[str, Any]] = [
    {"session": "s", "time": "2026-01-31T10:20:30.5Z", "channel": 7, "rate": 0.5},
    {"session": "\u00e9\U0001f9e0", "rate": "NaN"},
    {"session": "", "channel": -32768, "time": None},
]
ENCODINGS = [None, None, None, "gzip", "zstd"]
# Byte values and texts that parsers trip over.
SPARKS = [
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xff\xff\xff", b"\0" * 8),
    *(b"{", b"[", b'"', b"\\u", b",", b"\n", b"-", b"\r\n\r\n", b"null", b"NaN"),
    *(b"1e999999999", b"9" * 400, b"[" * 2000),
]


def seedling_bodies() -> list[tuple[str, bytes]]:
    """A right body of each content type, with rows to spare."""
    rows = SEEDLINGS * 3
    typed: list[dict[str, Any]] = [{**row, "rate": None, "time": None} for row in rows]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SPIKES) as stream:
        stream.write_table(pa.Table.from_pylist(typed, schema=SPIKES))
    file = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(typed, schema=SPIKES), file)
    return [
        ("application/json", json.dumps(rows).encode()),
        ("application/json", json.dumps(rows[0]).encode()),
        ("application/x-ndjson", "\n".join(map(json.dumps, rows)).encode()),
        ("application/vnd.apache.arrow.stream", sink.getvalue().to_pybytes()),
        ("application/vnd.apache.parquet", file.getvalue().to_pybytes()),
        ("text/csv", b"session,time,channel,rate\ns,2026-01-31T10:20:30Z,7,0.5\n,,,\n" * 2),
        ("text/tab-separated-values", b"session\trate\na\tNaN\nb\t1e5\n"),
    ]


def mutated(body: bytes, chance: random.Random) -> bytes:
    """`body` with up to four changes: bytes flipped, cut, doubled, moved, or sparks put in."""
    found = bytearray(body)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 4])):
        at = chance.randrange(len(found) + 1)
        to = min(len(found), at + chance.choice([1, 1, 4, 30, 10_000]))
        change = chance.randrange(5)
        if change == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            del found[at:to]
        elif change == 2:
            found[at:at] = found[at:to]
        elif change == 3:
            found[at:at] = chance.choice(SPARKS)
        else:
            part = found[at:to]
            del found[at:to]
            there = chance.randrange(len(found) + 1)
            found[there:there] = part
    return bytes(found)


def packed(body: bytes, encoding: str | None) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body, compresslevel=1)
    if encoding == "zstd":
        return bytes(pa.Codec("zstd").compress(body, asbytes=True))
    return body


@pytest.mark.parametrize(
    "payloads", [3_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_spoiled_payloads_are_stored_whole_or_refused(tmp_path: Path, payloads: int) -> None:
    """Right bodies of every content type, spoiled before or after they were packed."""
    chance, catalog, bodies = random.Random(payloads), lake(tmp_path), seedling_bodies()
    statuses: Counter[int] = Counter()
    rows = 0
    with start_server(catalog) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        for number in range(payloads):
            media_type, body = chance.choice(bodies)
            encoding = chance.choice(ENCODINGS)
            if chance.random() < 0.7:
                sent = packed(mutated(body, chance), encoding)
            else:
                sent = mutated(packed(body, encoding), chance)
            headers = {"content-type": media_type}
            headers |= {} if encoding is None else {"content-encoding": encoding}
            headers |= {} if chance.random() < 0.9 else {"idempotency-key": str(number // 3)}
            connection.request("POST", "/v1/lab/spikes", sent, headers)
            answer = connection.getresponse()
            told = json.load(answer)
            statuses[answer.status] += 1
            assert answer.status == 202 or 400 <= answer.status < 500, (told, headers, sent)
            if answer.status == 202 and not told["repeated"]:
                rows += told["rows"]
        connection.close()
    # Each through the same server: it never was started again.
    found = stored(catalog.queue(), "lab.spikes")
    catalog.close()

    assert len(found) == rows
    assert statuses[202] > payloads // 20
    assert statuses[400] > payloads // 20
    assert statuses[422] > payloads // 20
