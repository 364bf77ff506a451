"""A table's folder in S3 or a server that speaks its protocol: `If-None-Match: *` decides commits.

The server must honour that header; some ignore it and overwrite. The first entry of a log is only
put after the server has shown that it does.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from neuralake.errors import NeuralakeError, Unavailable, UnsupportedFeature
from neuralake.storage.access import Access
from neuralake.storage.bucket import Bucket
from neuralake.storage.protocol import AlreadyThere, Bytes, OutcomeUnknown, Sink, StoredFile
from neuralake.storage.ranged import END_BYTES, RangedFile

__all__ = ["S3Store"]

_FIRST_ENTRY = f"_delta_log/{0:020d}.json"
# Threads that wait for the server; they start when first used.
_POOL = ThreadPoolExecutor(16, thread_name_prefix="neuralake-s3")


class S3Store:
    """The folder `prefix` of a bucket. A steady append is two requests: its file and its entry."""

    def __init__(self, bucket: Bucket, prefix: str, access: Access) -> None:
        self._bucket, self._prefix, self._access = bucket, prefix.strip("/"), access

    def __repr__(self) -> str:
        return f"S3Store({self.uri!r})"

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket.name}/{self._prefix}".rstrip("/")

    @property
    def coordination(self) -> str:
        return "conditional-put"

    @property
    def requests(self) -> Counter[str]:
        """Requests to the bucket so far, by kind; shared with other tables of the same client."""
        return self._bucket.requests

    @property
    def storage_options(self) -> Mapping[str, str]:
        options = {"AWS_REGION": self._access.region, "AWS_CONDITIONAL_PUT": "etag"}
        if self._access.endpoint:
            options["AWS_ENDPOINT_URL"] = self._access.endpoint
            options["AWS_ALLOW_HTTP"] = str(self._access.endpoint.startswith("http://")).lower()
        if found := self._access.credentials():
            options["AWS_ACCESS_KEY_ID"] = found.access_key
            options["AWS_SECRET_ACCESS_KEY"] = found.secret_key
            if found.token:
                options["AWS_SESSION_TOKEN"] = found.token
        return options

    @property
    def stamp_age_s_max(self) -> float:
        return 10.0

    def put_if_absent(self, name: str, data: Bytes) -> None:
        if name == _FIRST_ENTRY:
            self.check()
        self._bucket.put_if_absent(self._key(name), data)

    def put(self, files: Mapping[str, Bytes]) -> None:
        errors = [*self._put_all(files)]
        for error in errors:
            if error is not None:
                self.remove(files)
                raise error

    def _put_all(self, files: Mapping[str, Bytes]) -> Iterable[NeuralakeError | None]:
        if len(files) == 1:
            return [self._try_put(item) for item in files.items()]
        return _POOL.map(self._try_put, files.items())

    def _try_put(self, item: tuple[str, Bytes]) -> NeuralakeError | None:
        name, data = item
        try:
            self._bucket.put(self._key(name), data)
        except NeuralakeError as error:
            return error
        return None

    @contextmanager
    def create(self, name: str) -> Iterator[Sink]:
        with self._bucket.upload(self._key(name)) as sink:
            yield sink

    def read(self, name: str) -> bytes | None:
        return self._bucket.get(self._key(name))

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO | None]:
        key = self._key(name)
        found = self._bucket.get_end(key, END_BYTES)
        if found is None:
            yield None
            return
        end, size = found
        file = RangedFile(size, end, lambda start, stop: self._bucket.get_range(key, start, stop))
        with file:
            yield cast(BinaryIO, file)

    def stamp(self, name: str) -> str | None:
        found = self._bucket.head(self._key(name))
        return None if found is None else found.etag

    def names(self, folder: str, *, after: str = "") -> list[str]:
        key = self._key(folder)
        start = len(key) + 1 if key else 0
        if after:
            # Only what is behind: the log of an old table is long, its end is short.
            found: Iterable[str] = (
                item.key for item in self._bucket.below(key, after=f"{key}/{after}".lstrip("/"))
            )
        else:
            # Without what lies in its folders: thousands of temporary files may.
            found = (item.key for item in self._bucket.children(key))
        return [key[start:] for key in found if "/" not in key[start:] and key[start:] > after]

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        start = len(self._prefix) + 1 if self._prefix else 0
        for item in self._bucket.below(self._key(folder)):
            yield StoredFile(item.key[start:], item.bytes, item.modified_s)

    def remove(self, names: Iterable[str]) -> None:
        try:
            self._bucket.delete(self._key(name) for name in names)
        except NeuralakeError:
            return  # An unreferenced file is harmless; vacuum takes it.

    def settle(self) -> None:
        """Nothing to do: what S3 shows is durable."""

    def recover(self) -> None:
        """Nothing to do: a commit here is one step."""

    def check(self) -> None:
        """Make sure that the bucket can be written to, and that it honours `If-None-Match`.

        Raises:
            UnsupportedFeature: it overwrites, or refuses the header: two commits of one version
                could both succeed there.
            SettingsError: no such bucket, or no permission.
        """
        name = f"_neuralake/probe-{uuid.uuid4().hex}"
        try:
            with suppress(OutcomeUnknown):
                self._bucket.put_if_absent(self._key(name), b"first")
            self._bucket.put_if_absent(self._key(name), b"second")
        except AlreadyThere:
            return
        except OutcomeUnknown as error:
            raise Unavailable(f"{error} Nothing else was tried.", name=name) from error
        finally:
            self.remove([name])
        raise UnsupportedFeature(
            f"The server of s3://{self._bucket.name} ignores If-None-Match: it would let two "
            f"commits overwrite each other. Use coordination 'dynamodb', or a server that honours "
            f"the header (AWS, MinIO, versitygw, Cloudflare R2 do).",
            features=["conditional put"],
            bucket=self._bucket.name,
        )

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")
