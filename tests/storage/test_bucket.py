"""What a failed request becomes: the truth about it, what helps, and never a secret."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from canned_server import Answer, canned

from neuralake.clock import ManualClock
from neuralake.errors import NeuralakeError, SettingsError, Unavailable, UnsupportedFeature
from neuralake.storage import AlreadyThere, OutcomeUnknown
from neuralake.storage.access import Access, Credentials, credentials_of
from neuralake.storage.bucket import Bucket
from neuralake.storage.retry import Patience

SECRET = "s3cr3t/that+nobody/should=see"  # noqa: S105 made up, to be looked for
OK = Answer(200)


def bucket_at(endpoint: str) -> Bucket:
    access = Access(
        "lake",
        "a test",
        lambda: Credentials("AKIDTEST", SECRET, "t0ken"),
        endpoint=endpoint,
    )
    # Waits take no time.
    return Bucket(access, patience=Patience(2.0, longest_s=0.1, seed=1, clock=ManualClock()))


def put_new(bucket: Bucket) -> None:
    bucket.put_if_absent("table/name", b"data")


def put(bucket: Bucket) -> None:
    bucket.put("table/name", b"data")


def get(bucket: Bucket) -> None:
    bucket.get("table/name")


def list_all(bucket: Bucket) -> None:
    [*bucket.below("table")]


REFUSALS = [
    (Answer(403, "AccessDenied", f"{SECRET} AKIDTEST"), SettingsError, "403 AccessDenied"),
    (Answer(403, "SignatureDoesNotMatch", SECRET), SettingsError, "SignatureDoesNotMatch"),
    (Answer(401), SettingsError, "401"),
    (Answer(400, "InvalidRequest"), SettingsError, "400 InvalidRequest"),
    (Answer(404, "NoSuchBucket"), SettingsError, "no bucket 'lake'"),
    (Answer(301), SettingsError, "another region"),
]


@pytest.mark.parametrize("request_", [put_new, put, get, list_all])
@pytest.mark.parametrize(("answer", "kind", "words"), REFUSALS)
def test_a_refusal_is_told_at_once_with_what_helps(
    request_: Callable[[Bucket], None], answer: Answer, kind: type[NeuralakeError], words: str
) -> None:
    with canned([answer]) as (endpoint, seen), pytest.raises(kind, match=words) as caught:
        request_(bucket_at(endpoint))

    assert len(seen) == 1
    assert caught.value.bucket == "lake"


@pytest.mark.parametrize(("answer", "kind", "words"), REFUSALS)
def test_no_failure_shows_a_secret(
    answer: Answer, kind: type[NeuralakeError], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers quote what they were sent; neither the error, its cause nor a log repeats that."""
    with canned([answer]) as (endpoint, _), pytest.raises(kind, match=words) as caught:
        get(bucket_at(endpoint))

    error: BaseException | None = caught.value
    while error is not None:
        told = f"{error!r} {error} {getattr(error, 'facts', '')}"
        assert not any(secret in told for secret in (SECRET, "AKIDTEST", "t0ken"))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "failure",
    [
        Answer(503, "SlowDown"),
        Answer(429),
        Answer(409, "ConditionalRequestConflict"),
        Answer(400, "RequestTimeout"),
    ],
)
def test_what_was_certainly_not_done_is_asked_again(failure: Answer) -> None:
    """409 is two conditional puts at once of which neither took place, not an object that is
    there, as the client underneath calls it."""
    with canned([failure, failure, OK]) as (endpoint, seen):
        put_new(bucket_at(endpoint))
        assert len(seen) == 3
    then = [failure, Answer(412, "PreconditionFailed")]
    with canned(then) as (endpoint, _), pytest.raises(AlreadyThere):
        put_new(bucket_at(endpoint))
    with canned([failure]) as (endpoint, seen):
        with pytest.raises(Unavailable, match="did not answer for"):
            put_new(bucket_at(endpoint))
        assert len(seen) > 3


@pytest.mark.parametrize("failure", [Answer(500, "InternalError"), Answer(502), Answer(0)])
def test_after_a_put_that_may_have_been_done_nothing_is_called_somebody_elses(
    failure: Answer,
) -> None:
    """Nor is it called failed: what it wrote must stay until the name was looked up."""
    with canned([failure, OK]) as (endpoint, _):
        put_new(bucket_at(endpoint))
    for then in [Answer(412, "PreconditionFailed"), Answer(403, "AccessDenied"), failure]:
        with canned([failure, then]) as (endpoint, _):
            with pytest.raises(OutcomeUnknown) as caught:
                put_new(bucket_at(endpoint))
            assert caught.value.name == "table/name"


@pytest.mark.parametrize("failure", [Answer(500, "InternalError"), Answer(0), Answer(429)])
def test_requests_that_may_be_repeated_are(failure: Answer) -> None:
    for ask in (put, get):
        with canned([failure, failure, OK]) as (endpoint, seen):
            bucket = bucket_at(endpoint)
            ask(bucket)
            assert len(seen) == 3
            assert sum(bucket.requests.values()) == 3


def test_nobody_at_home_is_unavailable_not_unknown() -> None:
    with pytest.raises(Unavailable, match="no connection"):
        put_new(bucket_at("http://127.0.0.1:9"))


def test_a_404_is_only_an_answer_to_who_looks() -> None:
    """A put that ends so was not done, whatever the server is."""
    with canned([Answer(404)]) as (endpoint, _):
        bucket = bucket_at(endpoint)
        assert bucket.get("name") is None
        assert bucket.head("name") is None
        for ask in (put, put_new, list_all):
            with pytest.raises(SettingsError):
                ask(bucket)


@pytest.mark.parametrize("name", ["status: 404,", "<Code>SlowDown</Code>", "kind: Connect,", '"a'])
def test_a_name_cannot_pass_for_an_answer(name: str) -> None:
    """Values of partitions are in names, and anybody may send them."""
    spoof = f'x\n      {name}\n body: Some(\n "{name}'.replace("\n", "%0A")
    for key in (spoof, name):
        with (
            canned([Answer(500, "InternalError", name), Answer(412, "PreconditionFailed")]) as (
                endpoint,
                _,
            ),
            pytest.raises(OutcomeUnknown),
        ):
            bucket_at(endpoint).put_if_absent(key, b"data")


def test_a_server_without_conditional_put_says_so() -> None:
    with canned([Answer(501, "NotImplemented")]) as (endpoint, seen):
        with pytest.raises(UnsupportedFeature) as caught:
            put_new(bucket_at(endpoint))
        assert len(seen) == 1
    assert caught.value.features == ["conditional put"]


def test_credentials_that_vanished_are_told_as_such(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys", ManualClock()
    path.write_text(f"[default]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n")
    credentials, source = credentials_of(f"file:{path}", {}, clock=clock)
    with canned([OK]) as (endpoint, seen):
        bucket = Bucket(Access("lake", source, credentials, endpoint=endpoint))
        put_new(bucket)
        path.unlink()
        clock.advance(61)
        for ask in (put_new, put, get):
            with pytest.raises(SettingsError, match="No aws_access_key_id"):
                ask(bucket)
    assert len(seen) == 1


def test_a_name_that_no_object_can_have_is_refused_unasked() -> None:
    with canned([OK]) as (endpoint, seen):
        with pytest.raises(SettingsError, match="no valid name"):
            bucket_at(endpoint).put("a/../b", b"")
        assert seen == []


def test_waits_are_random_grow_and_end_in_time() -> None:
    times = []
    for seed in (1, 2):
        clock = ManualClock(0.0)
        patience = Patience(30.0, first_s=0.1, longest_s=5.0, clock=clock, seed=seed)
        times.append([clock.now_s() for _ in patience.tries()])

    assert times[0] != times[1]
    assert all(6 < len(tries) < 40 and 20 < tries[-1] <= 30 for tries in times)
    assert all(later - sooner <= 5 for tries in times for sooner, later in pairwise(tries))
    assert all(tries[1] <= 0.1 for tries in times)
