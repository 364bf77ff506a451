"""The media types of bodies: which we read, and how."""

from __future__ import annotations

from functools import lru_cache

from neuralake.errors import UnsupportedMedia
from neuralake.records.json_body import NDJSON

__all__ = [
    "ARROW",
    "CSV",
    "DELIMITERS",
    "FORMATS",
    "JSON",
    "MEDIA_TYPES",
    "NDJSON",
    "PARQUET",
    "TSV",
    "reader_of",
]

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
TSV = "text/tab-separated-values"
MEDIA_TYPES = {
    JSON: JSON,
    NDJSON: NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
    ARROW: ARROW,
    PARQUET: PARQUET,
    CSV: CSV,
    TSV: TSV,
}
"""Media types that we read, and the reader of each."""

DELIMITERS = {CSV: ",", TSV: "\t"}
FORMATS = {
    JSON: "json",
    NDJSON: "ndjson",
    ARROW: "arrow",
    PARQUET: "parquet",
    CSV: "csv",
    TSV: "tsv",
}
"""How a dead letter says what its bytes are."""


# Errors are not kept, so what is has at most the spellings of what we know.
@lru_cache(maxsize=64)
def reader_of(content_type: str) -> str:
    """The media type among `JSON`, `NDJSON`, `ARROW`, `PARQUET`, `CSV` and `TSV` that reads it.

    Raises:
        UnsupportedMedia: there is none, or its charset is not UTF-8.
    """
    media_type, *parameters = [part.strip() for part in content_type.lower().split(";")]
    charsets = [p.removeprefix("charset=").strip('"') for p in parameters if p[:8] == "charset="]
    if media_type not in MEDIA_TYPES or not {*charsets} <= {"utf-8", "utf8"}:
        # What curl -d and HTML forms say of a body of which nothing was said.
        unsaid = media_type in ("", "application/x-www-form-urlencoded")
        what = "The request does not say what its body is." if unsaid else ""
        raise UnsupportedMedia(
            f"{what or f'The content type {content_type!r} is not one we read.'} Send a header "
            f"such as 'Content-Type: {JSON}' (curl -H 'Content-Type: {JSON}'). Known: "
            f"{', '.join(MEDIA_TYPES)}; text is UTF-8.",
            found=content_type,
            known=list(MEDIA_TYPES),
        )
    return MEDIA_TYPES[media_type]
