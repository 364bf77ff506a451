"""SQL over the catalog's tables: an engine, a guard that keeps it read-only, and HTTP.

Importing this package loads nothing; its modules load DataFusion and Starlette when named.
"""

__all__: list[str] = []
