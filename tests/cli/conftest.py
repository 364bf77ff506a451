"""A project in a folder, and its commands in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_project import make_project
from typer.testing import CliRunner

from neuralake.cli.app import app
from neuralake.settings import Settings

Run = Callable[..., Any]


@pytest.fixture
def own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each project brings modules of the same names; none sees those of another test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("lake", "tables"):
        sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_modules: None) -> Settings:
    """A project in the working folder."""
    del own_modules
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


@pytest.fixture
def run() -> Run:
    """`run("show", "lab.events")`: the result has `exit_code`, `stdout` and `stderr`."""

    def invoke(*arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(app, list(arguments), env={"NO_COLOR": "1"}, **options)

    return invoke
