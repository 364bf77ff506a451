"""Where tables are: addresses, and the stores behind them with the one atomic step of a commit."""

from neuralake.storage.coordinated import CoordinatedStore
from neuralake.storage.local import LocalStore
from neuralake.storage.locks import LockEntry, Locks, MemoryLocks
from neuralake.storage.memory import MemoryStore
from neuralake.storage.open import as_store, open_store
from neuralake.storage.protocol import (
    AlreadyThere,
    Bytes,
    LogStore,
    OutcomeUnknown,
    Sink,
    StoredFile,
)
from neuralake.storage.s3 import S3Store
from neuralake.storage.uri import is_local, local_path, resolve

__all__ = [
    "AlreadyThere",
    "Bytes",
    "CoordinatedStore",
    "LocalStore",
    "LockEntry",
    "Locks",
    "LogStore",
    "MemoryLocks",
    "MemoryStore",
    "OutcomeUnknown",
    "S3Store",
    "Sink",
    "StoredFile",
    "as_store",
    "is_local",
    "local_path",
    "open_store",
    "resolve",
]
