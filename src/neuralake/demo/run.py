"""The demo from start to end: platform, streams, check, queries, and then the site to look at."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from neuralake.catalog import Catalog, load_catalog
from neuralake.clock import SystemClock
from neuralake.delta import snapshot
from neuralake.demo.interrupts import Interrupts
from neuralake.demo.panel import line, panel
from neuralake.demo.queries import (
    Answer,
    busiest_airports,
    decode_directions,
    most_delayed_airlines,
)
from neuralake.demo.scratch import make_lake
from neuralake.demo.streams import Streams
from neuralake.demo.verify import TableCheck, check_table
from neuralake.errors import MissingExtra, UnknownName, UsageError
from neuralake.queue.topic import app_id
from neuralake.settings import Settings
from neuralake.site import build_site
from neuralake.supervise import Supervisor

__all__ = ["DemoOptions", "run_demo"]

_FRAMES_PER_S = 4
_LINE_EVERY_S = 2.0
# From the last acknowledgement until the writer, perhaps just killed, has committed it.
_SETTLE_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user chose."""

    seconds: float | None = None
    """End after so long; None: at the end of the year of flights, and then wait for Ctrl-C."""
    speed_up: float = 7 * 86_400.0
    folder: Path | None = None
    """Where the lake is made, and kept; None: a scratch folder, removed at the end."""


def run_demo(options: DemoOptions, console: Console) -> bool:
    """Run it; True if every acknowledged row is in its table exactly once.

    Raises:
        MissingExtra: the flights are not installed.
        UsageError: the chosen folder is not empty.
        NeedsAttention: the platform did not start, or refused what was sent.
    """
    interrupts = Interrupts()
    folder = _new_folder(options.folder)
    try:
        settings = make_lake(folder)
    except MissingExtra:
        folder.rmdir()  # Nothing was written.
        raise
    console.print(f"The demo's lake is in {folder}", soft_wrap=True)
    with (folder / "platform.log").open("w", encoding="utf-8", buffering=1) as log:
        # What this process logs belongs there too: on the terminal it would tear the panel.
        logging.basicConfig(stream=log, format="    demo | %(levelname)s %(name)s: %(message)s")

        def on_line(name: str, text: str) -> None:
            log.write(f"{name:>8} | {text}\n")

        with Supervisor(settings, on_line=on_line) as platform, _watched(platform):
            verified = _Demo(options, console, interrupts, settings, platform).run()
    if not verified:
        console.print(f"Kept to look into: {folder} (platform.log is what the parts said)")
    elif options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return verified


class _Demo:
    def __init__(
        self,
        options: DemoOptions,
        console: Console,
        interrupts: Interrupts,
        settings: Settings,
        platform: Supervisor,
    ) -> None:
        self._options, self._console, self._interrupts = options, console, interrupts
        self._platform = platform
        self._site = settings.path(settings.site.folder)
        self._catalog = load_catalog(settings)
        self._clock = SystemClock()

    def run(self) -> bool:
        self._say(f"The platform is up: {self._platform.url}")
        build_site(self._catalog, self._site, base_url=self._platform.url)
        streams = Streams(
            self._catalog,
            self._platform,
            speed_up=self._options.speed_up,
            seconds=self._options.seconds,
            clock=self._clock,
        )
        streams.start()
        self._watch(streams)
        self._interrupts.streams.set()  # They are over: the next Ctrl-C is for the rest.
        streams.end()
        for sender in streams.senders:
            if sender.error is not None:
                raise sender.error
        last = streams.status()
        self._say("", line(last), "", "The streams have ended. Checking every row.")
        self._settle(streams.tables)
        checks = [self._check(streams, table) for table in streams.tables]
        self._console.print(_checks(checks))
        verified = all(check.is_right for check in checks)
        if not self._interrupts.all.is_set():
            self._query(streams)
            build_site(self._catalog, self._site, base_url=self._platform.url)
        self._say("", _verdict(checks))
        if self._stays:
            self._say(f"Catalog site: {self._platform.url}/  ({self._site / 'index.html'})")
            self._say("Look around; Ctrl-C ends the demo.")
            self._interrupts.all.wait()
        return verified

    @property
    def _stays(self) -> bool:
        """Whether somebody will look around before it ends."""
        return self._options.seconds is None and not self._interrupts.all.is_set()

    def _watch(self, streams: Streams) -> None:
        """Show how it goes until it is over."""
        ended = self._interrupts.streams
        if not self._console.is_terminal:
            while not streams.is_over and not self._clock.wait_s(_LINE_EVERY_S, ended):
                self._say(line(streams.status()))
            return
        pause_s = 1 / _FRAMES_PER_S
        with Live(console=self._console, auto_refresh=False) as live:
            while not streams.is_over and not self._clock.wait_s(pause_s, ended):
                live.update(panel(streams.status(), width=self._console.width), refresh=True)

    def _settle(self, tables: Sequence[str]) -> None:
        """Wait until the tables hold everything that the queue has."""
        deadline_s = self._clock.monotonic_s() + _SETTLE_S_MAX
        for table in tables:
            while not _is_settled(self._catalog, table):
                if self._clock.monotonic_s() > deadline_s:
                    return  # The check says what is missing.
                self._clock.wait_s(0.1, self._interrupts.all)

    def _check(self, streams: Streams, table: str) -> TableCheck:
        sender = next(found for found in streams.senders if found.source.table == table)
        database, name = table.split(".")
        frame = self._catalog.db(database).table(name)
        return check_table(
            table,
            frame.select("event_id").collect()["event_id"],
            acknowledged=sender.acknowledged,
            unanswered=sender.unanswered,
        )

    def _query(self, streams: Streams) -> None:
        for answer in (
            busiest_airports(self._catalog, "2013-01"),
            decode_directions(self._catalog, streams.neural),
            most_delayed_airlines(self._platform.url),
        ):
            self._show(answer)

    def _show(self, answer: Answer) -> None:
        self._console.print(f"\n[bold]{answer.title}[/bold]")
        self._console.print(answer.code, style="dim", markup=False, highlight=False)
        table = Table(box=None, header_style="cyan", padding=(0, 2, 0, 0))
        for name, kind in answer.rows.schema.items():
            table.add_column(name, justify="right" if kind.is_numeric() else "left")
        for cells in answer.rows.iter_rows():
            table.add_row(*[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells])
        self._console.print(table)

    def _say(self, *lines: str) -> None:
        for text in lines:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _is_settled(catalog: Catalog, table: str) -> bool:
    database, name = table.split(".")
    definition = catalog.definition(database, name)
    queue = catalog.queue_of(definition)
    lasts = {partition: queue.bounds(partition).last for partition in queue.partitions(table)}
    if not any(lasts.values()):
        return True
    try:
        now = snapshot(catalog.store_of(definition))
    except UnknownName:
        return False
    return all((now.txn(app_id(queue.id, name)) or 0) >= last for name, last in lasts.items())


def _checks(checks: Sequence[TableCheck]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("table")
    for name in ("acknowledged", "in the table", "missing", "doubled", "strange"):
        table.add_column(name, justify="right")
    table.add_column("")
    for check in checks:
        table.add_row(
            check.table,
            *[
                f"{count:,}"
                for count in (
                    check.acknowledged,
                    check.rows,
                    check.missing,
                    check.doubled,
                    check.strange,
                )
            ],
            "[green]right[/green]" if check.is_right else "[red]WRONG[/red]",
        )
    return table


def _verdict(checks: Sequence[TableCheck]) -> str:
    total = sum(check.acknowledged for check in checks)
    if all(check.is_right for check in checks):
        return f"Verified: all {total:,} acknowledged rows are in their tables exactly once."
    wrong = ", ".join(check.table for check in checks if not check.is_right)
    return f"NOT verified: rows are missing, doubled or strange in {wrong}."


def _new_folder(chosen: Path | None) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="neuralake-demo-"))
    if chosen.exists() and any(chosen.iterdir()):
        raise UsageError(f"{chosen} is not empty; the demo makes its lake in a new folder.")
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen.absolute()


@contextmanager
def _watched(platform: Supervisor) -> Iterator[None]:
    """Keep the platform's parts running meanwhile."""
    stop = threading.Event()
    thread = threading.Thread(target=platform.watch, args=(stop,), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
