"""A platform of these tests may take as long as a busy machine makes it."""

from __future__ import annotations

import pytest

from neuralake.supervise import tree


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that is told to stop while it starts drains then: 25 s may be too short for both."""
    monkeypatch.setattr(tree, "_START_S_MAX", 200.0)
    monkeypatch.setattr(tree, "_STOP_S_MAX", {"serve": 60.0, "write": 200.0})
    monkeypatch.setattr(tree, "_STOP_S_MAX_OTHER", 60.0)
