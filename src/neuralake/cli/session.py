"""What the commands of one run share: the lake's settings, its catalog, and where text goes."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from neuralake.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuralake.catalog import Catalog
    from neuralake.settings import Settings

__all__ = ["Session"]

_PIPE_WIDTH = 10_000


@dataclass
class Session:
    """The options before the command. Settings and catalog are loaded when first asked for."""

    settings_file: Path | None = None
    debug: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The lake's settings.

        Raises:
            UsageError: there is no settings file here or above; says how to make one.
            SettingsError: the file or the environment is wrong.
        """
        from neuralake.settings import find_settings_file, load_settings

        file = self.settings_file or find_settings_file()
        if file is None:
            raise UsageError(
                f"No neuralake.toml in {Path.cwd()} or above. Make a project with "
                f"`neuralake init`, or name a file: neuralake --settings FILE …"
            )
        return load_settings(file)

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog that the settings name."""
        from neuralake.catalog import load_catalog

        return load_catalog(self.settings)

    @property
    def options(self) -> list[str]:
        """The same options, for a process that this one starts."""
        file = (
            [] if self.settings_file is None else ["--settings", str(self.settings_file.absolute())]
        )
        return file + (["--debug"] if self.debug else [])

    @cached_property
    def out(self) -> Console:
        """For answers: standard output, coloured only on a terminal."""
        from neuralake.cli.terminal import Terminal

        # In a file or a pipe a line is as long as it is: nothing there knows a width.
        return Terminal(width=None if sys.stdout.isatty() else _PIPE_WIDTH)

    @cached_property
    def err(self) -> Console:
        """For everything that is not the answer: standard error."""
        from neuralake.cli.terminal import Terminal

        return Terminal(stderr=True)

    def log(self, part: str) -> None:
        """Write what `part` logs to standard error, a line each, as `log.format` says."""
        from neuralake.cli.log_lines import JsonLine, TextLine

        text = TextLine("%(name)s: %(message)s" if self.debug else "%(message)s")
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLine(part) if self.settings.log.format == "json" else text)
        logging.basicConfig(level=logging.DEBUG if self.debug else logging.INFO, handlers=[handler])
        for noisy in ("uvicorn.access", "httpx"):
            logging.getLogger(noisy).setLevel(logging.WARNING)

    def tell(self, text: str) -> None:
        """Say something on standard error; call `log` first."""
        if self.settings.log.format == "json":
            logging.getLogger("neuralake").info("%s", text)
        else:
            self.err.print(text, soft_wrap=True)
