"""Numbers and times as people read them. Pure; unknown (None) is a dash, never a zero."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["clock_time", "count", "duration_ms", "iso_time", "plural", "size", "thousands"]

UNKNOWN = "\u2013"  # An en dash.


def thousands(number: int | None) -> str:
    """`1,234,567`."""
    return UNKNOWN if number is None else f"{number:,}"


def count(number: int | None) -> str:
    """`1,234`, `336.8k`, `1.2M`: exact up to 9,999, three digits after."""
    if number is None:
        return UNKNOWN
    if number < 10_000:
        return f"{number:,}"
    scaled = float(number)
    for unit in ("k", "M", "B", "T"):
        scaled /= 1000
        if scaled < 999.5 or unit == "T":
            break
    return f"{scaled:,.3g}{unit}" if scaled < 999.5 else f"{scaled:,.0f}{unit}"


def size(bytes_: int | None) -> str:
    """`812 B`, `3.4 MiB`: three digits, binary units."""
    if bytes_ is None:
        return UNKNOWN
    if bytes_ < 1024:
        return f"{bytes_} B"
    scaled = float(bytes_)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        scaled /= 1024
        if scaled < 999.5 or unit == "PiB":
            break
    return f"{scaled:.3g} {unit}" if scaled < 999.5 else f"{scaled:,.0f} {unit}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1 table`, `2 tables`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration_ms(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:g} s"


def iso_time(seconds: float) -> str:
    """RFC 3339 in UTC, for `<time datetime>`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_time(seconds: float) -> str:
    """`23 Nov 2026, 17:50 UTC`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"
