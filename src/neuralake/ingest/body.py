"""Read a request's body, bounded while it comes in.

`Content-Length` is used only to refuse early; what is really received is counted. All requests
together hold at most a few bodies of the largest size in memory; more are asked to come back.
"""

from __future__ import annotations

from starlette.requests import Request

from neuralake.errors import TooLarge, Unavailable, UnsupportedMedia

__all__ = ["BodyReader"]

_BODIES_MAX = 4


class BodyReader:
    """Reads bodies of at most `bytes_max`. Use it from one event loop."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held_bytes = 0

    def body(self, request: Request) -> _Held:
        """The whole body, as a context; its memory counts until the context ends.

        Raises (when it is entered):
            TooLarge: more than `bytes_max`.
            UnsupportedMedia: it has a content encoding.
            Unavailable: too many bytes of other requests are held now.
        """
        return _Held(self, request)

    async def _read(self, request: Request, held: _Held) -> bytes:
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise UnsupportedMedia(
                f"The content encoding {encoding!r} is not one we read; send the body as it is.",
                found=encoding,
                known=["identity"],
            )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > self._bytes_max:
            raise self._too_large(int(length))
        chunks: list[bytes] = []
        async for chunk in request.stream():
            held.bytes += len(chunk)
            self._held_bytes += len(chunk)
            if held.bytes > self._bytes_max:
                raise self._too_large(held.bytes)
            if self._held_bytes > _BODIES_MAX * self._bytes_max:
                raise Unavailable(
                    "The server is reading too many large bodies at once; send this again.",
                    retry_after_s=1.0,
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _release(self, held: _Held) -> None:
        self._held_bytes -= held.bytes

    def _too_large(self, found: int) -> TooLarge:
        return TooLarge(
            f"The body has {found} bytes or more; the limit is {self._bytes_max}. Send it in "
            f"parts.",
            limit=self._bytes_max,
            found=found,
            unit="bytes",
        )


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
