"""What one may ask of a client, and what it tells about rows that a server refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from neuralake.client.body import Form, rows_of
from neuralake.errors import NeuralakeError, UsageError

__all__ = ["Options", "Rejected"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Rows that the server will never take, as they are."""

    table: str
    error: NeuralakeError
    """What the server said; `error.row` counts in the request, in which there may be others."""
    form: Form
    content: bytes
    count: int
    """How many rows."""

    def rows(self) -> Any:
        """The rows of one call of `send`: a list of records, or an Arrow table."""
        return rows_of(self.form, self.content)


@dataclass(frozen=True, slots=True)
class Options:
    """See `Client` for their meaning."""

    batch_rows_max: int = 10_000
    batch_bytes_max: int = 4 * 1024 * 1024
    linger_s: float = 0.05
    bytes_max: int = 64 * 1024 * 1024
    block_s_max: float = 60.0
    compression: Literal["gzip", "zstd"] | None = None
    in_doubt: Literal["stop", "resend", "drop"] = "stop"
    on_rejected: Callable[[Rejected], None] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what contradicts itself."""
        for name in ("batch_rows_max", "batch_bytes_max", "bytes_max"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if min(self.linger_s, self.block_s_max) < 0:
            raise UsageError("linger_s and block_s_max are times to wait; they cannot be negative.")
        if self.compression not in (None, "gzip", "zstd"):
            raise UsageError(f"compression is {self.compression!r}; it must be 'gzip' or 'zstd'.")
        if self.in_doubt not in ("stop", "resend", "drop"):
            raise UsageError(
                f"in_doubt is {self.in_doubt!r}; it must be 'stop', 'resend' or 'drop'."
            )
