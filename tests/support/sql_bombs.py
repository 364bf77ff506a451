"""Queries that mean harm, and a process of its own to measure what they take.

`python sql_bombs.py FOLDER` runs the bombs that want memory and prints the bytes that the largest
of its child processes ever held: the kernel's figure is over all children of a process, so they
must not be a test runner's.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import msgspec
from sql_lake import LIMITS, arrow, make_lake

from neuralake.errors import NeuralakeError
from neuralake.serve.gateway import Gateway

MIB = 1024 * 1024
TIGHT = msgspec.structs.replace(LIMITS, timeout_s=100.0, memory_bytes_max=256 * MIB)
# Short for the bombs alone: what follows them must succeed on a busy machine too.
BOMB_S_MAX = 0.8

BOMBS = {
    "long series": "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "long sum": "SELECT sum(value) FROM generate_series(1, 1000000000000)",
    "cross join": "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) a, "
    "generate_series(1, 1000000) b",
    "cross join that only counts": "SELECT count(*) FROM generate_series(1, 1000000) a, "
    "generate_series(1, 1000000) b",
    "nested loop join": "SELECT count(*) FROM generate_series(1, 1000000) a LEFT JOIN "
    "generate_series(1, 1000000) b ON a.value * b.value < 0",
    "recursion": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) "
    "SELECT count(*) FROM t",
    "recursion that streams": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) "
    "SELECT sum(n) FROM t",
    "recursion that doubles": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT a.n + 1 FROM "
    "t a, (SELECT 1 UNION ALL SELECT 2) b) SELECT count(*) FROM t",
    "huge text": "SELECT repeat('x', 10000000000)",
    "large text": "SELECT length(repeat('x', 2000000000))",
    "text of texts": "SELECT length(repeat(repeat('x', 100000), 20000))",
    "padding": "SELECT lpad('x', 2000000000)",
    "huge range": "SELECT range(0, 10000000000)",
    "large range": "SELECT array_length(generate_series(1, 1000000000))",
    "huge array": "SELECT array_repeat(1, 10000000000)",
    "regex with backtracking": "SELECT regexp_like(repeat('a', 100000), '(a*)*(a*)*(a*)*b') "
    "FROM generate_series(1, 100000)",
    "regex that is large": "SELECT regexp_like('a', '((a{1,1000}){1,1000}){1,1000}')",
    "edit distance": "SELECT levenshtein(repeat('a', 200000), repeat('b', 200000))",
    "sort": "SELECT value FROM generate_series(1, 300000000) ORDER BY -value "
    "LIMIT 5 OFFSET 2000000",
    "many groups": "SELECT count(*) FROM (SELECT value, count(*) FROM "
    "generate_series(1, 1000000000) GROUP BY value)",
    "collected array": "SELECT array_length(array_agg(value)) FROM generate_series(1, 1000000000)",
    "collected text": "SELECT length(string_agg(repeat('x', 1000), ',')) FROM "
    "generate_series(1, 100000000)",
    "hash join": "SELECT count(*) FROM generate_series(1, 100000000) a JOIN "
    "generate_series(1, 1000000000) b ON a.value = b.value",
    "distinct": "SELECT count(DISTINCT value) FROM generate_series(1, 1000000000)",
    "median": "SELECT median(value) FROM generate_series(1, 2000000000)",
    "window": "SELECT max(s) FROM (SELECT sum(value) OVER (ORDER BY value ROWS BETWEEN 1000000 "
    "PRECEDING AND CURRENT ROW) s FROM generate_series(1, 100000000))",
    "rows as wide as the limit": "SELECT repeat('x', 1000000) FROM generate_series(1, 1000000)",
    "parentheses": "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "signs": "SELECT " + "- " * 20_000 + "1",
    "sum of many": "SELECT " + "+".join(["1"] * 20_000),
    "concatenation": "SELECT " + "||".join(["'a'"] * 10_000),
    "conditions": "SELECT 1 WHERE " + " AND ".join(["1=1"] * 6_000),
    "casts": "SELECT 1" + "::int" * 12_000,
    "functions in functions": "SELECT " + "abs(" * 10_000 + "1" + ")" * 10_000,
    "queries in queries": "SELECT * FROM " + "(SELECT * FROM " * 3_000 + "(SELECT 1)" + ")" * 3_000,
    "unions": " UNION ALL ".join(["SELECT 1"] * 3_400),
    "explained explanations": "EXPLAIN " * 8_000 + "SELECT 1",
    "types in types": "SELECT cast(NULL AS " + "array<" * 8_000 + "int" + ">" * 8_000 + ")",
    "joins that double": "WITH c0 AS (SELECT 1 AS x)"  # noqa: S608 no input of anybody
    + "".join(f", c{i} AS (SELECT a.x FROM c{i - 1} a, c{i - 1} b)" for i in range(1, 20))  # noqa: S608 our own text
    + " SELECT count(*) FROM c19",
}

WANT_MEMORY = (
    "huge text",
    "large text",
    "text of texts",
    "padding",
    "large range",
    "huge array",
    "sort",
    "many groups",
    "collected array",
    "collected text",
    "hash join",
    "distinct",
    "median",
    "window",
    "rows as wide as the limit",
)


def main(folder: Path) -> None:
    with Gateway(make_lake(folder).catalog, processes=1, limits=TIGHT) as gateway:
        for name in WANT_MEMORY:
            with contextlib.suppress(NeuralakeError):
                arrow(gateway, BOMBS[name], timeout_s=BOMB_S_MAX)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
