"""`neuralake dead-letters`: look at rows that did not fit, mend them, and send them again."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuralake.cli.answer import Format, write_frame
from neuralake.cli.inspect import find_definition
from neuralake.cli.session import Session
from neuralake.clock import SystemClock
from neuralake.errors import InvalidRows, UsageError

if TYPE_CHECKING:
    from neuralake.tables import DeltaTable
    from neuralake.writer import LetterBox, ReplayReport

__all__ = ["add_to", "export", "list_letters", "replay", "show"]

dead_letters = typer.Typer(
    help="Dead letters: rows that did not fit their table.", no_args_is_help=True
)
_LIMIT = 100
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}

_Table = Annotated[str, typer.Argument(metavar="TABLE", help="As database.table.")]
_Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Stored since: 90m, 12h, 3d, 2026-11-27 or with a time."
    ),
]


@dead_letters.command("list")
def list_letters(
    context: typer.Context,
    name: _Table,
    since: _Since = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = _LIMIT,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that were replayed.")
    ] = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How the answer is written.")
    ] = Format.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """List the dead letters of a table that were not replayed, the oldest first."""
    import polars as pl

    session: Session = context.obj
    found = _box(session, name).letters(
        since=_time(since), limit=limit + 1, replayed=everything, values=False
    )
    rows = [
        (
            each.id,
            _shown(each.time),
            each.source or each.partition,
            each.position,
            each.row,
            each.column,
            each.reason,
            each.value_bytes,
            "replayed" if each.is_replayed else "open",
        )
        for each in found[-limit:]
    ]
    names = ["id", "time", "source", "position", "row", "column", "reason", "bytes", "state"]
    texts = {"row": pl.Int64, "position": pl.Int64, "bytes": pl.Int64}
    schema = {each: texts.get(each, pl.String) for each in names}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    if frame.is_empty():
        session.err.print(f"{name} has no such dead letters.", markup=False, soft_wrap=True)
    write_frame(session, frame, Format.JSON if json else format)
    if len(found) > limit:
        session.err.print(f"There are more: these are the newest {limit} (--limit).")


@dead_letters.command()
def show(
    context: typer.Context,
    name: _Table,
    identity: Annotated[str, typer.Argument(metavar="ID", help="As the list says.")],
) -> None:
    """Show a dead letter: what it is, why it does not fit, and its bytes."""
    from neuralake.cli.letter_text import readable

    session: Session = context.obj
    found = _box(session, name).letter(identity)
    facts = {
        "id": found.id,
        "state": "replayed" if found.is_replayed else "open",
        "time": _shown(found.time),
        "source": found.source or "",
        "partition": found.partition,
        "position": str(found.position),
        "row": "all of it" if found.row is None else str(found.row),
        "column": found.column or "",
        "reason": found.reason,
        "format": found.format,
        "bytes": f"{found.value_bytes:,}",
        "beside it": found.attached or "",
    }
    for label, value in facts.items():
        if value:
            session.out.print(f"[bold]{label:>10}[/bold]  ", end="")
            session.out.print(value, markup=False, soft_wrap=True)
    session.out.print()
    session.out.print(readable(found), markup=False, soft_wrap=True)


@dead_letters.command()
def export(
    context: typer.Context,
    name: _Table,
    file: Annotated[
        Path | None, typer.Option("--file", help="Write there. Default: standard output.")
    ] = None,
    since: _Since = None,
) -> None:
    """Write the open dead letters as NDJSON, to mend in an editor and replay.

    One letter a line: its id, the reason, and `row`, which is what you mend. What is no JSON has
    `text` instead; write a `row` for it, or delete the line.
    """
    from neuralake.cli.letter_text import exported
    from neuralake.cli.terminal import printable

    session: Session = context.obj
    letters = _box(session, name).letters(since=_time(since), values=True)
    lines = [exported(each) + "\n" for each in letters]
    if file is None:
        shown = map(printable, lines) if session.out.is_terminal else lines
        session.out.file.writelines(shown)
        return
    try:
        # "x": letters that somebody mends there are not written over.
        with file.open("x", encoding="utf-8") as target:
            target.writelines(lines)
    except FileExistsError as error:
        raise UsageError(f"{file} is there already. Name a new file.", name=str(file)) from error
    except OSError as error:
        with suppress(OSError):
            file.unlink()  # Half of the letters would look like all.
        raise UsageError(f"Cannot write {file}: {error.strerror}.", name=str(file)) from error
    session.out.print(f"{len(lines):,} dead letters are in {file}.", markup=False, soft_wrap=True)


@dead_letters.command()
def replay(
    context: typer.Context,
    name: _Table,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="This letter only; may be repeated."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Mended rows, as `export` wrote them.")
    ] = None,
    since: _Since = None,
) -> None:
    """Read dead letters again, as they are or mended, and put what fits into the table.

    Each letter goes into the table at most once, also if this is interrupted and run again. What
    does not fit stays a dead letter.
    """
    from neuralake.cli.letter_text import mended
    from neuralake.writer import Replacement, Replayer

    session: Session = context.obj
    if file is not None and (ids or since):
        raise UsageError("--file names the letters already; leave --id and --since out.")
    database, table = _definition(session, name)
    box = _box(session, name)
    if file is not None:
        replacements = mended(file, box)
    else:
        for each in ids or ():
            box.letter(each)  # Raises for one that there is not.
        replacements = [
            Replacement(each.id, each.value or b"", each.format, each.attached)
            for each in box.letters(ids=ids, since=_time(since), replayed=bool(ids), values=True)
        ]
    _tell(session, name, Replayer(session.catalog, database, table).replay(replacements))


def _tell(session: Session, name: str, report: ReplayReport) -> None:
    texts = []
    if report.completed:
        texts.append(f"Completed a replay of {report.completed:,} that was cut off.")
    if report.rows:
        texts.append(
            f"{_count(report.letters, 'is', 'are')} replayed: {report.rows:,} rows are in {name}, "
            f"version {report.version}."
        )
    else:
        texts.append("Nothing was replayed.")
    if report.already:
        texts.append(f"{len(report.already):,} were replayed before.")
    for text in texts:
        session.out.print(text, markup=False, soft_wrap=True)
    if report.misfits:
        import polars as pl

        write_frame(
            session,
            pl.DataFrame(
                [(each.id, each.column, each.reason) for each in report.misfits],
                schema={"id": pl.String, "column": pl.String, "reason": pl.String},
                orient="row",
            ),
            Format.TABLE,
        )
        raise InvalidRows(
            f"{_count(len(report.misfits), 'does not', 'do not')} fit {name}. Mend what stays: "
            f"neuralake dead-letters export {name} --file FILE",
            letters=len(report.misfits),
        )


def _count(letters: int, one: str, many: str) -> str:
    return f"1 letter {one}" if letters == 1 else f"{letters:,} letters {many}"


def _definition(session: Session, name: str) -> tuple[str, DeltaTable]:
    from neuralake.tables import DeltaTable

    database, found = find_definition(session.catalog, name)
    if not isinstance(found, DeltaTable) or found.stream is None:
        raise UsageError(f"{name} has no stream, so it has no dead letters.", name=name)
    return database, found


def _box(session: Session, name: str) -> LetterBox:
    from neuralake.writer import LetterBox

    return LetterBox(session.catalog, *_definition(session, name))


def _shown(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str | None) -> datetime | None:
    """The instant that `--since` names; without a zone it is UTC."""
    if text is None:
        return None
    try:
        if text[-1:] in _UNITS_S:
            span = timedelta(seconds=float(text[:-1]) * _UNITS_S[text[-1]])
            return datetime.fromtimestamp(SystemClock().now_s(), UTC) - span
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since {text!r} is no time: write 90m, 12h, 3d, 2026-11-27 or 2026-11-27T09:30:00Z.",
            name="since",
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(dead_letters, name="dead-letters", rich_help_panel="Run")
