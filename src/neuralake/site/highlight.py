"""Code as HTML with a few coloured words: strings, comments, numbers, keywords.

Prerendered, so the pages need no highlighting library. One pass of one pattern per language; the
text that comes out of the tags is exactly the text that went in (what the copy button copies).
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

__all__ = ["highlight"]

_PYTHON_WORDS = "and as def else False for from if import in is None not or return True with"
_SQL_WORDS = (
    "AND AS ASC BETWEEN BY COUNT DATE DESC DISTINCT FROM GROUP IN IS LIKE LIMIT NOT NULL OR ORDER "
    "SELECT TIMESTAMP WHERE TRUE FALSE"
)


_NUMBER = r"(?<![\w.])\d[\d_]*(?:\.\d+)?\b"
_NEVER = "(?!)"


def _pattern(
    *, string: str, words: str, comment: str = _NEVER, number: str = _NUMBER
) -> re.Pattern[str]:
    keywords = "|".join(words.split())
    return re.compile(
        rf"(?P<comment>{comment})|(?P<string>{string})|(?P<keyword>\b(?:{keywords})\b)"
        rf"|(?P<number>{number})"
    )


_QUOTED = r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\''
_LANGUAGES = {
    "python": _pattern(comment=r"#[^\n]*", string=_QUOTED, words=_PYTHON_WORDS),
    "sql": _pattern(comment=r"--[^\n]*", string=r"'(?:[^']|'')*'", words=_SQL_WORDS),
    # In a shell a single-quoted text ends at the next quote, whatever stands before it.
    "shell": _pattern(string=r"'[^']*'|\"(?:[^\"\\]|\\.)*\"", words="curl", number=_NEVER),
}


def highlight(code: str, language: str) -> Markup:
    """`code` escaped, with `<span class="t-...">` around what its language names."""
    done, at = Markup(""), 0
    for match in _LANGUAGES[language].finditer(code):
        kind = match.lastgroup
        done += escape(code[at : match.start()])
        done += Markup('<span class="t-{}">{}</span>').format(kind, match[0])
        at = match.end()
    return done + escape(code[at:])
