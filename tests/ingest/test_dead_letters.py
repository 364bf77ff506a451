"""Rows that do not fit become dead letters: stored with the good ones in one step, each once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_lake import arrow_stream
from letter_lake import letter_lake, letters, written

from neuralake.catalog import Catalog
from neuralake.errors import UsageError
from neuralake.ingest.server import start_server
from neuralake.tables import DeltaTable, Stream
from neuralake.writer import LetterBox, Replacement, Replayer

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    found = letter_lake(tmp_path, letters_max=20, letter_bytes_max=10_000)
    yield found
    found.close()


@pytest.fixture
def client(catalog: Catalog) -> Iterator[httpx.Client]:
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def send(client: httpx.Client, body: bytes, media: dict[str, str], **headers: str) -> Any:
    answer = client.post("/v1/lab/events", content=body, headers=media | headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def ids(catalog: Catalog) -> list[int]:
    return sorted(catalog.db("lab").table("events").collect()["id"].to_list())


def test_good_rows_are_stored_and_bad_ones_are_letters_with_their_bytes_and_reasons(
    catalog: Catalog, client: httpx.Client
) -> None:
    body = b'[{"id": 1}, {"id": "two"}, {"id": 3, "wrong": 1}, 4, {"id": 5}]'

    answer = send(client, body, JSON)
    written(catalog)

    assert (answer["rows"], answer["dead_letters"]) == (2, 3)
    assert [found["row"] for found in answer["reasons"]] == [1, 2, 3]
    assert ids(catalog) == [1, 5]
    found = letters(catalog)
    assert [(one["row"], one["column"], one["value"]) for one in found] == [
        (1, "id", b'{"id": "two"}'),
        (2, "wrong", b'{"id": 3, "wrong": 1}'),
        (3, None, b"4"),
    ]
    assert all(one["source"] == "127.0.0.1" and one["position"] == 1 for one in found)
    assert "integer" in found[0]["reason"]
    assert len({one["id"] for one in found}) == 3


def test_a_broken_line_is_a_letter_and_the_other_lines_are_rows(
    catalog: Catalog, client: httpx.Client
) -> None:
    lines = [b'{"id": 1}', b'{"id": 2', b"", b"\xff\xfe", b'{"id": 3}', b"}"]

    answer = send(client, b"\n".join(lines), NDJSON)
    written(catalog)

    assert (answer["rows"], answer["dead_letters"]) == (2, 3)
    assert ids(catalog) == [1, 3]
    assert [one["value"] for one in letters(catalog)] == [b'{"id": 2', b"\xff\xfe", b"}"]


@pytest.mark.parametrize(("media", "delimiter"), [("csv", b","), ("tab-separated-values", b"\t")])
def test_a_record_of_csv_that_does_not_fit_is_a_letter_with_its_header(
    catalog: Catalog, client: httpx.Client, media: str, delimiter: bytes
) -> None:
    """Also one with too many fields; a quoted line end is in its record."""
    body = b'site,id\r\n"a\nb",1\r\nb,two\r\n\r\n,3\r\nc,4,5\r\n"d,6'.replace(b",", delimiter)

    answer = send(
        client, body + b'"\n' + b"e,7".replace(b",", delimiter), {"content-type": f"text/{media}"}
    )
    written(catalog)

    assert (answer["rows"], answer["dead_letters"]) == (3, 3)
    assert ids(catalog) == [1, 3, 7]
    found = letters(catalog)
    assert [letter["row"] for letter in found] == [1, 3, 4]
    assert found[0]["column"] == "id"
    assert found[0]["value"] == b"site,id\r\nb,two\r\n".replace(b",", delimiter)
    events = catalog.definition("lab", "events")
    assert isinstance(events, DeltaTable)
    one = LetterBox(catalog, "lab", events).letters(values=True)[0]
    mended = Replacement(one.id, (one.value or b"").replace(b"two", b"2"), one.format)
    assert Replayer(catalog, "lab", events).replay([mended]).rows == 1
    assert ids(catalog) == [1, 2, 3, 7]


@pytest.mark.parametrize("body", [b"id,wrong\n1,2\n", b"id,id\n1,2\n", b"\xff\n1\n"])
def test_csv_whose_header_does_not_fit_is_one_letter(
    catalog: Catalog, client: httpx.Client, body: bytes
) -> None:
    answer = send(client, body, {"content-type": "text/csv"})
    written(catalog)

    assert (answer["rows"], answer["dead_letters"]) == (0, 1)
    assert [letter["value"] for letter in letters(catalog)] == [body]


@pytest.mark.parametrize("body", [b'{"id": ', b"\xff", b'{"id": "x"}', b'[{"id": 1}'])
def test_what_cannot_be_taken_apart_is_a_letter_as_a_whole(
    catalog: Catalog, client: httpx.Client, body: bytes
) -> None:
    answer = send(client, body, JSON)
    written(catalog)

    assert (answer["rows"], answer["dead_letters"]) == (0, 1)
    (letter,) = letters(catalog)
    assert (letter["row"], letter["value"], letter["format"]) == (None, body, "json")
    assert ids(catalog) == []


def test_an_arrow_row_that_does_not_fit_is_a_letter_of_one_row(
    catalog: Catalog, client: httpx.Client
) -> None:
    rows = pa.table({"id": [1, 2, 3], "count": pa.array([1, 10**6, 3], pa.int64())})

    answer = send(client, arrow_stream(rows), ARROW)
    written(catalog)

    assert (answer["rows"], answer["dead_letters"]) == (2, 1)
    assert ids(catalog) == [1, 3]
    (letter,) = letters(catalog)
    assert (letter["row"], letter["column"]) == (1, "count")
    assert pa.ipc.open_stream(letter["value"]).read_all().to_pylist() == [{"id": 2, "count": 10**6}]


def test_an_arrow_stream_of_other_columns_is_one_letter(
    catalog: Catalog, client: httpx.Client
) -> None:
    body = arrow_stream(pa.table({"id": ["one", "two"]}))

    assert send(client, body, ARROW)["dead_letters"] == 1
    written(catalog)

    (letter,) = letters(catalog)
    assert (letter["row"], letter["format"], letter["value"]) == (None, "arrow", body)


def test_a_row_that_cannot_be_in_any_partition_is_a_letter(
    catalog: Catalog, client: httpx.Client
) -> None:
    good, bad = {"id": 1, "site": "a"}, {"id": 2, "site": "x" * 300}

    assert send(client, json.dumps([good, bad]).encode(), JSON)["dead_letters"] == 1
    assert send(client, json.dumps(bad).encode(), JSON)["dead_letters"] == 1
    written(catalog)

    assert ids(catalog) == [1]
    assert [one["column"] for one in letters(catalog)] == ["site", "site"]


def test_a_repeat_under_one_key_stores_neither_rows_nor_letters_again(
    catalog: Catalog, client: httpx.Client
) -> None:
    body = b'[{"id": 1}, {"id": "two"}]'
    first = send(client, body, JSON, **{"idempotency-key": "k"})
    again = send(client, body, JSON, **{"idempotency-key": "k"})
    written(catalog)

    assert again == first | {"repeated": True}
    assert (ids(catalog), len(letters(catalog))) == ([1], 1)


def test_more_letters_than_the_limit_or_larger_ones_refuse_the_request(
    catalog: Catalog, client: httpx.Client
) -> None:
    many = b"[" + b",".join([b'{"id": 0}'] + [b"1"] * 21) + b"]"
    large = json.dumps([{"id": 1}, {"id": 2, "wrong": "x" * 20_000}]).encode()
    whole = b'{"wrong": "' + b"x" * 20_000 + b'"}'

    answers = [
        client.post("/v1/lab/events", content=body, headers=JSON) for body in (many, large, whole)
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert answers[0].json()["row"] == 1
    assert "nothing is stored" in answers[1].json()["detail"]
    written(catalog)
    assert ids(catalog) == []


def test_a_body_without_rows_and_one_that_is_not_read_are_refused_as_ever(
    client: httpx.Client,
) -> None:
    empty = client.post("/v1/lab/events", content=b"[]", headers=JSON)
    other = client.post("/v1/lab/events", content=b"x", headers={"content-type": "text/html"})

    assert (empty.status_code, other.status_code) == (400, 415)


def test_without_the_policy_one_bad_row_refuses_the_request(
    catalog: Catalog, client: httpx.Client
) -> None:
    answer = client.post("/v1/lab/strict", json=[{"id": 1}, {"id": "two"}])

    assert (answer.status_code, answer.json()["row"]) == (422, 1)


def test_a_policy_that_there_is_not_is_refused_when_it_is_written_down() -> None:
    with pytest.raises(UsageError, match="dead_letter"):
        Stream(on_invalid="dead_letters")


LINE = st.one_of(
    st.builds(lambda n: (True, json.dumps({"id": n}).encode()), st.integers(0, 10**6)),
    st.sampled_from(
        [b"{", b"null", b'{"id": 1.5}', b'{"id": 1}{', b'{"id": 1, "id": 2}', b"\xff", b'{"id":}']
    ).map(lambda raw: (False, raw)),
)


@settings(max_examples=examples(12), deadline=None)
@given(bodies=st.lists(st.lists(LINE, min_size=1, max_size=12), min_size=1, max_size=3))
def test_any_mix_of_lines_is_in_the_table_once_or_among_the_letters_once(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[list[tuple[bool, bytes]]]
) -> None:
    catalog = letter_lake(tmp_path_factory.mktemp("mix"))
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for body in bodies:
            send(client, b"\n".join(raw for _, raw in body), NDJSON)
    written(catalog)
    good = [json.loads(raw)["id"] for body in bodies for fits, raw in body if fits]
    bad = [raw for body in bodies for fits, raw in body if not fits]

    assert ids(catalog) == sorted(good)
    assert sorted(one["value"] for one in letters(catalog)) == sorted(bad)
    catalog.close()


def test_a_table_of_letters_from_before_ids_is_extended(
    catalog: Catalog, client: httpx.Client
) -> None:
    from neuralake.delta import create_table
    from neuralake.writer.rejected import REJECTED_SCHEMA

    uri = catalog.uri_of(catalog.definition("lab", "events")) + "_rejected"
    create_table(uri, pa.schema(list(REJECTED_SCHEMA)[:6]))

    send(client, b"1", JSON)
    written(catalog)

    assert pl.scan_delta(uri).collect()["source"].to_list() == ["127.0.0.1"]
