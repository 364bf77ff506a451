"""Send a source's batches over HTTP until told to stop, each until it is acknowledged.

Every batch has an idempotency key and is sent again, the same bytes with the same key, until the
server says that it is durable: the server may be killed at any moment. What was acknowledged and
what was only tried are kept as ranges of event ids, for the check at the end.
"""

from __future__ import annotations

import http.client
import threading
from collections import deque

from neuralake.client.answer import Verdict
from neuralake.client.asking import path_of
from neuralake.client.connection import Connection
from neuralake.clock import Clock, SystemClock
from neuralake.demo.sources import Batch, Source
from neuralake.errors import NeedsAttention
from neuralake.telemetry import quantile

__all__ = ["Sender"]

_ANSWER_S_MAX = 10.0
_RETRY_S = 0.1
# After the stop, one batch may still be on its way; a server that was just killed is back sooner.
_LAST_TRY_S_MAX = 20.0


class Sender(threading.Thread):
    """One device. `start()` it, then read its numbers at any time; `stop` ends it.

    Attributes:
        acknowledged: `(first_id, rows)` of batches whose rows are durable.
        unanswered: `(first_id, rows)` of batches given up without an answer: their rows may or
            may not be stored.
        error: why it ended early, if it did.
    """

    def __init__(
        self,
        url: str,
        source: Source,
        *,
        run: str,
        stop: threading.Event,
        clock: Clock | None = None,
        started_s: float | None = None,
    ) -> None:
        super().__init__(name=f"send {source.table}", daemon=True)
        self.source = source
        self.acknowledged: list[tuple[int, int]] = []
        self.unanswered: list[tuple[int, int]] = []
        self.error: BaseException | None = None
        self.rows = 0
        self.retries = 0
        self.is_waiting = False
        self._clock = clock or SystemClock()
        self._stop_event, self._run = stop, run
        database, _, table = source.table.partition(".")
        self._path = path_of(database, table)
        self._connection = Connection(url, clock=self._clock, answer_s_max=_ANSWER_S_MAX)
        self._latencies_s: deque[float] = deque(maxlen=4096)
        self._started_s = self._clock.monotonic_s() if started_s is None else started_s
        self._stopped_s: float | None = None

    def run(self) -> None:
        """Send what is due, at the source's pace."""
        try:
            while not self._stop_event.is_set():
                elapsed_s = self.elapsed_s
                if (batch := self.source.due(elapsed_s)) is not None:
                    self._deliver(batch)
                elif self.source.is_over(elapsed_s):
                    return
                self._pace()
        except BaseException as error:  # noqa: BLE001 the edge of a thread; the demo tells it
            self.error = error
        finally:
            self._connection.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds since `started_s`, when the source's time began."""
        return self._clock.monotonic_s() - self._started_s

    def latency_ms(self, share: float) -> float:
        """A quantile of the time from sending to the acknowledgement; nan before the first."""
        return quantile(list(self._latencies_s), share) * 1000

    def _pace(self) -> None:
        """Wait for the next multiple of the interval, so that being late once is not for ever."""
        interval_s = self.source.interval_s
        self._clock.wait_s(interval_s - self.elapsed_s % interval_s, self._stop_event)

    def _deliver(self, batch: Batch) -> None:
        never = threading.Event()
        while not self._post(batch):
            self.retries += 1
            self.is_waiting = True
            if self._is_too_late():
                self.unanswered.append((batch.first_id, batch.rows))
                return
            self._clock.wait_s(_RETRY_S, never)
        self.is_waiting = False
        self.acknowledged.append((batch.first_id, batch.rows))
        self.rows += batch.rows

    def _is_too_late(self) -> bool:
        if not self._stop_event.is_set():
            return False
        now_s = self._clock.monotonic_s()
        if self._stopped_s is None:
            self._stopped_s = now_s
        return now_s - self._stopped_s > _LAST_TRY_S_MAX

    def _post(self, batch: Batch) -> bool:
        """Whether the server acknowledged it; False: unknown or not now, so send it again."""
        headers = {
            "Content-Type": batch.content_type,
            "Idempotency-Key": f"{self._run}-{self.source.table}-{batch.first_id}",
        }
        sent_s = self._clock.monotonic_s()
        try:
            answer = self._connection.exchange("POST", self._path, batch.body, headers)
        except (OSError, http.client.HTTPException):
            return False
        if 400 <= answer.status < 500 and answer.status != 429:
            raise NeedsAttention(
                f"The server refused a batch of {self.source.table}: {answer.status} "
                f"{answer.body.decode(errors='replace')[:500]}",
                status=answer.status,
                table=self.source.table,
            )
        if answer.verdict is not Verdict.STORED:
            return False
        self._latencies_s.append(self._clock.monotonic_s() - sent_s)
        return True
