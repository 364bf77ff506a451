"""Defining and looking up touch nothing: no file, no folder, no socket, no process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

LOOK = textwrap.dedent(
    """
    import sys
    import pyarrow as pa
    import polars as pl
    from neuralake.catalog import Catalog, Database
    from neuralake.filters import Filter
    from neuralake.settings import LakeSettings, Settings
    from neuralake.tables import DeltaTable, ParquetTable, Partition, Stream, table

    def work():
        schema = pa.schema([("session", pa.string()), ("n", pa.int32())])
        spikes = DeltaTable("spikes", "neural/spikes", schema, partition_by=["session"],
                            stream=Stream(), docs_filters=[Filter("session", "=", "a")])
        raw = ParquetTable("raw", "raw/*.parquet", partitioning=[Partition("device", pl.String)])
        far = DeltaTable("far", "s3://no-such-bucket/far", schema)

        @table
        def rows(session: str = ""):
            return pl.LazyFrame({"n": [1]})

        settings = Settings(folder="/no/such/folder", lake=LakeSettings(root="/no/such/lake"))
        catalog = Catalog({"neural": Database([spikes, raw, far, rows])}, settings)
        neural = catalog.neural
        frames = [
            neural.table("spikes", Filter("session", "=", "a"), columns=["n"]),
            neural.table("spikes", live=True),
            neural.table("raw", Filter("device", "=", "d")),
            neural.far,
            neural.table("rows", session="s"),
        ]
        schemas = [frames[0].collect_schema(), frames[1].collect_schema()]
        repr(catalog), dir(neural), catalog.definitions()
        return [f.filter(pl.col("n") > 1).group_by("n").len() for f in frames]

    work()  # Whatever is imported late is imported now.
    seen = []
    WATCHED = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.stat", "glob.glob",
               "socket.", "subprocess.", "sqlite3.", "shutil.", "pathlib.", "os.rename")
    sys.addaudithook(lambda event, args: event.startswith(WATCHED) and seen.append((event, args)))
    keep = work()
    print(seen)
    """
)


SERVER = ["datafusion", "starlette", "uvicorn", "typer", "rich", "jinja2"]


def test_defining_and_looking_up_does_no_io(tmp_path: Path) -> None:
    """In a process that reports every file, folder, socket and process that Python asks for."""
    (tmp_path / "look.py").write_text(LOOK)

    answer = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "look.py")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )

    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr


def test_importing_the_package_loads_neither_polars_nor_a_server_library() -> None:
    """What a first `nl.Filter` costs is paid then; `import neuralake` costs milliseconds."""
    heavy = [*SERVER, "deltalake", "polars", "pyarrow", "sqlite3"]
    code = f"import sys, neuralake; print([m for m in {heavy} if m in sys.modules])"

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )

    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr


def test_a_reader_loads_no_server_library() -> None:
    code = (
        "import sys, neuralake as nl\n"
        "nl.Catalog, nl.ModuleDatabase, nl.DeltaTable, nl.table, nl.Filter, nl.NlkDataFrame\n"
        f"print([m for m in {SERVER} if m in sys.modules])"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )

    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr
