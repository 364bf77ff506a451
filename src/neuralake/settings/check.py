"""Whether settings hold together: every number in its range, no two that contradict each other."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from neuralake.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from neuralake.settings.sections import Settings

__all__ = ["check_own_queue", "check_settings", "is_loopback"]

# As in `queue/sqlite_leases.py`: a longer one is held to be of before a restart of the machine.
_LEASE_S_MAX = 60.0


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or address, without port) is this machine's loopback."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_settings(settings: Settings) -> None:
    """Raise a SettingsError that names the value, or both of two that contradict each other."""
    _check_ranges(settings)
    _check_together(settings)


def check_own_queue(settings: Settings) -> None:
    """Refuse to write where the queue is another machine's.

    Raises:
        UsageError: `queue.kind` is `http`.
    """
    if settings.queue.kind == "http":
        raise UsageError(
            f"This lake reads the queue of {settings.queue.url} (queue.kind = 'http'): rows are "
            f"taken and written by the platform there. Here, frames are live, and `neuralake "
            f"serve` answers SQL.",
            url=settings.queue.url,
        )


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and (parts.port is None or parts.port > 0)
            and not (parts.query or parts.fragment)
        )
    except ValueError:  # A port that is no number.
        return False


def _numbers(settings: Settings) -> Iterator[tuple[str, float]]:
    for section in settings.__struct_fields__:
        content = getattr(settings, section)
        for key in getattr(content, "__struct_fields__", ()):
            value = getattr(content, key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{section}.{key}", value


def _check_ranges(settings: Settings) -> None:
    for name, value in _numbers(settings):
        # `not >` and the comparison with infinity, because TOML has nan and inf.
        if not 0 < value < math.inf and name != "server.port":
            raise SettingsError(
                f"{name} is {value}; it must be a number greater than 0.", name=name, value=value
            )
    if settings.queue.kind not in ("sqlite", "kafka", "http"):
        raise SettingsError(
            f"queue.kind is {settings.queue.kind!r}; it must be 'sqlite', 'kafka' or 'http'.",
            name="queue.kind",
            value=settings.queue.kind,
        )
    if settings.log.format not in ("text", "json"):
        raise SettingsError(
            f"log.format is {settings.log.format!r}; it must be 'text' or 'json'.",
            name="log.format",
            value=settings.log.format,
        )
    if settings.queue.kind == "http" and not _is_server(settings.queue.url):
        # Not the value itself: a person may have put a secret into it.
        raise SettingsError(
            "queue.kind is 'http', so queue.url must be the address of the platform that has the "
            "queue, as https://lake.example:8765, with no user or password in it.",
            name="queue.url",
        )
    if settings.queue.kind == "kafka" and not settings.kafka.brokers:
        raise SettingsError(
            "queue.kind is 'kafka', but kafka.brokers is empty: write host:port of a broker.",
            name="kafka.brokers",
        )
    if settings.writer.lease_s > _LEASE_S_MAX:
        raise SettingsError(
            f"writer.lease_s is {settings.writer.lease_s}; it may be at most {_LEASE_S_MAX}.",
            name="writer.lease_s",
        )
    if settings.compact.files_min < 2:
        raise SettingsError(
            f"compact.files_min is {settings.compact.files_min}; a rewrite needs at least 2 files."
        )
    if not 0 <= settings.server.port <= 65535:
        raise SettingsError(f"server.port is {settings.server.port}; ports are 0 to 65535.")
    if bool(settings.server.tls_cert) != bool(settings.server.tls_key):
        raise SettingsError(
            "server.tls_cert and server.tls_key belong together: set both, or neither.",
            name="server.tls_cert",
        )
    if not is_loopback(settings.server.host) and not (
        settings.server.behind_proxy or settings.server.tls_cert
    ):
        raise SettingsError(
            f"server.host is {settings.server.host!r}, which other machines can reach, and whoever "
            f"listens in would learn their tokens. Set server.tls_cert and server.tls_key, or "
            f"server.behind_proxy = true if a proxy in front of it speaks TLS; or use 127.0.0.1.",
            name="server.host",
        )


def _check_together(settings: Settings) -> None:
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
    if settings.vacuum.orphan_age_hours * 3600 <= settings.writer.write_s_max:
        raise SettingsError(
            f"vacuum.orphan_age_hours is {settings.vacuum.orphan_age_hours}, but a write may take "
            f"writer.write_s_max = {settings.writer.write_s_max} s before its commit: vacuum would "
            f"delete files that are about to be committed. Make the first longer than the second."
        )
