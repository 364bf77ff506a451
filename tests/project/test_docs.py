"""What the pages say is true: their programs run as written, their links lead somewhere.

In README.md and docs/**/*.md a block that begins with

- ```` ```python ```` runs, after the earlier blocks of its page and in the same session;
- ```` ```python file=tables.py ```` (or toml, sql, ...) is written to that file;
- ```` ```bash run ```` runs in a shell, and fails the page if a command fails;
- ```` ```python illustration ```` is only read.

Each page gets an empty folder and a process of its own; one that sets up an object store, a server
with the bucket that it speaks of.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto_server import moto_account
from tests.project.page import blocks

import neuralake

REPOSITORY = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("page.py")
# The tutorial starts platforms again and again: more than a minute on a busy machine.
_PAGE_S_MAX = 900


# What a page waits for comes in a moment, and on a busy machine in many; what it reads of the queue
# at its end must still be there.
PATIENCE = {"NEURALAKE_INGEST_WAIT_S_MAX": "300", "NEURALAKE_QUEUE_GRACE_S": "100000"}


def pages() -> list[Path]:
    top = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [page for page in top if page.exists()] + sorted((REPOSITORY / "docs").rglob("*.md"))


def page_name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@contextlib.contextmanager
def surroundings(page: Path) -> Iterator[dict[str, str]]:
    """Variables that the programs of `page` find, and what these speak of."""
    if page_name(page) != "docs/how-to/object-stores.md":
        yield {}
        return
    with moto_account() as account:
        account.client("s3").create_bucket(Bucket="lab-data")
        # The page names the usual port of such a server; here another one is free.
        yield {**account.environment(), "NEURALAKE_STORAGE_LAB_ENDPOINT": account.s3_endpoint}


def has_programs(page: Path) -> bool:
    text = page.read_text(encoding="utf-8")
    return any(block.is_program or block.file is not None for block in blocks(text))


@pytest.mark.timeout(_PAGE_S_MAX + 20)
@pytest.mark.parametrize("page", [page for page in pages() if has_programs(page)], ids=page_name)
def test_the_programs_of_a_page_run_as_written(page: Path, tmp_path: Path) -> None:
    # The `neuralake` and `python` of a page are those that run this test.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with (
        surroundings(page) as variables,
        subprocess.Popen(
            [sys.executable, str(RUNNER), str(page)],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "NO_COLOR": "1", **PATIENCE, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as running,
    ):
        try:
            said, _ = running.communicate(timeout=_PAGE_S_MAX)
        finally:
            # A platform that the page started would go on without it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)

    assert running.returncode == 0, said


LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    broken = [
        target
        for target in LINK.findall(text)
        if "://" not in target
        and not target.startswith(("#", "mailto:"))
        and not (page.parent / target.split("#")[0]).exists()
    ]

    assert not broken


HEADING = re.compile(r"^#+ (.*)$", re.M)


def anchor(heading: str) -> str:
    """The name under which a code host files a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_links_to_headings_name_one_that_exists(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target or "#" not in target:
            continue
        file, name = target.split("#", 1)
        other = page.parent / file if file else page
        if other.suffix == ".md" and other.exists():
            known = [anchor(found) for found in HEADING.findall(other.read_text(encoding="utf-8"))]
            broken += [] if name in known else [target]

    assert not broken


def test_the_version_is_one_and_the_changelog_has_it() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")

    assert project["version"] == neuralake.__version__
    assert re.search(rf"^## \[?{re.escape(neuralake.__version__)}\b", changelog, re.M)
