"""For every test: a property is not late on a busy machine."""

from __future__ import annotations

from examples import IS_SEARCHING, examples
from hypothesis import HealthCheck, settings

# Hypothesis fails an example that takes 200 ms, and examples that take a second to be drawn, unless
# told otherwise.
settings.register_profile(
    "neuralake",
    deadline=None,
    max_examples=examples(50),
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not IS_SEARCHING,
)
settings.load_profile("neuralake")
