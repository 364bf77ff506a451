"""The batches of one table on their way, in order: which is next, and what an answer to it means.

One batch at a time is sent, until it is acknowledged or refused; the next one has the next
sequence. Knows no connection and no thread: its owner calls under one lock, sends what `take`
gives, and tells what came of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from neuralake.client.answer import Answer, Verdict
from neuralake.client.asking import Backoff
from neuralake.client.body import Part
from neuralake.client.options import Options, Rejected
from neuralake.client.shelf import Batch, Producer, Shelf, new_producer
from neuralake.errors import (
    NeedsAttention,
    NeuralakeError,
    Unavailable,
    UnknownProducer,
    UsageError,
)

__all__ = ["Lane"]

# An Arrow stream of more messages is refused.
_PARTS_MAX = 10_000
# Of refused rows that are on disk, so many are told; those in memory are bounded with all others.
_REJECTED_MAX = 1_000
_NEVER_S = float("inf")


class Lane:
    """The way of one table's rows.

    Attributes:
        rows: of all batches: not acknowledged yet.
        bytes: of all batches.
        trouble: why the oldest batch is not stored yet; None if nothing is wrong.
        is_stopped: only a person, or another client, can go on.
        rejected: refused rows that nobody was told of.
    """

    def __init__(self, table: str, shelf: Shelf, options: Options, *, now_s: float) -> None:
        self.table, self._shelf, self._options = table, shelf, options
        self.producer, found = shelf.load(now_s)
        self.batches = deque(found)
        self._next_ordinal = found[-1].ordinal + 1 if found else self.producer.base_ordinal
        # Up to here batches take no more parts: they are on their way, or were left by another.
        self._closed_through = found[-1].ordinal if found else 0
        self._flush_through = self._closed_through
        self.backoff = Backoff()
        self.retry_at_s = 0.0
        self.trouble: NeuralakeError | None = None
        self.is_stopped = False
        self.rejected: list[Rejected] = []
        self.rows = sum(batch.rows for batch in found)
        self.bytes = sum(batch.bytes for batch in found)

    @property
    def last_ordinal(self) -> int:
        return self._next_ordinal - 1

    def is_done_through(self, ordinal: int) -> bool:
        """Whether nothing up to the batch `ordinal` is on its way any more."""
        return not self.batches or self.batches[0].ordinal > ordinal

    def add(self, part: Part, *, now_s: float) -> None:
        """Take a part. Raises OSError: the disk did not."""
        batch = self.batches[-1] if self.batches else None
        if batch is None or not self._takes(batch, part):
            batch = Batch(self._next_ordinal, part.form, now_s)
            self._shelf.add(batch, part)
            self._next_ordinal += 1
            self.batches.append(batch)
        else:
            self._shelf.add(batch, part)
        self._change(batch, part.rows, len(part.content), 1)

    def flush(self) -> int:
        """Send what is there without waiting for more; the last ordinal of it.

        What was refused for a token, an address or an old server is tried again at once: it may be
        mended.
        """
        if isinstance(self.trouble, UsageError | NeedsAttention) and not self.is_stopped:
            self.trouble, self.retry_at_s = None, 0.0
        self._flush_through = self.last_ordinal
        return self.last_ordinal

    def due_s(self) -> float:
        """When the oldest batch is to be sent, by the monotonic clock."""
        if not self.batches or self.is_stopped:
            return _NEVER_S
        head = self.batches[0]
        is_full = (
            len(self.batches) > 1
            or head.ordinal <= self._flush_through
            or head.rows >= self._options.batch_rows_max
            or head.bytes >= self._options.batch_bytes_max
            or head.parts >= _PARTS_MAX
        )
        ready_s = 0.0 if is_full else head.opened_s + self._options.linger_s
        return max(ready_s, self.retry_at_s)

    def learn(self, answer: Answer, *, now_s: float) -> None:
        """The server said which queue it has (`GET /v1`); before it did, nothing is sent.

        Whoever knows the queue before the first request will know whether another one is asked
        about it: any queue takes the number 1 from anybody.

        Raises:
            OSError: our own disk failed in keeping that.
        """
        queue = answer.members.get("queue")
        if 200 <= answer.status < 300 and isinstance(queue, str) and queue:
            self._restart(replace(self.producer, queue=queue))
            return
        is_understood = answer.status not in (404, 405) and not 200 <= answer.status < 300
        self.trouble = answer.error() if is_understood else _not_counting(self.table)
        self.retry_at_s = now_s + self.backoff.wait_s(answer.retry_after_s)

    def take(self) -> tuple[Batch, list[Part]]:
        """The oldest batch and its parts, to be sent now.

        Raises:
            OSError, NeedsAttention: they cannot be read.
        """
        head = self.batches[0]
        self._closed_through = max(self._closed_through, head.ordinal)
        self._shelf.seal(head)
        return head, self._shelf.parts(head)

    def unanswered(self, error: NeuralakeError, *, retry_at_s: float) -> None:
        """The batch went out, and nothing came back."""
        self.batches[0].is_doubtful = True
        self.trouble, self.retry_at_s = error, retry_at_s

    def answered(self, answer: Answer, parts: list[Part], *, now_s: float) -> None:
        """The server said what became of the batch, whose parts were `parts`.

        Raises:
            OSError: our own disk failed in keeping that.
        """
        verdict = answer.verdict
        if verdict is Verdict.STORED:
            self._stored(answer.queue)
            return
        error = answer.error()
        if verdict is Verdict.REFUSED:
            self._refuse(error, parts)
        elif isinstance(error, UnknownProducer):
            self._go_on_as_another(error, now_s=now_s)
        elif verdict is Verdict.CONFLICT:
            self.stop(_contradiction(error))
        else:
            self.batches[0].is_doubtful |= verdict is Verdict.UNKNOWN
            self.trouble = error
            self.retry_at_s = now_s + self.backoff.wait_s(answer.retry_after_s)

    def rest(self, error: OSError, *, now_s: float, is_stored: bool = False) -> None:
        """Our own disk failed: it is full, perhaps, and all is as before. Try again later.

        `is_stored`: the oldest batch is, and only we could not note it.
        """
        if is_stored:
            self.batches[0].is_doubtful = True
        self.trouble = Unavailable(f"The client's disk: {error}.", table=self.table)
        self.retry_at_s = now_s + self.backoff.wait_s()

    def stop(self, error: NeuralakeError) -> None:
        """Send nothing more of this table; what is there stays there."""
        self.trouble, self.is_stopped = error, True

    def close(self) -> None:
        self._shelf.close()

    def _takes(self, batch: Batch, part: Part) -> bool:
        options = self._options
        return (
            batch.ordinal > self._closed_through
            and batch.form == part.form
            and batch.parts < _PARTS_MAX
            and batch.rows + part.rows <= options.batch_rows_max
            and batch.bytes + len(part.content) <= options.batch_bytes_max
        )

    def _change(self, batch: Batch, rows: int, size: int, parts: int) -> None:
        batch.rows += rows
        batch.bytes += size
        batch.parts += parts
        self.rows += rows
        self.bytes += size

    def _stored(self, queue: str) -> None:
        head, expected = self.batches[0], self.producer.queue
        if queue and queue != expected and (not head.is_doubtful or self._may_double):
            self._restart(replace(self.producer, queue=queue))
        self._remove_head()
        if not queue or (queue != self.producer.queue):
            # It is stored, so it is not kept: the next try would double it for certain.
            self.stop(_not_counting(self.table, head.rows if head.is_doubtful else 0))

    @property
    def _may_double(self) -> bool:
        return self._options.in_doubt == "resend"

    def _remove_head(self) -> None:
        head = self.batches[0]
        self._shelf.remove(head)
        self.batches.popleft()
        self.rows -= head.rows
        self.bytes -= head.bytes
        self._worked()

    def _worked(self) -> None:
        self.backoff.reset()
        self.trouble, self.retry_at_s = None, 0.0

    def _refuse(self, error: NeuralakeError, parts: list[Part]) -> None:
        """Hand over what was refused: the part with the row that the server names, or all."""
        index = _part_of_row(parts, error.facts.get("row"))
        refused = parts if index is None else [parts[index]]
        kept = [] if index is None else [*parts[:index], *parts[index + 1 :]]
        head = self.batches[0]
        for number, part in enumerate(refused):
            self._hand_over(
                Rejected(self.table, error, part.form, part.content, part.rows),
                f"{self.producer.id[:8]}-{head.ordinal}-{len(parts)}-{number}",
            )
        if kept:
            self._shelf.replace(head, kept)
            gone = refused[0]
            self._change(head, -gone.rows, -len(gone.content), -1)
            self._worked()
            return
        # First the sequence, then the file: a batch before the base is one that was refused.
        self._restart(self.producer.without(head.ordinal))
        self._remove_head()

    def _hand_over(self, rejected: Rejected, name: str) -> None:
        if self._options.on_rejected is not None:
            try:
                self._options.on_rejected(rejected)
            except Exception as error:  # whatever the caller's code raises: it is told
                raise NeedsAttention(
                    f"The client stopped: on_rejected raised {type(error).__name__}: {error}. "
                    f"What is in its spool stays there.",
                    table=self.table,
                ) from error
            return
        place = self._shelf.keep(rejected, name)
        if place:
            rejected.error.facts["kept_in"] = place
        if not place or len(self.rejected) < _REJECTED_MAX:
            self.rejected.append(rejected)

    def _go_on_as_another(self, error: UnknownProducer, *, now_s: float) -> None:
        head, queue = self.batches[0], str(error.facts.get("queue", ""))
        is_first = self.producer.sequence_of(head.ordinal) == 1
        if is_first and queue in ("", self.producer.queue):
            self.stop(_contradiction(error))  # Anybody may begin at 1.
            return
        if head.is_doubtful and self._options.in_doubt == "stop":
            self.stop(
                NeedsAttention(
                    f"The server does not know this sender of {self.table!r} any more, or has "
                    f"another queue than before, and {head.rows} rows were sent without an answer: "
                    f"they may be stored, or not. Look for them in the table, then open the client "
                    f"with in_doubt='resend' or 'drop'; the rows after them are safe. "
                    f"({error.message})",
                    table=self.table,
                    rows=head.rows,
                )
            )
            return
        if head.is_doubtful and self._options.in_doubt == "drop":
            self._restart(new_producer(head.ordinal + 1, queue=queue))
            self._remove_head()
            return
        self._restart(new_producer(head.ordinal, queue=queue))
        head.is_doubtful = False
        if is_first:  # Servers with queues of their own take turns in answering: do not hurry.
            self.trouble, self.retry_at_s = error, now_s + self.backoff.wait_s()
            return
        self._worked()

    def _restart(self, producer: Producer) -> None:
        self._shelf.restart(producer)
        self.producer = producer


def _part_of_row(parts: list[Part], row: object) -> int | None:
    if not isinstance(row, int) or row < 0:
        return 0 if len(parts) == 1 else None
    for index, part in enumerate(parts):
        row -= part.rows
        if row < 0:
            return index
    return None


def _not_counting(table: str, rows: int = 0) -> NeuralakeError:
    doubled = f"{rows} rows were sent to it twice and are perhaps stored twice. " if rows else ""
    said = (
        f"The server does not say which queue stores the rows of {table!r}, or it is another one "
        f"than it was asked to use, so that rows which are sent again would be there twice. "
        f"{doubled}Nothing more is sent: it is an older release of neuralake, which has to be "
        f"upgraded, a proxy that takes the header Neuralake-Queue away, or no neuralake."
    )
    return NeedsAttention(said, table=table, doubled=rows)


def _contradiction(error: NeuralakeError) -> NeedsAttention:
    return NeedsAttention(
        f"The server's queue and this sender disagree about what was sent, so nothing more is: "
        f"another client uses a copy of this spool, or the queue was restored from a backup. "
        f"({error.message})",
        **error.facts,
    )
