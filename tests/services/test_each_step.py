"""A writer dies, is cut off or is paused at any request of a commit, and the next one goes on.

Whoever comes next, of either engine, finds a table that is whole, with every row that should be
there once. What decides a commit is one request: the entry's own PUT, or the PUT of its lock item.
A writer that died after it has committed, although nobody told it; before it, it has not.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
from commit_steps import Moment, Step, StepDoor
from gate_proxy import Verdict
from service_children import Child, rival, writer
from service_table import SCHEMA, Coordination, ServiceTable, rows_of

from neuralake.delta import TableLog, Txn, create_table, snapshot
from neuralake.errors import NeedsAttention

Case = tuple[Coordination, Step, Moment]
Rows = Counter[tuple[str, int]]


def cases(coordination: Coordination, *steps: Step) -> list[Case]:
    return [(coordination, *each) for each in product(steps, get_args(Moment))]


OURS = [
    *cases("conditional-put", "data", "entry"),
    *cases("dynamodb", "data", "temp", "item", "entry", "complete"),
]
# delta-rs 1.5.0 copies where we put if absent, and then removes what it had put aside.
RIVALS = cases("dynamodb", "data", "temp", "item", "copy", "clean", "complete")
ORDER: list[Step] = ["data", "temp", "item", "entry", "copy", "clean", "complete"]
DECIDES: dict[Coordination, Step] = {"conditional-put": "entry", "dynamodb": "item"}

# What comes first after the writer that died.
NEXT = ["our reader", "our writer", "rival"]


def is_committed(coordination: Coordination, step: Step, moment: Moment) -> bool:
    """Whether a writer that got to `moment` of `step`, and no further, has committed."""
    reached, decides = ORDER.index(step), ORDER.index(DECIDES[coordination])
    return reached > decides or (reached == decides and moment == "after")


class Deadly:
    """Kills a child at its second commit's step; the first was acknowledged.

    `data_files`: how many a commit of the child has.
    """

    def __init__(self, step: Step, moment: Moment, *, data_files: int) -> None:
        occurrence = data_files + 1 if step == "data" else 2
        self.door = StepDoor(step, moment, self._kill, occurrence=occurrence)
        self._victim: Child | None = None

    def run(self, table: ServiceTable, start: Callable[[ServiceTable], Child]) -> None:
        with self.door.of(table) as through, start(through) as self._victim:
            assert self._victim.process.wait(60) == -9, self._victim.errors()
        assert self.door.is_reached

    def _kill(self) -> Verdict:
        assert self._victim is not None
        self._victim.kill()
        return "cut"


def appended(table: ServiceTable, *, txn: int) -> Rows:
    """Append a row of ours from this process; the row."""
    rows = pa.table({"writer": ["me"], "id": [txn], "p": ["a"]}, SCHEMA)
    TableLog.open(table.store()).append(rows, txn=Txn("me", txn))
    return Counter({("me", txn): 1})


def goes_on(table: ServiceTable, first: str, folder: Path) -> Rows:
    """`first` reads or appends, then both engines append; the rows that they added."""
    rows: Rows = Counter()
    if first == "our reader":
        snapshot(table.store())
    elif first == "our writer":
        rows += appended(table, txn=0)
    with rival(table, "after", 1, folder) as child:
        child.end()
    return rows + Counter({("after", 0): 1}) + appended(table, txn=1)


def assert_whole(table: ServiceTable) -> None:
    """The log has every entry up to the newest, and no lock item is left open."""
    entries = [name for name in table.entry_names() if name.endswith(".json") and name[0] == "0"]
    assert entries == [f"{version:020d}.json" for version in range(len(entries))]
    if table.coordination == "dynamodb":
        assert {item["complete"] for item in table.lock_items()} == {"true"}
        assert {item["tablePath"] for item in table.lock_items()} == {table.uri}


@pytest.mark.parametrize("first", NEXT)
@pytest.mark.parametrize(("table", "step", "moment"), OURS, indirect=["table"])
def test_after_our_writer_died_at_a_step_everybody_goes_on(
    table: ServiceTable, step: Step, moment: Moment, first: str, tmp_path: Path
) -> None:
    create_table(table.store(), SCHEMA, partition_by=["p"])
    Deadly(step, moment, data_files=2).run(table, lambda through: writer(through, "w", 2, tmp_path))
    added = goes_on(table, first, tmp_path)

    decided = is_committed(table.coordination, step, moment)
    ours = Counter({("w", i): 1 for i in range(4 if decided else 2)})
    assert rows_of(table) == ours + added
    with writer(table, "w", 2, tmp_path) as again:  # It is started again, and repeats nothing.
        again.end()
    assert rows_of(table) == Counter({("w", i): 1 for i in range(4)}) + added
    assert_whole(table)


@pytest.mark.parametrize("first", NEXT)
@pytest.mark.parametrize(("table", "step", "moment"), RIVALS, indirect=["table"])
def test_a_table_on_which_the_rival_died_at_a_step_is_usable(
    table: ServiceTable, step: Step, moment: Moment, first: str, tmp_path: Path
) -> None:
    create_table(table.store(), SCHEMA, partition_by=["p"])
    Deadly(step, moment, data_files=1).run(table, lambda through: rival(through, "r", 2, tmp_path))
    added = goes_on(table, first, tmp_path)

    decided = is_committed(table.coordination, step, moment)
    assert rows_of(table) == Counter({("r", i): 1 for i in range(2 if decided else 1)}) + added
    assert_whole(table)


@pytest.mark.parametrize("verdict", ["cut", "500"])
@pytest.mark.parametrize(("table", "step", "moment"), OURS, indirect=["table"])
def test_our_writer_that_gets_no_good_answer_at_a_step_commits_once(
    table: ServiceTable, step: Step, moment: Moment, verdict: Verdict, tmp_path: Path
) -> None:
    """After the request, it cannot know whether it took place, and has to look it up."""
    create_table(table.store(), SCHEMA, partition_by=["p"])
    door = StepDoor(step, moment, lambda: verdict, occurrence=2)
    with door.of(table) as through, writer(through, "w", 4, tmp_path) as child:
        child.end()

    assert door.is_reached
    assert rows_of(table) == Counter({("w", i): 1 for i in range(8)})
    assert_whole(table)


class Pausing:
    """Holds a child at its second commit's step, until it is told to go on."""

    def __init__(self, step: Step, moment: Moment) -> None:
        self.door = StepDoor(step, moment, self._hold, occurrence=2)
        self.is_held, self.goes_on = threading.Event(), threading.Event()

    def meanwhile(self, others: Callable[[], Rows], child: Child) -> Rows:
        """What `others` added while `child` was held; it has ended well when this returns."""
        assert self.is_held.wait(200), child.errors()
        added = others()
        self.goes_on.set()
        child.end()
        return added

    def _hold(self) -> Verdict:
        self.is_held.set()
        return "pass" if self.goes_on.wait(200) else "cut"


@pytest.mark.parametrize(("table", "step", "moment"), OURS, indirect=["table"])
def test_our_writer_that_was_paused_at_a_step_wakes_up_late_and_harms_nothing(
    table: ServiceTable, step: Step, moment: Moment, tmp_path: Path
) -> None:
    """Others finish what it began, and commit more, before it goes on."""
    create_table(table.store(), SCHEMA, partition_by=["p"])
    pausing = Pausing(step, moment)
    with pausing.door.of(table) as through, writer(through, "w", 3, tmp_path) as child:
        added = pausing.meanwhile(lambda: goes_on(table, "our writer", tmp_path), child)

    assert rows_of(table) == Counter({("w", i): 1 for i in range(6)}) + added
    assert_whole(table)


@pytest.mark.parametrize(("table", "step", "moment"), RIVALS, indirect=["table"])
def test_a_rival_that_was_paused_at_a_step_wakes_up_late_and_harms_nothing(
    table: ServiceTable, step: Step, moment: Moment, tmp_path: Path
) -> None:
    create_table(table.store(), SCHEMA, partition_by=["p"])
    pausing = Pausing(step, moment)
    with pausing.door.of(table) as through, rival(through, "r", 3, tmp_path) as child:
        added = pausing.meanwhile(lambda: goes_on(table, "our writer", tmp_path), child)

    assert rows_of(table) == Counter({("r", i): 1 for i in range(3)}) + added
    assert_whole(table)


@pytest.mark.parametrize("table", ["dynamodb"], indirect=True)
def test_an_item_whose_entry_is_nowhere_needs_a_person_and_is_not_passed_over(
    table: ServiceTable, tmp_path: Path
) -> None:
    """Somebody removed what was put aside. Its rows may have been acknowledged to somebody."""
    create_table(table.store(), SCHEMA, partition_by=["p"])
    Deadly("entry", "before", data_files=2).run(
        table, lambda through: writer(through, "w", 2, tmp_path)
    )
    item = next(item for item in table.lock_items() if item["complete"] == "false")
    table.account.client("s3").delete_object(
        Bucket=table.bucket, Key=f"{table.log}/{item['tempPath']}"
    )

    with pytest.raises(NeedsAttention, match="storage doctor"):
        appended(table, txn=0)
    assert item in table.lock_items()


@pytest.mark.parametrize("first", NEXT)
@pytest.mark.parametrize("state", ["begun", "copied", "completed"])
@pytest.mark.parametrize("table", ["dynamodb"], indirect=True)
def test_a_table_as_spark_leaves_it_is_usable(
    table: ServiceTable, state: str, first: str, tmp_path: Path
) -> None:
    """Spark keeps what it put aside in a folder `.tmp`, named after the entry (field notes)."""
    create_table(table.store(), SCHEMA, partition_by=["p"])
    Deadly("copy", "before", data_files=1).run(
        table, lambda through: rival(through, "r", 2, tmp_path)
    )
    as_spark_leaves_it(table, state)
    added = goes_on(table, first, tmp_path)

    assert rows_of(table) == Counter({("r", 0): 1, ("r", 1): 1}) + added
    assert_whole(table)


def as_spark_leaves_it(table: ServiceTable, state: str) -> None:
    """Change what delta-rs left open before its copy into what Spark would have left."""
    s3, dynamodb = table.account.client("s3"), table.account.client("dynamodb")
    item = next(item for item in table.lock_items() if item["complete"] == "false")
    theirs, entry = f"{table.log}/{item['tempPath']}", f"{table.log}/{item['fileName']}"
    item["tempPath"] = f".tmp/{item['fileName']}.4f1c0a6e-21f5-4d4b-9ef4-6d51c1e7b0a1"
    names = [f"{table.log}/{item['tempPath']}", *([entry] if state != "begun" else [])]
    for name in names:
        source = {"Bucket": table.bucket, "Key": theirs}
        s3.copy_object(Bucket=table.bucket, Key=name, CopySource=source)
    s3.delete_object(Bucket=table.bucket, Key=theirs)
    values: dict[str, dict[str, str]] = {name: {"S": value} for name, value in item.items()}
    if state == "completed":
        values |= {"complete": {"S": "true"}, "expireTime": {"N": "4102444800"}}
    dynamodb.put_item(TableName=table.lock_table, Item=values)
