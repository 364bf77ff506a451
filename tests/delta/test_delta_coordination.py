"""A table says how its writers agree on the next entry, and one set up otherwise is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from neuralake.delta import TableLog, checkpoint, cleanup, compact_once, create_table, snapshot
from neuralake.delta.coordination import COORDINATION, LOCK_TABLE, TABLE_PATH, recorded
from neuralake.delta.log import FOLDER
from neuralake.errors import UsageError
from neuralake.storage import MemoryStore

SCHEMA = pa.schema([("id", pa.int64())])
ROWS = pa.table({"id": [1]}, SCHEMA)


class Store(MemoryStore):
    """The files of another store, reached in a way of its own."""

    def __init__(
        self,
        coordination: str,
        of: MemoryStore | None = None,
        *,
        lock_table: str = "",
        table_path: str = "",
    ) -> None:
        super().__init__()
        self._coordination = coordination
        self.lock_table, self.table_path = lock_table, table_path
        if of is not None:
            self._files, self._lock = of._files, of._lock

    @property
    def coordination(self) -> str:
        return self._coordination


def locked(of: MemoryStore | None = None, **changes: str) -> Store:
    return Store("dynamodb", of, **{"lock_table": "locks", "table_path": "s3://b/t", **changes})


def test_creating_a_table_records_the_way() -> None:
    store = locked()
    create_table(store, SCHEMA)

    assert snapshot(store).state.metadata.configuration == {
        COORDINATION: "dynamodb",
        LOCK_TABLE: "locks",
        TABLE_PATH: "s3://b/t",
    }
    create_table(store, SCHEMA)
    assert TableLog.open(store).append(ROWS).version == 1


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda of: Store("conditional-put", of), ["'dynamodb'", "'conditional-put'"]),
        (lambda of: Store("local", of), ["'dynamodb'", "'local'"]),
        (lambda of: locked(of, table_path="s3a://b/t"), ["'s3://b/t'", "'s3a://b/t'"]),
        (lambda of: locked(of, lock_table="mine"), ["'locks'", "'mine'"]),
    ],
)
def test_who_is_set_up_otherwise_is_refused_with_both_ways_named(
    other: object, named: list[str]
) -> None:
    store = locked()
    create_table(store, SCHEMA)
    assert callable(other)
    stranger = other(store)
    before = store.names(FOLDER)

    for work in (
        TableLog.open,
        lambda at: create_table(at, SCHEMA),
        lambda at: compact_once(at, target_bytes=2**20, files_min=2),
        checkpoint,
        cleanup,
    ):
        with pytest.raises(UsageError) as caught:
            work(stranger)
        assert all(name in caught.value.message for name in named)
        assert caught.value.recorded == recorded(store)
        assert caught.value.found == recorded(stranger)
    assert store.names(FOLDER) == before
    assert snapshot(stranger).version == 0, "reading is for everybody"


@pytest.mark.parametrize("mode", ["conditional-put", "dynamodb"])
def test_a_table_that_does_not_say_is_refused_in_an_object_store(mode: str) -> None:
    plain = MemoryStore()
    create_table(plain, SCHEMA)
    silence(plain)
    store = Store(mode, plain, lock_table="locks", table_path="s3://b/t")

    with pytest.raises(UsageError, match=f"set-coordination {store.uri} {mode}"):
        TableLog.open(store)
    assert TableLog.open(plain).append(ROWS).version == 1


def silence(store: MemoryStore) -> None:
    name = f"{FOLDER}/{0:020d}.json"
    data = store.read(name) or b""
    store.put({name: data.replace(b'"neuralake.coordination":"memory"', b"")})


def test_a_definition_cannot_record_another_way_than_its_store_has() -> None:
    with pytest.raises(UsageError, match="'dynamodb'"):
        create_table(MemoryStore(), SCHEMA, properties={COORDINATION: "dynamodb"})


def test_an_open_handle_notices_that_the_way_was_changed() -> None:
    store = Store("conditional-put")
    create_table(store, SCHEMA)
    log = TableLog.open(store)
    entry = (store.read(f"{FOLDER}/{0:020d}.json") or b"").replace(b"conditional-put", b"dynamodb")
    store.put_if_absent(f"{FOLDER}/{1:020d}.json", entry)

    with pytest.raises(UsageError, match="'dynamodb'"):
        log.append(ROWS)
    assert len(store.names(FOLDER)) == 2
