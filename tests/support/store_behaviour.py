"""What every store promises, as one suite: a class to subclass with a `stores` fixture.

`stores` gives a function that opens the same empty folder again with each call: what one store
writes another must see. Subclasses over real servers add nothing but that fixture.
"""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuralake.storage import AlreadyThere, LogStore

__all__ = ["OpenStore", "StoreBehaviour", "entry"]

OpenStore = Callable[[], LogStore]


def entry(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


def fail_after(store: LogStore, name: str, pieces: list[bytes]) -> None:
    """Begin a file, and fail with a KeyError after its `pieces`."""
    with store.create(name) as sink:
        for piece in pieces:
            sink.write(piece)
        raise KeyError("ours")


class StoreBehaviour:
    """One behaviour of every `LogStore`."""

    racers = 4
    races = 10

    def test_of_many_puts_for_one_name_exactly_one_succeeds(self, stores: OpenStore) -> None:
        racers = [stores() for _ in range(self.racers)]
        barrier = threading.Barrier(self.racers)
        won: list[tuple[int, bytes]] = []
        wrong: list[BaseException] = []

        def race(me: int) -> None:
            for version in range(self.races):
                barrier.wait()
                data = b"%d of %d" % (me, version) * 100
                try:
                    racers[me].put_if_absent(entry(version), data)
                except AlreadyThere:
                    continue
                except BaseException as error:
                    wrong.append(error)
                    continue
                won.append((version, data))

        threads = [threading.Thread(target=race, args=(me,)) for me in range(self.racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert not wrong
        assert sorted(version for version, _ in won) == [*range(self.races)]
        reader = stores()
        assert all(reader.read(entry(version)) == data for version, data in won)
        expected = [f"{version:020d}.json" for version in range(self.races)]
        assert [name for name in reader.names("_delta_log") if name[0].isdigit()] == expected

    def test_a_second_put_if_absent_changes_nothing(self, stores: OpenStore) -> None:
        stores().put_if_absent(entry(0), b"first")
        with pytest.raises(AlreadyThere) as caught:
            stores().put_if_absent(entry(0), b"second")

        assert caught.value.name
        assert stores().read(entry(0)) == b"first"

    def test_put_if_absent_holds_for_any_name(self, stores: OpenStore) -> None:
        stores().put_if_absent("_neuralake/lease/compact/00000000000000000001.json", b"first")
        with pytest.raises(AlreadyThere):
            stores().put_if_absent("_neuralake/lease/compact/00000000000000000001.json", b"second")

        assert stores().read("_neuralake/lease/compact/00000000000000000001.json") == b"first"

    def test_a_buffer_of_any_kind_is_stored_as_its_bytes(self, stores: OpenStore) -> None:
        """pyarrow's buffers are of signed numbers, which S3's client takes for no bytes at all."""
        data = memoryview(pa.py_buffer(b"\x00\xff"))
        stores().put({"one": data})
        stores().put_if_absent("two", data)
        with stores().create("three") as sink:
            sink.write(data)

        assert [stores().read(name) for name in ("one", "two", "three")] == [b"\x00\xff"] * 3

    def test_several_files_are_stored_and_replaced_whole(self, stores: OpenStore) -> None:
        names = [f"part={number}/file.parquet" for number in range(20)]
        store = stores()
        store.put(dict.fromkeys(names, b"old"))
        store.put({name: name.encode() * 1000 for name in names})

        assert all(stores().read(name) == name.encode() * 1000 for name in names)

    def test_memoryviews_are_stored_as_their_bytes(self, stores: OpenStore) -> None:
        data = memoryview(b"..content..")[2:9]
        stores().put({"file": data})
        stores().put_if_absent(entry(0), data)

        assert stores().read("file") == stores().read(entry(0)) == b"content"

    @pytest.mark.parametrize(
        "name",
        ["a b/c+d.parquet", "p=%2F%20/x.parquet", "é=ü/漢.parquet", "#?&/~'.parquet", "a=b=c/d"],
    )
    def test_names_are_taken_as_they_are(self, stores: OpenStore, name: str) -> None:
        stores().put({f"data/{name}": b"x"})

        assert stores().read(f"data/{name}") == b"x"
        assert [file.name for file in stores().files("data")] == [f"data/{name}"]

    def test_what_is_not_there_reads_as_none_and_lists_as_empty(self, stores: OpenStore) -> None:
        store = stores()

        assert store.read("nothing") is None
        assert store.read(entry(7)) is None
        assert store.stamp("nothing") is None
        assert store.names("nothing") == []
        assert store.names("nothing", after="a") == []
        assert [*store.files("nothing")] == []
        store.remove(["nothing", "neither/here"])
        with store.open("nothing") as file:
            assert file is None

    def test_a_created_file_appears_whole_or_not_at_all(self, stores: OpenStore) -> None:
        store = stores()
        with store.create("folder/small") as sink:
            sink.write(b"one ")
            assert stores().read("folder/small") is None
            sink.write(memoryview(b"two"))
        with pytest.raises(KeyError, match="ours"):
            fail_after(store, "folder/failed", [b"one"])
        with store.create("folder/empty"):
            pass

        assert stores().read("folder/small") == b"one two"
        assert stores().read("folder/empty") == b""
        assert stores().read("folder/failed") is None
        assert sorted(f.name for f in stores().files()) == ["folder/empty", "folder/small"]

    def test_a_large_file_is_written_in_pieces_and_read_in_parts(self, stores: OpenStore) -> None:
        data = random.Random(1).randbytes(18 * 1024 * 1024 + 17)
        with stores().create("large") as sink:
            for start in range(0, len(data), 1_000_000):
                sink.write(memoryview(data)[start : start + 1_000_000])

        with stores().open("large") as file:
            assert file is not None
            assert file.seek(0, io.SEEK_END) == len(data)
            for offset, size in [(0, 10), (5, 100), (9_000_000, 12_000_000), (100, 0), (7, 3)]:
                file.seek(offset)
                assert file.read(size) == data[offset : offset + size]
                assert file.tell() == min(offset + size, len(data))
            file.seek(-30, io.SEEK_END)
            assert file.read() == data[-30:]
            assert file.read() == b""
            file.seek(0)
            assert file.read() == data

    def test_a_large_put_arrives_whole(self, stores: OpenStore) -> None:
        data = random.Random(2).randbytes(40 * 1024 * 1024)
        stores().put({"one": data})

        assert stores().read("one") == data

    def test_an_aborted_large_file_leaves_nothing(self, stores: OpenStore) -> None:
        store = stores()
        with pytest.raises(KeyError, match="ours"):
            fail_after(store, "large", [b"x" * 1_000_000] * 20)

        assert [*stores().files()] == []
        assert store.read("large") is None

    def test_parquet_is_read_from_an_open_file(self, stores: OpenStore) -> None:
        table = pa.table({"n": range(200_000), "text": [f"row {n}" for n in range(200_000)]})
        with (
            stores().create("file.parquet") as sink,
            pq.ParquetWriter(sink, table.schema) as writer,
        ):
            writer.write_table(table, row_group_size=50_000)

        with stores().open("file.parquet") as file:
            assert pq.ParquetFile(file).read() == table
        with stores().open("file.parquet") as file:
            assert pq.ParquetFile(file).read(columns=["n"]) == table.select(["n"])

    def test_names_are_in_order_and_begin_behind_the_asked_one(self, stores: OpenStore) -> None:
        store = stores()
        inside = ["_delta_log/.tmp/x", "_delta_log/_sidecars/y.parquet"]
        store.put(dict.fromkeys([*inside, "_delta_logs/z", "top"], b""))
        for version in range(12):
            store.put({entry(version): b"%d" % version})
        store.put({"_delta_log/_last_checkpoint": b""})
        entries = [f"{version:020d}.json" for version in range(12)]

        assert stores().names("_delta_log") == [*entries, "_last_checkpoint"]
        assert stores().names("_delta_log", after=entries[9]) == [
            *entries[10:],
            "_last_checkpoint",
        ]
        assert stores().names("_delta_log", after=entries[9][:20]) == [
            *entries[9:],
            "_last_checkpoint",
        ]
        assert stores().names("") == ["top"]

    def test_files_tells_every_file_with_its_size_and_time(self, stores: OpenStore) -> None:
        store = stores()
        store.put({"a/b/.hidden": b"1", "a/c": b"22", "ab/d": b"333"})

        found = {file.name: file.bytes for file in stores().files()}
        assert found == {"a/b/.hidden": 1, "a/c": 2, "ab/d": 3}
        assert {file.name for file in stores().files("a")} == {"a/b/.hidden", "a/c"}
        times = [file.modified_s for file in stores().files()]
        assert max(times) - min(times) < 3600
        assert min(times) > 1e9

    def test_removed_files_are_gone_and_others_stay(self, stores: OpenStore) -> None:
        store = stores()
        store.put({f"file-{number}": b"x" for number in range(30)})
        store.remove(f"file-{number}" for number in range(25))

        assert {file.name for file in stores().files()} == {f"file-{n}" for n in range(25, 30)}

    def test_a_stamp_tells_a_file_from_another_in_its_place(self, stores: OpenStore) -> None:
        store = stores()
        store.put_if_absent(entry(0), b"one")
        stamp = store.stamp(entry(0))
        store.put({"other": b"x"})

        assert stamp is not None
        assert stores().stamp(entry(0)) == stamp
        store.remove([entry(0)])
        assert store.stamp(entry(0)) is None
        store.put({entry(0): b"two"})
        assert store.stamp(entry(0)) != stamp

    def test_what_was_put_is_settled_and_recovered(self, stores: OpenStore) -> None:
        store = stores()
        store.put_if_absent(entry(0), b"one")
        store.settle()
        store.recover()

        assert store.read(entry(0)) == b"one"

    def test_its_address_is_one_that_polars_reads(self, stores: OpenStore) -> None:
        store = stores()
        if store.coordination == "memory":
            pytest.skip(reason="nobody else reads this process's memory")
        buffer = io.BytesIO()
        pl.DataFrame({"n": [1, 2, 3]}).write_parquet(buffer)
        store.put({"part/file.parquet": buffer.getvalue()})

        frame = pl.scan_parquet(
            f"{store.uri}/part/file.parquet", storage_options={**store.storage_options}
        )
        assert frame.collect()["n"].to_list() == [1, 2, 3]

    def test_it_says_who_it_is_without_a_secret(self, stores: OpenStore) -> None:
        store = stores()
        secrets = [v for k, v in store.storage_options.items() if "SECRET" in k or "KEY_ID" in k]

        assert store.coordination in {"local", "memory", "conditional-put", "dynamodb"}
        assert store.stamp_age_s_max >= 0
        assert not any(secret in f"{store!r} {store}" for secret in secrets)
