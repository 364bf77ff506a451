"""Names and docs are text, whatever they look like: nothing of them becomes markup or a link."""

from __future__ import annotations

from typing import Any

from examples import examples
from html_document import parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from site_lake import HOSTILE

from neuralake.clock import ManualClock
from neuralake.manifest import Column, Database, Manifest, Parameter, Table
from neuralake.site.pages import render

ATTACK = "tables/hostile/attack.html"
OURS = frozenset(
    """html head meta title link script body a header div svg rect path circle span button label
    input kbd nav p ul ol li main section h1 h2 h3 strong em small code pre dl dt dd table thead
    tbody tr th td time footer b br""".split()  # noqa: SIM905 easier to read than 50 strings
)
Site = Any


def test_hostile_text_makes_no_element_and_no_attribute(site: Site) -> None:
    """The strict parser would trip over a stray tag; here none of ours is foreign either."""
    for name, page in site.pages.items():
        assert {element.tag for element in page.elements} <= OURS, name
        assert not page.all("img")
        assert not [e for e in page.all("script") if "assets/" not in e.attributes["src"]]


def test_hostile_text_is_shown_as_it_is(site: Site) -> None:
    page = site.pages[ATTACK]
    values = [element.text for element in page.all("dd")]

    assert HOSTILE in page.one("div", class_="notice-warn").text
    assert HOSTILE in [e.text for e in page.all("span", class_="tag")]
    assert HOSTILE.replace("`", "") in [value.replace("`", "") for value in values]
    assert '<b>"x' in [e.text for e in page.all("code")]


def test_only_web_addresses_become_links(site: Site) -> None:
    page = site.pages[ATTACK]
    links = [element.attributes["href"] for element in page.all("a")]

    assert not [link for link in links if "javascript" in link.lower()]
    assert "javascript:window.hacked=1" in [e.text for e in page.all("code")]
    assert all(link.startswith(("https://", "../", "#", "index.html", "attack")) for link in links)


def test_hostile_text_cannot_end_the_search_script(site: Site) -> None:
    (script,) = site.folder.glob("assets/catalog-*.js")
    text = script.read_text(encoding="ascii")

    assert text.count("window.") == 1 + text.count("window.hacked")
    assert text.endswith("];\n")
    assert "\u2028" not in text


def test_secrets_in_a_uri_are_on_no_page(site: Site) -> None:
    for file in site.folder.rglob("*"):
        if file.is_file():
            assert b"secret" not in file.read_bytes(), file.name


texts = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "<script>",
        "'\"><svg onload=x>",
        "`a` **b** [c](https://d.e/f)",
        "-->",
        "]]>",
        "{{x}}",
        "&lt;",
    ]
)


@given(texts, texts, texts, texts)
@settings(deadline=None, max_examples=examples(20), suppress_health_check=[HealthCheck.too_slow])
def test_any_text_at_all_gives_well_formed_pages(a: str, b: str, c: str, d: str) -> None:
    table = Table(
        database=a,
        name=b,
        kind="function",
        description=c,
        owner=d,
        tags=(a, b),
        uri=d,
        columns=(Column(name=a, type=b, doc=c),),
        parameters=(Parameter(name=b, type=c, default=d),),
        data_input=a,
        latency_info=b,
        example_notebook=c,
        deprecated=d,
        docs_example=a,
        problem=b or None,
    )
    manifest = Manifest(
        title=c, made_s=ManualClock().now_s(), databases=(Database(name=a, tables=(table,)),)
    )

    files = render(manifest)

    for name, content in files.items():
        if name.endswith(".html"):
            page = parse(content.decode())
            assert {element.tag for element in page.elements} <= OURS
