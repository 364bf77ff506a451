"""Code to copy, made from the manifest: it runs as it stands, whatever the names are.

Names and values are quoted for the language they stand in: Python source, SQL, JSON inside a
shell's quotes, a URL's path. Pure functions from manifest to text.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from neuralake.manifest import Manifest, Table, python_text, sql_name

__all__ = ["Snippet", "query", "snippets"]

ROWS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Snippet:
    id: str
    title: str
    language: str
    code: str
    note: str = ""


def snippets(manifest: Manifest, table: Table) -> list[Snippet]:
    """Every way to use `table`: Python, live Python, SQL, SQL over HTTP, sending a row."""
    code = table.docs_example.strip("\n") or _python(manifest, table)
    found = [Snippet("python", "Python", "python", code)]
    if table.stream is not None:
        found.append(
            Snippet(
                "live",
                "Live",
                "python",
                _python(manifest, table, live=True),
                "Also the rows that were acknowledged but are not committed yet, each row once.",
            )
        )
    # SQL passes no arguments, so it cannot ask a function that needs one.
    if all(parameter.default is not None for parameter in table.parameters):
        body = json.dumps({"sql": query(table, line=" ")})
        found += [
            Snippet("sql", "SQL", "sql", query(table)),
            Snippet(
                "curl",
                "HTTP query",
                "shell",
                _curl(manifest.base_url + "/api/sql", body),
                "Answers JSON; ask for CSV or Arrow with an Accept header.",
            ),
        ]
    if table.stream is not None and table.example_row is not None:
        found.append(
            Snippet(
                "send",
                "Send a row",
                "shell",
                _curl(manifest.base_url + table.stream.path, json.dumps(table.example_row)),
                "Answers 202 when the row is durable; add ?wait=committed to wait for its commit.",
            )
        )
    return found


def query(table: Table, *, line: str = "\n") -> str:
    """A SELECT of the first rows that meet the table's example conditions."""
    lines = ["SELECT *", f"FROM {sql_name(table.database)}.{sql_name(table.name)}"]
    if table.conditions:
        predicates = [condition.sql for condition in table.conditions]
        lines.append("WHERE " + f"{line}AND ".join(predicates))
    return line.join([*lines, f"LIMIT {ROWS_SHOWN}"])


def _python(manifest: Manifest, table: Table, *, live: bool = False) -> str:
    module, _, attribute = manifest.catalog.partition(":")
    name = "catalog" if attribute in ("", "catalog") else f"{attribute} as catalog"
    imports = [f"from {module} import {name}"]
    arguments = [python_text(table.name)]
    for condition in table.conditions:
        arguments.append(
            f"Filter({python_text(condition.column)}, {python_text(condition.operator)}, "
            f"{condition.python})"
        )
    arguments += [
        f"{parameter.name}={parameter.example or '...'}"
        for parameter in table.parameters
        if parameter.example is not None or parameter.default is None
    ]
    if live:
        arguments.append("live=True")
    if table.conditions:
        imports.append("from neuralake import Filter")
    if any("Decimal(" in argument for argument in arguments):
        imports = ["from decimal import Decimal", *imports]
    if any("datetime." in (parameter.example or "") for parameter in table.parameters):
        imports = ["import datetime", *imports]
    call = f"frame = catalog.db({python_text(table.database)}).table({', '.join(arguments)})"
    if len(call) > 76:
        inner = "".join(f"    {argument},\n" for argument in arguments)
        call = f"frame = catalog.db({python_text(table.database)}).table(\n{inner})"
    return "\n".join([*imports, "", call, f"print(frame.head({ROWS_SHOWN}).collect())"])


def _curl(url: str, body: str) -> str:
    return " \\\n  ".join(
        [
            f"curl -sS {shlex.quote(url)}",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(body)}",
        ]
    )
