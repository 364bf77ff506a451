"""Descriptions as HTML: a small, safe part of Markdown, enough for table docs.

Paragraphs, `- ` and `1. ` lists, fenced code, `code`, **strong**, *emphasis*, [text](url) and bare
http(s) links. Everything is escaped first and only our own tags are put around it, so no input
can make a tag, an attribute or a script; what is not understood stays as the text it is.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from markupsafe import Markup, escape

__all__ = ["is_web_url", "prose", "summary"]

_FENCE = re.compile(r"^```")
_BULLET = re.compile(r"^\s*[-*+]\s+(?=\S)")
_NUMBER = re.compile(r"^\s*\d{1,9}[.)]\s+(?=\S)")
_INLINE = re.compile(
    r"`(?P<code>[^`\n]+)`"
    r"|\[(?P<text>[^\[\]\n]+)\]\((?P<url>https?://[^\s()<>\"']+)\)"
    r"|\*\*(?P<strong>[^*\n]+)\*\*"
    r"|(?<![\w*])\*(?P<emphasis>[^*\s](?:[^*\n]*[^*\s])?)\*(?![\w*])"
    r"|(?P<bare>https?://[^\s<>\"'()]+)"
)


def prose(text: str) -> Markup:
    """`text` as HTML blocks; empty for empty or blank text."""
    return Markup("\n").join(_blocks(textwrap.dedent(text).strip().splitlines()))


def summary(text: str, *, characters_max: int = 160) -> str:
    """The first paragraph's plain words, cut at a word with an ellipsis."""
    first = textwrap.dedent(text).strip().split("\n\n", 1)[0]
    plain = _INLINE.sub(
        lambda m: next(m[name] for name in _PLAIN if m[name] is not None), " ".join(first.split())
    )
    if len(plain) <= characters_max:
        return plain
    return plain[:characters_max].rsplit(" ", 1)[0].rstrip(" ,;:.") + "…"


_PLAIN = ("code", "text", "strong", "emphasis", "bare")


def is_web_url(url: str | None) -> bool:
    """Whether `url` is an absolute http(s) address, the only kind we ever make a link of."""
    if not url or any(c.isspace() or ord(c) < 32 for c in url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _blocks(lines: list[str]) -> Iterator[Markup]:
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif _FENCE.match(line):
            end = _until(lines, at + 1, lambda found: bool(_FENCE.match(found)))
            yield Markup("<pre><code>{}</code></pre>").format("\n".join(lines[at + 1 : end]))
            at = end + 1
        elif _BULLET.match(line) or _NUMBER.match(line):
            mark, tag = (_BULLET, "ul") if _BULLET.match(line) else (_NUMBER, "ol")
            end = _until(lines, at, lambda found: not found.strip())
            yield _list(lines[at:end], mark, tag)
            at = end
        else:
            end = _until(lines, at + 1, _is_break)
            yield Markup("<p>{}</p>").format(_inline(" ".join(map(str.strip, lines[at:end]))))
            at = end


def _is_break(line: str) -> bool:
    return not line.strip() or bool(_FENCE.match(line) or _BULLET.match(line))


def _until(lines: list[str], start: int, found: Callable[[str], bool]) -> int:
    return next((at for at in range(start, len(lines)) if found(lines[at])), len(lines))


def _list(lines: list[str], mark: re.Pattern[str], tag: str) -> Markup:
    items: list[str] = []
    for line in lines:
        if mark.match(line) or not items:
            items.append(mark.sub("", line, count=1))
        else:
            items[-1] += " " + line.strip()
    inner = Markup("").join(Markup("<li>{}</li>").format(_inline(item)) for item in items)
    return Markup("<{0}>{1}</{0}>").format(Markup(tag), inner)  # noqa: S704 tag is ours


def _inline(text: str) -> Markup:
    done, at = Markup(""), 0
    for match in _INLINE.finditer(text):
        done += escape(text[at : match.start()]) + _span(match)
        at = match.end()
    return done + escape(text[at:])


def _span(match: re.Match[str]) -> Markup:
    if match["code"] is not None:
        return Markup("<code>{}</code>").format(match["code"])
    if match["strong"] is not None:
        return Markup("<strong>{}</strong>").format(match["strong"])
    if match["emphasis"] is not None:
        return Markup("<em>{}</em>").format(match["emphasis"])
    if match["text"] is not None:
        return _link(match["url"], match["text"])
    # The full stop after an address belongs to the sentence.
    url = match["bare"].rstrip(".,;:!?")
    return _link(url, url) + escape(match["bare"][len(url) :])


def _link(url: str, text: str) -> Markup:
    if not is_web_url(url):
        return escape(text)
    return Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(url, text)
