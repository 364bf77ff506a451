"""A process killed at any step of a batch write leaves all of it or nothing, and a repeat ends it.

Each test runs its write in processes of their own that die before the first, second, … step of the
store (half through it, if it writes), until one comes to the end.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from neuralake.batch import BatchWriter
from neuralake.delta import snapshot

CHILD = Path(__file__).with_name("batch_crash_child.py")
SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
STEPS_MAX = 40
BEFORE = [(0, "a"), (1, "b"), (2, "a"), (3, "b")]
AFTER = {
    "overwrite": [(0, "a"), (0, "b"), (1, "b"), (2, "a"), (100, "b")],
    "delete": [(3, "b")],
    "merge": [(0, "b"), (1, "b"), (2, "a"), (3, "b"), (100, "b")],
}


def job() -> Any:
    """`write` of the child, which the parent repeats."""
    spec = importlib.util.spec_from_file_location("batch_crash_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write


def run(operation: str, uri: str, step: int) -> bool:
    """Whether it came to the end."""
    table = BatchWriter(uri, schema=SCHEMA, partition_by=["p"])
    table.append([{"id": number, "p": place} for number, place in BEFORE])
    done = subprocess.run(
        [sys.executable, str(CHILD), operation, uri, str(step)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == 0


def read(uri: str) -> list[tuple[int, str]]:
    return pl.scan_delta(uri).sort("id", "p").collect().rows()


@pytest.mark.parametrize(
    "operation",
    [
        "merge",
        pytest.param("overwrite", marks=pytest.mark.slow),
        pytest.param("delete", marks=pytest.mark.slow),
    ],
)
def test_a_crash_leaves_all_or_nothing_and_the_repeat_ends_it(
    tmp_path: Path, operation: str
) -> None:
    write, outcomes = job(), set()
    with ThreadPoolExecutor(2) as pool:
        for first in range(0, STEPS_MAX, 2):
            uris = [str(tmp_path / f"{operation}{first + i}") for i in range(2)]
            ends = [*pool.map(run, [operation] * 2, uris, [first, first + 1])]
            for uri, ended in zip(uris, ends, strict=True):
                committed = snapshot(uri).txn("job") == 1
                outcomes.add(committed)
                assert committed or not ended
                assert read(uri) == (AFTER[operation] if committed else BEFORE)

                assert write(BatchWriter(uri), operation).repeated == committed
                assert read(uri) == AFTER[operation]
            if ends[-1]:
                break
        else:
            raise AssertionError(f"{operation} took more than {STEPS_MAX} steps")
    assert outcomes == {True, False}, "the crashes were on both sides of the commit"
