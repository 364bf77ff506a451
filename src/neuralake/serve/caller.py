"""Who asks, and what they may do: the scopes of a token, or anyone where there are no tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from neuralake.errors import Forbidden

__all__ = ["ANYONE", "SCOPE_KEY", "Caller", "Verb", "caller_of"]

Verb = Literal["read", "write"]
SCOPE_KEY = "neuralake.caller"
"""Where the server leaves the caller in an ASGI scope."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What one token allows, by globs over `database.table`."""

    name: str
    """The token's id; empty: there was none, and none was needed."""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    def may(self, verb: Verb, name: str) -> bool:
        """Whether it allows `verb` on the table `name` (`database.table`)."""
        return any(fnmatchcase(name, glob) for glob in getattr(self, verb))

    def check(self, verb: Verb, name: str) -> None:
        """Raises Forbidden: it does not, whether there is such a table or not."""
        if not self.may(verb, name):
            raise Forbidden(
                f"The token {self.name} does not allow to {verb} {name}. Ask for one that does: "
                f"neuralake token create NAME --{verb} '{name}'.",
                verb=verb,
                name=name,
            )


ANYONE = Caller("", ("*",), ("*",))


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """The caller of a request; anyone, where no tokens are asked for."""
    found: Caller = scope.get(SCOPE_KEY, ANYONE)
    return found
