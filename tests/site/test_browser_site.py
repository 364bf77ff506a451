"""The site in a real Chromium, from a folder: search, keys, copying, themes, phones, policies.

Marked slow, because not every machine has a browser: `make test-browser` installs it and runs
these. Without a browser they fail; they never skip.
"""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Site = Any

SHOWN = """[...document.querySelectorAll('[data-entry]')].filter(e => e.offsetParent)
  .map(e => e.querySelector('.table-name').textContent)"""
FOCUSED = "document.activeElement.textContent.trim().split(/\\s+/)[0]"
OPTIONS = "[...document.querySelectorAll('[role=option] .result-name')].map(e => e.textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    found = browser.page()
    yield found
    found.close()


def url(site: Site, name: str = "index.html") -> str:
    address: str = (site.folder / name).as_uri()
    return address


SPIKES = "tables/neural/spikes.html"


def test_every_page_loads_its_own_files_and_nothing_else_without_a_complaint(
    site: Site, page: Page
) -> None:
    """Also under attack: no script of a definition ran, no policy was violated."""
    folder = site.folder.as_uri()
    for name in site.pages:
        page.open(url(site, name))
        assert page.complaints() == [], name
        assert all(request.startswith(folder) for request in page.requests()[1:]), name
        assert len(page.requests()) >= 6, name
        assert page.run("window.hacked") is None
        assert page.run("document.documentElement.classList.contains('js')")


def test_a_static_server_serves_the_same_site(site: Site, page: Page) -> None:
    handler = functools.partial(_Quiet, directory=str(site.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_address[1]}/"
        page.open(origin)
        page.press("/")
        page.type("channel")
        assert page.run(SHOWN) == ["spikes"]
        page.does(lambda: page.press("Enter"))
        assert page.path == f"/{SPIKES}"
        assert page.complaints() == []
        assert all(request.startswith(origin) for request in page.requests())
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_slash_focuses_search_and_typing_filters_the_list(friendly: Site, page: Page) -> None:
    page.open(url(friendly))
    assert len(page.run(SHOWN)) == 10

    page.press("/")
    assert page.run("document.activeElement.id") == "search"
    assert page.run("document.activeElement.value") == ""
    page.type("spik")

    assert page.run(SHOWN) == ["spikes", "old_spikes"]
    assert page.run("document.querySelectorAll('.database:not([hidden])').length") == 1
    assert page.run("document.querySelector('mark').textContent") == "spik"
    assert page.run("document.getElementById('announce').textContent") == "2 tables"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("electrode insertion", ["insertions"]),
        ("CHANNEL", ["spikes"]),
        ("realtime", ["spikes"]),
        ("neural. types", ["everything"]),
        ("surgery", ["insertions"]),
        ("spikes nothing", []),
    ],
)
def test_search_looks_at_names_columns_tags_and_docs(
    friendly: Site, page: Page, text: str, found: list[str]
) -> None:
    page.open(url(friendly))
    page.press("/")
    page.type(text)

    assert page.run(SHOWN) == found
    assert page.run("document.getElementById('nothing').hidden") is bool(found)


def test_arrows_walk_through_what_is_shown_and_enter_opens_it(friendly: Site, page: Page) -> None:
    page.open(url(friendly))
    page.press("/")
    page.type("spik")

    page.press("ArrowDown")
    assert page.run(FOCUSED) == "spikes"
    page.press("ArrowDown")
    assert page.run(FOCUSED) == "old_spikes"
    page.press("ArrowDown")
    assert page.run(FOCUSED) == "old_spikes", "the end is the end"
    page.press("ArrowUp")
    page.press("ArrowUp")
    assert page.run("document.activeElement.id") == "search"
    page.press("ArrowDown")
    page.does(lambda: page.press("Enter"))

    assert page.path.endswith(SPIKES)


def test_enter_in_the_box_opens_the_best_match(friendly: Site, page: Page) -> None:
    page.open(url(friendly))
    page.press("/")
    page.type("weat")
    page.does(lambda: page.press("Enter"))

    assert page.path.endswith("tables/lab/weather.html")


def test_databases_and_tags_filter_and_clear(friendly: Site, page: Page) -> None:
    page.open(url(friendly))

    page.click("[data-value=lab]")
    assert set(page.run(SHOWN)) == {"argued", "insertions", "never_called", "optional", "weather"}
    page.click("[data-value=realtime]")
    assert page.run(SHOWN) == []
    page.click("#clear")

    assert len(page.run(SHOWN)) == 10
    assert page.run("document.querySelectorAll('[aria-pressed=true]').length") == 0


def test_a_filtered_list_is_an_address(friendly: Site, page: Page) -> None:
    page.open(url(friendly) + "#?q=spik&tag=realtime")

    assert page.run(SHOWN) == ["spikes"]
    assert page.run("document.getElementById('search').value") == "spik"


def test_hostile_tags_filter_as_the_text_they_are(site: Site, page: Page) -> None:
    page.open(url(site))
    for at in range(page.run("document.querySelectorAll('[data-filter=tag]').length")):
        page.run(f"document.querySelectorAll('[data-filter=tag]')[{at}].click()")
        assert len(page.run(SHOWN)) == 1
        page.run(f"document.querySelectorAll('[data-filter=tag]')[{at}].click()")
    page.press("/")
    page.type("</script>")

    assert page.run(SHOWN) == ["attack"]
    assert page.run("window.hacked") is None


def test_search_on_a_page_lists_results_and_opens_the_chosen(friendly: Site, page: Page) -> None:
    page.open(url(friendly, "tables/lab/weather.html"))
    page.press("/")
    page.type("spikes")

    assert page.run(OPTIONS) == ["neural.spikes", "neural.old_spikes"]
    assert page.run("document.getElementById('search').getAttribute('aria-expanded')") == "true"
    page.press("ArrowDown")
    chosen = "document.getElementById('search').getAttribute('aria-activedescendant')"
    assert page.run(chosen) == "search-option-1"
    page.press("ArrowDown")
    assert page.run(chosen) == "search-option-0"
    page.does(lambda: page.press("Enter"))

    assert page.path.endswith(SPIKES)


def test_escape_closes_the_results_and_ctrl_k_opens_them(friendly: Site, page: Page) -> None:
    page.open(url(friendly, SPIKES))
    page.press("k", modifiers=2)
    page.type("zzz")
    assert "No table matches." in page.run("document.querySelector('.results').textContent")
    page.press("Escape")

    assert page.run("document.querySelector('.results').hidden") is True
    assert page.run("document.getElementById('search').value") == ""


def test_a_result_can_be_clicked(friendly: Site, page: Page) -> None:
    page.open(url(friendly, SPIKES))
    page.press("/")
    page.type("temp")
    page.does(lambda: page.click("[role=option]"))

    assert page.path.endswith("tables/lab/weather.html")


def test_the_copy_button_copies_the_code_from_a_page_in_a_folder(
    friendly: Site, page: Page
) -> None:
    """Read back through a paste, which needs no permission of the page."""
    page.open(url(friendly, SPIKES))
    code = page.run("document.querySelector('#code-python code').textContent")
    page.click("#code-python .copy")

    assert _until(page, "document.querySelector('#code-python .copy').textContent") == "Copied"
    page.run(
        "(() => { const a = document.createElement('textarea'); a.id = 'paste';"
        "document.body.append(a); a.focus(); })()"
    )
    page.call("Input.dispatchKeyEvent", type="keyDown", key="v", modifiers=2, commands=["paste"])
    assert page.run("document.getElementById('paste').value") == code
    assert code.startswith("from lake import catalog")


def test_copying_works_where_the_clipboard_is_closed(friendly: Site, page: Page) -> None:
    page.open(url(friendly, SPIKES))
    page.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("#code-python .copy")

    assert _until(page, "document.querySelector('#code-python .copy').textContent") == "Copied"


def test_tabs_show_one_language_and_are_remembered(friendly: Site, page: Page) -> None:
    shown = "[...document.querySelectorAll('.panel')].filter(e => e.offsetParent).map(e => e.id)"
    page.open(url(friendly, SPIKES))
    assert page.run(shown) == ["code-python"]

    page.click("#tab-code-sql")
    page.press("ArrowRight")
    assert page.run(shown) == ["code-curl"]
    assert page.run("document.activeElement.getAttribute('aria-selected')") == "true"
    page.open(url(friendly, "tables/neural/everything.html"))

    assert page.run(shown) == ["code-curl"]


def test_without_scripts_every_code_is_there_and_no_dead_button(friendly: Site, page: Page) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(url(friendly, SPIKES))
    page.call("Emulation.setScriptExecutionDisabled", value=False)

    assert (
        page.run("[...document.querySelectorAll('.panel')].filter(e => e.offsetParent).length") == 5
    )
    assert (
        page.run(
            "[...document.querySelectorAll('button, input')].filter(e => e.offsetParent).length"
        )
        == 0
    )


def test_the_theme_follows_the_system_until_the_reader_chooses(friendly: Site, page: Page) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    page.dark(False)
    page.open(url(friendly))
    light = page.run(background)
    page.dark(True)
    dark = page.run(background)
    assert light != dark

    page.click(".theme-toggle")
    assert page.run(background) == light
    page.open(url(friendly, SPIKES))
    assert page.run(background) == light, "remembered on the next page"
    page.run("localStorage.clear()")


# Text whose colours are less than 4.5 to 1 apart (WCAG AA), with what stands behind it.
FAINT = """(() => {
  const parse = (text) => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)' && parse(colour)[3] > 200) return colour;
    }
    return 'white';
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !element.offsetParent) continue;
    if (element.closest('[aria-hidden=true]')) continue;
    const front = light(parse(getComputedStyle(element).color));
    const back = light(parse(behind(element)));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) faint.push([walk.currentNode.textContent.trim(), ratio.toFixed(2)]);
  }
  return faint;
})()"""


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_all_text_has_enough_contrast(site: Site, page: Page, is_dark: bool) -> None:
    page.dark(is_dark)
    for name in ["index.html", SPIKES, "tables/neural/old_spikes.html"]:
        page.open(url(site, name))
        page.run("document.querySelectorAll('.panel').forEach((panel) => panel.hidden = false)")
        assert page.run(FAINT) == [], name
    page.open(url(site, "tables/neural/missing.html"))
    assert page.run(FAINT) == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2560])
def test_no_page_is_wider_than_the_window(site: Site, page: Page, width: int) -> None:
    page.resize(width, 900)
    for name in site.pages:
        page.open(url(site, name))
        assert page.run("document.documentElement.scrollWidth") <= width, name


def test_everything_can_be_reached_and_seen_with_the_keyboard(friendly: Site, page: Page) -> None:
    """Tab goes to the skip link first, and each stop has a ring or a border that shows it."""
    page.open(url(friendly, SPIKES))
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().top") >= 0

    stops = []
    for _ in range(60):
        page.press("Tab")
        stop = page.run(
            "(e => e === document.body ? null : [e.tagName, getComputedStyle(e).outlineStyle])"
            "(document.activeElement)"
        )
        if stop is None:
            break
        stops.append(stop)
    assert {"A", "BUTTON", "INPUT", "PRE"} <= {tag for tag, _ in stops}
    assert all(outline != "none" for _, outline in stops)


def test_times_are_told_from_now_and_exactly_on_paper(friendly: Site, page: Page) -> None:
    page.open(url(friendly, SPIKES))
    told = page.run("document.querySelector('.facts time').textContent")
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    printed = page.run("document.querySelector('.facts time').textContent")

    assert "UTC" not in told
    assert printed == "21 Sep 2026, 14:15 UTC"


def test_paper_shows_every_code_and_no_button(friendly: Site, page: Page) -> None:
    page.open(url(friendly, SPIKES))
    page.call("Emulation.setEmulatedMedia", media="print")

    assert (
        page.run("[...document.querySelectorAll('.panel')].filter(e => e.offsetParent).length") == 5
    )
    assert (
        page.run(
            "[...document.querySelectorAll('button, input')].filter(e => e.offsetParent).length"
        )
        == 0
    )


def _until(page: Page, script: str) -> Any:
    """The value of `script` after the promises that are under way; asked for at most 100 times."""
    value = None
    for _ in range(100):
        value = page.run(f"new Promise(done => setTimeout(() => done({script}), 0))")
        if value != "Copy":
            break
    return value
