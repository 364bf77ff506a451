"""An HTML page as claims can read it: strict about tags, and a list of what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset(("br", "col", "hr", "img", "input", "link", "meta", "wbr"))
# SVG's shapes close themselves; elsewhere in HTML a closing slash means nothing.
SELF_CLOSING = frozenset(("circle", "path", "rect"))


@dataclass
class Element:
    """A tag with its attributes and all text inside it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    parents: tuple[str, ...] = ()


@dataclass
class Document:
    elements: list[Element] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements of that tag; `class_` asks for one class among several."""
        return [e for e in self.elements if e.tag == tag and _has(e, attributes)]

    def one(self, tag: str, **attributes: str) -> Element:
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of <{tag} {attributes}>"
        return found[0]

    def having(self, attribute: str) -> list[Element]:
        return [element for element in self.elements if attribute in element.attributes]

    @property
    def text(self) -> str:
        return self.one("body").text


def _has(element: Element, wanted: dict[str, str]) -> bool:
    found = element.attributes
    return all(
        value in found.get("class", "").split()
        if name == "class_"
        else found.get(name.rstrip("_").replace("_", "-")) == value
        for name, value in wanted.items()
    )


class _Strict(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.document = Document()
        self.open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        element = Element(
            tag, {name: value or "" for name, value in attrs}, "", tuple(e.tag for e in self.open)
        )
        self.document.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SELF_CLOSING, f"<{tag}/> closes nothing in HTML"
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        assert "<" not in data or self.open, f"text outside of the page: {data!r}"
        for element in self.open:
            element.text += data


def parse(text: str) -> Document:
    """`text` as a document; AssertionError if a tag is not closed where it should be."""
    assert text.startswith("<!doctype html>")
    parser = _Strict()
    parser.feed(text)
    parser.close()
    assert not parser.open, f"not closed: {[element.tag for element in parser.open]}"
    return parser.document
