"""Any sequence of batch writes, compactions and checkpoints equals the same on a Python list."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralake.batch import BatchResult, BatchWriter
from neuralake.clock import ManualClock
from neuralake.delta import checkpoint, compact_once, snapshot
from neuralake.delta.files import store_name
from neuralake.filters import Filter, Filters
from neuralake.frame import scan_delta

SCHEMA = pa.schema([("n", pa.int64()), ("k", pa.int64()), ("p", pa.string()), ("x", pa.float64())])
Row = dict[str, Any]

KEYS = st.none() | st.integers(0, 5)
PLACES = st.sampled_from(["a", "", None])
NUMBERS = st.none() | st.sampled_from([0.0, -0.0, 1.5, float("nan")])
ROWS = st.lists(st.tuples(KEYS, PLACES, NUMBERS), max_size=4)
CONDITION = st.one_of(
    st.builds(Filter, st.just("k"), st.sampled_from(["=", "!=", "<", ">="]), st.integers(0, 5)),
    st.builds(Filter, st.just("k"), st.sampled_from(["in", "not in"]), st.lists(st.integers(0, 5))),
    st.builds(Filter, st.just("p"), st.sampled_from(["=", "!="]), st.just("a")),
    st.builds(Filter, st.just("x"), st.sampled_from(["=", "<=", ">"]), st.just(0.0)),
    st.builds(
        Filter, st.sampled_from(["k", "p", "x"]), st.sampled_from(["is null", "is not null"])
    ),
)
WHERE = st.lists(st.lists(CONDITION, min_size=1, max_size=2), min_size=1, max_size=2)
RULES = st.tuples(
    st.sampled_from(["update", "delete", "ignore"]),
    st.sampled_from(["insert", "ignore"]),
    st.sampled_from(["ignore", "delete"]),
).filter(lambda rules: set(rules) != {"ignore"})
STEP = st.one_of(
    st.tuples(st.just("append"), ROWS),
    st.tuples(st.just("append"), ROWS),
    st.tuples(st.just("delete"), WHERE),
    st.tuples(st.just("overwrite"), ROWS, st.none() | WHERE),
    st.tuples(st.just("overwrite_partitions"), ROWS),
    st.tuples(
        st.just("merge"),
        ROWS,
        st.sampled_from([["k"], ["k", "p"], ["p"]]),
        RULES,
        st.sampled_from([["n", "k", "p", "x"], ["k", "p", "x"], ["k", "p"]]),
    ),
    st.tuples(st.just("compact")),
    st.tuples(st.just("checkpoint")),
)


def holds(where: Filters, row: Row) -> bool:
    """SQL's rules, in Python: null is never true; NaN is above every number, as in Polars."""

    def one(condition: Filter) -> bool:
        value, other = row[condition.column], condition.value
        if condition.operator == "is null":
            return value is None
        if value is None:
            return False
        match condition.operator:
            case "is not null":
                return True
            case "in":
                return value in other
            case "not in":
                return value not in other
            case "!=":
                return bool(value != other)
            case "=":
                return bool(value == other)
            case "<":
                return bool(value < other)
            case "<=":
                return bool(value <= other)
            case ">=":
                return bool(value >= other)
        return bool(value != value or value > other)

    groups: Any = where
    return any(all(one(condition) for condition in group) for group in groups)


class Table:
    """The table, and its rows by partition in order. `n` numbers each row that was ever given."""

    def __init__(self, uri: str, *, partitioned: bool) -> None:
        self.uri, self.clock = uri, ManualClock()
        self.writer = BatchWriter(
            uri, schema=SCHEMA, partition_by=["p"] if partitioned else [], clock=self.clock
        )
        self.partitioned = partitioned
        self.model: list[Row] = []
        self.count = self.runs = 0

    def rows(self, given: list[tuple[Any, ...]]) -> list[Row]:
        found = []
        for k, p, x in given:
            p = p or None if self.partitioned else p
            found.append({"n": self.count, "k": k, "p": p, "x": x})
            self.count += 1
        return found

    def job(self) -> dict[str, Any]:
        self.runs += 1
        return {"app_id": "job", "version": self.runs}

    def once(self, write: Callable[..., BatchResult], *arguments: Any, **rules: Any) -> BatchResult:
        """Do it, and again as a job does that does not know whether it was done."""
        job = self.job()
        done = write(*arguments, **rules, **job)
        again = write(*arguments, **rules, **job)
        assert not done.repeated
        assert again == BatchResult(done.version, repeated=True)
        return done

    def append(self, given: list[tuple[Any, ...]]) -> None:
        rows = self.rows(given)
        done = self.once(self.writer.append, rows)
        assert done.rows_inserted == len(rows)
        self.model += rows

    def delete(self, where: Filters) -> None:
        kept = [row for row in self.model if not holds(where, row)]
        done = self.once(self.writer.delete, where)
        assert done.rows_deleted == len(self.model) - len(kept)
        self.model = kept

    def overwrite(self, given: list[tuple[Any, ...]], where: Filters | None) -> None:
        rows = self.rows(given)
        if where is not None:
            rows = [row for row in rows if holds(where, row)]
        kept = [row for row in self.model if where is not None and not holds(where, row)]
        done = self.once(self.writer.overwrite, rows, where)
        assert (done.rows_inserted, done.rows_deleted) == (len(rows), len(self.model) - len(kept))
        self.model = kept + rows

    def overwrite_partitions(self, given: list[tuple[Any, ...]]) -> None:
        if self.partitioned:
            rows = self.rows(given)
            self.once(self.writer.overwrite_partitions, rows)
            places = {row["p"] for row in rows}
            self.model = [row for row in self.model if row["p"] not in places] + rows

    def merge(
        self,
        given: list[tuple[Any, ...]],
        on: list[str],
        rules: tuple[str, str, str],
        columns: list[str],
    ) -> None:
        source: dict[tuple[Any, ...], Row] = {}
        keyless = []
        for row in self.rows(given):
            key = tuple(row[column] for column in on)
            if None in key:
                keyless.append(row)
            else:
                source.setdefault(key, row)
        rows = [{name: row[name] for name in columns} for row in [*source.values(), *keyless]]
        table = pa.Table.from_pylist(
            rows, pa.schema([field for field in SCHEMA if field.name in columns])
        )
        names = ("when_matched", "when_not_matched", "when_not_matched_by_source")
        done = self.once(self.writer.merge, table, on, **dict(zip(names, rules, strict=True)))

        kept: list[Row] = []
        moved: list[Row] = []
        matched = set()
        updated = deleted = 0
        for row in self.model:
            key = tuple(row[column] for column in on)
            new = source.get(key)
            if new is not None:
                matched.add(key)
            if new is not None and rules[0] == "update":
                updated += 1
                changed = {**row, **{name: new[name] for name in columns}}
                stays = not self.partitioned or changed["p"] == row["p"]
                (kept if stays else moved).append(changed)
            elif (new is not None and rules[0] == "delete") or (
                new is None and rules[2] == "delete"
            ):
                deleted += 1
            else:
                kept.append(row)
        inserted = []
        if rules[1] == "insert":
            fresh = [row for key, row in source.items() if key not in matched] + keyless
            inserted = [
                {name: row[name] if name in columns else None for name in SCHEMA.names}
                for row in fresh
            ]
        assert (done.rows_updated, done.rows_deleted) == (updated, deleted)
        assert done.rows_inserted == len(inserted)
        self.model = kept + moved + inserted

    def compact(self) -> None:
        compact_once(self.uri, target_bytes=2**20, files_min=2, clock=self.clock)

    def checkpoint(self) -> None:
        checkpoint(self.uri)

    def check(self) -> None:
        wanted = multiset(self.model)
        assert multiset(scan_delta(self.uri, SCHEMA).collect().to_dicts()) == wanted
        assert multiset(pl.read_delta(self.uri).to_dicts()) == wanted
        query = QueryBuilder().register("t", DeltaTable(self.uri)).execute("SELECT * FROM t")
        assert multiset(pa.table(query.read_all()).to_pylist()) == wanted
        self.check_order()

    def check_order(self) -> None:
        """Within a partition rows are in the order of the model: by file, and within each."""
        live = snapshot(self.uri).files
        if not self.partitioned:
            parts = [
                pl.read_parquet(Path(self.uri, store_name(file.path))).to_dicts() for file in live
            ]
            assert [shown(row) for part in parts for row in part] == [*map(shown, self.model)]
            return
        for place in {row["p"] for row in self.model}:
            files = [file for file in live if file.partition["p"] == place]
            found = [
                row
                for file in files
                for row in pl.read_parquet(
                    Path(self.uri, store_name(file.path)), hive_partitioning=False
                ).to_dicts()
            ]
            model = [row for row in self.model if row["p"] == place]
            assert [shown({**row, "p": place}) for row in found] == [shown(row) for row in model]


def multiset(rows: list[Row]) -> list[str]:
    return sorted(map(shown, rows))


def shown(row: Row) -> str:
    return repr([row[name] for name in SCHEMA.names])


@settings(max_examples=examples(20), deadline=None)
@given(steps=st.lists(STEP, min_size=3, max_size=10), partitioned=st.booleans())
def test_the_table_is_the_model_after_every_step(
    steps: list[tuple[Any, ...]], partitioned: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Table(str(Path(folder, "table")), partitioned=partitioned)
        table.append([])
        for name, *arguments in steps:
            getattr(table, name)(*arguments)
            table.check()
