"""Bearer tokens: made by a command, kept as hashes in one file, looked up at each request.

A token is `nl_<id>_<secret>`. The secret has 256 random bits, so its SHA-256 is as good as the
secret itself is long: a slow hash, which protects words that people choose, would protect nothing
here and cost every request. The file is read again when it changes: a token that is made or revoked
counts at once, in every process, without a restart. Who can write the file decides who may do what.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from neuralake.clock import Clock, SystemClock
from neuralake.errors import NeedsAttention, Unauthorized, UnknownName, UsageError
from neuralake.serve.caller import Caller

__all__ = ["Token", "TokenFile"]

_ID_BYTES, _SECRET_BYTES = 4, 32
_DAY_S = 86_400.0
_NAME_CHARACTERS_MAX = 100
# A century: what expires later never does, and has no date that programs can write.
_EXPIRES_DAYS_MAX = 36_525
# A glob without any of these can be no `database.table`.
_ANY_TABLE = frozenset(".*?[")
_HELP = "Send it as 'Authorization: Bearer nl_…'."


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token. Times are Unix seconds."""

    id: str
    name: str
    """What it is for, as its maker said."""
    hash: str
    """SHA-256 of the secret, in hexadecimal."""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    created_s: float
    expires_s: float | None = None


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    tokens: tuple[Token, ...] = ()


class TokenFile:
    """The tokens in the file at `path`, which need not be there. For any number of threads."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path, self._clock = path, clock or SystemClock()
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._by_id: dict[str, Token] = {}

    @property
    def is_there(self) -> bool:
        """Whether tokens are asked for: also if the last one was revoked, as long as the file is
        there."""
        return self._stamp() is not None

    def tokens(self) -> list[Token]:
        """Every token, the oldest first.

        Raises:
            NeedsAttention: the file cannot be read; nobody is let in then.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp is None:
                self._by_id = {}
            elif stamp != self._seen:
                self._by_id = {token.id: token for token in self._read().tokens}
            self._seen = stamp
            return [*self._by_id.values()]

    def caller(self, token: str) -> Caller:
        """Who holds `token`.

        Raises:
            Unauthorized: nobody does, or no more.
            NeedsAttention: the file cannot be read.
        """
        self.tokens()
        _, _, rest = token.partition("_")
        identity, _, secret = rest.partition("_")
        known = self._by_id.get(identity)
        # Compared also where there is no such id, so that time tells nothing.
        expected = known.hash if known else _hash("")
        is_right = hmac.compare_digest(_hash(secret), expected)
        if known is None or not (is_right and secret):
            raise Unauthorized(f"This token is not one of ours, or was revoked. {_HELP}")
        if known.expires_s is not None and self._clock.now_s() >= known.expires_s:
            raise Unauthorized(f"The token {known.id} ({known.name}) has expired.")
        return Caller(known.id, known.read, known.write)

    def create(
        self,
        name: str,
        *,
        read: Sequence[str] = (),
        write: Sequence[str] = (),
        expires_days: float | None = None,
    ) -> tuple[Token, str]:
        """Make a token; what is kept of it, and the token itself, which nobody can tell again.

        Raises:
            UsageError: it would allow nothing, or expires at once; or its name cannot be listed.
        """
        _check_name(name)
        if not (read or write):
            raise UsageError("A token that allows nothing: give it --read or --write tables.")
        for glob in (*read, *write):
            if not _ANY_TABLE.intersection(glob):
                raise UsageError(
                    f"{glob!r} names no table: write database.table, or {glob + '.*'!r} for all "
                    f"tables of a database.",
                    name=glob,
                )
        if expires_days is not None and not 0 < expires_days <= _EXPIRES_DAYS_MAX:
            raise UsageError(
                f"A token that expires in {expires_days:g} days is of no use: give it more than 0 "
                f"and at most {_EXPIRES_DAYS_MAX:,}, or leave it out for one that never expires."
            )
        now_s = self._clock.now_s()
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        token = Token(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            hash=_hash(secret),
            read=tuple(read),
            write=tuple(write),
            created_s=now_s,
            expires_s=None if expires_days is None else now_s + expires_days * _DAY_S,
        )
        self._replace([*self.tokens(), token])
        return token, f"nl_{token.id}_{secret}"

    def revoke(self, identity: str) -> Token:
        """Let a token count no more, at once and for good.

        Raises:
            UnknownName: there is no such token.
        """
        tokens = self.tokens()
        found = next((token for token in tokens if token.id == identity), None)
        if found is None:
            known = [token.id for token in tokens]
            raise UnknownName(
                f"No token {identity!r}. There are: {', '.join(known) or 'none'}.",
                kind="token",
                name=identity,
                known=known,
            )
        self._replace([token for token in tokens if token is not found])
        return found

    def _replace(self, tokens: Sequence[Token]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            content = msgspec.json.encode(_Content(tokens=tuple(tokens)))
            file.write(msgspec.json.format(content) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)

    def _read(self) -> _Content:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Content)
        except (OSError, msgspec.MsgspecError) as error:
            self._seen = None
            raise NeedsAttention(
                f"The tokens in {self.path} cannot be read: {error}. Nobody is let in until they "
                f"can: mend the file, or remove it and make new tokens."
            ) from error

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NeedsAttention(f"The tokens in {self.path} cannot be read: {error}.") from error
        return found.st_mtime_ns, found.st_ino, found.st_size


def _check_name(name: str) -> None:
    """It is in lists and in logs, a line each."""
    if not (name.strip() and name.isprintable() and len(name) <= _NAME_CHARACTERS_MAX):
        raise UsageError(
            f"A token cannot be named {name[:_NAME_CHARACTERS_MAX]!r}: a name is 1 to "
            f"{_NAME_CHARACTERS_MAX} characters on one line, such as rig-7.",
            name=name,
        )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
