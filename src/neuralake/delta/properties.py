"""The properties of a table that we honour, decoded and checked.

Section "Table Properties" of the Delta protocol, with the defaults of Delta's documentation. A
property that we do not know is kept and ignored, as Delta's own engines do; whether one turns on a
feature that we do not implement is `protocol.py`'s question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from neuralake.errors import UsageError

__all__ = ["Properties"]

_UNITS_S = {
    "week": 604_800.0,
    "day": 86_400.0,
    "hour": 3_600.0,
    "minute": 60.0,
    "second": 1.0,
    "millisecond": 1e-3,
    "microsecond": 1e-6,
}
_SPAN = re.compile(r"(\d+)\s+([a-z]+?)s?(?=\s|$)")
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?")
_SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_PLAIN_COLUMN = re.compile(r"`((?:[^`]|``)*)`|([^`,.]+)")
_ISOLATIONS = {"serializable": True, "writeserializable": False, "snapshotisolation": False}

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Properties:
    """Each field is named after its property, without `delta.`; times in seconds."""

    append_only: bool = False
    log_retention_s: float = 30 * 86_400.0
    deleted_file_retention_s: float = 7 * 86_400.0
    expired_log_cleanup: bool = True
    checkpoint_commits: int | None = None
    """`checkpointInterval`; None: not set."""
    checkpoint_policy: str = "classic"
    """`classic` or `v2`."""
    target_bytes: int | None = None
    """`targetFileSize`; None: not set."""
    indexed_columns_max: int = 32
    """`dataSkippingNumIndexedCols`: leaves of the schema with statistics; -1: all."""
    stats_columns: tuple[tuple[str, ...], ...] | None = None
    """`dataSkippingStatsColumns`, as paths; they win over the number. None: not set."""
    column_mapping: str = "none"
    """`none`, `id` or `name`."""
    in_commit_timestamps: bool = False
    change_data_feed: bool = False
    deletion_vectors: bool = False
    """Whether deletes *may* write vectors; tables have them without it, too."""
    serializable: bool = False
    """`isolationLevel`: whether blind appends conflict with who should have read them."""
    coordination: str | None = None
    """`neuralake.coordination`; None: not recorded."""
    lock_table: str | None = None
    lock_table_path: str | None = None

    @classmethod
    def of(cls, configuration: Mapping[str, str]) -> Properties:
        """Decode the configuration of a table's metadata.

        Raises:
            UsageError: a value is not of its property's form; with `property` and `value`.
        """
        # Delta does not tell case apart in the names of properties.
        texts = {name.lower(): (name, text) for name, text in configuration.items()}
        found: dict[str, object] = {}
        for key, (field, decode) in _PROPERTIES.items():
            name, text = texts.get(key.lower(), (key, ""))
            if text:
                found[field] = _decoded(name, text, decode)
        return cls(**found)  # type: ignore[arg-type]  # the table below pairs fields and decoders


def _decoded(name: str, text: str, decode: Callable[[str], _Value]) -> _Value:
    try:
        return decode(text.strip())
    except ValueError as error:
        raise UsageError(
            f"The table property {name!r} is {text!r}, but must be {error}.",
            property=name,
            value=text,
        ) from error


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("'true' or 'false'")
    return text.lower() == "true"


def _interval_s(text: str) -> float:
    """Seconds of an interval in Spark's words, such as `interval 1 week 2 days`."""
    wanted = "an interval in words of weeks to microseconds, such as 'interval 7 days'"
    words = text.lower().removeprefix("interval").strip()
    if re.match(r"[-+]?p", words):
        raise ValueError(f"{wanted}; ISO 8601 durations are not Delta's form")
    spans = _SPAN.findall(words)
    if not spans or _SPAN.sub("", words).strip():
        raise ValueError(wanted)
    unknown = [unit for _, unit in spans if unit not in _UNITS_S]
    if unknown:
        # Months and years have no fixed length, and Delta refuses them, too.
        raise ValueError(f"{wanted}; {unknown[0]!r} has no fixed length")
    return sum(int(count) * _UNITS_S[unit] for count, unit in spans)


def _positive(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def _columns_max(text: str) -> int:
    if not re.fullmatch(r"-1|\d+", text):
        raise ValueError("a whole number from 0, or -1 for all columns")
    return int(text)


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.lower())
    if match is None or int(match[1]) < 1:
        raise ValueError("a number of bytes, such as '134217728' or '128mb'")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def _paths(text: str) -> tuple[tuple[str, ...], ...]:
    """Paths of a list such as `` a, b.c, `d,e`.f ``."""
    paths: list[tuple[str, ...]] = []
    rest = text
    while rest.strip():
        path: list[str] = []
        while True:
            match = _PLAIN_COLUMN.match(rest.lstrip())
            if match is None:
                raise ValueError("names of columns with commas between them")
            plain = match[2]
            path.append(match[1].replace("``", "`") if plain is None else plain.strip())
            rest = rest.lstrip()[match.end() :].lstrip()
            if not rest.startswith("."):
                break
            rest = rest[1:]
        paths.append(tuple(path))
        if rest and not rest.startswith(","):
            raise ValueError("names of columns with commas between them")
        rest = rest[1:]
    return tuple(paths)


def _choice(*known: str) -> Callable[[str], str]:
    def decode(text: str) -> str:
        if text.lower() not in known:
            raise ValueError(f"one of {', '.join(map(repr, known))}")
        return text.lower()

    return decode


def _isolation(text: str) -> bool:
    if text.lower() not in _ISOLATIONS:
        raise ValueError("'Serializable' or 'WriteSerializable'")
    return _ISOLATIONS[text.lower()]


_PROPERTIES: dict[str, tuple[str, Callable[[str], object]]] = {
    "delta.appendOnly": ("append_only", _bool),
    "delta.logRetentionDuration": ("log_retention_s", _interval_s),
    "delta.deletedFileRetentionDuration": ("deleted_file_retention_s", _interval_s),
    "delta.enableExpiredLogCleanup": ("expired_log_cleanup", _bool),
    "delta.checkpointInterval": ("checkpoint_commits", _positive),
    "delta.checkpointPolicy": ("checkpoint_policy", _choice("classic", "v2")),
    "delta.targetFileSize": ("target_bytes", _bytes),
    "delta.dataSkippingNumIndexedCols": ("indexed_columns_max", _columns_max),
    "delta.dataSkippingStatsColumns": ("stats_columns", _paths),
    "delta.columnMapping.mode": ("column_mapping", _choice("none", "id", "name")),
    "delta.enableInCommitTimestamps": ("in_commit_timestamps", _bool),
    "delta.enableChangeDataFeed": ("change_data_feed", _bool),
    "delta.enableDeletionVectors": ("deletion_vectors", _bool),
    "delta.isolationLevel": ("serializable", _isolation),
    "neuralake.coordination": ("coordination", str),
    "neuralake.coordination.lockTable": ("lock_table", str),
    "neuralake.coordination.tablePath": ("lock_table_path", str),
}
