"""`neuralake demo`: the platform at work on real flights and a simulated neural session.

It starts what `neuralake up` starts, in a scratch folder, sends events over HTTP as devices would,
shows what happens to them, and at the end checks that every acknowledged row is in its table
exactly once. It needs no network.
"""

from __future__ import annotations

__all__: list[str] = []
