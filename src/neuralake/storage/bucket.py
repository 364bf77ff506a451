"""Requests to one S3 bucket: each repeated while that can help, and then the truth about it.

The client underneath repeats nothing by itself: if it repeated a conditional put whose answer was
lost, it would find its own object and call it somebody else's. Here a put that may have been stored
is remembered, and what follows is `OutcomeUnknown` instead.
"""

from __future__ import annotations

import io
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from neuralake.clock import SystemClock
from neuralake.errors import NeuralakeError, SettingsError, Unavailable, UnsupportedFeature
from neuralake.storage.access import Access
from neuralake.storage.protocol import AlreadyThere, Bytes, OutcomeUnknown, Sink
from neuralake.storage.retry import Patience

if TYPE_CHECKING:
    from obstore.store import S3Store as Client

__all__ = ["Bucket", "StoredObject"]

_Answer = TypeVar("_Answer")
_PART_BYTES = 8 * 1024 * 1024
# What S3 lists, or removes, with one request.
_PAGE = 1000
# Of these S3 says that nothing was done and that the same request may work later.
_NOTHING_DONE = {"SlowDown", "RequestTimeout", "RequestLimitExceeded", "ExpiredToken"}
# In the client's account of its error, one fact a line; names of objects and what servers say have
# no line breaks there, and so cannot pass for one.
_STATUS = re.compile(r"^ +status: (\d{3}),$", re.MULTILINE)
_KIND = re.compile(r"^ +kind: (\w+),$", re.MULTILINE)
_REDIRECT = re.compile(r"^ +inner: BareRedirect,$", re.MULTILINE)
_CODE = re.compile(r"^ +body: Some\(\n +\".*?<Code>(\w{1,60})</Code>", re.MULTILINE)
# How long the client keeps credentials before it asks `Access` again.
_KEY_AGE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing or a HEAD shows it."""

    key: str
    bytes: int
    modified_s: float
    etag: str


class _Kind(Enum):
    MISSING = "is not there"
    THERE = "is there already"
    REFUSED = "was refused"
    NOTHING_DONE = "was not done, and may be asked again"
    UNKNOWN = "may or may not have been done"


@dataclass(frozen=True, slots=True)
class _Fault:
    kind: _Kind
    reason: str
    """For people: `403 AccessDenied`, `no connection`. Never the server's whole answer, which may
    repeat keys and signatures."""
    code: str = ""


class Bucket:
    """One bucket, as `access` reaches it; safe for use by several threads.

    `requests` counts what was asked, by kind: `put`, `put_if_absent`, `get`, `head`, `list`,
    `delete`, `upload`. A repeated request counts again; an upload counts once, however many parts.

    Args:
        request_s_max: longest time one request may take, with its body.
    """

    def __init__(
        self,
        access: Access,
        *,
        patience: Patience | None = None,
        request_s_max: float = 60.0,
    ) -> None:
        self._access, self._patience = access, patience or Patience()
        self._once = _client(access, retries=0, request_s_max=request_s_max)
        # Parts of an upload have numbers: repeating one is harmless, and the client does it best.
        self._steady = _client(access, retries=8, request_s_max=request_s_max)
        self._counted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"

    @property
    def name(self) -> str:
        return self._access.bucket

    @property
    def requests(self) -> Counter[str]:
        """A copy of the counts so far."""
        with self._lock:
            return self._counted.copy()

    def put_if_absent(self, key: str, data: Bytes) -> None:
        """Store `data` where nothing is.

        Raises: as `LogStore.put_if_absent`, and UnsupportedFeature if the server has no
        conditional put.
        """
        import obstore

        self._check_credentials()
        data, fault, doubtful = _octets(data), None, False
        for _ in self._patience.tries():
            try:
                self._count("put_if_absent")
                obstore.put(self._once, key, data, mode="create", use_multipart=False)
            except Exception as error:  # noqa: BLE001 the client raises several kinds; see _fault
                fault = _fault(error)
            else:
                return
            if fault.kind is _Kind.UNKNOWN:
                doubtful = True
            elif fault.kind is not _Kind.NOTHING_DONE:
                break
        assert fault is not None  # noqa: S101 there was at least one try
        if doubtful:
            raise OutcomeUnknown(
                f"s3://{self.name} did not say whether {key!r} was stored ({fault.reason}).",
                name=key,
                reason=fault.reason,
            )
        if fault.kind is _Kind.THERE:
            raise AlreadyThere(f"{key!r} is already there.", name=key)
        raise self._error(fault, key)

    def put(self, key: str, data: Bytes) -> None:
        """Store `data`, replacing what is there. Raises Unavailable, SettingsError."""
        import obstore

        data = _octets(data)
        if len(data) > 4 * _PART_BYTES:
            with self.upload(key) as sink:
                for start in range(0, len(data), _PART_BYTES):
                    sink.write(memoryview(data)[start : start + _PART_BYTES])
            return
        self._ask("put", key, lambda: obstore.put(self._once, key, data, use_multipart=False))

    @contextmanager
    def upload(self, key: str) -> Iterator[Sink]:
        """A new object piece by piece: a single put if it is small, else parts of 8 MiB.

        An exception aborts the upload, and the server forgets the parts.
        """
        import obstore

        self._check_credentials()
        self._count("upload")
        writer = obstore.open_writer(self._steady, key, buffer_size=_PART_BYTES, max_concurrency=3)
        sink = _Upload(writer, lambda error: self._error(_fault(error), key))
        try:
            yield sink
        except BaseException:
            sink.abort()
            raise
        try:
            sink.finish()
        except NeuralakeError:
            # The answer to the last request may be what was lost; the name is nobody else's.
            found = self.head(key)
            if found is None or found.bytes != sink.written:
                raise

    def get(self, key: str) -> bytes | None:
        import obstore

        return self._look("get", key, lambda: bytes(obstore.get(self._once, key).bytes()))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` to before `end` of an object that is there."""
        import obstore

        data = self._look(
            "get", key, lambda: bytes(obstore.get_range(self._once, key, start=start, end=end))
        )
        if data is None:
            raise Unavailable(f"{key!r} was removed from s3://{self.name} while it was read.")
        return data

    def get_end(self, key: str, bytes_max: int) -> tuple[bytes, int] | None:
        """The last bytes of an object and its size, in one request; None if it is not there."""
        import obstore

        def ask() -> tuple[bytes, int]:
            found = obstore.get(self._once, key, options={"range": {"suffix": bytes_max}})
            return bytes(found.bytes()), found.meta["size"]

        try:
            return self._look("get", key, ask)
        except _EmptyObjectError:
            return b"", 0

    def head(self, key: str) -> StoredObject | None:
        import obstore

        found = self._look("head", key, lambda: obstore.head(self._once, key))
        return None if found is None else _stored(found)

    def children(self, folder: str) -> list[StoredObject]:
        """Objects right in `folder` (a key without a slash at its end), in order."""
        import obstore

        found = self._ask(
            "list", folder, lambda: obstore.list_with_delimiter(self._once, folder or None)
        )
        return sorted((_stored(item) for item in found["objects"]), key=_key)

    def below(self, folder: str, *, after: str = "") -> Iterator[StoredObject]:
        """Objects anywhere below `folder` with keys behind `after`, in order, page by page.

        A failure in the middle goes on behind the last key that was seen.
        """
        import obstore

        last = after
        pages: Iterator[Any] | None = None

        def ask() -> list[Any]:
            nonlocal pages
            if pages is None:
                pages = iter(
                    obstore.list(self._once, folder or None, offset=last or None, chunk_size=_PAGE)
                )
            try:
                return [*next(pages, [])]
            except BaseException:
                pages = None
                raise

        while page := self._ask("list", folder, ask):
            yield from (_stored(item) for item in page)
            if len(page) < _PAGE:
                return
            last = page[-1]["path"]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, a thousand with each request; missing ones are no error."""
        import obstore

        asked = [*keys]
        for start in range(0, len(asked), _PAGE):
            some = asked[start : start + _PAGE]
            self._ask("delete", some[0], partial(obstore.delete, self._once, some))

    def _look(self, kind: str, key: str, request: Callable[[], _Answer]) -> _Answer | None:
        """The answer about an object; None if it is not there."""
        try:
            return self._ask(kind, key, request)
        except _MissingError:
            return None

    def _ask(self, kind: str, key: str, request: Callable[[], _Answer]) -> _Answer:
        """The answer to a request that may be repeated; _MissingError if it is a 404."""
        self._check_credentials()
        fault = None
        for _ in self._patience.tries():
            self._count(kind)
            try:
                return request()
            except Exception as error:  # noqa: BLE001 the client raises several kinds; see _fault
                fault = _fault(error)
            if fault.kind is _Kind.MISSING:
                raise _MissingError(f"s3://{self.name} has no {key!r}.", name=key) from None
            if fault.code == "InvalidRange":
                raise _EmptyObjectError
            if fault.kind not in (_Kind.UNKNOWN, _Kind.NOTHING_DONE):
                break
        assert fault is not None  # noqa: S101 there was at least one try
        # Without its cause, which quotes the server's answer: see `_Fault.reason`.
        raise self._error(fault, key) from None

    def _check_credentials(self) -> None:
        """Raise what is wrong with them here: through the client it would look like a bad line."""
        self._access.credentials()

    def _error(self, fault: _Fault, key: str) -> NeuralakeError:
        """What `fault` means to the caller, with what helps."""
        where = f"s3://{self.name}"
        facts = {"bucket": self.name, "name": key, "reason": fault.reason}
        if fault.code == "NoSuchBucket":
            return SettingsError(
                f"There is no bucket {self.name!r} at {self._access.endpoint or 'AWS'}. Create it, "
                f"or correct the URI or the storage profile's endpoint.",
                **facts,
            )
        if fault.reason.startswith("501"):
            return UnsupportedFeature(
                f"{where} refused {key!r} ({fault.reason}): the server does not implement this.",
                features=["conditional put"],
                **facts,
            )
        if fault.kind in (_Kind.REFUSED, _Kind.MISSING):
            return SettingsError(
                f"{where} refused {key!r} ({fault.reason}). The credentials come from "
                f"{self._access.source}, the region is {self._access.region!r}: check both, what "
                f"they may do in this bucket (s3:ListBucket too: without it S3 does not tell that "
                f"an object is missing), and this machine's clock.",
                **facts,
            )
        return Unavailable(
            f"{where} did not answer for {self._patience.total_s:g} s when asked for {key!r} "
            f"({fault.reason}). Is its endpoint, {self._access.endpoint or 'AWS'}, the right one, "
            f"and can it be reached from here?",
            **facts,
        )

    def _count(self, kind: str) -> None:
        with self._lock:
            self._counted[kind] += 1


class _MissingError(SettingsError):
    """A 404 without `NoSuchBucket`: of a request that looks, that the object is not there; of any
    other, that this is no S3."""


class _EmptyObjectError(Exception):
    """The end of an object without bytes was asked for; the server calls that an error."""


class _Upload(io.RawIOBase):
    """A `Sink` over the client's writer, with our errors; enough of a file for pyarrow."""

    def __init__(self, writer: Any, error_of: Callable[[Exception], NeuralakeError]) -> None:
        super().__init__()
        self._writer, self._error_of = writer, error_of
        self.written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Bytes, /) -> int:  # type: ignore[override] # bytes are all we take
        data = _octets(data)
        try:
            self._writer.write(data)
        except Exception as error:  # noqa: BLE001 the client raises several kinds; see _fault
            raise self._error_of(error) from None
        self.written += len(data)
        return len(data)

    def finish(self) -> None:
        try:
            self._writer.close()
        except Exception as error:  # noqa: BLE001 the client raises several kinds; see _fault
            raise self._error_of(error) from None

    def abort(self) -> None:
        with suppress(Exception):  # The bucket's lifecycle rule takes what could not be aborted.
            self._writer.__exit__(RuntimeError, None, None)


def _client(access: Access, *, retries: int, request_s_max: float) -> Client:
    from obstore.store import S3Store as Client

    config: dict[str, Any] = {"region": access.region, "virtual_hosted_style_request": False}
    if access.endpoint:
        # Both, because a variable of the environment for the one would win over the other.
        config |= {"endpoint": access.endpoint, "aws_endpoint_url_s3": access.endpoint}
    has_own = access.credentials() is not None
    return Client(
        access.bucket,
        config=config,  # type: ignore[arg-type] # a TypedDict, built in steps
        client_options={
            "allow_http": access.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=request_s_max),
        },
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=60)},
        credential_provider=_provider(access) if has_own else None,
    )


def _provider(access: Access) -> Callable[[], Any]:
    def credentials() -> dict[str, Any]:
        found = access.credentials()
        assert found is not None  # noqa: S101 the client is only given this if there are some
        now_s = SystemClock().now_s()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token or None,
            "expires_at": datetime.fromtimestamp(now_s, UTC) + _KEY_AGE,
        }

    return credentials


def _octets(data: Bytes) -> memoryview:
    """`data` as the client takes it: a buffer of pyarrow's counts as numbers, and is refused."""
    return memoryview(data).cast("B")


def _fault(error: Exception) -> _Fault:
    """What a failure of the client says about the request. What is not clear is UNKNOWN."""
    from obstore.exceptions import AlreadyExistsError

    if isinstance(error, TypeError):
        raise error  # A mistake of ours, which no repetition mends.
    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    code = found[1] if (found := _CODE.search(text)) else ""
    reason = f"{status} {code}".strip() if status else _reason(text)
    if isinstance(error, ValueError):
        return _Fault(_Kind.REFUSED, "no valid name of an object")
    if status == 409 or status == 429 or code in _NOTHING_DONE:
        # 409: a conditional put beside another request for the name, and neither took place.
        return _Fault(_Kind.NOTHING_DONE, reason, code)
    if isinstance(error, AlreadyExistsError) or status == 412:
        return _Fault(_Kind.THERE, reason, code)
    if status == 404 and code not in ("NoSuchBucket", "NoSuchUpload"):
        return _Fault(_Kind.MISSING, reason, code)
    if 400 <= status < 500 or status == 501 or _REDIRECT.search(text):
        return _Fault(_Kind.REFUSED, reason, code)
    if not status and "Connect" in _KIND.findall(text):
        return _Fault(_Kind.NOTHING_DONE, reason, code)
    return _Fault(_Kind.UNKNOWN, reason, code)


def _reason(text: str) -> str:
    if _REDIRECT.search(text):
        return "redirected: the bucket is in another region"
    kinds = _KIND.findall(text)
    if "Connect" in kinds:
        return "no connection"
    return "no answer in time" if "Timeout" in kinds else "the connection broke"


def _stored(item: Any) -> StoredObject:
    return StoredObject(
        item["path"],
        item["size"],
        item["last_modified"].timestamp(),
        item["e_tag"] or f"{item['last_modified'].isoformat()}-{item['size']}",
    )


def _key(stored: StoredObject) -> str:
    return stored.key
