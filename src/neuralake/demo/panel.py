"""Show the demo's status: a panel that is redrawn on a terminal, or a line now and then.

Pure: from a `Status` to what rich prints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.align import Align
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from neuralake.demo.status import FreshnessStatus, Status, StreamStatus

__all__ = ["line", "panel", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_MAP_COLUMNS = 27  # Twice the lines and a bit: characters are about twice as high as wide.
_MAP_LINES = 11
_WIDE = 100


def panel(status: Status, *, width: int = _WIDE) -> RenderableType:
    """The whole picture, in 23 lines; on a terminal of less than 100 columns a part of it."""
    wide = width >= _WIDE
    return Panel(
        Group(_streams(status, wide=wide), Text(), _lower(status, wide=wide)),
        title=f"[bold]neuralake demo[/bold]  {_clock(status)}",
        subtitle=f"{status.url}   Ctrl-C ends the streams and checks every row",
        border_style="cyan",
    )


def line(status: Status) -> str:
    """The same in one line, for a log."""
    ages = ", ".join(
        f"{seen.how} p50 {_ms(seen.p50_ms)} p99 {_ms(seen.p99_ms)}" for seen in status.freshness
    )
    rate = sum(stream.rates[-1] for stream in status.streams if stream.rates)
    commits = sum(stream.commits for stream in status.streams)
    written = sum(stream.files_written for stream in status.streams)
    live = sum(stream.files_live for stream in status.streams)
    text = (
        f"{status.elapsed_s:5.1f} s  {status.acknowledged:,} acknowledged ({rate:,.0f}/s), "
        f"{commits:,} commits, files {written:,} -> {live:,}; age of the newest row: {ages}"
    )
    restarts = _restarts(status)
    return f"{text}; {restarts}" if restarts else text


def sparkline(values: Sequence[float], *, width: int) -> str:
    """The last `width` values as bars, from zero to the largest of them."""
    shown = list(values)[-width:] if width else []
    top = max(shown, default=0.0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(7, max(0, int(value / top * 8)))] for value in shown)


def _clock(status: Status) -> str:
    until = f" of {status.seconds:g}" if status.seconds is not None else ""
    return f"{status.elapsed_s:.0f}{until} s"


def _streams(status: Status, *, wide: bool) -> Table:
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 1))
    table.add_column("table", no_wrap=True)
    for name in ("events/s", "", "acknowledged", "answer p50/p99", "commits", "files"):
        if wide or name != "answer p50/p99":
            table.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
    for stream in status.streams:
        table.add_row(*_cells(stream, wide=wide))
    rates = [sum(column) for column in zip(*(s.rates for s in status.streams), strict=False)]
    table.add_row(
        *[
            "together",
            f"{rates[-1] if rates else 0:,.0f}",
            f"[green]{sparkline(rates, width=16 if wide else 8)}[/green]",
            f"{status.acknowledged:,}",
            *([""] if wide else []),
            f"{sum(s.commits for s in status.streams):,}",
            f"{sum(s.files_written for s in status.streams):,} → "
            f"{sum(s.files_live for s in status.streams):,}",
        ],
        style="bold",
    )
    return table


def _cells(stream: StreamStatus, *, wide: bool) -> list[str]:
    name, state = f"[cyan]{stream.table}[/cyan]", ""
    if stream.is_waiting:
        name, state = f"[yellow]{stream.table}[/yellow]", " [yellow]sends again[/yellow]"
    elif stream.is_over:
        name, state = f"[dim]{stream.table}[/dim]", " [dim]all sent[/dim]"
    return [
        name + (state if wide else ""),
        f"{stream.rates[-1] if stream.rates else 0:,.0f}",
        f"[green]{sparkline(stream.rates, width=16 if wide else 8)}[/green]",
        f"{stream.acknowledged:,}",
        *([f"{_ms(stream.answer_p50_ms)} / {_ms(stream.answer_p99_ms)}"] if wide else []),
        f"{stream.commits:,}",
        f"{stream.files_written:,} → {stream.files_live:,}",
    ]


def _lower(status: Status, *, wide: bool) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(width=_MAP_COLUMNS + 4)
    facts = Group(
        Text("Age of the newest row read (neural.cursor)", style="dim"),
        *[_freshness(seen, wide=wide) for seen in status.freshness],
        Text(),
        Text(f"Flights of New York, {_speed(status.speed_up)} each second", style="dim"),
        _progress(status, width=30 if wide else 14),
        Text(),
        Text("Latest compaction", style="dim"),
        *_compactions(status),
        Text.from_markup(f"[yellow]{_restarts(status)}[/yellow]"),
    )
    cursor = Panel(_map(status.cursor), title="[dim]cursor, as read live[/dim]", border_style="dim")
    grid.add_row(facts, Align.right(cursor))
    return grid


def _freshness(seen: FreshnessStatus, *, wide: bool) -> Text:
    style = "green" if seen.how == "live frame" else "magenta"
    return Text.assemble(
        (f"  {seen.how:<12}", style),
        f"p50 {_ms(seen.p50_ms):>7}   p99 {_ms(seen.p99_ms):>7}   ",
        (sparkline(seen.recent_ms, width=24 if wide else 0), style),
    )


def _progress(status: Status, *, width: int) -> Text:
    done = round(width * min(1.0, status.data_share))
    return Text.assemble(
        f"  {status.data_time:%d %B %Y}  ".ljust(22),
        ("█" * done, "cyan"),
        ("░" * (width - done), "dim"),
        f" {min(1.0, status.data_share):.0%}",
    )


def _compactions(status: Status) -> list[Text]:
    rows = [
        Text(f"  {done.table:<14} {done.removed:,} files → {done.added:,}")
        for done in status.compactions
    ]
    return rows or [Text("  none yet", style="dim")]


def _map(cursor: dict[str, float]) -> Text:
    """Cursor (●) and target (◎) on a field from -1 to 1."""
    rows = [[" "] * _MAP_COLUMNS for _ in range(_MAP_LINES)]
    for step in range(8):
        angle = step * math.pi / 4
        _put(rows, math.cos(angle), math.sin(angle), "·")
    _put(rows, 0.0, 0.0, "·")
    if cursor:
        _put(rows, cursor["target_x"], cursor["target_y"], "◎")
        _put(rows, cursor["x"], cursor["y"], "●")
    text = Text("\n".join("".join(row) for row in rows))
    text.highlight_regex("●", "bold green")
    text.highlight_regex("◎", "bold yellow")
    return text


def _put(rows: list[list[str]], x: float, y: float, mark: str) -> None:
    column = round((x + 1) / 2 * (_MAP_COLUMNS - 1))
    row = round((1 - y) / 2 * (_MAP_LINES - 1))
    rows[row][column] = mark


def _restarts(status: Status) -> str:
    again = [f"{name} {count}x" for name, count in status.restarts.items() if count]
    return f"started again: {', '.join(again)}" if again else ""


def _speed(speed_up: float) -> str:
    days = speed_up / 86_400
    if days == 7:
        return "a week"
    return f"{days:g} days" if days >= 1 else f"{speed_up / 3600:g} hours"


def _ms(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"
