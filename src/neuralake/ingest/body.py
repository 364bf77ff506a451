"""Read a request's body, bounded while it comes in, and unpack it, bounded while it grows.

`Content-Length` is used only to refuse early; what is really received is counted. All requests
together hold at most a few bodies of the largest size in memory; more are asked to come back.
"""

from __future__ import annotations

import asyncio

import pyarrow as pa
from starlette.requests import Request

from neuralake.errors import TooLarge, Unavailable, UnsupportedMedia, UsageError

__all__ = ["BodyReader"]

_BODIES_MAX = 4
_UNPACKING_MAX = 2

_CODECS = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
"""Content encodings that we read (RFC 9110, section 8.4; zstd: RFC 8878), and Arrow's name."""

# At a ratio of a thousand, which is the most that gzip has, this takes a few milliseconds.
_INLINE_BYTES_MAX = 4096


class BodyReader:
    """Reads bodies of at most `bytes_max`. Use it from one event loop."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held_bytes = 0
        # How large a body becomes is known when it is: few at a time find out.
        self._unpacking = asyncio.Semaphore(_UNPACKING_MAX)

    def body(self, request: Request) -> _Held:
        """The whole body, as a context; its memory counts until the context ends.

        Raises (when it is entered):
            TooLarge: more than `bytes_max`, as sent or unpacked.
            UnsupportedMedia: its content encoding is none that we read.
            UsageError: it cannot be unpacked: damaged, or cut off.
            Unavailable: too many bytes of other requests are held now.
        """
        return _Held(self, request)

    async def _read(self, request: Request, held: _Held) -> bytes:
        codec = _codec(request.headers.get("content-encoding", "identity"))
        body = await self._receive(request, held)
        if codec is None:
            return body
        if len(body) <= _INLINE_BYTES_MAX:
            unpacked = self._unpack(body, codec)
        else:
            async with self._unpacking:
                unpacked = await asyncio.to_thread(self._unpack, body, codec)
        self._release(held)
        self._hold(held, len(unpacked))
        return unpacked

    async def _receive(self, request: Request, held: _Held) -> bytes:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > self._bytes_max:
            raise self._too_large(int(length))
        chunks: list[bytes] = []
        async for chunk in request.stream():
            if held.bytes + len(chunk) > self._bytes_max:
                raise self._too_large(held.bytes + len(chunk))
            self._hold(held, len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)

    def _unpack(self, body: bytes, codec: str) -> bytes:
        try:
            with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
                unpacked: bytes = stream.read(self._bytes_max + 1)
        except (pa.ArrowException, OSError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"The body says that it is packed with {codec}, but cannot be unpacked: {said}.",
                reason=said,
            ) from error
        if len(unpacked) > self._bytes_max:
            raise self._too_large(len(unpacked), "unpacked ")
        return unpacked

    def _hold(self, held: _Held, count: int) -> None:
        held.bytes += count
        self._held_bytes += count
        if self._held_bytes > _BODIES_MAX * self._bytes_max:
            raise Unavailable(
                "The server is reading too many large bodies at once; send this again.",
                retry_after_s=1.0,
            )

    def _release(self, held: _Held) -> None:
        self._held_bytes -= held.bytes
        held.bytes = 0

    def _too_large(self, found: int, what: str = "") -> TooLarge:
        return TooLarge(
            f"The body has {found} {what}bytes or more; the limit is {self._bytes_max}. Send it in "
            f"parts.",
            limit=self._bytes_max,
            found=found,
            unit="bytes",
        )


def _codec(encoding: str) -> str | None:
    """Arrow's name of the codec; None if the body comes as it is."""
    said = encoding.strip().lower()
    if said in ("", "identity"):
        return None
    if said not in _CODECS:
        raise UnsupportedMedia(
            f"The content encoding {encoding[:80]!r} is not one we read. Known: identity, "
            f"{', '.join(_CODECS)}; one of them, not several.",
            found=encoding[:80],
            known=["identity", *_CODECS],
        )
    return _CODECS[said]


class _Held:
    """A class and no generator: this is on the way of every event."""

    __slots__ = ("_reader", "_request", "bytes")

    def __init__(self, reader: BodyReader, request: Request) -> None:
        self._reader, self._request = reader, request
        self.bytes = 0

    async def __aenter__(self) -> bytes:
        try:
            return await self._reader._read(self._request, self)
        except BaseException:
            self._reader._release(self)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._reader._release(self)
