"""Every error answers in one shape, with its facts and without secrets."""

from __future__ import annotations

import json
from pathlib import Path

from starlette.exceptions import HTTPException

from neuralake.errors import InvalidRows, NeedsAttention, QueueFull, Unavailable, UnknownName
from neuralake.serve.problem import PROBLEM_MEDIA_TYPE, problem_response


def test_the_facts_of_an_error_are_members_of_the_problem() -> None:
    error = UnknownName("No table 'spike'.", kind="table", name="spike", known=["spikes"])

    response = problem_response(error)

    assert response.status_code == 404
    assert response.media_type == PROBLEM_MEDIA_TYPE
    assert json.loads(bytes(response.body)) == {
        "type": "urn:neuralake:problem:unknown-name",
        "title": "Unknown name",
        "status": 404,
        "detail": "No table 'spike'.",
        "kind": "table",
        "name": "spike",
        "known": ["spikes"],
    }


def test_the_type_is_one_of_the_documented_tree() -> None:
    """A part's own subclass, here of a look-up in the catalog, does not show."""

    class NoSuchName(UnknownName, AttributeError):
        pass

    found = json.loads(bytes(problem_response(NoSuchName("No table.")).body))

    assert found["type"] == "urn:neuralake:problem:unknown-name"


def test_a_fact_named_like_a_standard_member_does_not_replace_it() -> None:
    found = json.loads(bytes(problem_response(InvalidRows("Bad.", status=200, row=3)).body))

    assert (found["status"], found["row"]) == (422, 3)


def test_an_error_that_waiting_helps_says_how_long_in_whole_seconds() -> None:
    assert problem_response(QueueFull("Full.", retry_after_s=0.2)).headers["Retry-After"] == "1"
    assert problem_response(QueueFull("Full.", retry_after_s=2.2)).headers["Retry-After"] == "3"


def test_an_error_that_is_not_ours_does_not_tell_its_text() -> None:
    response = problem_response(OSError("/home/somebody/secret is missing"))

    assert response.status_code == 500
    assert b"secret" not in bytes(response.body)


def test_of_a_path_only_its_end_is_told() -> None:
    error = NeedsAttention(
        "The log of /home/somebody/lake/lab/spikes cannot be read: '/home/somebody/lake/x.json'.",
        uri="/home/somebody/lake/lab/spikes",
        path=Path("/home/somebody/queue.sqlite"),
    )

    found = json.loads(bytes(problem_response(error).body))

    assert found["detail"] == "The log of …/spikes cannot be read: '…/x.json'."
    assert (found["uri"], found["path"]) == ("…/spikes", "…/queue.sqlite")


def test_of_a_place_in_a_store_only_the_last_part_is_told() -> None:
    error = NeedsAttention(
        "'s3://lab-data/lake/spikes' and s3a://lab-data/lake/y/ of s3://lab-data do not agree.",
        uri="s3://lab-data/lake/spikes",
    )

    found = json.loads(bytes(problem_response(error).body))

    assert found["detail"] == "'…/spikes' and …/y of …/ do not agree."
    assert found["uri"] == "…/spikes"


def test_nothing_is_told_of_the_store_behind_a_table() -> None:
    error = Unavailable(
        "s3://lab-data did not answer when asked for 'x/y'. Is its endpoint, http://10.0.0.7:9000, "
        "the right one? There is no bucket 'lab-data' at https://store.lab/.",
        bucket="lab-data",
        reason="error sending request for url (http://10.0.0.7:9000/lab-data/x)",
    )

    text = bytes(problem_response(error).body).decode()

    assert "did not answer" in text
    assert not [word for word in ("lab-data", "10.0.0.7", "store.lab") if word in text]


def test_what_only_looks_like_a_path_stays() -> None:
    text = "Send text/plain to POST /v1/lab/spikes or http://127.0.0.1/v1/x/y; 1/2/2013, km/h, /x."

    assert json.loads(bytes(problem_response(UnknownName(text)).body))["detail"] == text


def test_an_http_exception_keeps_its_status_and_headers() -> None:
    response = problem_response(HTTPException(405, headers={"Allow": "POST"}))

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert b"it takes POST" in response.body
    assert b"/openapi.json" in problem_response(HTTPException(404)).body


def test_facts_that_json_cannot_hold_become_text() -> None:
    found = json.loads(
        bytes(problem_response(InvalidRows("Bad.", value=float("nan"), raw=b"\x00")).body)
    )

    assert (found["value"], found["raw"]) == ("nan", "b'\\x00'")
