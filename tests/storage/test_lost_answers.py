"""Connections that break before or after a request was done: the outcome is settled, or unknown."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pytest
from aws_account import AwsAccount
from gate_proxy import Request, Verdict, gate
from store_behaviour import entry

from neuralake.clock import ManualClock
from neuralake.delta import TableLog, Txn, create_table
from neuralake.errors import Conflict, NeuralakeError, Unavailable
from neuralake.storage import AlreadyThere, CoordinatedStore, LogStore, OutcomeUnknown, S3Store
from neuralake.storage.access import Access, Credentials
from neuralake.storage.bucket import Bucket
from neuralake.storage.dynamodb import LockTable
from neuralake.storage.retry import Patience

Judge = Callable[[Request], Verdict]


def always_pass(_request: Request) -> Verdict:
    return "pass"


@dataclass(frozen=True)
class World:
    """A bucket and a lock table, reached through doors that a judge watches."""

    account: AwsAccount
    bucket: str
    lock_table: str

    @contextmanager
    def store(self, judge: Judge = always_pass, *, coordinated: bool) -> Iterator[LogStore]:
        with gate(self.account.s3_endpoint, judge) as endpoint:
            credentials = Credentials(self.account.access_key, self.account.secret_key)
            access = Access(
                self.bucket,
                "a test",
                lambda: credentials,
                endpoint=endpoint,
                lock_endpoint=endpoint,
            )
            # Waits take no time, so that the number of tries does not depend on the machine's.
            patience = Patience(2.0, first_s=0.1, longest_s=0.1, seed=1, clock=ManualClock())
            files = S3Store(Bucket(access, patience=patience), "table", access)
            locks = LockTable(self.lock_table, access, patience=patience)
            yield CoordinatedStore(files, locks) if coordinated else files


@pytest.fixture
def world(account: AwsAccount) -> World:
    return World(account, account.make_bucket(), account.make_lock_table())


def fails(verdict: Verdict, *, answered: bool, times: int, of: str = "") -> Judge:
    """The first `times` requests like `of` end with `verdict`, before or after they are done."""
    rest = iter(range(times))

    def judge(request: Request) -> Verdict:
        asked = request.target or request.method
        is_due = request.is_answered == answered and of in f"{asked} {request.path}"
        return verdict if is_due and next(rest, None) is not None else "pass"

    return judge


@pytest.mark.parametrize(
    ("coordinated", "of"),
    [(False, "PUT ")] + [(True, of) for of in ("PUT ", "HEAD ", "PutItem", "UpdateItem")],
)
@pytest.mark.parametrize(
    ("verdict", "answered"), [("cut", False), ("503", False), ("500", True), ("cut", True)]
)
def test_a_commit_whose_first_request_of_a_kind_failed_is_made_or_told_unknown(
    world: World, coordinated: bool, of: str, verdict: Verdict, answered: bool
) -> None:
    """What was done without an answer is never called somebody else's."""
    with world.store(coordinated=coordinated) as store:
        store.put_if_absent(entry(0), b"zero")
    judge = fails(verdict, answered=answered, times=1, of=of)
    with world.store(judge, coordinated=coordinated) as store:
        try:
            store.put_if_absent(entry(1), b"one")
        except OutcomeUnknown:
            assert answered
            assert not coordinated
        assert store.read(entry(1)) == b"one"


def test_an_answer_that_never_comes_leaves_the_outcome_unknown(world: World) -> None:
    for answered in (False, True):
        judge = fails("cut", answered=answered, times=10_000, of="PUT ")
        with (
            world.store(judge, coordinated=False) as store,
            pytest.raises(OutcomeUnknown, match="did not say"),
        ):
            store.put_if_absent(entry(1 + answered), b"one")
    with world.store(coordinated=False) as store:
        assert store.read(entry(1)) is None
        assert store.read(entry(2)) == b"one"


def test_a_lock_table_that_answers_nothing_leaves_the_outcome_unknown_until_it_is_read(
    world: World,
) -> None:
    """The item may be there: its file stays, and a reader finishes the commit."""
    put_lost = fails("cut", answered=True, times=10_000, of="PutItem")
    get_lost = fails("cut", answered=True, times=10_000, of="GetItem")

    def judge(request: Request) -> Verdict:
        verdict = put_lost(request)
        return get_lost(request) if verdict == "pass" else verdict

    with world.store(judge, coordinated=True) as store, pytest.raises(OutcomeUnknown):
        store.put_if_absent(entry(0), b"zero")

    with world.store(coordinated=True) as store:
        assert store.read(entry(0)) == b"zero"


def test_a_lock_table_that_was_never_reached_leaves_nothing(world: World) -> None:
    judge = fails("503", answered=False, times=10_000, of="Item")
    with world.store(judge, coordinated=True) as store, pytest.raises(NeuralakeError):
        store.put_if_absent(entry(0), b"zero")

    with world.store(coordinated=True) as store:
        assert store.read(entry(0)) is None
        store.put_if_absent(entry(0), b"other")


def flaky(seed: int, share: float) -> Judge:
    """A share of all requests fails, before or after it was done."""
    chance = random.Random(seed)
    verdicts: list[Verdict] = ["cut", "500", "503"]

    def judge(request: Request) -> Verdict:
        if chance.random() >= share:
            return "pass"
        return chance.choice(verdicts[:2] if request.is_answered else verdicts)

    return judge


@pytest.mark.parametrize("coordinated", [False, True], ids=["s3", "dynamodb"])
@pytest.mark.parametrize("seed", range(3))
def test_on_a_bad_line_every_outcome_is_the_truth(
    world: World, coordinated: bool, seed: int
) -> None:
    """A third of the requests fails on the way there or back; a good line tells what came of it."""
    told: dict[int, str] = {}
    with world.store(flaky(seed, 0.2), coordinated=coordinated) as store:
        for version in range(8):
            try:
                store.put_if_absent(entry(version), b"%d" % version)
                told[version] = "made"
            except OutcomeUnknown:
                told[version] = "unknown"
            except AlreadyThere:
                told[version] = "taken"
            except Unavailable:
                told[version] = "not made"

    with world.store(coordinated=coordinated) as store:
        store.recover()
        for version, outcome in told.items():
            found = store.read(entry(version))
            assert outcome != "taken"
            assert found in (None, b"%d" % version)
            assert outcome == "unknown" or (found is not None) == (outcome == "made")
    assert "made" in told.values()


def test_what_may_be_repeated_works_on_a_bad_line(world: World) -> None:
    with world.store(flaky(7, 0.2), coordinated=False) as store:
        store.put({f"part={n}/file": b"%d" % n for n in range(10)})
        with store.create("large") as sink:
            for _ in range(20):
                sink.write(b"x" * 1_000_000)
        assert sorted(f.name for f in store.files() if f.name != "large") == sorted(
            f"part={n}/file" for n in range(10)
        )
        assert store.read("part=7/file") == b"7"
        with store.open("large") as file:
            assert file is not None
            assert file.read() == b"x" * 20_000_000
        store.remove(["part=7/file"])
        assert store.stamp("part=7/file") is None


@pytest.mark.parametrize("coordinated", [False, True], ids=["s3", "dynamodb"])
def test_rows_appended_on_a_bad_line_are_there_once_and_in_order(
    world: World, coordinated: bool
) -> None:
    """The commit engine looks up what has no known outcome, by the id in its entry."""
    schema = pa.schema([("n", pa.int64())])
    with world.store(coordinated=coordinated) as store:
        create_table(store, schema)
    with world.store(flaky(11, 0.15), coordinated=coordinated) as store:
        for number in range(8):
            append(store, pa.table({"n": [number]}, schema=schema), number)

    with world.store(coordinated=coordinated) as store:
        store.recover()
        entries = [json.loads(line) for v in range(40) for line in lines(store, v)]
    paths = [line["add"]["path"] for line in entries if "add" in line]
    txns = [line["txn"]["version"] for line in entries if "txn" in line]
    assert len(paths) == len({*paths}) == 8
    assert txns == [*range(8)]


def append(store: LogStore, rows: pa.Table, number: int) -> None:
    """As the writer does: the same rows with the same txn until they are in."""
    for _ in range(20):
        try:
            TableLog.open(store).append(rows, txn=Txn("test", number))
        except (Conflict, Unavailable) as error:
            last = error
        else:
            return
    raise last


def lines(store: LogStore, version: int) -> list[bytes]:
    return (store.read(entry(version)) or b"").splitlines()
