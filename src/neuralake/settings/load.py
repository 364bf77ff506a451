"""Read settings: the nearest `neuralake.toml`, then the environment, which wins.

Every mistake is told with its place, in words of the file or the variable.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from neuralake.errors import SettingsError, suggestion
from neuralake.settings.profile import StorageProfile
from neuralake.settings.sections import Settings

__all__ = ["FILE_NAME", "find_settings_file", "load_settings"]

FILE_NAME = "neuralake.toml"
_ENV_PREFIX = "NEURALAKE_"
_AT_KEY = re.compile(r"`\$\.(\w+)\.(\w+)`$")
_PROFILE_KEYS = StorageProfile.__struct_fields__


def find_settings_file(start: Path | None = None) -> Path | None:
    """The nearest `neuralake.toml` in `start` (default: the working directory) or above it."""
    here = (start or Path.cwd()).absolute()
    return next(
        (folder / FILE_NAME for folder in [here, *here.parents] if (folder / FILE_NAME).is_file()),
        None,
    )


def load_settings(
    file: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> Settings:
    """Settings from `file` (default: the nearest one, else defaults) and the environment.

    Raises:
        SettingsError: the file is unreadable, or a key is unknown, of the wrong type, or
            contradicts another.
    """
    file = file or find_settings_file()
    environment = os.environ if environment is None else environment
    values = _read(file) if file is not None else {}
    _refuse_unknown(values, origin=str(file))
    profiles = values.pop("storage", {})
    origins: dict[str, str] = {}
    for name, section, key, text in _from_environment(environment):
        if section == "storage":
            _set_in_profile(profiles, name, key, text)
            continue
        _refuse_unknown({section: {key: text}}, origin=f"The environment's {name}")
        values.setdefault(section, {})[key] = text
        origins[f"{section}.{key}"] = name
    values["folder"] = str((file.parent if file else Path.cwd()).absolute())
    values["storage"] = {name: _profile(name, keys) for name, keys in profiles.items()}
    try:
        # Not strict: values from the environment are text.
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong_type(error, file, values, origins) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"Cannot read {file}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}.") from error


def _set_in_profile(
    profiles: dict[str, dict[str, Any]], variable: str, rest: str, text: str
) -> None:
    """Set the key of a profile that `rest`, `<name>_<key>` in small letters, names."""
    splits = [
        (rest[: -len(key) - 1], key)
        for key in sorted(_PROFILE_KEYS, key=len, reverse=True)
        if rest.endswith(f"_{key}") and len(rest) > len(key) + 1
    ]
    if not splits:
        raise SettingsError(
            f"The environment's {variable}: write {_ENV_PREFIX}STORAGE_<NAME>_<KEY> with one of "
            f"the keys {', '.join(_PROFILE_KEYS)}.",
            name=variable,
        )
    # `my_lock_endpoint` may be of `my` or of `my_lock`: the file decides, else the longest key.
    name, key = next((split for split in splits if split[0] in profiles), splits[0])
    profiles.setdefault(name, {})[key] = text


def _profile(name: str, keys: Mapping[str, Any]) -> StorageProfile:
    for key, value in keys.items():
        if not isinstance(value, str):
            raise SettingsError(
                f"storage.{name}.{key} is {value!r}; it must be a text.", name=key, value=value
            )
    if "uri" not in keys:
        raise SettingsError(
            f"[storage.{name}] has no uri: say whose files it is for, as s3://bucket/ or "
            f"s3://bucket/prefix.",
            name="uri",
        )
    try:
        return StorageProfile(**keys)
    except SettingsError as error:
        raise SettingsError(f"storage.{name}.{error.message}", **error.facts) from error


def _wrong_type(
    error: msgspec.ValidationError,
    file: Path | None,
    values: Mapping[str, Any],
    origins: Mapping[str, str],
) -> SettingsError:
    """`error` in words of the file or variable; it ends with "- at `$.section.key`"."""
    found = _AT_KEY.search(str(error))
    if found is None:
        return SettingsError(f"{file or 'environment'}: {error}")
    section, key = found[1], found[2]
    value, name = values[section][key], f"{section}.{key}"
    wanted = type(getattr(getattr(Settings(), section), key))
    kind = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[wanted]
    place = f"The environment's {origins[name]}" if name in origins else f"{file}: {name}"
    return SettingsError(f"{place} is {value!r}; it must be {kind}.", name=name, value=value)


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """`(name, section, key, text)` of each variable with our prefix that names a key."""
    for name, text in environment.items():
        if name.startswith(_ENV_PREFIX) and "_" in name[len(_ENV_PREFIX) :]:
            section, key = name[len(_ENV_PREFIX) :].lower().split("_", 1)
            yield name, section, key, text


def _refuse_unknown(values: Mapping[str, Any], *, origin: str) -> None:
    sections = [name for name in Settings.__struct_fields__ if name != "folder"]
    for section, content in values.items():
        if section not in sections:
            raise SettingsError(
                f"{origin}: unknown section [{section}].{suggestion(section, sections)} "
                f"Known: {', '.join(sections)}.",
                name=section,
                known=sections,
            )
        if not isinstance(content, dict):
            raise SettingsError(f"{origin}: {section!r} is a section: write [{section}].")
        if section == "storage":
            _refuse_unknown_in_profiles(content, origin)
        else:
            known = type(getattr(Settings(), section)).__struct_fields__
            _refuse_unknown_keys(content, known, section, origin)


def _refuse_unknown_in_profiles(profiles: Mapping[str, Any], origin: str) -> None:
    for name, content in profiles.items():
        if not isinstance(content, dict):
            raise SettingsError(
                f"{origin}: a profile has a name of its own: write [storage.NAME] above {name!r}."
            )
        _refuse_unknown_keys(content, _PROFILE_KEYS, f"storage.{name}", origin)


def _refuse_unknown_keys(
    content: Mapping[str, Any], known: tuple[str, ...], section: str, origin: str
) -> None:
    for key in content:
        if key not in known:
            raise SettingsError(
                f"{origin}: unknown key {key!r} in [{section}].{suggestion(key, list(known))} "
                f"Known: {', '.join(known)}.",
                name=key,
                known=list(known),
            )
