"""Appends to a table on S3: how long they take and how many requests, in both coordination modes.

Run it as `python -m bench.object_store`. The servers are real ones on this machine (versitygw,
DynamoDB Local), fetched as `make test-services` does, so a request costs a millisecond or less;
over a network each costs tens, and the requests decide. They are counted at a door in front of the
servers, in runs of their own. Peers alternate with ours: the newest deltalake with one kept handle
and conditional PUT.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import count

import pyarrow as pa
from bench.commit import SCHEMA, alternate, batch, show
from bench.machine import describe
from deltalake import DeltaTable, write_deltalake
from dynamodb_server import with_dynamodb
from gate_proxy import Request, Verdict, gate
from s3_server import s3_account
from service_table import Coordination, ServiceTable

from neuralake.delta import TableLog, Txn, create_table

Step = Callable[[], object]


def ours(table: ServiceTable, rows: pa.Table) -> Step:
    # A number that no earlier handle of this table has used: a repeat would write nothing.
    log, numbers = TableLog.open(table.store()), count(time.time_ns())
    return lambda: log.append(rows, txn=Txn("bench", next(numbers)))


def theirs(table: ServiceTable, rows: pa.Table) -> Step:
    options = {**table.account.storage_options(), "aws_conditional_put": "etag"}
    handle = DeltaTable(table.uri, storage_options=options)
    return lambda: write_deltalake(handle, rows, mode="append", storage_options=options)


def made(table: ServiceTable) -> ServiceTable:
    create_table(table.store(), SCHEMA, partition_by=["session"])
    return table


def counted(table: ServiceTable, make: Callable[[ServiceTable, pa.Table], Step]) -> None:
    """Print the requests of one append of a handle that has made some already."""
    seen: Counter[str] = Counter()

    def judge(request: Request) -> Verdict:
        if not request.is_answered:
            seen[request.target or ("COPY" if request.is_copy else request.method)] += 1
        return "pass"

    with ExitStack() as doors:
        s3 = doors.enter_context(gate(table.account.s3_endpoint, judge))
        has_locks = table.coordination == "dynamodb"
        dynamodb = (
            doors.enter_context(gate(table.account.dynamodb_endpoint, judge)) if has_locks else ""
        )
        step = make(table.through(s3=s3, dynamodb=dynamodb), batch(10))
        for _ in range(3):
            step()
        seen.clear()
        for _ in range(10):
            step()
    each = ", ".join(f"{kind} {number / 10:g}" for kind, number in sorted(seen.items()))
    print(f"    requests an append: {seen.total() / 10:g} ({each})")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=100, help="rows of an append")
    arguments.add_argument("--versions", type=int, default=100, help="age of the tables")
    arguments.add_argument("--blocks", type=int, default=4)
    arguments.add_argument("--each", type=int, default=15, help="appends in a block")
    given = arguments.parse_args()
    print(describe())
    with s3_account() as s3, with_dynamodb(s3) as account:
        sides: dict[str, tuple[ServiceTable, Callable[[ServiceTable, pa.Table], Step]]] = {}
        lock_table, bucket = account.make_lock_table(), account.make_bucket()
        modes: list[tuple[str, Coordination, Callable[[ServiceTable, pa.Table], Step]]] = [
            ("ours, conditional PUT", "conditional-put", ours),
            ("write_deltalake on a kept handle", "conditional-put", theirs),
            ("ours, DynamoDB", "dynamodb", ours),
        ]
        for name, coordination, make in modes:
            table = ServiceTable(account, bucket, coordination, lock_table, f"t{len(sides)}")
            sides[name] = (made(replace(table, lock_table=lock_table)), make)
        measure(sides, given)


def measure(
    sides: dict[str, tuple[ServiceTable, Callable[[ServiceTable, pa.Table], Step]]],
    given: argparse.Namespace,
) -> None:
    rows = batch(given.rows)
    for table, _ in sides.values():
        fill = ours(table, batch(1))
        for _ in range(given.versions):
            fill()
    steps = [make(table, rows) for table, make in sides.values()]
    print(f"\nappend of {given.rows} rows at version {given.versions} and later")
    times = alternate(steps, blocks=given.blocks, each=given.each)
    for (name, (table, make)), taken in zip(sides.items(), times, strict=True):
        show(name, taken, None if taken is times[0] else times[0])
        counted(table, make)


if __name__ == "__main__":
    main()
