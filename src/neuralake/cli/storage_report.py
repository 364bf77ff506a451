"""What `neuralake storage doctor` says of one table, and does if asked to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from neuralake.cli.places import Place, open_as, profile_of
from neuralake.clock import SystemClock
from neuralake.delta.coordination import COORDINATION, LOCK_TABLE, TABLE_PATH
from neuralake.delta.log import FOLDER
from neuralake.delta.replay import replay
from neuralake.errors import NeedsAttention, UnknownName
from neuralake.settings import Settings
from neuralake.storage import CoordinatedStore, LogStore
from neuralake.storage.doctor import EntryState, Finding, examine, give_up, mend

__all__ = ["Report", "recorded_of", "refuse_unfinished", "report"]


@dataclass(slots=True)
class Report:
    lines: list[str] = field(default_factory=list)
    is_wrong: bool = False


def recorded_of(settings: Settings, place: Place) -> dict[str, str]:
    """What the table records of how its writers agree; empty if nothing.

    Raises:
        UnknownName: there is no table.
    """
    # Past the lock table: a reader that asks it finishes what it finds, and this only looks.
    files = open_as(settings, place.uri, {COORDINATION: "conditional-put"})
    configuration = replay(files).metadata.configuration
    names = (COORDINATION, LOCK_TABLE, TABLE_PATH)
    return {name: configuration[name] for name in names if name in configuration}


def refuse_unfinished(place: Place, store: LogStore) -> None:
    """Raise NeedsAttention if the lock table has commits of the table that are not finished."""
    if not isinstance(store, CoordinatedStore):
        return
    left = [found for found in examine(store) if found.state is not EntryState.DONE]
    if left:
        raise NeedsAttention(
            f"{place.name} has {len(left)} entries in the lock table {store.lock_table!r} that "
            f"are not finished, the first for version {left[0].version}. Stop all writers, and "
            f"clear them up: neuralake storage doctor {place.name} --repair",
            table=place.name,
        )


def report(settings: Settings, place: Place, *, repair: bool, gives_up: bool) -> Report:
    """Look at one table; with `repair`, finish its commits and remove what nobody needs.

    `gives_up` also removes lock entries whose commits cannot be finished any more.
    """
    found = Report()
    configured = profile_of(settings, place.uri).coordination
    try:
        recorded = recorded_of(settings, place)
    except UnknownName:
        found.lines.append(f"no table yet; set up for {configured}")
        recorded = {COORDINATION: configured}
    else:
        _compare(found, place, recorded, configured)
    store = open_as(settings, place.uri, recorded)
    if not isinstance(store, CoordinatedStore):
        return found
    found.lines.append(f"lock table {store.lock_table}, path {store.table_path}")
    findings = list(examine(store))
    _tell_others(found, [each for each in findings if each.state is EntryState.DONE])
    left = [each for each in findings if each.state is not EntryState.DONE]
    ages_s = _ages_s(store) if left else {}
    for each in reversed(left):  # The oldest first: a later one may build on it.
        found.lines.append(_describe(each, ages_s.get(f"{FOLDER}/{each.entry.temp_path}")))
        can_finish = each.state in (EntryState.UNPUBLISHED, EntryState.UNCOMPLETED)
        if repair and can_finish:
            mend(store, each)
            found.lines.append("  finished")
        elif gives_up and not can_finish:
            give_up(store, each)
            found.lines.append("  removed from the lock table")
        else:
            found.is_wrong = found.is_wrong or not can_finish
    if repair:
        _remove_leftovers(found, store, settings)
    return found


def _compare(found: Report, place: Place, recorded: dict[str, str], configured: str) -> None:
    mode = recorded.get(COORDINATION)
    if mode == configured:
        found.lines.append(f"writers agree by {mode}, as recorded and as set up")
        return
    found.is_wrong = True
    if mode is None:
        found.lines.append(
            f"does not record how its writers agree; set up for {configured}. If all of them do: "
            f"neuralake storage set-coordination {place.name} {configured}"
        )
    else:
        found.lines.append(
            f"recorded: {mode}; set up for: {configured}. Writing is refused: correct the storage "
            f"profile, or: neuralake storage set-coordination {place.name} {configured}"
        )


def _tell_others(found: Report, elsewhere: Iterable[Finding]) -> None:
    """Commits of the last day under another spelling of the table's address."""
    for path in sorted({each.entry.table_path for each in elsewhere}):
        found.is_wrong = True
        found.lines.append(
            f"commits under {path}: writers that spell the table so and ours do not see one "
            f"another, and lose commits. Give all of them one spelling."
        )


def _describe(left: Finding, age_s: float | None) -> str:
    under = f" under {left.entry.table_path}" if left.is_elsewhere else ""
    begun = "" if age_s is None else f", begun {age_s:.0f} s ago"
    return f"version {left.version}{under}{begun}: {left.state.value}"


def _ages_s(store: CoordinatedStore) -> dict[str, float]:
    """How long ago each file in the log folder was written."""
    now_s = SystemClock().now_s()
    return {file.name: now_s - file.modified_s for file in store.files(FOLDER)}


def _remove_leftovers(found: Report, store: CoordinatedStore, settings: Settings) -> None:
    # Only here: asking for them finishes what is unfinished.
    names = store.leftovers(older_than_s=settings.vacuum.orphan_age_hours * 3600)
    if names:
        store.remove(names)
        found.lines.append(f"{len(names)} temporary files that no commit needs: removed")
