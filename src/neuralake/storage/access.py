"""How one bucket and its lock table are reached: servers, regions and where the secrets come from.

Secrets never show in a repr, an error or a log line; what shows is where they were looked for.
"""

from __future__ import annotations

import configparser
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neuralake.clock import Clock, SystemClock
from neuralake.errors import SettingsError

__all__ = ["Access", "Credentials", "credentials_of"]

# Credentials in files are often short-lived and replaced by another program.
_FILE_AGE_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key, its secret and perhaps a session's token."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that a client of one bucket and its lock table must be told."""

    bucket: str
    source: str
    """Where the credentials come from, in words, for messages."""
    credentials: Callable[[], Credentials | None] = field(default=lambda: None, repr=False)
    """The credentials as they are now; None if the client finds them itself (a role of the
    machine, the container or the web identity)."""
    region: str = "us-east-1"
    endpoint: str = ""
    """Empty: AWS."""
    lock_region: str = "us-east-1"
    lock_endpoint: str = ""


def credentials_of(
    spec: str, environment: Mapping[str, str], *, clock: Clock | None = None
) -> tuple[Callable[[], Credentials | None], str]:
    """The credentials that `spec` names, and in words where they come from.

    `environment` means AWS' own order: keys in variables, then the profile `AWS_PROFILE` or
    `default` of AWS' files, then what the machine is given (see `Access.credentials`). What comes
    from a file is read again once a minute.

    Raises:
        SettingsError: the file or the profile is not there, or has no key.
    """
    kind, _, where = spec.partition(":")
    if kind == "file":
        path = Path(where).expanduser()
        return _Read([path], "", clock), f"the file {path}"
    if kind == "profile":
        return _Read(_aws_files(environment), where, clock), f"the AWS profile {where!r}"
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        found = Credentials(key, secret, environment.get("AWS_SESSION_TOKEN", ""))
        return lambda: found, "the environment (AWS_ACCESS_KEY_ID)"
    if name := environment.get("AWS_PROFILE"):
        return _Read(_aws_files(environment), name, clock), f"the AWS profile {name!r}"
    default = _Read(_aws_files(environment), "default", clock, check=False)
    if default.is_there():
        return default, "the AWS profile 'default'"
    return lambda: None, "the role of this machine (no AWS_ACCESS_KEY_ID, no AWS profile)"


class _Read:
    """The keys of one profile in ini files, read again when they are a minute old."""

    def __init__(
        self, files: list[Path], profile: str, clock: Clock | None, *, check: bool = True
    ) -> None:
        self._files, self._profile = files, profile
        self._clock = clock or SystemClock()
        self._found: tuple[float, Credentials] | None = None
        self._lock = threading.Lock()
        if check:
            self()

    def is_there(self) -> bool:
        return self._look() is not None

    def __call__(self) -> Credentials:
        now_s = self._clock.monotonic_s()
        with self._lock:
            if self._found is None or now_s - self._found[0] > _FILE_AGE_S_MAX:
                found = self._look()
                if found is None:
                    raise self._missing()
                self._found = now_s, found
            return self._found[1]

    def _look(self) -> Credentials | None:
        for file in self._files:
            # No interpolation: a secret may have a percent sign.
            parser = configparser.ConfigParser(interpolation=None)
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            try:
                parser.read_string(text)
            except configparser.Error:
                # Its message quotes the line, and the line may be a secret.
                raise SettingsError(
                    f"{file} is no file of AWS credentials.", path=str(file)
                ) from None
            for section in self._sections(parser):
                keys = parser[section]
                if "aws_access_key_id" in keys and "aws_secret_access_key" in keys:
                    return Credentials(
                        keys["aws_access_key_id"],
                        keys["aws_secret_access_key"],
                        keys.get("aws_session_token", ""),
                    )
        return None

    def _sections(self, parser: configparser.ConfigParser) -> list[str]:
        if self._profile:
            asked = [self._profile, f"profile {self._profile}"]
        else:
            asked = ["default", *parser.sections()[:1]]
        return [section for section in asked if parser.has_section(section)]

    def _missing(self) -> SettingsError:
        files = " or ".join(str(file) for file in self._files)
        profile = f"profile {self._profile!r}" if self._profile else "`default` or first profile"
        return SettingsError(
            f"No aws_access_key_id and aws_secret_access_key in the {profile} of {files}. Profiles "
            f"with a role, SSO or a process are not read: put `aws configure export-credentials "
            f"--format env` into the environment instead.",
            profile=self._profile,
            files=[str(file) for file in self._files],
        )


def _aws_files(environment: Mapping[str, str]) -> list[Path]:
    home = Path(environment.get("HOME", "~")).expanduser()
    return [
        Path(environment.get("AWS_SHARED_CREDENTIALS_FILE", home / ".aws" / "credentials")),
        Path(environment.get("AWS_CONFIG_FILE", home / ".aws" / "config")),
    ]
