"""Pages have plain, stable names, and links between them are relative."""

from __future__ import annotations

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from neuralake.site.addresses import database_page, relative, table_page

parts = st.sampled_from(["a", "b", "index.html", "tables"])
names = st.lists(parts, min_size=1, max_size=4).map("/".join)


def test_plain_names_keep_themselves() -> None:
    assert table_page("neural", "spikes_v2") == "tables/neural/spikes_v2.html"
    assert database_page("neural") == "tables/neural/index.html"


@given(st.text(), st.text())
def test_different_names_never_share_a_page_also_on_a_case_blind_disk(a: str, b: str) -> None:
    one, other = table_page("db", a), table_page("db", b)

    assert (one.lower() == other.lower()) == (a == b)
    assert posixpath.normpath(one) == one
    assert one.count("/") == 2


@given(names, names)
def test_a_relative_link_leads_to_its_target(page: str, target: str) -> None:
    link = relative(page, target)

    assert not link.startswith("/")
    assert posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) == target
