"""What goes to a terminal: text from tables, files and servers is shown there and controls nothing.

Control characters (colours, titles, clearing the screen) and marks that turn the direction of
writing become signs of one cell; `:smile:` stays as it is.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

__all__ = ["Terminal", "printable"]

_UNSEEN = 0xFFFD
_SIGNS = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
    | {0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), _UNSEEN)
    | dict.fromkeys(
        [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], _UNSEEN
    )
)


def printable(text: str) -> str:
    """`text` of the same length, with signs for control characters but tab and newline."""
    return text.translate(_SIGNS)


class Terminal(Console):
    """A console that prints texts and tables of strangers; markup is only what we wrote."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return _without_control(super().render_str(text, **options))

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(
            *(_without_control(part) if isinstance(part, Text) else part for part in objects),
            **options,
        )


def _without_control(text: Text) -> Text:
    found = text.copy()
    found.plain = printable(text.plain)
    return found
