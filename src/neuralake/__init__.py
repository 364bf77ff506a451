"""neuralake: define a table once in Python, and everything else follows from it."""

__version__ = "0.1.0"
