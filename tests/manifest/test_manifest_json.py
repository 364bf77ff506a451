"""`manifest.json` is versioned, stable, and comes back as the same manifest."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from site_lake import fill, make_catalog

from neuralake.clock import ManualClock
from neuralake.errors import UsageError
from neuralake.manifest import FORMAT, Manifest, describe, from_json, to_json


def test_a_manifest_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    fill(tmp_path)
    manifest = describe(make_catalog(tmp_path, hostile=True), clock=ManualClock())

    text = to_json(manifest)

    assert from_json(text) == manifest
    assert to_json(from_json(text)) == text
    assert msgspec.json.decode(text)["format"] == FORMAT


def test_a_newer_format_is_refused_before_its_fields_are_read() -> None:
    newer = msgspec.json.encode({"format": FORMAT + 1, "databases": "something else"})

    with pytest.raises(UsageError, match=f"format {FORMAT + 1}") as caught:
        from_json(newer)
    assert caught.value.found == FORMAT + 1


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": 1, "databases": 3}'])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match="not a neuralake manifest"):
        from_json(text)


def test_an_empty_manifest_is_one() -> None:
    assert from_json(to_json(Manifest())).tables() == []
