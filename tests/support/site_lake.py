"""A small project on disk whose catalog has every kind of table, and one full of hostile text.

`write_project` writes `lake.py` and `neuralake.toml` and fills the tables; the catalog is then
imported as a user's program would.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa

from neuralake.catalog import Catalog, Database
from neuralake.clock import ManualClock
from neuralake.delta import TableLog, create_table
from neuralake.filters import Filter
from neuralake.settings import LakeSettings, ServerSettings, Settings
from neuralake.tables import DeltaTable, ParquetTable, Partition, Stream, table

NOW_S = 1_790_000_000.0
HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\"'&`{{7*7}}"
)

SPIKES = DeltaTable(
    name="spikes",
    uri="neural/spikes",
    schema=pa.schema(
        [
            pa.field("session", pa.string(), nullable=False),
            ("time", pa.timestamp("us", tz="UTC")),
            ("channel", pa.int32()),
            ("count", pa.int16()),
        ]
    ),
    partition_by=["session"],
    stream=Stream(flush_ms_max=200),
    description="Spike counts per channel.\n\nSilent bins have **no** row; see `count`.",
    owner="Decoding team",
    tags=["neural", "realtime"],
    docs_columns={"channel": "Electrode number, 0 to 255."},
    docs_filters=[Filter("session", "=", "it's 12"), Filter("channel", "in", [1, 2])],
    data_input="the implant's radio",
    latency_info="200 ms",
    example_notebook="https://example.org/spikes.ipynb",
    unique_columns=["session", "time", "channel"],
)
EVERYTHING = DeltaTable(
    name="everything",
    uri="neural/everything",
    schema=pa.schema(
        [
            ("day", pa.date32()),
            ("tiny", pa.int8()),
            ("long", pa.int64()),
            ("single", pa.float32()),
            ("double", pa.float64()),
            ("price", pa.decimal128(8, 2)),
            ("share", pa.decimal128(3, 3)),
            ("text", pa.string()),
            ("blob", pa.binary()),
            ("flag", pa.bool_()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("wall", pa.timestamp("us")),
            ("many", pa.list_(pa.float64())),
            ("inner", pa.struct([("x", pa.int32()), ("names", pa.list_(pa.string()))])),
        ]
    ),
    partition_by=["day"],
    stream=Stream(),
    tags=["types"],
)
OLD = DeltaTable(
    name="old_spikes",
    uri="neural/old_spikes",
    schema=pa.schema([("t", pa.int64())]),
    deprecated="Use `spikes`.",
)
MISSING = DeltaTable(name="missing", uri="neural/missing", schema=pa.schema([("t", pa.int64())]))
WAITING = DeltaTable(
    name="waiting", uri="neural/waiting", schema=pa.schema([("t", pa.int64())]), stream=Stream()
)
WEATHER = ParquetTable(
    name="weather", uri="raw/weather", partitioning=[Partition("origin", pl.String)]
)


@table(owner="Surgery", docs_args={"session": "s-1"}, schema=pa.schema([("thread", pa.int64())]))
def insertions(session: str, limit: int = 3) -> pl.LazyFrame:
    """Every electrode insertion."""
    return pl.LazyFrame({"thread": list(range(limit))}).filter(pl.lit(session == "s-1"))


@table(docs_args={"day": datetime.date(2026, 1, 2), "price": Decimal("1.5"), "how": object()})
def argued(day: datetime.date, price: Decimal, how: object = None) -> pl.LazyFrame:
    """A function whose arguments are no plain text or number."""
    return pl.LazyFrame({"year": [day.year], "price": [price.as_tuple().exponent], "x": [how]})


@table(schema=pa.schema([("n", pa.int64())]))
def optional(rows: int = 4) -> pl.LazyFrame:
    """A function that SQL can ask too."""
    return pl.LazyFrame({"n": list(range(rows))})


@table
def never_called(why: str) -> pl.LazyFrame:
    """A function that nobody may call to describe it."""
    raise AssertionError(why)


def hostile_database() -> Database:
    """Every text that a definition can hold is an attack."""
    return Database(
        [
            DeltaTable(
                name="attack",
                uri=f"s3://user:secret@bucket/{HOSTILE}?key=secret",
                schema=pa.schema([('<b>"x', pa.int64()), ("'DROP--", pa.string())]),
                description=f'{HOSTILE}\n\n[x](javascript:alert(1)) [y](https://e.org/"onclick=1)',
                owner=HOSTILE,
                tags=[HOSTILE, "'] x [data-tags='"],
                docs_columns={'<b>"x': HOSTILE},
                docs_filters=[Filter("'DROP--", "=", HOSTILE + "\n\\")],
                data_input=HOSTILE,
                latency_info=HOSTILE,
                example_notebook="javascript:window.hacked=1",
                deprecated=HOSTILE,
                stream=Stream(),
            )
        ]
    )


def neural_database() -> Database:
    return Database([SPIKES, EVERYTHING, OLD, MISSING, WAITING])


def lab_database() -> Database:
    return Database([WEATHER, argued, insertions, optional, never_called])


def make_catalog(folder: Path, *, hostile: bool = False) -> Catalog:
    """The catalog of a lake at `folder`; nothing is written."""
    databases = {"neural": neural_database(), "lab": lab_database()}
    if hostile:
        databases["hostile"] = hostile_database()
    settings = Settings(
        folder=str(folder), lake=LakeSettings(root="data"), server=ServerSettings(port=8765)
    )
    return Catalog(databases, settings)


def fill(folder: Path) -> None:
    """Rows for `spikes` (two commits, two partitions), `everything`, `old_spikes` and `weather`."""
    clock = ManualClock(NOW_S)
    data = folder / "data"
    log = _make(data, SPIKES, clock)
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)
    for session, rows in (("s-1", 5), ("it's 12", 7)):
        clock.advance(60)
        log.append(
            pa.table(
                {
                    "session": [session] * rows,
                    "time": [moment] * rows,
                    "channel": list(range(rows)),
                    "count": [None, *range(1, rows)],
                },
                schema=SPIKES.schema,
            )
        )
    _make(data, EVERYTHING, clock).append(
        pa.table(
            {
                "day": [datetime.date(2026, 5, 1)],
                "price": [Decimal("9.50")],
                "double": [0.25],
                "text": ["x"],
            }
            | {
                name: [None]
                for name in EVERYTHING.schema.names
                if name not in ("day", "price", "double", "text")
            },
        )
        .select(EVERYTHING.schema.names)
        .cast(EVERYTHING.schema)
    )
    _make(data, OLD, clock)
    for origin, rows in (("JFK", 2), ("new york", 3)):
        part = data / "raw" / "weather" / f"origin={origin.replace(' ', '%20')}"
        part.mkdir(parents=True)
        pl.DataFrame({"temp": [1.5] * rows}).write_parquet(part / "part-0.parquet")


def write_project(folder: Path) -> None:
    """A project whose `lake.py` has `catalog`, for programs that run in `folder`."""
    (folder / "neuralake.toml").write_text('[lake]\nroot = "data"\n', encoding="utf-8")
    support = str(Path(__file__).parent)
    (folder / "lake.py").write_text(
        f"import sys\nsys.path.append({support!r})\n"
        "from site_lake import lab_database, neural_database\n"
        "from neuralake import Catalog\n"
        'catalog = Catalog({"neural": neural_database(), "lab": lab_database()})\n',
        encoding="utf-8",
    )
    fill(folder)


def _make(data: Path, definition: DeltaTable, clock: ManualClock) -> TableLog:
    uri = str(data / definition.uri)
    create_table(uri, definition.schema, partition_by=definition.partition_by, clock=clock)
    return TableLog.open(uri, clock=clock)
