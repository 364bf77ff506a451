"""Records become rows: bodies and messages are read, checked, and made the declared schema's.

Whatever brings records (HTTP, a file, a message of somebody else's topic) is read by the same code,
so that one value means the same everywhere. Pure: no I/O. Importing this package loads nothing.
"""

__all__: list[str] = []
