"""Bodies of CSV, and bodies that are packed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_lake import stored

from neuralake.errors import NeuralakeError
from neuralake.queue import Queue
from neuralake.records.decode import Decoder
from neuralake.records.media_types import CSV, NDJSON, TSV
from neuralake.settings import IngestSettings

NOTES = "/v1/lab/notes"
ROW = {"author": "ada", "text": 'a note, "quoted"'}
CSV_ROW = b'text,author\n"a note, ""quoted""",ada\n'
LINE = json.dumps(ROW).encode() + b"\n"


def zstd(body: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(body, asbytes=True)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": zstd,
    "identity": bytes,
    "GZIP": gzip.compress,
}


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (CSV, CSV_ROW),
        (TSV, CSV_ROW.replace(b"text,author", b"text\tauthor").replace(b",ada", b"\tada")),
    ],
)
def test_a_body_of_csv_is_what_the_json_of_it_is(
    client: httpx.Client, queue: Queue, media_type: str, body: bytes
) -> None:
    headers = {"content-type": media_type}
    assert client.post(NOTES, content=body, headers=headers).status_code == 202
    assert client.post(NOTES, json=ROW).status_code == 202

    first, second = stored(queue, "lab.notes")
    assert first == second
    assert first["text"] == ROW["text"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"txt,author\na,b\n", 422, "no column 'txt'"),
        (b"text,text\na,b\n", 422, "appears twice"),
        (b"author,text\na,b,c\n", 422, "Row 0 cannot be read as CSV"),
        (b"author,text\n", 400, "no rows"),
        (b"", 422, "cannot be read"),
        (b"author,text\na,\xff\n", 422, "UTF"),
        (b"author,\xff\na,b\n", 422, "names in the header are not UTF-8"),
    ],
)
def test_csv_that_does_not_fit_is_told_with_its_place(
    client: httpx.Client, queue: Queue, body: bytes, status: int, said: str
) -> None:
    answer = client.post(NOTES, content=body, headers={"content-type": CSV})

    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert stored(queue, "lab.notes") == []


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_packed_body_is_the_body(client: httpx.Client, queue: Queue, encoding: str) -> None:
    body = LINE * 300
    headers = {"content-type": NDJSON, "content-encoding": encoding, "idempotency-key": "k"}

    answer = client.post(NOTES, content=PACKERS[encoding](body), headers=headers)
    again = client.post(
        NOTES, content=body, headers={"content-type": NDJSON, "idempotency-key": "k"}
    )

    assert (answer.status_code, again.json()["repeated"]) == (202, True)
    assert stored(queue, "lab.notes") == stored(queue, "lab.notes")[:1] * 300


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_413_before_it_is_unpacked(
    client: httpx.Client, queue: Queue, encoding: str
) -> None:
    bomb = PACKERS[encoding](b" " * 200_000_000)
    assert len(bomb) < 1_000_000
    headers = {"content-type": NDJSON, "content-encoding": encoding}

    answer = client.post(NOTES, content=bomb, headers=headers)

    # One byte more than the limit was unpacked.
    assert (answer.status_code, answer.json()["found"]) == (413, 1_000_001)
    assert stored(queue, "lab.notes") == []


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [100, 20_000])
def test_a_damaged_body_is_400(
    client: httpx.Client, queue: Queue, encoding: str, size: int
) -> None:
    packed = PACKERS[encoding](zlib.compress(bytes(range(256)) * size))
    headers = {"content-type": NDJSON, "content-encoding": encoding}

    for body in (packed[:-3], b"not packed at all", packed + b"more"):
        answer = client.post(NOTES, content=body, headers=headers)
        assert (answer.status_code, "unpacked" in answer.json()["detail"]) == (400, True), body
    assert stored(queue, "lab.notes") == []


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "deflate"])
def test_other_encodings_are_415_and_told_what_is_known(
    client: httpx.Client, encoding: str
) -> None:
    headers = {"content-type": NDJSON, "content-encoding": encoding}
    answer = client.post(NOTES, content=LINE, headers=headers)

    assert answer.status_code == 415
    assert answer.json()["known"] == ["identity", "gzip", "x-gzip", "zstd"]


@given(body=st.binary(max_size=300) | st.text(alphabet='a,"\n\r\t1é', max_size=100))
def test_any_bytes_as_csv_are_rows_or_an_error_of_ours(body: bytes | str) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    schema = pa.schema([("a", pa.int32()), ("é", pa.string())])
    decoder = Decoder(schema, name="t", partition_by=[], limits=IngestSettings(rows_max=50))
    try:
        rows = decoder.rows(b"a,\xc3\xa9\n" + raw, CSV)
    except NeuralakeError:
        return
    assert rows.schema == schema
    assert 0 < rows.num_rows <= 50
