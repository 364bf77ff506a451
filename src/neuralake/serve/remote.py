"""How the engine reads files of an object store: with the same access as the table's own store.

The options have secrets: they live in this process, and nothing of here is shown or sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

from datafusion import SessionContext
from datafusion.object_store import AmazonS3
from pyarrow import fs

from neuralake.storage import LogStore

__all__ = ["Reach", "filesystem"]


class Reach:
    """What lets one session of the engine read the files of stores."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._stores = 0

    def address(self, store: LogStore) -> Callable[[str], str]:
        """What turns `bucket/key` of `store` into an address that the engine can read.

        Each store has a host of its own: two tables of one bucket may have two accesses.
        """
        bucket = urlsplit(store.uri).netloc
        self._stores += 1
        host = f"store{self._stores}"
        self._context.register_object_store("s3://", _access(store), host)

        def address(path: str) -> str:
            # An address is decoded, and only then a key.
            return f"s3://{host}/{quote(path.removeprefix(f'{bucket}/'))}"

        return address


def _access(store: LogStore) -> AmazonS3:
    options = _short(store.storage_options)
    endpoint = options.get("endpoint_url")
    return AmazonS3(
        urlsplit(store.uri).netloc,
        region=options.get("region"),
        access_key_id=options.get("access_key_id"),
        secret_access_key=options.get("secret_access_key"),
        session_token=options.get("session_token"),
        endpoint=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http:")),
    )


def filesystem(store: LogStore) -> fs.FileSystem:
    """Where pyarrow finds the store's files, as `bucket/key`."""
    options = _short(store.storage_options)
    scheme, _, host = options.get("endpoint_url", "").rstrip("/").rpartition("://")
    return fs.S3FileSystem(
        access_key=options.get("access_key_id"),
        secret_key=options.get("secret_access_key"),
        session_token=options.get("session_token"),
        region=options.get("region"),
        scheme=scheme or "https",
        endpoint_override=host or None,
    )


def _short(options: Mapping[str, str]) -> dict[str, str]:
    return {name.lower().removeprefix("aws_"): value for name, value in options.items()}
