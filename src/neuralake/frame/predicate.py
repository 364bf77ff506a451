"""The filter of a plan, as Polars 2.1 tells it to a dataset: the text of an Arrow expression.

Polars itself evaluates such texts as Python. Here only its own few words are: whatever else a text
has, a constant of a user's that is not escaped, say, makes it no filter at all. A filter chooses
files, so without one the answer is the same and takes longer.
"""

from __future__ import annotations

import ast

import pyarrow as pa
import pyarrow.compute as pc
from polars._utils.convert import to_py_date, to_py_datetime

__all__ = ["arrow_predicate"]

_WORDS = {
    "pa": pa,
    "to_py_date": to_py_date,
    "to_py_datetime": to_py_datetime,
    "True": True,
    "False": False,
    "None": None,
}
_ATTRIBUTES = {"compute", "field", "is_null", "isin"}
_NODES = (
    ast.Expression,
    ast.BinOp,
    ast.BitAnd,
    ast.BitOr,
    ast.UnaryOp,
    ast.Invert,
    ast.USub,
    ast.Compare,
    ast.cmpop,
    ast.Call,
    ast.Constant,
    ast.List,
    ast.Load,
)


def arrow_predicate(text: str | None) -> pc.Expression | None:
    """The expression that `text` is; None if there is none, or a word of it is not known."""
    if text is None:
        return None
    try:
        tree = ast.parse(text, mode="eval")
        if not all(_is_known(node) for node in ast.walk(tree)):
            return None
        # Without builtins pyarrow aborts (it imports while it converts); no word reaches them.
        found = eval(compile(tree, "<predicate>", "eval"), {**_WORDS})  # noqa: S307 see above
    except (SyntaxError, ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException):
        return None
    return found if isinstance(found, pc.Expression) else None


def _is_known(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _WORDS
    if isinstance(node, ast.Attribute):
        return node.attr in _ATTRIBUTES
    return isinstance(node, _NODES)
