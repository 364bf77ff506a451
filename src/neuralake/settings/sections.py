"""What can be set: one frozen value per section, each key with its default and its meaning.

Values are checked against one another when a `Settings` is made, wherever it comes from.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from neuralake.settings.check import check_settings
from neuralake.settings.kafka import KafkaSettings, check_kafka
from neuralake.settings.profile import StorageProfile, check_profiles

__all__ = [
    "CheckpointSettings",
    "CompactSettings",
    "IngestSettings",
    "LakeSettings",
    "LogSettings",
    "QueueSettings",
    "ServerSettings",
    "Settings",
    "SiteSettings",
    "SqlSettings",
    "VacuumSettings",
    "WriterSettings",
]

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

    kind: str = "sqlite"
    """`sqlite`: the embedded queue, one file. `kafka`: the cluster of `[kafka]`. `http`: that of a
    platform on another machine, only to be read."""
    path: str = ""
    """SQLite file of the embedded queue; empty means `<root>/.neuralake/queue.sqlite`."""
    grace_s: float = 60.0
    """Committed envelopes are kept this long, so that live readers of older snapshots find them."""
    bytes_max: int = 4096 * _MIB
    """Bytes kept of all tables before appends are answered with `QueueFull`."""
    rows_max: int = 1_000_000_000
    """Rows kept of all tables."""
    table_bytes_max: int = 2048 * _MIB
    """Bytes kept of one table, so that others have room, too; its `Stream` may say otherwise."""
    table_rows_max: int = 500_000_000
    """Rows kept of one table."""
    keys_retention_hours: float = 24.0
    """How long idempotency keys are remembered."""
    producers_retention_hours: float = 168.0
    """How long producers and their sequences are remembered after their last rows."""
    url: str = ""
    """`https://host:port` of the platform whose queue is read, with `kind = "http"`."""
    token_file: str = ""
    """A file with the token for it, unless the environment has `NEURALAKE_TOKEN`."""
    ca_file: str = ""
    """Certificates (PEM) that its certificate is checked with; empty: the system's."""


class WriterSettings(_Section, frozen=True):
    """When waiting rows become a commit: at the first of these bounds."""

    flush_ms_max: int = 100
    """Longest time a row waits for its commit to begin; a table's `Stream` may say otherwise."""
    flush_rows_max: int = 500_000
    flush_bytes_max: int = 64 * _MIB
    poll_ms: int = 5
    """How often the queue is asked for new envelopes."""
    write_s_max: float = 3600.0
    """Longest time from storing a data file to the commit that names it; then it is dropped."""
    lease_s: float = 10.0
    """A writer that is not heard of for so long loses its tables to another one on the machine."""


class CompactSettings(_Section, frozen=True):
    """How often the small files of a partition are rewritten, and into what."""

    interval_s: float = 1.0
    """How often a table that is written to is looked at; a quiet one up to eight times less."""
    files_min: int = 4
    """Small files a partition must have before they are rewritten."""
    target_bytes: int = 128 * _MIB


class CheckpointSettings(_Section, frozen=True):
    """When the table's log is summed up, so that opening it stays quick."""

    commits: int = 20
    """A checkpoint is written when this many commits have passed since the last one; of a table
    with very many files or tombstones, more."""
    interval_s: float = 1.0


class VacuumSettings(_Section, frozen=True):
    """How long files that no snapshot needs any more are kept."""

    interval_s: float = 3600.0
    retention_hours: float = 168.0
    orphan_age_hours: float = 24.0
    """Files that no commit names are kept this long; longer than any write takes."""
    full_interval_s: float = 86_400.0
    """How often the whole folder is listed for such files."""


class IngestSettings(_Section, frozen=True):
    """Bounds of one ingest request."""

    body_bytes_max: int = 64 * _MIB
    json_bytes_max: int = 16 * _MIB
    """Largest body of JSON, NDJSON or CSV, which takes up to 35 times its size while it is read."""
    rows_max: int = 1_000_000
    cells_max: int = 20_000_000
    """Most rows times columns of a body of JSON, NDJSON or CSV; what a row leaves out counts."""
    partitions_max: int = 10_000
    """Most partitions that the rows of one request may go to: each becomes a file."""
    letters_max: int = 1000
    """Most dead letters of one request; with more it is refused, as without dead letters."""
    letter_bytes_max: int = _MIB
    """Largest dead letter; a request with a larger one is refused."""
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
    """Another than a loopback address needs tokens, and TLS or a proxy that speaks it."""
    port: int = 8765
    """0 picks a free port."""
    processes: int = 1
    """Processes that share the port; each may use a core."""
    tls_cert: str = ""
    """Certificate chain (PEM). With `tls_key` the server speaks HTTPS."""
    tls_key: str = ""
    """Private key (PEM), not encrypted."""
    behind_proxy: bool = False
    """A proxy in front of the server speaks TLS, so that the server need not."""
    tokens_file: str = ""
    """Where tokens are kept, as hashes; empty: `tokens.json` in the state folder."""
    requests_per_s_max: float = 100_000.0
    """Requests with rows that one token (without tokens: one address) may send in a second; each
    of several processes grants its share."""
    rows_per_s_max: float = 100_000_000.0
    """Rows that it may send in a second."""
    audit_bytes_max: int = 64 * _MIB
    """Size at which the audit log begins anew; the one before it is kept."""


class LogSettings(_Section, frozen=True):
    """What the parts write to standard error."""

    format: str = "text"
    """`text`: lines for people. `json`: an object a line, with what it is about."""


class SiteSettings(_Section, frozen=True):
    """The catalog site."""

    folder: str = "site"
    title: str = "Data catalog"


class Settings(_Section, frozen=True):
    """All settings of one lake. `folder` is the settings file's; paths are relative to it."""

    folder: str = "."
    lake: LakeSettings = LakeSettings()
    queue: QueueSettings = QueueSettings()
    kafka: KafkaSettings = KafkaSettings()
    writer: WriterSettings = WriterSettings()
    compact: CompactSettings = CompactSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    vacuum: VacuumSettings = VacuumSettings()
    ingest: IngestSettings = IngestSettings()
    sql: SqlSettings = SqlSettings()
    server: ServerSettings = ServerSettings()
    site: SiteSettings = SiteSettings()
    log: LogSettings = LogSettings()
    storage: dict[str, StorageProfile] = {}
    """Object stores by the name of their section, `[storage.NAME]`."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_profiles(self.storage)
        check_kafka(self.kafka)

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
        return self.state_folder / "queue.sqlite"

    @property
    def state_folder(self) -> Path:
        """Where what belongs to this lake, but not to its tables, is kept: always local."""
        if "://" in self.root:
            return self.path(".neuralake")
        return Path(self.root, ".neuralake")

    @property
    def tokens_path(self) -> Path:
        """The file of tokens, absolute; it need not be there."""
        if self.server.tokens_file:
            return self.path(self.server.tokens_file)
        return self.state_folder / "tokens.json"

    @property
    def audit_path(self) -> Path:
        """The audit log, absolute."""
        return self.state_folder / "audit.jsonl"

    @property
    def profiles(self) -> tuple[StorageProfile, ...]:
        """The storage profiles, with absolute paths of credentials files."""
        folder = self.path(".")
        return tuple(profile.seen_from(folder) for profile in self.storage.values())

    def path(self, relative: str) -> Path:
        """`relative` as an absolute path, seen from the settings file's folder."""
        return Path(self.folder).expanduser().absolute() / Path(relative).expanduser()
