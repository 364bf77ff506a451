"""What is kept about requests for rows: who may go on, how many came, and the audit log's lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.types import Scope

from neuralake.clock import Clock
from neuralake.ingest.audit import AuditLog
from neuralake.ingest.rate import Rates
from neuralake.queue import Appended
from neuralake.queue.topic import topic_of
from neuralake.records.dropped import Dropped
from neuralake.serve.caller import Caller, caller_of
from neuralake.settings import Settings
from neuralake.telemetry import Telemetry

__all__ = ["Accounts", "Said", "Sender"]

Said = Mapping[str, str | int | None]
"""What a request says of itself, for the audit log; None is left out."""

# Of what a stranger sent, so much is written down.
_SAID_LENGTH_MAX = 255


class Sender:
    """Who sends one request, and for which table."""

    __slots__ = ("caller", "remote", "topic")

    def __init__(self, caller: Caller, remote: str, topic: str) -> None:
        self.caller, self.remote, self.topic = caller, remote, topic

    @classmethod
    def of(cls, scope: Scope) -> Sender:
        """The sender of a request whose path was looked at, and whose token was."""
        client, path = scope.get("client"), scope["path_params"]
        topic = topic_of(path["database"], path["table"])
        return cls(caller_of(scope), client[0] if client else "", topic)

    def check(self) -> None:
        """Raises Forbidden: its token does not allow it to write there."""
        self.caller.check("write", self.topic)

    @property
    def name(self) -> str:
        """Whose rate it counts for: the token's, or the machine's."""
        return self.caller.name or self.remote

    @property
    def source(self) -> str:
        """For those who look after dead letters: a token's name, and from where."""
        return f"{self.caller.name} ({self.remote})" if self.caller.name else self.remote


class Accounts:
    """Rates, counters and audit log of one server. Use it from its event loop.

    Args:
        sharers: processes on one port, among which a sender's requests and rows a second are
            divided.
        doubt: called when a request was refused since nothing can be stored now.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        telemetry: Telemetry,
        sharers: int = 1,
        doubt: Callable[[], None] | None = None,
    ) -> None:
        server, self._doubt = settings.server, doubt
        self._clock, self._telemetry = clock, telemetry
        self._rates = Rates(
            requests_per_s=server.requests_per_s_max / sharers,
            rows_per_s=server.rows_per_s_max / sharers,
        )
        self._audit = AuditLog(settings.audit_path, bytes_max=server.audit_bytes_max)

    def admit(self, sender: Sender) -> None:
        """Count a request.

        Raises:
            QueueFull: the sender asked for too much; with `retry_after_s`.
        """
        self._rates.take(sender.name, self._clock.monotonic_s())

    def give_back(self, sender: Sender) -> None:
        """Uncount a request that is admitted once more."""
        self._rates.give_back(sender.name)

    def stored(
        self,
        sender: Sender,
        appended: Appended,
        *,
        rows: int,
        body_bytes: int,
        letters: int = 0,
        dropped: Dropped | None = None,
        said: Said | None = None,
    ) -> None:
        """A request was stored: `rows` fit, and `letters` did not."""
        self._rates.spend(sender.name, rows + letters)
        if sender.caller.name:
            facts = {"rows": rows, "position": appended.position, "dead_letters": letters or None}
            self._note(sender, 202, {**facts, **(said or {})})
        if appended.repeated:
            return
        self._telemetry.count("ingest_rows", rows, table=sender.topic)
        self._telemetry.count("ingest_bytes", body_bytes, table=sender.topic)
        if letters:
            self._telemetry.count("ingest_dead_letters", letters, table=sender.topic)
        if dropped is not None and dropped.values:
            self._telemetry.count("ingest_dropped_values", dropped.values, table=sender.topic)

    def refused(self, sender: Sender, status: int, said: Said | None = None) -> None:
        """A request was not stored."""
        self._telemetry.count("ingest_refused", status=str(status))
        if status == HTTPStatus.SERVICE_UNAVAILABLE and self._doubt is not None:
            self._doubt()
        if sender.caller.name:
            self._note(sender, status, said or {})

    def answered(self, began_s: float) -> None:
        """A request that began at the clock's `began_s` was answered well."""
        self._telemetry.observe("ingest_request_seconds", self._clock.monotonic_s() - began_s)

    def close(self) -> None:
        self._audit.flush()

    def _note(self, sender: Sender, status: int, facts: Said) -> None:
        """Into the audit log, where there are tokens: without them it is always the same one."""
        self._audit.note(
            self._clock.now_s(),
            token=sender.caller.name,
            remote=sender.remote,
            table=sender.topic[:_SAID_LENGTH_MAX],
            status=status,
            **{k: v[:_SAID_LENGTH_MAX] if isinstance(v, str) else v for k, v in facts.items()},
        )
