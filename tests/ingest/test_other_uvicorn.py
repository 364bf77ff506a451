"""Another uvicorn, whose private names are not those we know: requests go the usual way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
import pytest
from ingest_lake import lake, stored
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from neuralake.ingest.connection import BoundedConnection
from neuralake.ingest.fast_connection import FastConnection, connection_kind
from neuralake.ingest.fast_path import FastPath
from neuralake.ingest.server import start_server

PRIVATE = "_start_asgi_task"


def rename(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Give what is `name` of uvicorn's another name, also where uvicorn itself uses it."""
    patch.setattr(owner, f"{name}_2", getattr(owner, name), raising=False)
    patch.delattr(owner, name)
    for function in list(vars(HttpToolsProtocol).values()):
        if isinstance(function, FunctionType) and name in function.__code__.co_names:
            names = tuple(
                f"{each}_2" if each == name else each for each in function.__code__.co_names
            )
            patch.setattr(function, "__code__", function.__code__.replace(co_names=names))


def without_the_method(patch: pytest.MonkeyPatch) -> None:
    rename(patch, HttpToolsProtocol, PRIVATE)


def with_a_method_that_is_told_more(patch: pytest.MonkeyPatch) -> None:
    begin = HttpToolsProtocol._start_asgi_task

    def told_more(self: Any, cycle: Any, app: Any, context: Any = None) -> None:
        begin(self, cycle, app)

    patch.setattr(HttpToolsProtocol, PRIVATE, told_more)


def with_a_method_that_it_does_not_call(patch: pytest.MonkeyPatch) -> None:
    begin = HttpToolsProtocol._start_asgi_task
    rename(patch, HttpToolsProtocol, PRIVATE)
    patch.setattr(HttpToolsProtocol, PRIVATE, begin, raising=False)


class Compiled:
    """A method as an extension module has it: it can be called, and has no code to look at."""

    __signature__ = "none"

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __get__(self, owner: Any, _: type) -> Any:
        return self if owner is None else partial(self._method, owner)


def with_compiled_methods(patch: pytest.MonkeyPatch) -> None:
    for name in ("on_headers_complete", "on_response_complete"):
        patch.setattr(HttpToolsProtocol, name, Compiled(getattr(HttpToolsProtocol, name)))


def with_a_method_that_has_no_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HttpToolsProtocol, PRIVATE, Compiled(HttpToolsProtocol._start_asgi_task))


def without_the_cycle(patch: pytest.MonkeyPatch) -> None:
    rename(patch, httptools_impl, "RequestResponseCycle")


OTHERS = [
    (without_the_method, f"HttpToolsProtocol.{PRIVATE}"),
    (with_a_method_that_is_told_more, f"HttpToolsProtocol.{PRIVATE}"),
    (
        with_a_method_that_it_does_not_call,
        f"call of {PRIVATE} in HttpToolsProtocol.on_headers_complete",
    ),
    (
        with_compiled_methods,
        f"call of {PRIVATE} in HttpToolsProtocol.on_headers_complete",
    ),
    (with_a_method_that_has_no_signature, f"HttpToolsProtocol.{PRIVATE}"),
    (without_the_cycle, "RequestResponseCycle"),
]


def test_the_uvicorn_that_is_installed_is_one_we_know(caplog: pytest.LogCaptureFixture) -> None:
    assert connection_kind() is FastConnection
    assert not caplog.records


@pytest.mark.parametrize(("other", "missing"), OTHERS)
def test_with_another_uvicorn_requests_go_the_usual_way_and_the_log_says_so_once(
    other: Callable[[pytest.MonkeyPatch], None],
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other(monkeypatch)
    monkeypatch.setattr(FastPath, "take", lambda *_: pytest.fail("It took the fast path."))
    catalog = lake(tmp_path)
    with start_server(catalog) as server, httpx.Client(base_url=server.url) as client:
        answers = [client.post("/v1/lab/notes", json={"text": str(n)}) for n in range(5)]
        rows = stored(catalog.queue(), "lab.notes")
    catalog.close()

    assert [answer.status_code for answer in answers] == [202] * 5
    assert [row["text"] for row in rows] == ["0", "1", "2", "3", "4"]
    (warning,) = caplog.messages
    assert f" has no {missing} as " in warning


def test_a_cycle_without_a_field_is_not_one_we_know(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Other(RequestResponseCycle):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            del self.more_body

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", Other)

    assert connection_kind() is BoundedConnection
    assert "has no RequestResponseCycle.more_body as" in caplog.text


@pytest.mark.parametrize("error", [ValueError, KeyError, AttributeError])
def test_a_cycle_that_cannot_be_made_of_nothing_is_not_one_we_know(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Other(RequestResponseCycle):
        def __init__(self, *_: Any, **__: Any) -> None:
            raise error

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", Other)

    assert connection_kind() is BoundedConnection
    assert "has no RequestResponseCycle as" in caplog.text
