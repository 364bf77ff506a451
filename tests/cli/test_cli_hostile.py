"""Texts of strangers are shown on a terminal, and do nothing to it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from neuralake.cli.terminal import Terminal, printable
from neuralake.settings import Settings

Run = Callable[..., Any]
CLEAR = "\x1b[2J"
TITLE = "\x1b]0;title\x07"
ATTACK = f"a{CLEAR}{TITLE}\x9b2J\r\x7f\u202eb"


def test_signs_stand_for_control_characters() -> None:
    shown = printable(ATTACK)

    assert len(shown) == len(ATTACK)
    assert shown == "a␛[2J␛]0;title␇\ufffd2J␍␡\ufffdb"
    assert printable("tab\tline\nünï 🧠") == "tab\tline\nünï 🧠"


@pytest.mark.parametrize("markup", [True, False])
def test_nothing_that_is_printed_controls_the_terminal(markup: bool) -> None:
    out = Terminal(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    table = Table(ATTACK)
    table.add_row(ATTACK)

    out.print(ATTACK, markup=markup)
    out.print(Text.assemble((ATTACK, "dim")), table)

    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert not set("\x07\x9b\r\x7f\u202e") & set(text)
    assert CLEAR not in text
    assert TITLE not in text


SQL = "SELECT chr(27) || '[2J [/red] :smile:' AS \"[/bold] :smile: \x1b[2J\""


def test_values_and_names_of_columns_are_no_markup(run: Run, project: Settings) -> None:
    del project
    result = run("query", SQL)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].strip() == "[/bold] :smile: ␛[2J"
    assert result.stdout.splitlines()[1].strip() == "␛[2J [/red] :smile:"


def test_a_pipe_gets_the_values_as_they_are(run: Run, project: Settings) -> None:
    del project
    row = json.loads(run("query", SQL, "--format", "json").stdout)

    assert list(row.values()) == [f"{CLEAR} [/red] :smile:"]
    assert CLEAR in run("query", SQL, "--format", "csv").stdout


def test_the_message_of_an_error_controls_nothing(run: Run, project: Settings) -> None:
    del project
    result = run("show", f"lab.{CLEAR}")

    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
