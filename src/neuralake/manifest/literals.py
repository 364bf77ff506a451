"""Values and names as source text: Python literals, SQL names, SQL predicates of filters.

What comes out can be put into code as it stands, whatever is in the value: quotes, line breaks,
control characters. The SQL is DataFusion's dialect.
"""

from __future__ import annotations

import json
import math
import re
from datetime import date
from decimal import Decimal
from typing import Any

from neuralake.filters import Filter

__all__ = ["python_literal", "python_text", "sql_name", "sql_predicate"]

_SIMPLE = re.compile(r"[a-z_][a-z0-9_]*")
# Words that a SQL parser takes as its own where a column or a table may stand.
_SQL_WORDS = """
all and any as asc between both by case cast check column constraint create cross current
date default delete desc distinct drop else end except exists extract false fetch filter for
from full group having if ilike in inner insert intersect interval into is join lateral left
like limit natural not null offset on or order outer over partition primary qualify right row
rows select set some table then time timestamp to top trailing true union unique update user
using values when where window with
"""
_RESERVED = frozenset(_SQL_WORDS.split())


def python_text(text: str) -> str:
    """`text` as a Python string literal on one line, in double quotes if that reads well."""
    plain = text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else repr(text)


def python_literal(value: Any) -> str:
    """`value` of a filter or an argument as Python source; `Decimal` must be imported for it."""
    match value:
        case str():
            return python_text(value)
        case float() if not math.isfinite(value):
            return f'float("{value}")'
        case Decimal():
            return f'Decimal("{value}")'
        case date():
            # Filters read ISO text, and text needs no import. A datetime is a date too.
            return python_text(value.isoformat())
        case tuple() | list():
            return f"[{', '.join(map(python_literal, value))}]"
    return repr(value)


def sql_name(name: str) -> str:
    """`name` as an identifier, quoted only where SQL would read it as something else."""
    if _SIMPLE.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def sql_predicate(condition: Filter) -> str:
    """`condition` as a SQL predicate that keeps the same rows."""
    column, operator, value = sql_name(condition.column), condition.operator, condition.value
    match operator:
        case "is null" | "is not null":
            return f"{column} {operator.upper()}"
        case "in" | "not in":
            if not value:
                return "false" if operator == "in" else f"{column} IS NOT NULL"
            return f"{column} {operator.upper()} ({', '.join(map(_sql_literal, value))})"
        case "contains":
            return f"strpos({column}, {_sql_literal(value)}) > 0"
        case "includes":
            return f"array_has({column}, {_sql_literal(value)})"
        case "includes any" | "includes all":
            values = ", ".join(map(_sql_literal, value))
            return f"array_has_{operator[-3:]}({column}, make_array({values}))"
    return f"{column} {operator} {_sql_literal(value)}"


def _sql_literal(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case bytes():
            return f"X'{value.hex()}'"
        case float() if not math.isfinite(value):
            return f"CAST('{value}' AS DOUBLE)"
        case date():
            return f"'{value.isoformat()}'"
        case int() | float() | Decimal():
            return str(value)
    return "'" + json.dumps(value, default=str).replace("'", "''") + "'"
