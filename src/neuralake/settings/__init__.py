"""Settings: one frozen value from `neuralake.toml` and the environment, checked before use.

A key in the environment is `NEURALAKE_<SECTION>_<KEY>` and wins over the file. Unknown keys are
refused with the nearest known name; values are checked against one another, and the message says
both. Reading settings does no other I/O: folders are made by those who write into them.
"""

from neuralake.settings.check import check_own_queue, is_loopback
from neuralake.settings.kafka import KafkaSettings
from neuralake.settings.load import FILE_NAME, find_settings_file, load_settings
from neuralake.settings.profile import COORDINATIONS, StorageProfile
from neuralake.settings.sections import (
    CheckpointSettings,
    CompactSettings,
    IngestSettings,
    LakeSettings,
    LogSettings,
    QueueSettings,
    ServerSettings,
    Settings,
    SiteSettings,
    SqlSettings,
    VacuumSettings,
    WriterSettings,
)

__all__ = [
    "COORDINATIONS",
    "FILE_NAME",
    "CheckpointSettings",
    "CompactSettings",
    "IngestSettings",
    "KafkaSettings",
    "LakeSettings",
    "LogSettings",
    "QueueSettings",
    "ServerSettings",
    "Settings",
    "SiteSettings",
    "SqlSettings",
    "StorageProfile",
    "VacuumSettings",
    "WriterSettings",
    "check_own_queue",
    "find_settings_file",
    "is_loopback",
    "load_settings",
]
