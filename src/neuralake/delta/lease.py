"""Who does a table's upkeep just now, so that two do not do the same work: a lease with fencing.

It saves work and nothing depends on it for safety: commits check what they need by themselves. It
is made of `put_if_absent` alone. Each step of a lease's life (taken, renewed, given back) is a
numbered file in a folder of the table that Delta readers do not look into; the highest number says
who holds it and until when. A lease that expired is taken over by the next number, which its old
holder finds out before its commit, however long it slept. Old numbers are removed on the way.
"""

from __future__ import annotations

import uuid

import msgspec

from neuralake.clock import Clock
from neuralake.errors import Unavailable
from neuralake.storage import AlreadyThere, LogStore, OutcomeUnknown

__all__ = ["Lease"]

_FOLDER = "_neuralake/lease"
_LENGTHS_MAX = 20


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """A file of a lease. `until_s`: when it ends, Unix seconds; 0 when it was given back."""

    holder: str
    until_s: float


class Lease:
    """A lease that was taken with `take`. For one thread; give it back with `release`."""

    def __init__(
        self, store: LogStore, folder: str, *, clock: Clock, length_s: float, holder: str
    ) -> None:
        self._store, self._folder, self._clock = store, folder, clock
        self._length_s, self._holder = length_s, holder
        self.number = 0
        """Of the newest file that we made; grows with each step, whoever makes it."""
        self._began_s = 0.0
        self._is_lost = False

    @classmethod
    def take(
        cls, store: LogStore, purpose: str, *, clock: Clock, length_s: float = 60.0
    ) -> Lease | None:
        """The lease of `purpose` on the table in `store`; None if somebody else holds it.

        Costs one listing, one read and one put. Renew it with `keep` well within `length_s`.

        Raises:
            Unavailable: the store failed.
        """
        lease = cls(
            store,
            f"{_FOLDER}/{purpose}",
            clock=clock,
            length_s=length_s,
            holder=uuid.uuid4().hex,
        )
        newest = lease._newest()
        if newest is not None and lease._until_s(newest) > clock.now_s():
            return None
        return lease if lease._put((newest or 0) + 1, until_s=clock.now_s() + length_s) else None

    def keep(self) -> bool:
        """Renew it where a third of its time has passed; whether it is ours, as far as we know.

        Costs nothing in between, so it can be called at every step of the work.
        """
        if not self._is_lost and self._age_s() * 3 >= self._length_s:
            self._is_lost = not self._renew()
        return not self._is_lost

    def is_held(self) -> bool:
        """Whether it is ours: looks into the store, so that a theft is noticed. For a commit."""
        if self._is_lost or self._age_s() >= self._length_s:
            # Beyond its end it is renewed, if nobody took it over.
            self._is_lost = self._is_lost or not self._renew()
        else:
            self._is_lost = self._newest() != self.number
        return not self._is_lost

    def release(self) -> None:
        """Give it back, if it is ours; as far as possible: otherwise it ends by itself."""
        try:
            if not self._is_lost:
                self._put(self.number + 1, until_s=0.0)
        except Unavailable:
            pass
        self._is_lost = True

    def _renew(self) -> bool:
        return self._put(self.number + 1, until_s=self._clock.now_s() + self._length_s)

    def _put(self, number: int, *, until_s: float) -> bool:
        """Make the next file; whether it is the newest of all, and ours."""
        # From before the put: it may take long.
        began_s = self._clock.monotonic_s()
        step = _Step(holder=self._holder, until_s=until_s)
        try:
            self._store.put_if_absent(self._name(number), msgspec.json.encode(step))
        except (AlreadyThere, OutcomeUnknown):
            # A client may repeat a put by itself and meet the file that it made.
            if self._read(number) != step:
                return False
        # Numbers below the newest are removed, so one may be free although the lease went on.
        if self._newest() != number:
            self._store.remove([self._name(number)])
            return False
        self.number, self._began_s = number, began_s
        older = [name for name in self._names() if name < _base(number)]
        self._store.remove(f"{self._folder}/{name}" for name in older)
        return True

    def _newest(self) -> int | None:
        names = self._names()
        return int(names[-1][:20]) if names else None

    def _names(self) -> list[str]:
        return [
            name
            for name in self._store.names(self._folder)
            if len(name) == 25 and name[:20].isdigit() and name.endswith(".json")
        ]

    def _until_s(self, number: int) -> float:
        """When `number` ends; a file that is gone, or that makes no sense, has ended."""
        step = self._read(number)
        if step is None or step.until_s > self._clock.now_s() + _LENGTHS_MAX * self._length_s:
            return 0.0  # Its holder's clock was far ahead: we would wait for ever.
        return step.until_s

    def _read(self, number: int) -> _Step | None:
        try:
            return msgspec.json.decode(self._store.read(self._name(number)) or b"", type=_Step)
        except msgspec.DecodeError:
            return None

    def _name(self, number: int) -> str:
        return f"{self._folder}/{_base(number)}"

    def _age_s(self) -> float:
        return self._clock.monotonic_s() - self._began_s


def _base(number: int) -> str:
    return f"{number:020d}.json"
