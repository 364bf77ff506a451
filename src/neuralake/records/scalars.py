"""What one JSON value means for a declared leaf type: the exact reading, with a reason if not.

These functions are the definition of what ingest accepts; every faster path must agree with them.
JSON comes in as `parse_json` reads it: integers as `int`, all other numbers as `Decimal` (nothing
is rounded before the type is known). The result is what Arrow takes without a further change:
timestamps as microseconds, dates as days since 1970. A value that does not fit raises `Misfit`
with the reason; where it was is for the caller to say.

- integers: a JSON number with an integral value in range (`1`, `1.0`, `1e3`); no text, no bool.
- floats: a JSON number; or the texts "NaN", "Infinity", "-Infinity", since JSON has no numbers for
  them (as Protobuf's JSON does). A number too large for the type is refused, never infinity.
- decimals: a number or a text, kept exactly; too many digits is refused, never rounded.
- timestamps: `2013-01-01T10:20:30.123456Z`: date, `T` or a space, at least the hour; a fraction of
  up to six digits (more only if zero). UTC columns need a zone (`Z`, `+01`, `+0100`, `+01:00`);
  columns without a zone refuse one.
- dates: `2013-01-01`. Binary: base64 with padding. Booleans: `true` and `false` only.
"""

from __future__ import annotations

import binascii
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Callable
from datetime import date
from decimal import Context, Decimal, DecimalException
from typing import Any

import pyarrow as pa

__all__ = [
    "DAYS_MAX",
    "DAYS_MIN",
    "DAY_US",
    "TIMESTAMP_US_MAX",
    "TIMESTAMP_US_MIN",
    "Misfit",
    "after_space",
    "as_number",
    "leaf_reader",
    "parse_json",
]

Reader = Callable[[Any], Any]

_EPOCH_DAY = date(1970, 1, 1).toordinal()
DAY_US = 86_400_000_000
# Years 1 to 9999: what Python, Spark and Polars all can show.
DAYS_MIN = date.min.toordinal() - _EPOCH_DAY
DAYS_MAX = date.max.toordinal() - _EPOCH_DAY
TIMESTAMP_US_MIN = DAYS_MIN * DAY_US
TIMESTAMP_US_MAX = (DAYS_MAX + 1) * DAY_US - 1

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?"
    r"(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# No error is longer than its sender's patience, even if a name in the body has megabytes.
_PATH_LENGTH_MAX = 300
_NEGATIVE_ZERO = Decimal("-0")
_WIDE = Context(prec=80)  # Wider than any decimal128, so that quantize never rounds digits away.


class Misfit(Exception):
    """A value does not fit. `path` grows from the leaf outwards, as callers add their names."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        if len(path) > _PATH_LENGTH_MAX:
            path = path[: _PATH_LENGTH_MAX - 3] + "..."
        # Names come from the sender, and half a surrogate pair could not be told back to it.
        self.path = path.encode(errors="backslashreplace").decode()

    def inside(self, name: str) -> Misfit:
        """The same misfit, seen from the container that holds it as `name`."""
        joined = f"{name}.{self.path}" if self.path and self.path[0] != "[" else name + self.path
        return Misfit(self.reason, joined)


def parse_json(text: str, at: int = 0) -> tuple[Any, int]:
    """The JSON value that begins at character `at` of `text`, and where the next may begin.

    Numbers stay exact. White space around the value is skipped.

    Raises:
        Misfit: not JSON (a strict reading: no NaN, no comments, no control characters in texts),
            or a name appears twice in one object.
    """
    begin = after_space(text, at)
    try:
        value, end = _DECODER.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        raise Misfit(f"not JSON: {error.msg.lower()} at character {error.pos - begin}") from None
    except RecursionError:
        raise Misfit("not JSON that we read: it is nested too deeply") from None
    except (ValueError, DecimalException):
        raise Misfit("not JSON that we read: a number has too many digits") from None
    return value, after_space(text, end)


def leaf_reader(kind: pa.DataType) -> Reader:
    """The function that turns a parsed JSON value, not null, into what Arrow takes as `kind`."""
    types = pa.types
    if types.is_integer(kind):
        return _integer_reader(kind)
    if types.is_floating(kind):
        return _float32 if kind == pa.float32() else _float64
    if types.is_decimal(kind):
        return _decimal_reader(kind)
    if types.is_timestamp(kind):
        return _instant if kind.tz else _wall_clock
    simple: dict[pa.DataType, Reader] = {
        pa.string(): _text,
        pa.binary(): _binary,
        pa.bool_(): _boolean,
        pa.date32(): _date,
    }
    return simple[kind]


def after_space(text: str, at: int = 0) -> int:
    """Where the first character past `at` is that is no JSON white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def as_number(value: float) -> Decimal | str:
    """What `parse_json` reads where JSON has `value`: exact, and a text if it is not finite."""
    if math.isfinite(value):
        return Decimal(repr(value))
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        counts = Counter(names)  # Not `names.count`: that takes days for a large object.
        twice = next(name for name in names if counts[name] > 1)
        raise Misfit("the name appears twice in one object", twice)
    return values


def _integer(text: str) -> int | Decimal:
    # An int has no negative zero, but a float column keeps it.
    return _NEGATIVE_ZERO if text == "-0" else int(text)


def _constant(text: str) -> None:
    raise Misfit(f"not JSON: {text} is not a number; write it as text")


_DECODER = json.JSONDecoder(
    parse_float=Decimal,
    parse_int=_integer,
    parse_constant=_constant,
    object_pairs_hook=_pairs,
)


def _shown(value: Any) -> str:
    """`value` as the sender wrote it, roughly, and never long."""
    if isinstance(value, str):
        shown = json.dumps(value)
    elif isinstance(value, dict):
        return "an object"
    elif isinstance(value, list):
        return "an array"
    elif isinstance(value, bool):
        shown = "true" if value else "false"
    else:
        shown = str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _integer_reader(kind: pa.DataType) -> Reader:
    top = 2 ** (kind.bit_width - 1)

    def read(value: Any) -> int:
        if type(value) is not int:
            value = _integral(value)
        if not -top <= value < top:
            raise Misfit(f"{_shown(value)} is out of the range of {kind} ({-top} to {top - 1})")
        return int(value)

    return read


def _integral(value: Any) -> int:
    if not isinstance(value, Decimal):
        raise Misfit(f"expected an integer, found {_shown(value)}")
    # The exponent is looked at first: int(Decimal('1e999999999')) would take all memory.
    if value.adjusted() > 40:
        raise Misfit(f"{_shown(value)} is out of range")
    if value != value.to_integral_value():
        raise Misfit(f"expected an integer, found {_shown(value)}")
    return int(value)


def _float64(value: Any) -> float:
    if type(value) is not int and not isinstance(value, Decimal):
        if isinstance(value, str) and value in _NOT_NUMBERS:
            return _NOT_NUMBERS[value]
        raise Misfit(f"expected a number, found {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise Misfit(f"{_shown(value)} is out of the range of double")
    return number


def _float32(value: Any) -> float:
    number = _float64(value)
    try:
        # "<" matters: the native format turns what is too large into infinity.
        narrow: float = struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        raise Misfit(f"{_shown(value)} is out of the range of float") from None
    return narrow


def _decimal_reader(kind: pa.Decimal128Type) -> Reader:
    whole_max = kind.precision - kind.scale
    step = Decimal(1).scaleb(-kind.scale)

    def read(value: Any) -> Decimal:
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            try:
                value = Decimal(value)
            except DecimalException:
                raise Misfit(f"{_shown(value)} is out of the range of {kind}") from None
        if type(value) is not int and not isinstance(value, Decimal):
            raise Misfit(f"expected a decimal number, found {_shown(value)}")
        return _fitted(Decimal(value))

    def _fitted(value: Decimal) -> Decimal:
        if value.is_zero():
            return Decimal(0)
        if value.adjusted() >= whole_max:
            raise Misfit(f"{_shown(value)} is out of the range of {kind}")
        fitted = value.quantize(step, context=_WIDE)
        if fitted != value:
            raise Misfit(f"{_shown(value)} has more than {kind.scale} decimal places")
        return fitted

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Misfit(f"expected text, found {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Misfit("the text has half of a surrogate pair, which is not Unicode") from None
    return value


def _binary(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Misfit(f"expected base64 text, found {_shown(value)}")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError as error:
        raise Misfit(f"not base64: {str(error).lower()}") from None


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Misfit(f"expected true or false, found {_shown(value)}")
    return value


def _date(value: Any) -> int:
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Misfit(f'expected a date as "2013-01-31", found {_shown(value)}')
    return _days(value, *match.groups())


def _days(value: str, year: str, month: str, day: str) -> int:
    try:
        return date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise Misfit(f"{_shown(value)} is not a date: {error}") from None


def _instant(value: Any) -> int:
    clock_us, zone_us = _timestamp(value, example="2013-01-31T10:20:30.123456Z")
    if zone_us is None:
        raise Misfit(f"{_shown(value)} has no time zone; end it with Z for UTC, or with +01:00")
    return _in_range(value, clock_us - zone_us)


def _wall_clock(value: Any) -> int:
    clock_us, zone_us = _timestamp(value, example="2013-01-31T10:20:30.123456")
    if zone_us is not None:
        raise Misfit(f"{_shown(value)} has a time zone, but the column has none")
    return _in_range(value, clock_us)


def _timestamp(value: Any, *, example: str) -> tuple[int, int | None]:
    """Microseconds of the wall clock since 1970, and of the zone's distance to UTC if given."""
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Misfit(f'expected a timestamp as "{example}", found {_shown(value)}')
    year, month, day, hour, minute, second, fraction, utc, sign, zone_hour, zone_minute = (
        match.groups()
    )
    fraction = fraction or ""
    if fraction[6:].strip("0"):
        raise Misfit(f"{_shown(value)} is finer than a microsecond")
    parts = [int(hour), int(minute or 0), int(second or 0)]
    zone = [int(zone_hour or 0), int(zone_minute or 0)]
    if parts[0] > 23 or max(parts[1:]) > 59 or zone[0] > 23 or zone[1] > 59:
        raise Misfit(f"{_shown(value)} is not a time of day")
    seconds = _days(value, year, month, day) * 86_400 + parts[0] * 3600 + parts[1] * 60 + parts[2]
    clock_us = seconds * 1_000_000 + int((fraction[:6]).ljust(6, "0"))
    if utc is None and sign is None:
        return clock_us, None
    zone_us = (zone[0] * 3600 + zone[1] * 60) * 1_000_000
    return clock_us, -zone_us if sign == "-" else zone_us


def _in_range(value: str, instant_us: int) -> int:
    if not TIMESTAMP_US_MIN <= instant_us <= TIMESTAMP_US_MAX:
        raise Misfit(f"{_shown(value)} is outside of the years 1 to 9999 in UTC")
    return instant_us
