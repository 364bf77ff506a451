"""Dead letters as text: for people who look at them, and for files in which they are mended."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from neuralake.errors import UsageError
from neuralake.serve.plain import json_columns
from neuralake.writer import Replacement

if TYPE_CHECKING:
    from neuralake.writer import LetterBox, StoredLetter

__all__ = ["exported", "mended", "readable"]

_BASE64 = "base64:"


class _Line(msgspec.Struct):
    """A line of a file of mended letters; what else it has is for people."""

    id: str
    row: msgspec.Raw = msgspec.Raw(b"null")


def readable(letter: StoredLetter) -> str:
    """The bytes of a letter as text: JSON as it came, Arrow as JSON, anything else in base64."""
    rows = _arrow_rows(letter)
    if rows is not None:
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return _text(letter.value or b"")


def exported(letter: StoredLetter) -> str:
    """A line of JSON with the letter: `row` is what `mended` reads."""
    head: dict[str, Any] = {"id": letter.id, "column": letter.column, "reason": letter.reason}
    rows = _arrow_rows(letter)
    value = letter.value or b""
    raw = _json(value) if rows is None else json.dumps(rows[0] if len(rows) == 1 else rows)
    if raw is None:
        return json.dumps(head | {"row": None, "text": _text(value)})
    # The bytes as they came, and not read and written again: numbers keep all their digits.
    return f'{json.dumps(head)[:-1]}, "row": {raw}}}'


def mended(file: Path, box: LetterBox) -> list[Replacement]:
    """What `file` puts in the places of letters of `box`; lines without a `row` are passed over.

    Raises:
        UsageError: it cannot be read; or a line is not JSON, or has no `id`; with `line`.
        UnknownName: there is no such letter.
    """
    found: list[Replacement] = []
    try:
        lines = file.open("rb")
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}.", name=str(file)) from error
    with lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                read = msgspec.json.decode(line, type=_Line)
            except msgspec.MsgspecError as error:
                raise UsageError(
                    f"{file}, line {number}: {error}. A line is a JSON object with the id of a "
                    f"letter and a row.",
                    line=number,
                ) from None
            if bytes(read.row) != b"null":
                found.append(_replacement(read, box))
    return found


def _replacement(line: _Line, box: LetterBox) -> Replacement:
    attached = box.letter(line.id).attached
    return Replacement(line.id, bytes(line.row), "json", attached)


def _json(value: bytes) -> str | None:
    """`value` if it is JSON, on one line."""
    try:
        msgspec.json.decode(value)
        text = value.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # Line breaks are only white space: JSON has none inside a text.
    return text.strip().replace("\r", " ").replace("\n", " ")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _BASE64 + base64.b64encode(value).decode()


def _arrow_rows(letter: StoredLetter) -> list[dict[str, Any]] | None:
    if letter.format != "arrow":
        return None
    try:
        rows = pa.ipc.open_stream(letter.value or b"").read_all()
        rows.validate(full=True)
        names, found = rows.schema.names, []
        for batch in rows.to_batches():
            columns = [
                column.to_pylist() if pa.types.is_integer(column.type) else values
                for column, values in zip(batch.columns, json_columns(batch), strict=True)
            ]
            found += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    return found
