"""Descriptions become blocks and links of our own making; everything else stays text."""

from __future__ import annotations

import re
from html import unescape

import pytest
from examples import examples
from html_document import parse
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.site.highlight import highlight
from neuralake.site.prose import is_web_url, prose, summary


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("", ""),
        ("  \n ", ""),
        ("One\nparagraph.\n\nTwo.", "<p>One paragraph.</p>\n<p>Two.</p>"),
        ("a `b < c` d", "<p>a <code>b &lt; c</code> d</p>"),
        ("**a** and *b*", "<p><strong>a</strong> and <em>b</em></p>"),
        ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
        ("snake_case_name", "<p>snake_case_name</p>"),
        ("For:\n- a\n- b\n  more", "<p>For:</p>\n<ul><li>a</li><li>b more</li></ul>"),
        ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("```python\nx < 1\n\ny\n```\nz", "<pre><code>x &lt; 1\n\ny</code></pre>\n<p>z</p>"),
        ("```\nnever closed", "<pre><code>never closed</code></pre>"),
        ("    indented\n    alike", "<p>indented alike</p>"),
        ("<b>no</b>", "<p>&lt;b&gt;no&lt;/b&gt;</p>"),
        (
            "[the docs](https://e.org/a?b=1&c=2)",
            '<p><a href="https://e.org/a?b=1&amp;c=2" rel="noopener noreferrer">the docs</a></p>',
        ),
        (
            "See https://e.org/x.",
            '<p>See <a href="https://e.org/x" rel="noopener noreferrer">https://e.org/x</a>.</p>',
        ),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("[x](http://)", "<p>[x](http://)</p>"),
    ],
)
def test_prose(text: str, html: str) -> None:
    assert str(prose(text)) == html


TAG = re.compile(
    r"</?(?:p|ul|ol|li|pre|code|strong|em|a)(?: href=\"https?://[^\"<>]*\" rel=\"[a-z ]+\")?>"
)
markup = st.lists(
    st.sampled_from(
        [
            "<",
            ">",
            '"',
            "'",
            "&",
            "`",
            "```",
            "*",
            "**",
            "[a](",
            "https://e.org/",
            ")",
            "](",
            "\n",
            "\n\n",
            "- ",
            "1. ",
            " ",
            "x",
            "javascript:",
            "http://",
            "<script>",
            "onload=",
            "\u2028",
        ]
    ),
    max_size=30,
).map("".join)


@given(markup | st.text())
@settings(deadline=None, max_examples=examples(75))
def test_only_our_own_tags_come_out_and_they_are_balanced(text: str) -> None:
    html = str(prose(text))

    parse(f"<!doctype html>{html}" if html else "<!doctype html>")
    assert not re.search(r"[<>]", TAG.sub("", html))


@given(markup)
@settings(deadline=None, max_examples=examples(50))
def test_no_word_of_a_description_is_lost(text: str) -> None:
    """Marks may go; the letters stay, in their order."""
    shown = unescape(re.sub(r"<[^>]*>", "", str(prose(text))))
    letters = re.findall("x", re.sub(r"```.*", "", text))

    assert len(re.findall("x", shown)) >= len(letters) or "```" in text


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "javascript:x",
        "ftp://e.org",
        "//e.org",
        "/x",
        "https:///x",
        "https://e .org",
        "data:text/html,x",
        "JaVaScRiPt://e.org/%0aalert(1)",
        "https://[",
        "http://e.org/\x01",
    ],
)
def test_what_is_no_web_address(url: str | None) -> None:
    assert not is_web_url(url)


@pytest.mark.parametrize("url", ["https://e.org", "http://e.org:80/a?b#c", "HTTPS://e.org"])
def test_what_is_a_web_address(url: str) -> None:
    assert is_web_url(url)


def test_a_summary_is_the_first_paragraph_without_marks_cut_at_a_word() -> None:
    assert summary("Has **no** `row`;\nsee [docs](https://e.org).\n\nMore.") == (
        "Has no row; see docs."
    )
    assert summary("word " * 100) == "word " * 31 + "word…"
    assert summary("x" * 200) == "x" * 160 + "…"
    assert summary("") == ""


@given(st.text(), st.sampled_from(["python", "sql", "shell"]))
@settings(deadline=None, max_examples=examples(50))
def test_colour_never_changes_the_code(code: str, language: str) -> None:
    html = str(highlight(code, language))

    assert unescape(re.sub(r"</?span[^<>]*>", "", html)) == code


def test_colours_name_what_the_language_names() -> None:
    assert '<span class="t-keyword">import</span>' in highlight("import x", "python")
    assert '<span class="t-string">&#34;# no&#34;</span>' in highlight('"# no"', "python")
    assert '<span class="t-string">&#39;it&#39;&#39;s&#39;</span>' in highlight("'it''s'", "sql")
    assert '<span class="t-number">10</span>' in highlight("LIMIT 10", "sql")
