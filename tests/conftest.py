"""For every test: a property is not late on a busy machine."""

from __future__ import annotations

from examples import examples
from hypothesis import settings

# Hypothesis fails an example that takes 200 ms, unless told otherwise.
settings.register_profile("neuralake", deadline=None, max_examples=examples(50))
settings.load_profile("neuralake")
