"""Which commits may follow each other: function, table in the docs and engine agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from delta_tables import put_entry

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, Txn, create_table, snapshot
from neuralake.delta.actions import (
    Action,
    Add,
    CommitInfo,
    DomainMetadata,
    MetaData,
    ProtocolAction,
    Remove,
    TxnAction,
    decode_entry,
    encode_entry,
)
from neuralake.delta.conflicts import Footprint, Operation, conflict
from neuralake.delta.log import Entry
from neuralake.delta.snapshot import DataFile
from neuralake.errors import CommitConflict, UnsupportedFeature, UsageError
from neuralake.storage import AlreadyThere, Bytes, LocalStore, OutcomeUnknown

DOCS = Path(__file__).parents[2] / "docs" / "concurrency.md"
SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
OURS, OTHER = "ours.parquet", "other.parquet"


def add(path: str, p: str = "a", *, data_change: bool = True) -> Add:
    return Add(
        path=path,
        partition_values={"p": p},
        size=1,
        modification_time=0,
        data_change=data_change,
    )


def remove(path: str, p: str | None = "a", *, data_change: bool = True) -> Remove:
    values: dict[str, str | None] | None = None if p is None else {"p": p}
    return Remove(path=path, partition_values=values, data_change=data_change)


def entry(*actions: Action) -> Entry:
    return Entry(7, decode_entry(encode_entry(actions), version=7, uri="t"))


BLIND = CommitInfo(operation="WRITE", is_blind_append=True)
METADATA = MetaData(id="x", schema_string='{"type":"struct","fields":[]}', partition_columns=[])
PROTOCOL = ProtocolAction(min_reader_version=1, min_writer_version=2)

Theirs = Callable[[str, str], Entry]
"""An entry about a file, and the partition of that file."""
COLUMNS: dict[str, Theirs] = {
    "append, blind": lambda _, p: entry(BLIND, add("new", p)),
    "append, having read": lambda _, p: entry(CommitInfo(operation="WRITE"), add("new", p)),
    "compaction": lambda path, p: entry(
        remove(path, p, data_change=False), add("new", p, data_change=False)
    ),
    "delete, overwrite, merge": lambda path, p: entry(remove(path, p), add("new", p)),
    "schema, properties": lambda _path, _p: entry(METADATA),
    "protocol": lambda _path, _p: entry(PROTOCOL),
    "transaction of our app": lambda _path, _p: entry(TxnAction(app_id="app", version=1)),
    "domain metadata": lambda _path, _p: entry(
        DomainMetadata(domain="d", configuration="", removed=False)
    ),
    "action unknown to us": lambda _path, _p: Entry(
        7, decode_entry(b'{"new": {}}', version=7, uri="t")
    ),
}


def footprint(operation: Operation) -> Footprint:
    """What such a commit usually depends on: one file, in partition `a`."""
    match operation:
        case Operation.APPEND:
            return Footprint(operation, app_id="app")
        case Operation.SCHEMA_CHANGE:
            return Footprint(operation, app_id="app")
        case Operation.COMPACTION:
            return Footprint(operation, removes=frozenset({OURS}))
    return Footprint(
        operation,
        removes=frozenset({OURS}),
        reads=lambda add: add.partition_values["p"] == "a",
        app_id="app",
    )


def cell(operation: Operation, theirs: Theirs) -> str:
    """What the function says of three entries: about our file, our partition, another one."""
    ours = footprint(operation)
    same, read, far = (
        conflict(ours, theirs(*about)) is None
        for about in ((OURS, "a"), (OTHER, "a"), (OTHER, "b"))
    )
    return {
        (True, True, True): "yes",
        (False, False, False): "no",
        (False, True, True): "same files",
        (False, False, True): "read",
    }[same, read, far]


def table() -> str:
    lines = ["| ours \\ theirs | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [
        f"| {operation.value} | "
        + " | ".join(cell(operation, theirs) for theirs in COLUMNS.values())
        + " |"
        for operation in Operation
    ]
    return "\n".join(lines)


def test_the_table_in_the_docs_is_what_the_function_says() -> None:
    text = DOCS.read_text(encoding="utf-8")
    shown = text.split("test_delta_conflicts.py -->\n")[1].split("\n<!-- end")[0]

    assert shown == table()


@pytest.mark.parametrize("theirs", COLUMNS)
def test_an_append_gives_way_to_nobody(theirs: str) -> None:
    assert cell(Operation.APPEND, COLUMNS[theirs]) == "yes"


@pytest.mark.parametrize("operation", [each for each in Operation if each is not Operation.APPEND])
@pytest.mark.parametrize("theirs", ["schema, properties", "protocol", "action unknown to us"])
def test_everything_else_gives_way_to_a_table_that_is_another_now(
    operation: Operation, theirs: str
) -> None:
    assert cell(operation, COLUMNS[theirs]) == "no"


def test_serializable_counts_blind_appends_as_read() -> None:
    ours = footprint(Operation.MERGE)
    blind = entry(BLIND, add("new", "a"))

    assert conflict(ours, blind) is None
    assert "should have been read" in (conflict(ours, blind, serializable=True) or "")
    assert conflict(ours, entry(BLIND, add("new", "b")), serializable=True) is None


def test_who_says_blind_but_removes_is_not_believed() -> None:
    theirs = entry(BLIND, remove(OTHER, "b"), add("new", "a"))

    assert "should have been read" in (conflict(footprint(Operation.DELETE), theirs) or "")


def test_a_removal_without_partition_values_may_be_of_anything() -> None:
    theirs = entry(remove(OTHER, None))

    assert "were read" in (conflict(footprint(Operation.DELETE), theirs) or "")
    assert conflict(footprint(Operation.COMPACTION), theirs) is None


def test_new_facts_about_a_file_that_we_remove_are_a_conflict() -> None:
    """Such as statistics computed again: an add alone takes the place of another."""
    theirs = entry(add(OURS, data_change=False))

    assert OURS in (conflict(footprint(Operation.COMPACTION), theirs) or "")


def test_a_domain_or_a_line_that_says_nothing_disturbs_nobody() -> None:
    for operation in Operation:
        assert conflict(footprint(operation), entry(CommitInfo(operation="VACUUM START"))) is None


# The engine by the same rules.


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, partition_by=["p"])
    TableLog.open(uri).append(rows(1))
    return uri


def rows(*ids: int, p: str = "a") -> pa.Table:
    return pa.table({"id": list(ids), "p": [p] * len(ids)}, SCHEMA)


def ids(uri: str) -> list[int]:
    return sorted(pl.scan_delta(uri).collect()["id"].to_list())


def commit_without(log: TableLog, file: DataFile, version: int | None = None) -> int | None:
    """Remove `file` as a delete of partition `a` would."""
    return log.commit(
        lambda now_ms: [log.files.tombstone(file, deleted_ms=now_ms, data_change=True)],
        CommitInfo(operation="DELETE"),
        footprint=Footprint(
            Operation.DELETE,
            removes=frozenset({file.path}),
            reads=lambda add: add.partition_values["p"] == "a",
            version=version,
        ),
    )


def test_two_that_remove_the_same_file_do_not_both_succeed(uri: str) -> None:
    one, other = TableLog.open(uri), TableLog.open(uri)
    file = snapshot(uri).files[0]

    assert commit_without(one, file) == 2
    with pytest.raises(CommitConflict, match="version 2 removed file") as caught:
        commit_without(other, file)
    assert file.path in caught.value.reason
    assert snapshot(uri).version == 2


def test_a_plan_is_compared_with_all_entries_since_it_was_made(uri: str) -> None:
    """Also with those that the handle has read for other reasons meanwhile."""
    log, file = TableLog.open(uri), snapshot(uri).files[0]
    commit_without(TableLog.open(uri), file)
    log.refresh()

    with pytest.raises(CommitConflict, match="removed file"):
        commit_without(log, file, version=1)
    with pytest.raises(CommitConflict, match="removed file"):
        log.check(Footprint(Operation.DELETE, removes=frozenset({file.path}), version=1))


def test_entries_that_the_plan_knew_are_no_conflict(uri: str) -> None:
    """A handle may lag behind the snapshot that a plan was made of."""
    log = TableLog.open(uri)
    TableLog.open(uri).append(rows(2))
    found = snapshot(uri)
    put_entry(uri, 3, [found.state.metadata])

    with pytest.raises(CommitConflict, match="schema or the properties"):
        commit_without(log, found.files[0], version=2)
    assert commit_without(TableLog.open(uri), found.files[0], version=3) == 4


def test_a_plan_older_than_the_log_reaches_is_refused(uri: str) -> None:
    log = TableLog.open(uri)
    Path(uri, "_delta_log", f"{1:020d}.json").unlink()

    with pytest.raises(CommitConflict, match="entry 1 is gone"):
        log.check(Footprint(Operation.COMPACTION, version=0))


def test_a_delete_passes_a_blind_append_but_not_one_that_may_have_read(uri: str) -> None:
    log, file = TableLog.open(uri), snapshot(uri).files[0]
    TableLog.open(uri).append(rows(2))
    assert commit_without(log, file) == 3
    assert ids(uri) == [2]

    file = snapshot(uri).files[0]
    put_entry(uri, 4, [CommitInfo(operation="WRITE"), add("x.parquet")])
    with pytest.raises(CommitConflict, match="should have been read"):
        commit_without(log, file)


def test_a_serializable_table_has_it_stricter(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    properties = {"delta.isolationLevel": "Serializable"}
    create_table(uri, SCHEMA, partition_by=["p"], properties=properties)
    TableLog.open(uri).append(rows(1))
    log, file = TableLog.open(uri), snapshot(uri).files[0]
    TableLog.open(uri).append(rows(2))

    with pytest.raises(CommitConflict, match="should have been read"):
        commit_without(log, file)


def test_a_transaction_that_is_there_ends_a_commit_without_a_conflict(uri: str) -> None:
    """The retry of a job finds its own first attempt, and not a rival."""
    file = snapshot(uri).files[0]

    def job(log: TableLog) -> int | None:
        return log.commit(
            lambda now_ms: [log.files.tombstone(file, deleted_ms=now_ms, data_change=True)],
            CommitInfo(operation="DELETE"),
            footprint=Footprint(Operation.DELETE, frozenset({file.path}), app_id="job"),
            txn=Txn("job", 5),
        )

    late = TableLog.open(uri)
    assert job(TableLog.open(uri)) == 2
    assert job(late) is None
    assert snapshot(uri).txn("job") == 5


def test_an_append_only_table_loses_no_row_but_may_be_compacted(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    create_table(uri, SCHEMA, partition_by=["p"], properties={"delta.appendOnly": "true"})
    log = TableLog.open(uri)
    log.append(rows(1))
    file = snapshot(uri).files[0]

    with pytest.raises(UsageError, match=r"delta\.appendOnly"):
        commit_without(log, file)
    written = log.files.write_one(file.partition, log.files.read(file))
    log.commit(
        lambda now_ms: [
            log.files.tombstone(file, deleted_ms=now_ms, data_change=False),
            written.add(modified_ms=now_ms, data_change=False),
        ],
        CommitInfo(operation="OPTIMIZE"),
        footprint=Footprint(Operation.COMPACTION, frozenset({file.path})),
    )
    assert ids(uri) == [1]


def test_a_change_data_feed_is_not_left_with_a_gap(tmp_path: Path) -> None:
    """Updates would have to write change files; whole files may go, and appends need nothing."""
    uri = str(tmp_path / "table")
    properties = {"delta.enableChangeDataFeed": "true"}
    create_table(uri, SCHEMA, partition_by=["p"], properties=properties)
    log = TableLog.open(uri)
    log.append(rows(1, 2))
    file = snapshot(uri).files[0]
    written = log.files.write_one(file.partition, [rows(1).drop_columns(["p"])])

    with pytest.raises(UnsupportedFeature) as caught:
        log.commit(
            lambda now_ms: [
                log.files.tombstone(file, deleted_ms=now_ms, data_change=True),
                written.add(modified_ms=now_ms, data_change=True),
            ],
            CommitInfo(operation="DELETE"),
            footprint=Footprint(Operation.DELETE, frozenset({file.path})),
        )
    assert caught.value.features == ["changeDataFeed"]
    assert commit_without(log, file) == 2


# Age: files that vacuum may have taken.


class Busy(LocalStore):
    """Somebody else is quicker at the next put, after a long pause."""

    def __init__(self, uri: str, clock: ManualClock, pauses_s: Sequence[float]) -> None:
        super().__init__(uri)
        self.clock, self.pauses_s = clock, [*pauses_s]
        self.puts: list[list[str]] = []

    def put_if_absent(self, name: str, data: Bytes) -> None:
        self.puts.append(
            [line.add.path for line in decode_entry(bytes(data), version=0, uri="t") if line.add]
        )
        if self.pauses_s:
            self.clock.advance(self.pauses_s.pop(0))
            if not Path(self.uri, name).exists():
                super().put_if_absent(name, encode_entry([CommitInfo(operation="NOTHING")]))
            raise AlreadyThere(f"{name!r} is already there.", name=name)
        super().put_if_absent(name, data)


def test_an_append_that_was_held_up_stores_its_rows_anew(uri: str) -> None:
    clock = ManualClock()
    store = Busy(uri, clock, [100, 100, 100, 100])
    log = TableLog.open(store, clock=clock, write_s_max=150)
    done = log.append(rows(2))

    assert ids(uri) == [1, 2]
    assert len({path for put in store.puts for path in put}) > 1, "the first file was too old"
    stored = {path.name for path in Path(uri).rglob("*.parquet")}
    assert stored == {Path(file.path).name for file in snapshot(uri).files}, "and is removed"
    assert done.rows == 1


def test_what_is_not_an_append_gives_way_when_its_files_are_too_old(uri: str) -> None:
    clock = ManualClock()
    log = TableLog.open(uri, clock=clock, write_s_max=150)
    file = snapshot(uri).files[0]
    written = log.files.write_one(file.partition, log.files.read(file))

    def compact() -> int | None:
        return log.commit(
            lambda now_ms: [
                log.files.tombstone(file, deleted_ms=now_ms, data_change=False),
                written.add(modified_ms=now_ms, data_change=False),
            ],
            CommitInfo(operation="OPTIMIZE"),
            footprint=Footprint(Operation.COMPACTION, frozenset({file.path})),
        )

    clock.advance(151)
    with pytest.raises(CommitConflict) as caught:
        compact()
    assert caught.value.age_s == 151
    assert snapshot(uri).version == 1
    clock.advance(-2)
    assert compact() == 2


def test_files_are_young_again_for_nobody_after_their_commit(uri: str) -> None:
    """A handle remembers what it stored only until an entry has it."""
    clock = ManualClock()
    log = TableLog.open(uri, clock=clock, write_s_max=150)
    for i in range(3):
        log.append(rows(i))
        clock.advance(200)

    assert snapshot(uri).version == 4


def test_an_append_gives_up_when_every_try_is_held_up(uri: str) -> None:
    clock = ManualClock()
    log = TableLog.open(Busy(uri, clock, [200] * 20), clock=clock, write_s_max=150)

    with pytest.raises(CommitConflict, match="Write it anew"):
        log.append(rows(2))
    assert ids(uri) == [1]
    assert len(list(Path(uri).rglob("*.parquet"))) == 1, "nothing is left behind"


def test_a_doubtful_commit_of_an_old_file_is_not_called_failed(uri: str) -> None:
    """The entry may exist, and then needs its files: they stay."""
    clock = ManualClock()

    class Silent(LocalStore):
        def put_if_absent(self, name: str, data: Bytes) -> None:
            clock.advance(100)
            raise OutcomeUnknown(f"No answer about {name!r}.", name=name)

    log = TableLog.open(Silent(uri), clock=clock, write_s_max=150)
    with pytest.raises(OutcomeUnknown):
        log.append(rows(2))
    assert len(list(Path(uri).rglob("*.parquet"))) == 2


def test_an_entry_of_unknown_actions_is_read_all_the_same(uri: str) -> None:
    put_entry(uri, 2, [CommitInfo(operation="NEW")])
    line = msgspec.json.encode({"cdc": {"path": "c", "size": 1}}) + b"\n"
    Path(uri, "_delta_log", f"{3:020d}.json").write_bytes(line)

    assert TableLog.open(uri).append(rows(2)).version == 4
