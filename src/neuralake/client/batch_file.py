"""The file of one batch: frames with checksums, so that what a crash cut off is told from damage.

    frame:  length, rows, CRC of the content, CRC of these three (little-endian, 32 bits), content

The first frame is the batch's form as JSON; every further one is a part. Only the last frame of a
file can be one that a crash cut off: each is synced before the next is written.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import msgspec

from neuralake.client.body import Form, Part
from neuralake.errors import NeedsAttention

__all__ = ["OVERHEAD_BYTES", "Content", "form_frame", "frame", "read_batch"]

_HEAD = struct.Struct("<III")
_CHECK = struct.Struct("<I")
OVERHEAD_BYTES = _HEAD.size + _CHECK.size
"""What a frame has besides its content."""


class _Form(msgspec.Struct, frozen=True):
    version: int
    table: str
    media_type: str
    head: str
    tail: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds."""

    parts: list[Part]
    length: int
    """Bytes up to the end of the last whole frame."""


def frame(content: bytes, rows: int) -> bytes:
    """One frame."""
    head = _HEAD.pack(len(content), rows, crc32(content))
    return head + _CHECK.pack(crc32(head)) + content


def form_frame(form: Form, table: str) -> bytes:
    """The first frame of a file."""
    head, tail = (base64.b64encode(text).decode() for text in (form.head, form.tail))
    return frame(msgspec.json.encode(_Form(1, table, form.media_type, head, tail)), 0)


def read_batch(path: Path, *, is_whole: bool) -> Content:
    """The parts in the file at `path`; none if a crash cut its beginning off.

    `is_whole`: no crash can have cut it off, so that whatever does not fit is damage.

    Raises:
        NeedsAttention: it is damaged.
    """
    data = path.read_bytes()
    contents: list[tuple[bytes, int]] = []
    at = 0
    while at < len(data):
        found = _frame_at(data, at)
        if found is None:
            # A crash cuts the last frame off; what has others behind it was damaged later.
            following = _end_of(data, at)
            if is_whole or (following and _frame_at(data, following)):
                raise _damaged(path, at)
            break
        contents.append(found)
        at += OVERHEAD_BYTES + len(found[0])
    if is_whole and len(contents) < 2:
        raise _damaged(path, at)
    if not contents:
        return Content([], 0)
    form = _form(contents[0][0], path)
    return Content([Part(form, content, rows) for content, rows in contents[1:]], at)


def _frame_at(data: bytes, at: int) -> tuple[bytes, int] | None:
    end = _end_of(data, at)
    if not end or end > len(data):
        return None
    _, rows, check = _HEAD.unpack_from(data, at)
    content = data[at + OVERHEAD_BYTES : end]
    return (content, rows) if crc32(content) == check else None


def _end_of(data: bytes, at: int) -> int:
    """Where the frame at `at` says that it ends; 0 if it does not say."""
    if at + OVERHEAD_BYTES > len(data):
        return 0
    head = data[at : at + _HEAD.size]
    if _CHECK.unpack_from(data, at + _HEAD.size)[0] != crc32(head):
        return 0
    return at + OVERHEAD_BYTES + int(_HEAD.unpack(head)[0])


def _form(content: bytes, path: Path) -> Form:
    try:
        found = msgspec.json.decode(content, type=_Form)
        if found.version != 1:
            raise NeedsAttention(
                f"{path} was written by a newer release of neuralake. Upgrade this one.",
                path=str(path),
            )
        return Form(found.media_type, base64.b64decode(found.head), base64.b64decode(found.tail))
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(path, 0) from error


def _damaged(path: Path, at: int) -> NeedsAttention:
    return NeedsAttention(
        f"The spooled batch {path} is damaged at byte {at}. Its rows were promised to be sent, so "
        f"none after it are: restore the file, or move it and all of its table away, and look in "
        f"the table for what is missing.",
        path=str(path),
        offset=at,
    )
