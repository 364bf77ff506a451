"""A table that is a function: whatever Python can fetch, under the catalog's roof."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, overload

import pyarrow as pa

from neuralake.errors import UsageError, suggestion
from neuralake.tables.definition import Definition
from neuralake.tables.stream import Stream

__all__ = ["FunctionTable", "table"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class FunctionTable(Definition, Generic[P, R]):
    """A function under `@table`: called by itself it is still that function.

    Looked up through the catalog it runs at once, and its answer (a Polars frame, lazy or not, or
    an Arrow table) becomes an `NlkDataFrame`. Return a LazyFrame to do no work before `collect`.

    Args:
        function: returns the rows.
        schema: optional; declared, the answer must have these columns and types.
        docs_args: arguments of a typical call, for examples and for SQL (which passes none).
    """

    kind: ClassVar[str] = "function"

    uri: str = field(init=False, default="")
    function: Callable[P, R] = field(kw_only=True)
    docs_args: Mapping[str, Any] = field(default_factory=dict, hash=False, kw_only=True)
    stream: Stream | None = field(init=False, default=None, kw_only=True)

    def __post_init__(self, table_metadata_args: Mapping[str, Any] | None) -> None:
        if not callable(self.function):
            raise self._error(f"{self.function!r} is no function.", field="function")
        if self.schema is not None and not isinstance(self.schema, pa.Schema):
            raise self._error(
                f"schema is a pyarrow.Schema, found {type(self.schema).__name__}.", field="schema"
            )
        super().__post_init__(table_metadata_args)
        # What `inspect.signature` and `help` look at.
        self._set("__wrapped__", self.function)
        self._set("__doc__", self.description)
        self.check_arguments(self.docs_args, partial=True)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns; nothing added."""
        return self.function(*args, **kwargs)

    def __reduce__(self) -> Any:
        # The function's own name leads to this table, so pickle would not find the function.
        module, path = self.function.__module__, self.function.__qualname__
        if _find(module, path) is self:
            return _find, (module, path)
        return super().__reduce__()

    @property
    def signature(self) -> inspect.Signature:
        """The function's parameters: what `db.table(name, ...)` accepts."""
        return inspect.signature(self.function)

    @property
    def parameters(self) -> list[str]:
        """Names of the function's parameters."""
        return list(self.signature.parameters)

    @property
    def required(self) -> list[str]:
        """Parameters without a default, which every call must give."""
        return [
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ]

    def check_arguments(self, arguments: Mapping[str, Any], *, partial: bool = False) -> None:
        """Check that the function takes `arguments`, and if not `partial` that none is missing.

        Raises:
            UsageError: with the signature and the nearest parameter. Facts: `name`, `known`.
        """
        parameters = self.signature.parameters
        shown = f"{self.name}{self.signature.replace(return_annotation=inspect.Signature.empty)}"
        if not any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values()):
            for name in arguments:
                if name not in parameters:
                    known = list(parameters)
                    raise UsageError(
                        f"Table {self.name!r} takes no argument {name!r}."
                        f"{suggestion(name, known)} Its signature is {shown}.",
                        name=name,
                        known=known,
                    )
        missing = [name for name in self.required if name not in arguments]
        if missing and not partial:
            raise UsageError(
                f"Table {self.name!r} needs {', '.join(map(repr, missing))}; its signature is "
                f"{shown}.",
                name=missing[0],
                known=list(parameters),
            )

    def _docs_args(self) -> dict[str, Any]:
        return dict(self.docs_args)


@overload
def table(function: Callable[P, R], /) -> FunctionTable[P, R]: ...


@overload
def table(
    function: None = None, /, *, name: str | None = None, **docs: Any
) -> Callable[[Callable[P, R]], FunctionTable[P, R]]: ...


def table(
    function: Callable[P, R] | None = None, /, *, name: str | None = None, **docs: Any
) -> FunctionTable[P, R] | Callable[[Callable[P, R]], FunctionTable[P, R]]:
    """Make a table of a function: `@table`, or `@table(owner="…", schema=…)`.

    The name is the function's and the description its docstring, unless given. Further arguments
    are those of `FunctionTable`.
    """
    if function is None:
        return lambda given: _function_table(given, name, docs)
    return _function_table(function, name, docs)


def _function_table(
    function: Callable[P, R], name: str | None, docs: Mapping[str, Any]
) -> FunctionTable[P, R]:
    if not callable(function):
        raise UsageError(f"@table stands above a function; it found {function!r}.")
    given = dict(docs)
    if given.pop("is_deprecated", False):
        given["table_metadata_args"] = {"is_deprecated": True}
    given.setdefault("description", inspect.getdoc(function) or "")
    try:
        return FunctionTable(
            name=name or str(getattr(function, "__name__", "")), function=function, **given
        )
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UsageError(f"@table: {str(error).partition(') ')[2] or error}.") from error


def _find(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found
