"""Claims about addresses: what a URI of a definition becomes."""

import posixpath
from pathlib import Path

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.errors import UsageError
from neuralake.storage import is_local, local_path, resolve


@pytest.mark.parametrize(
    ("root", "uri", "address"),
    [
        ("/lake", "neural/spikes", "/lake/neural/spikes"),
        ("/lake/", "./neural//spikes/", "/lake/neural/spikes"),
        ("/lake", "neural/../lab/trials", "/lake/lab/trials"),
        ("/lake", "with space/ünï%20", "/lake/with space/ünï%20"),
        ("file:///lake%20one", "t", "/lake one/t"),
        ("s3://bucket/lake/", "neural/spikes", "s3://bucket/lake/neural/spikes"),
        ("/lake", "/data/t", "/data/t"),
        ("/lake", "//data/./t/", "/data/t"),
        ("/lake", "/", "/"),
        ("/lake", "file:///data/a%20b", "/data/a b"),
        ("/lake", "FILE://localhost/data/x#1?2", "/data/x#1?2"),
        ("/lake", "s3://bucket/a/../b/", "s3://bucket/a/../b/"),
        ("s3://bucket", "/data/t", "/data/t"),
    ],
)
def test_an_address_is_an_absolute_path_or_a_url(root: str, uri: str, address: str) -> None:
    assert resolve(root, uri) == address


@pytest.mark.parametrize("uri", ["", ".", "a/..", "..", "../other", "a/../../other", "a\0b"])
def test_a_relative_uri_names_a_folder_below_the_root(uri: str) -> None:
    with pytest.raises(UsageError, match="URI") as caught:
        resolve("/lake", uri)

    assert caught.value.uri == uri


@pytest.mark.parametrize("uri", ["file://server/share", "file://", "file:///a%00b"])
def test_a_file_url_that_names_no_path_here_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="file:///path"):
        resolve("/lake", uri)


def test_a_relative_root_is_seen_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert resolve("lake", "t") == f"{tmp_path}/lake/t"


def test_only_paths_and_file_urls_are_local() -> None:
    assert [is_local(uri) for uri in ["a/b", "/a", "file:///a", "s3://b/a", "gs://b", "a:b"]] == [
        True,
        True,
        True,
        False,
        False,
        True,
    ]
    assert str(local_path("file:///a%20b")) == "/a b"
    with pytest.raises(UsageError, match="local file system"):
        local_path("s3://bucket/a")


@given(uri=st.lists(st.sampled_from(["a", "b c", "..", ".", "", "é"]), max_size=8).map("/".join))
@settings(deadline=None, max_examples=examples(75))
def test_whatever_is_written_it_stays_below_the_root_and_is_stable(uri: str) -> None:
    """An answer to a relative URI lies below the root; resolving it again changes nothing."""
    if uri.startswith("/"):
        return
    try:
        address = resolve("/lake/root", uri)
    except UsageError:
        return

    assert address.startswith("/lake/root/")
    assert posixpath.normpath(address) == address
    assert resolve("/elsewhere", address) == address
