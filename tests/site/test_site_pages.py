"""Every page is well formed, complete without a server or a script, and says what the log says."""

from __future__ import annotations

import posixpath
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from html_document import Document
from site_lake import NOW_S

from neuralake.catalog import Catalog
from neuralake.manifest import Database, Manifest, Table
from neuralake.settings import Settings
from neuralake.site import build_site, write_site
from neuralake.site.pages import SIBLINGS_MAX
from neuralake.site.words import iso_time

SPIKES = "tables/neural/spikes.html"
Site = Any  # The fixture's class; conftest is not importable under importlib mode.


def test_each_table_and_database_has_a_page(site: Site) -> None:
    assert {
        "index.html",
        "tables/neural/index.html",
        SPIKES,
        "tables/lab/weather.html",
        "tables/lab/insertions.html",
        "tables/hostile/attack.html",
    } < set(site.pages)
    assert site.report.index == site.folder / "index.html"
    assert site.report.tables == 11
    assert set(site.report.problems) == {"neural.missing", "hostile.attack"}


def test_all_links_are_relative_and_lead_to_a_file_of_the_site(site: Site) -> None:
    for name, page in site.pages.items():
        for element in [*page.having("href"), *page.having("src")]:
            link = element.attributes.get("href") or element.attributes["src"]
            if link.startswith("#"):
                assert any(e.attributes.get("id") == link[1:] for e in page.elements)
            elif element.tag == "a" and link.startswith("https://"):
                assert "noopener" in element.attributes["rel"]
            else:
                parts = urlsplit(link)
                assert (parts.scheme, parts.netloc) == ("", ""), f"{name}: {link}"
                target = posixpath.join(posixpath.dirname(name), unquote(parts.path))
                assert (site.folder / target).is_file(), f"{name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    """Every element that loads something names a file beside it, and style sheets load nothing."""
    loading = ("script", "link", "img", "iframe", "object", "embed", "audio", "video", "source")
    for page in site.pages.values():
        assert {e.tag for e in page.elements if e.tag in loading} <= {"script", "link"}
        for element in [*page.all("script"), *page.all("link")]:
            assert "assets/" in (element.attributes.get("src") or element.attributes["href"])
    for style in site.folder.glob("assets/*.css"):
        text = style.read_text(encoding="utf-8")
        assert "url(" not in text
        assert "@import" not in text


def test_a_strict_policy_holds_on_every_page(site: Site) -> None:
    """No inline script or style, and a policy that would stop one."""
    for page in site.pages.values():
        policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for script in page.all("script"):
            assert script.text.strip() == ""
            assert script.attributes["src"]
        assert not page.having("style")
        assert not page.all("style")
        for element in page.elements:
            assert not [name for name in element.attributes if name.startswith("on")]


def test_pages_can_be_used_without_seeing_them(site: Site) -> None:
    for name, page in site.pages.items():
        assert page.one("html").attributes["lang"] == "en"
        assert page.one("title").text
        assert len(page.all("h1")) == 1, name
        assert page.one("main").attributes["id"] == "main"
        assert page.one("a", class_="skip").attributes["href"] == "#main"
        assert len(page.all("header")) == len(page.all("footer")) == 1
        ids = [element.attributes["id"] for element in page.having("id")]
        assert len(set(ids)) == len(ids), f"{name}: an id twice"
        labelled = {label.attributes["for"] for label in page.all("label")}
        assert {field.attributes["id"] for field in page.all("input")} <= labelled
        for element in [*page.having("aria-labelledby"), *page.having("aria-controls")]:
            found = element.attributes
            for part in (found.get("aria-labelledby") or found["aria-controls"]).split():
                assert part in ids, f"{name}: {part}"
        for button in page.all("button"):
            assert button.text.strip() or button.attributes["aria-label"]
            assert button.attributes["type"] == "button"
        for head in page.all("th"):
            assert head.attributes["scope"] in ("col", "row")
        for picture in page.all("svg"):
            assert picture.attributes["aria-hidden"] == "true"
        for group in [*page.all("nav"), *page.having("role")]:
            if group.tag == "nav" or group.attributes["role"] in ("group", "region"):
                assert group.attributes.get("aria-label") or group.attributes["aria-labelledby"]


def test_headings_never_skip_a_level(site: Site) -> None:
    for name, page in site.pages.items():
        levels = [int(e.tag[1]) for e in page.elements if e.tag in ("h1", "h2", "h3", "h4")]
        assert levels[0] == 1
        for above, below in pairwise(levels):
            assert below <= above + 1, f"{name}: {levels}"


def facts(page: Document) -> dict[str, str]:
    names = [e.text for e in page.all("dt")]
    return dict(zip(names, [" ".join(e.text.split()) for e in page.all("dd")], strict=True))


def test_the_page_of_a_table_says_what_the_log_says(site: Site) -> None:
    page = site.pages[SPIKES]
    found = facts(page)

    assert found["Rows"] == "12"
    assert found["Version"] == "2"
    assert found["Partitions"] == "2"
    assert found["Size"].endswith("in 2 files")
    assert found["Owner"] == "Decoding team"
    assert found["Latency"] == "200 ms"
    assert found["Send rows to"] == "http://127.0.0.1:8765/v1/neural/spikes"
    assert found["Commits"] == ("after 200 ms at the latest, or when 500,000 rows or 64 MiB wait")
    times = {e.attributes["datetime"] for e in page.all("time")}
    assert iso_time(NOW_S + 120) in times, "the last commit, not the last build"


def test_columns_are_listed_with_type_doc_and_role(site: Site) -> None:
    rows = [" ".join(row.text.split()) for row in site.pages[SPIKES].all("tr")]

    assert "session string partition unique required \u2013 0" in rows
    assert "channel int32 Electrode number, 0 to 255. unique 0 to 6 0" in rows
    assert "count int16 1 to 6 2" in rows


def test_partitions_are_listed_the_latest_first(site: Site) -> None:
    page = site.pages[SPIKES]
    rows = [" ".join(row.text.split()) for row in page.all("tr")]

    at = rows.index("session Rows Files Size Changed")
    assert rows[at + 1].startswith("it's 12 7 1 ")
    assert rows[at + 2].startswith("s-1 5 1 ")


def test_the_way_back_is_on_the_page(site: Site) -> None:
    page = site.pages[SPIKES]
    crumbs = page.one("nav", aria_label="Breadcrumb")
    links = {e.text: e.attributes["href"] for e in page.all("a") if "nav" in e.parents}

    assert "Catalog" in crumbs.text
    assert links["Catalog"] == "../../index.html"
    assert links["neural"] == "index.html"
    assert [e.text for e in page.having("aria-current")] == ["spikes", "spikes"]


def test_descriptions_are_prose(site: Site) -> None:
    page = site.pages[SPIKES]
    prose = page.one("div", class_="prose")

    assert [e.text for e in page.all("strong")] == ["no"]
    assert "Silent bins have no row; see count." in prose.text
    assert page.one("a", href="https://example.org/spikes.ipynb")


def test_a_deprecated_table_says_so_with_what_to_use(site: Site) -> None:
    page = site.pages["tables/neural/old_spikes.html"]

    assert page.one("div", class_="notice-warn").text == "Deprecated. Use spikes."
    assert "deprecated" in site.pages["index.html"].text


def test_a_table_that_cannot_be_described_is_shown_with_its_reason(site: Site) -> None:
    notice = site.pages["tables/neural/missing.html"].one("div", class_="notice-bad")

    assert "There is no Delta table at neural/missing." in notice.text
    assert "unavailable" in site.pages["index.html"].text


def test_the_index_lists_every_table_and_its_filters(site: Site) -> None:
    page = site.pages["index.html"]
    rows = page.having("data-entry")

    assert len(rows) == 11
    assert all((site.folder / row.attributes["data-entry"]).is_file() for row in rows)
    chips = [
        (e.attributes["data-filter"], e.attributes["data-value"])
        for e in page.having("data-filter")
    ]
    assert ("database", "neural") in chips
    assert ("tag", "realtime") in chips
    assert page.one("p", class_="lead").text.startswith("3 databases · 11 tables · 18 rows · ")


def test_the_search_index_has_names_columns_and_tags(site: Site) -> None:
    (script,) = site.folder.glob("assets/catalog-*.js")
    text = script.read_text(encoding="utf-8")

    assert text.startswith("window.neuralakeCatalog = [")
    for word in ("spikes", "channel", "realtime", "Decoding team", SPIKES):
        assert f'"{word}"' in text


def test_a_page_does_not_grow_with_its_database(tmp_path: Path) -> None:
    names = [f"t{i:03}" for i in range(200)]
    tables = tuple(Table(database="db", name=name, kind="delta") for name in names)
    write_site(Manifest(databases=(Database(name="db", tables=tables),)), tmp_path)

    for name in ("t000", "t100", "t199"):
        text = (tmp_path / "tables" / "db" / f"{name}.html").read_text(encoding="utf-8")
        assert text.count('href="t') == SIBLINGS_MAX
        assert f'href="{name}.html" aria-current="page"' in text
        assert "All 200 tables" in text


def test_empty_catalogs_and_databases_have_pages_too(tmp_path: Path) -> None:
    empty = build_site(Catalog({}, Settings(folder=str(tmp_path))), tmp_path / "a")
    write_site(Manifest(databases=(Database(name="bare", problem="gone"),)), tmp_path / "b")

    assert empty.tables == 0
    assert "no databases yet" in empty.index.read_text(encoding="utf-8")
    assert "could not be listed: gone" in (tmp_path / "b" / "index.html").read_text("utf-8")


@pytest.mark.parametrize(
    "name", ["Order", "a/../../b", "con", "index", "ü", "", "a" * 300, "A", "é"]
)
def test_any_name_has_a_page_inside_the_folder(tmp_path: Path, name: str) -> None:
    table = Table(database=name, name=name, kind="delta")
    report = write_site(Manifest(databases=(Database(name=name, tables=(table,)),)), tmp_path / "s")

    pages = list((tmp_path / "s" / "tables").glob("*/*.html"))
    assert len(pages) == 2
    assert len(list(tmp_path.rglob("*.html"))) == 3
    assert report.tables == 1
