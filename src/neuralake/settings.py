"""Settings: one frozen value from `neuralake.toml` and the environment, checked before use.

A key in the environment is `NEURALAKE_<SECTION>_<KEY>` and wins over the file. Unknown keys are
refused with the nearest known name; values are checked against one another, and the message says
both. Reading settings does no other I/O: folders are made by those who write into them.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from neuralake.errors import SettingsError, suggestion

__all__ = [
    "CheckpointSettings",
    "CompactSettings",
    "IngestSettings",
    "LakeSettings",
    "QueueSettings",
    "ServerSettings",
    "Settings",
    "SiteSettings",
    "SqlSettings",
    "VacuumSettings",
    "WriterSettings",
    "find_settings_file",
    "is_loopback",
    "load_settings",
]

FILE_NAME = "neuralake.toml"
_ENV_PREFIX = "NEURALAKE_"
_AT_KEY = re.compile(r"`\$\.(\w+)\.(\w+)`$")
_MIB = 1024 * 1024


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class LakeSettings(_Section, frozen=True):
    """Where the lake is, and what is in it."""

    root: str = "lake"
    """Folder below which relative table URIs live; relative to the settings file."""
    catalog: str = "lake:catalog"
    """`module:attribute` of the catalog, importable from the settings file's folder."""


class QueueSettings(_Section, frozen=True):
    """The queue between ingest and writer."""

    path: str = ""
    """SQLite file of the embedded queue; empty means `<root>/.neuralake/queue.sqlite`."""
    grace_s: float = 60.0
    """Committed envelopes are kept this long, so that live readers of older snapshots find them."""
    bytes_max: int = 4096 * _MIB
    """Bytes kept before appends are answered with `QueueFull`."""
    keys_retention_hours: float = 24.0
    """How long idempotency keys are remembered."""


class WriterSettings(_Section, frozen=True):
    """When waiting rows become a commit: at the first of these bounds."""

    flush_ms_max: int = 100
    """Longest time a row waits for its commit to begin; a table's `Stream` may say otherwise."""
    flush_rows_max: int = 500_000
    flush_bytes_max: int = 64 * _MIB
    poll_ms: int = 5
    """How often the queue is asked for new envelopes."""


class CompactSettings(_Section, frozen=True):
    """How often the small files of a partition are rewritten, and into what."""

    interval_s: float = 60.0
    files_min: int = 4
    """Small files a partition must have before they are rewritten."""
    target_bytes: int = 128 * _MIB


class CheckpointSettings(_Section, frozen=True):
    """When the table's log is summed up, so that opening it stays quick."""

    commits: int = 100
    """A checkpoint is written when this many commits have passed since the last one."""
    interval_s: float = 5.0


class VacuumSettings(_Section, frozen=True):
    """How long files that no snapshot needs any more are kept."""

    interval_s: float = 3600.0
    retention_hours: float = 168.0


class IngestSettings(_Section, frozen=True):
    """Bounds of one ingest request."""

    body_bytes_max: int = 64 * _MIB
    json_bytes_max: int = 16 * _MIB
    """Largest body of JSON or NDJSON, which takes up to 35 times its size while it is read."""
    rows_max: int = 1_000_000
    partitions_max: int = 10_000
    """Most partitions that the rows of one request may go to: each becomes a file."""
    wait_s_max: float = 30.0
    """Longest answer to `?wait=committed`."""


class SqlSettings(_Section, frozen=True):
    """Bounds of one SQL query."""

    timeout_s: float = 30.0
    rows_max: int = 100_000
    memory_bytes_max: int = 1024 * _MIB
    query_bytes_max: int = 64 * 1024


class ServerSettings(_Section, frozen=True):
    """Where the HTTP server listens."""

    host: str = "127.0.0.1"
    """A loopback address: without tokens, no other machine may reach the server."""
    port: int = 8765
    """0 picks a free port."""


class SiteSettings(_Section, frozen=True):
    """The catalog site."""

    folder: str = "site"
    title: str = "Data catalog"


class Settings(_Section, frozen=True):
    """All settings of one lake. `folder` is the settings file's; paths are relative to it."""

    folder: str = "."
    lake: LakeSettings = LakeSettings()
    queue: QueueSettings = QueueSettings()
    writer: WriterSettings = WriterSettings()
    compact: CompactSettings = CompactSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    vacuum: VacuumSettings = VacuumSettings()
    ingest: IngestSettings = IngestSettings()
    sql: SqlSettings = SqlSettings()
    server: ServerSettings = ServerSettings()
    site: SiteSettings = SiteSettings()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def root(self) -> str:
        """The lake's root: an absolute folder, or an object store URL as given."""
        if "://" in self.lake.root:
            return self.lake.root
        return str(self.path(self.lake.root))

    @property
    def queue_path(self) -> Path:
        """The queue's SQLite file, absolute."""
        if self.queue.path:
            return self.path(self.queue.path)
        if "://" in self.root:
            return self.path(".neuralake/queue.sqlite")
        return Path(self.root, ".neuralake", "queue.sqlite")

    def path(self, relative: str) -> Path:
        """`relative` as an absolute path, seen from the settings file's folder."""
        return Path(self.folder).expanduser().absolute() / Path(relative).expanduser()


def find_settings_file(start: Path | None = None) -> Path | None:
    """The nearest `neuralake.toml` in `start` (default: the working directory) or above it."""
    here = (start or Path.cwd()).absolute()
    return next(
        (folder / FILE_NAME for folder in [here, *here.parents] if (folder / FILE_NAME).is_file()),
        None,
    )


def load_settings(
    file: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> Settings:
    """Settings from `file` (default: the nearest one, else defaults) and the environment.

    Raises:
        SettingsError: the file is unreadable, or a key is unknown, of the wrong type, or
            contradicts another.
    """
    file = file or find_settings_file()
    found = _read(file) if file is not None else {}
    _refuse_unknown(found, origin=str(file))
    values: dict[str, Any] = {section: dict(content) for section, content in found.items()}
    origins: dict[str, str] = {}
    for name, section, key, text in _from_environment(
        os.environ if environment is None else environment
    ):
        _refuse_unknown({section: {key: text}}, origin=f"The environment's {name}")
        values.setdefault(section, {})[key] = text
        origins[f"{section}.{key}"] = name
    values["folder"] = str((file.parent if file else Path.cwd()).absolute())
    try:
        # Not strict: values from the environment are text.
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong_type(error, file, values, origins) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"Cannot read {file}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}.") from error


def _wrong_type(
    error: msgspec.ValidationError,
    file: Path | None,
    values: Mapping[str, Any],
    origins: Mapping[str, str],
) -> SettingsError:
    """`error` in words of the file or variable; it ends with "- at `$.section.key`"."""
    found = _AT_KEY.search(str(error))
    if found is None:
        return SettingsError(f"{file or 'environment'}: {error}")
    section, key = found[1], found[2]
    value, name = values[section][key], f"{section}.{key}"
    wanted = type(getattr(getattr(Settings(), section), key))
    kind = {int: "a whole number", float: "a number", str: "a text"}[wanted]
    place = f"The environment's {origins[name]}" if name in origins else f"{file}: {name}"
    return SettingsError(f"{place} is {value!r}; it must be {kind}.", name=name, value=value)


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """`(name, section, key, text)` of each variable with our prefix that names a key."""
    found = []
    for name, text in environment.items():
        if name.startswith(_ENV_PREFIX) and "_" in name[len(_ENV_PREFIX) :]:
            section, key = name[len(_ENV_PREFIX) :].lower().split("_", 1)
            found.append((name, section, key, text))
    return found


def _refuse_unknown(values: dict[str, Any], *, origin: str) -> None:
    sections = [name for name in Settings.__struct_fields__ if name != "folder"]
    for section, content in values.items():
        if section not in sections:
            raise SettingsError(
                f"{origin}: unknown section [{section}].{suggestion(section, sections)} "
                f"Known: {', '.join(sections)}.",
                name=section,
                known=sections,
            )
        if not isinstance(content, dict):
            raise SettingsError(f"{origin}: {section!r} is a section: write [{section}].")
        known = list(type(getattr(Settings(), section)).__struct_fields__)
        for key in content:
            if key not in known:
                raise SettingsError(
                    f"{origin}: unknown key {key!r} in [{section}].{suggestion(key, known)} "
                    f"Known: {', '.join(known)}.",
                    name=key,
                    known=known,
                )


def _numbers(settings: Settings) -> Iterator[tuple[str, float]]:
    for section in Settings.__struct_fields__:
        content = getattr(settings, section)
        for key in getattr(content, "__struct_fields__", ()):
            if isinstance(value := getattr(content, key), int | float):
                yield f"{section}.{key}", value


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or address, without port) is this machine's loopback."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check(settings: Settings) -> None:
    for name, value in _numbers(settings):
        # `not >` and the comparison with infinity, because TOML has nan and inf.
        if not 0 < value < math.inf and name != "server.port":
            raise SettingsError(
                f"{name} is {value}; it must be a number greater than 0.", name=name, value=value
            )
    if settings.compact.files_min < 2:
        raise SettingsError(
            f"compact.files_min is {settings.compact.files_min}; a rewrite needs at least 2 files."
        )
    if not 0 <= settings.server.port <= 65535:
        raise SettingsError(f"server.port is {settings.server.port}; ports are 0 to 65535.")
    if not is_loopback(settings.server.host):
        raise SettingsError(
            f"server.host is {settings.server.host!r}, which other machines can reach, and this "
            f"version has no tokens to tell them apart. Use 127.0.0.1, and a tunnel or a proxy "
            f"that checks who is there.",
            name="server.host",
        )
    flush_s = settings.writer.flush_ms_max / 1000
    if settings.queue.grace_s < 10 * flush_s:
        raise SettingsError(
            f"queue.grace_s is {settings.queue.grace_s} s, but writer.flush_ms_max is "
            f"{settings.writer.flush_ms_max} ms: a live reader needs the tail for at least ten "
            f"flushes ({10 * flush_s} s)."
        )
    if settings.vacuum.retention_hours * 3600 < 2 * settings.compact.interval_s:
        raise SettingsError(
            f"vacuum.retention_hours is {settings.vacuum.retention_hours}, but compaction replaces "
            f"files every {settings.compact.interval_s} s: readers of a snapshot would lose its "
            f"files. Keep at least two compactions."
        )
    if settings.ingest.body_bytes_max > settings.queue.bytes_max:
        raise SettingsError(
            f"ingest.body_bytes_max ({settings.ingest.body_bytes_max}) exceeds queue.bytes_max "
            f"({settings.queue.bytes_max}): such a request could never be stored."
        )
