"""JSON that is made to cost: no body takes time or memory out of proportion to its bytes."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from neuralake.errors import InvalidRows, UsageError
from neuralake.records.decode import Decoder
from neuralake.records.media_types import JSON, NDJSON
from neuralake.settings import IngestSettings

SCHEMA = pa.schema([("session", pa.string()), ("id", pa.int64())])


def decoder(**limits: int) -> Decoder:
    return Decoder(SCHEMA, name="t", partition_by=[], limits=IngestSettings(**limits))


@pytest.mark.parametrize("media", [JSON, NDJSON])
def test_a_name_that_comes_twice_among_a_great_many_is_found(media: str) -> None:
    """Searching each name in the list of all would compare 10^11 pairs."""
    names = [f"n{number}" for number in range(300_000)]
    body = "{" + ",".join(f'"{name}":1' for name in [*names, "z", "z"]) + "}"

    with pytest.raises(UsageError, match=r"'z'.*twice"):
        decoder().rows(body.encode(), media)


def test_the_error_for_a_name_of_megabytes_is_short() -> None:
    """It would be sent back three times over, and compared with every column."""
    body = json.dumps({"session" * 1_000_000: 1}).encode()

    with pytest.raises(InvalidRows, match="no such column") as caught:
        decoder().rows(body, JSON)

    assert len(caught.value.message) < 1000
    assert len(caught.value.column) < 1000
