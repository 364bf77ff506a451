"""What a SQL text must be before it runs: one statement, read-only, and of bounded size.

Read-only is decided on the plan, not on the text: DataFusion refuses definitions, writes and
statements (COPY, INSERT, CREATE, SET, PREPARE, …) wherever they hide. This module does not make a
query safe to run: some texts kill the process that plans them, so queries run in one of their own.
"""

from __future__ import annotations

import json
import re

from datafusion import DataFrame, SessionContext, SQLOptions

from neuralake.errors import QueryError, TooLarge

__all__ = ["check_text", "engine_text", "plan"]

_READ_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
_REFUSED = re.compile(r"(?:DDL|DML|Statement) not supported: (\w+)")
# Rust's way to write an error for developers; the text in it is escaped as JSON would.
_PARSER = re.compile(
    r'^SQL error: (?:ParserError|TokenizerError)\(("(?:[^"\\\x00-\x1f]|\\[\\"nrt])*")\)'
)
# Before its cause. Words of the query come later, and are left as they are.
_OWN_PARTS = re.compile(r"^(?:(?:Optimizer rule '\w+' failed|\w+)\ncaused by\n)+")
_SEVERAL = "only supports a single SQL statement"


def check_text(sql: str, *, bytes_max: int) -> str:
    """`sql`, if it is worth planning.

    Raises:
        QueryError: it is empty or holds a NUL character.
        TooLarge: it is longer than `bytes_max` in UTF-8.
    """
    size = len(sql.encode("utf-8", errors="surrogatepass"))
    if size > bytes_max:
        raise TooLarge(
            f"The query has {size} bytes; the limit is {bytes_max}. Put long lists of values into "
            f"a table and join it.",
            limit=bytes_max,
            found=size,
        )
    if not sql.strip() or "\0" in sql:
        raise QueryError(
            "The query is empty or has a NUL character. Send one SELECT.", reason="text"
        )
    try:
        sql.encode("utf-8")
    except UnicodeEncodeError as error:
        raise QueryError(
            f"The query is not valid Unicode: {error.reason}.", reason="text"
        ) from error
    return sql


def plan(context: SessionContext, sql: str) -> DataFrame:
    """The plan of the one read-only statement `sql`; nothing has run yet.

    Raises:
        QueryError: it does not parse or plan, writes, or holds several statements.
    """
    try:
        return context.sql_with_options(sql, _READ_ONLY)
    except Exception as error:  # DataFusion raises plain Exception for all of its own.
        text = engine_text(error)
        refused = _REFUSED.search(text)
        if refused or _SEVERAL in text:
            raise QueryError(
                f"Only one reading statement is allowed (SELECT, SHOW, DESCRIBE, EXPLAIN); "
                f"found {refused[1] if refused else 'several statements'}.",
                reason="read-only",
            ) from error
        raise QueryError(text, reason="plan") from error


def engine_text(error: BaseException) -> str:
    """What DataFusion says to who asks: without names of its own parts, and without backtrace."""
    text = str(error).split("\n\nbacktrace", 1)[0].strip()
    text = text.removeprefix("DataFusion error: ")
    # It nests: what failed is its own part, and the cause is what a person can mend.
    text = _OWN_PARTS.sub("", text)
    parser = _PARSER.match(text)
    if parser:
        text = f"The SQL cannot be read: {json.loads(parser[1])}"
    return text or type(error).__name__
