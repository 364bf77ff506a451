"""`neuralake storage`: set up object stores, see what is left in them, change how writers agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuralake.cli.session import Session
from neuralake.errors import NeedsAttention, UnknownName, UnsupportedFeature, UsageError

if TYPE_CHECKING:
    from neuralake.settings import Settings, StorageProfile

__all__ = ["add_to", "doctor", "init", "set_coordination"]

storage = typer.Typer(
    help="Object stores: set them up, repair them, change how writers agree.", no_args_is_help=True
)


@storage.command()
def init(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[URI|PROFILE]", help="Default: every profile of the settings."),
    ] = None,
) -> None:
    """Make the lock table if the profile needs one, and check that the bucket can hold tables.

    Reaches the bucket, writes and removes a small object, and makes sure that the server refuses
    the second of two puts of one name. Safe to repeat.
    """
    session: Session = context.obj
    for name, profile, uri in _asked(session.settings, what):
        session.out.print(f"[bold]{name}[/bold]  {uri}", soft_wrap=True)
        for line in _set_up(session.settings, profile, uri):
            session.out.print(f"  {line}", markup=False, soft_wrap=True)


@storage.command()
def doctor(
    context: typer.Context,
    table: Annotated[
        str | None,
        typer.Argument(metavar="[TABLE]", help="database.table or a URI; all tables if none."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Finish commits and remove leftovers.")
    ] = False,
    give_up: Annotated[
        bool,
        typer.Option("--give-up", help="Also remove entries whose commit cannot be finished."),
    ] = False,
) -> None:
    """Show how each table's writers agree, as recorded and as set up, and what they left.

    Lists unfinished commits in the lock table under every spelling of the table's URL, with their
    age, and temporary files that no commit needs. Exits with 70 if something needs a person.
    """
    from neuralake.cli.places import place_of, places_of
    from neuralake.cli.storage_report import report

    session: Session = context.obj
    catalog = session.catalog
    if give_up and table is None:
        raise UsageError("--give-up removes entries for good: name the one TABLE that it is for.")
    places = [place_of(catalog, table)] if table else places_of(catalog)
    if not places:
        session.err.print("The catalog has no Delta tables in object stores.")
    wrong = 0
    for place in places:
        session.out.print(f"[bold]{place.name}[/bold]  {place.uri}", soft_wrap=True)
        found = report(session.settings, place, repair=repair or give_up, gives_up=give_up)
        for line in found.lines:
            session.out.print(f"  {line}", markup=False, soft_wrap=True)
        wrong += found.is_wrong
    if wrong:
        what = "1 table needs" if wrong == 1 else f"{wrong} tables need"
        raise NeedsAttention(f"{what} attention; see above.", wrong=wrong)


@storage.command("set-coordination")
def set_coordination(
    context: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="database.table or a URI.")],
    mode: Annotated[str, typer.Argument(metavar="MODE", help="conditional-put or dynamodb.")],
    path: Annotated[
        str | None,
        typer.Option("--path", help="The table's URL as other engines spell it (dynamodb)."),
    ] = None,
) -> None:
    """Change how the writers of a table agree on the next commit.

    Stop all writers of the table first, set `coordination` in the storage profile, make the lock
    table if there is to be one (`storage init`), run this, and start them again. Writers of ours
    that still run refuse at their next commit; other engines would not notice, and commits would
    be lost.
    """
    from neuralake.cli.places import open_as, place_of, profile_of
    from neuralake.cli.storage_report import recorded_of, refuse_unfinished
    from neuralake.delta.coordination import COORDINATION, TABLE_PATH
    from neuralake.delta.handover import hand_over

    session: Session = context.obj
    place = place_of(session.catalog, table)
    wanted = {COORDINATION: mode} | ({TABLE_PATH: path} if path else {})
    new = open_as(session.settings, place.uri, wanted)
    recorded = recorded_of(session.settings, place)
    old = open_as(session.settings, place.uri, recorded or wanted)
    for store in (old, new):
        refuse_unfinished(place, store)
    done = hand_over(old, new)
    if done.version is None:
        session.out.print(f"{place.name}: writers agree by {mode} already.", soft_wrap=True)
        return
    was = done.before.get(COORDINATION, "not recorded")
    session.out.print(
        f"{place.name}: version {done.version} records that writers agree by {mode} (was {was}).",
        markup=False,
        soft_wrap=True,
    )
    is_set_up = profile_of(session.settings, place.uri).coordination == mode
    profile = "" if is_set_up else f'Set coordination = "{mode}" in its storage profile. '
    session.err.print(
        f"{profile}Start the writers of {place.uri} again, those of other engines too.",
        markup=False,
        soft_wrap=True,
    )


def _asked(settings: Settings, what: str | None) -> list[tuple[str, StorageProfile, str]]:
    """`(name, profile, uri)` of each place to set up."""
    from neuralake.cli.places import profile_of

    if what is not None and "://" in what:
        return [(what, profile_of(settings, what), what)]
    named = settings.storage if what is None else {what: settings.storage.get(what)}
    if not named and "://" in settings.root:
        return [("lake", profile_of(settings, settings.root), settings.root)]
    if not named or None in named.values():
        known = list(settings.storage)
        raise UnknownName(
            f"No storage profile {what!r}. The settings have: {', '.join(known) or 'none'}."
            if what
            else "The settings have no [storage.NAME], and the lake is local: nothing to set up.",
            kind="storage profile",
            name=what or "",
            known=known,
        )
    profiles = dict(zip(settings.storage, settings.profiles, strict=True))
    return [(name, profiles[name], profiles[name].uri) for name in named]


def _set_up(settings: Settings, profile: StorageProfile, uri: str) -> list[str]:
    from neuralake.cli.places import open_as
    from neuralake.delta.coordination import COORDINATION
    from neuralake.storage import CoordinatedStore, S3Store
    from neuralake.storage.dynamodb import LockTable

    # A bucket alone is no table's folder; what is tried is tried below it.
    folder = uri.rstrip("/") + ("/_neuralake" if uri.rstrip("/").count("/") < 3 else "")
    lines = [f"writers agree by {profile.coordination}"]
    bucket = open_as(settings, folder, {COORDINATION: "conditional-put"})
    assert isinstance(bucket, S3Store)  # noqa: S101 what the mode is; for mypy
    try:
        bucket.check()
        lines.append("bucket: can be written to, and refuses the second put of a name")
    except UnsupportedFeature:
        if profile.coordination != "dynamodb":
            raise
        lines.append("bucket: can be written to; ignores If-None-Match, which dynamodb stands for")
    if profile.coordination == "dynamodb":
        store = open_as(settings, folder, {COORDINATION: "dynamodb"})
        assert isinstance(store, CoordinatedStore)  # noqa: S101 see above
        assert isinstance(store.locks, LockTable)  # noqa: S101 see above
        made = store.locks.create()
        lines.append(f"lock table: {store.lock_table} {'made' if made else 'is there'}")
    return lines


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(storage, name="storage", rich_help_panel="Run")
