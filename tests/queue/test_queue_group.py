"""Claims about group commit alone: every future is completed, whatever the commit does."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from neuralake.errors import NeedsAttention, QueueFull, Unavailable, UsageError
from neuralake.queue.group import GroupCommitter, Submit
from neuralake.queue.protocol import Appended


class GatedCommit:
    """Answers with the running number of a submit, one group per opening of the gate."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.groups: list[list[bytes]] = []

    def __call__(self, group: Sequence[Submit]) -> Sequence[Appended | Exception]:
        self.began.release()
        assert self.gate.acquire(timeout=30)
        self.groups.append([submit.payload for submit in group])
        return [Appended(i + 1, repeated=False, partition="t") for i, _ in enumerate(group)]


def submit(payload: bytes = b"") -> Submit:
    return Submit("t", payload, 1, None)


def test_what_arrives_during_a_commit_is_the_next_group() -> None:
    commit = GatedCommit()
    committer = GroupCommitter(commit, name="test")
    futures = [committer.add(submit(b"first"))]
    assert commit.began.acquire(timeout=30)
    futures += [committer.add(submit(b"%d" % i)) for i in range(100)]

    commit.gate.release(2)
    for future in futures:
        future.result(timeout=30)
    committer.close()

    assert commit.groups == [[b"first"], [b"%d" % i for i in range(100)]]


def test_a_group_is_bounded_in_bytes_and_one_larger_payload_goes_alone() -> None:
    commit = GatedCommit()
    committer = GroupCommitter(commit, name="test")
    mib = 1024 * 1024
    futures = [committer.add(submit(b"x"))]
    assert commit.began.acquire(timeout=30)
    futures += [committer.add(submit(b"x" * (size * mib))) for size in (20, 12, 1, 40, 1)]

    commit.gate.release(5)
    for future in futures:
        future.result(timeout=30)
    committer.close()

    sizes = [[len(payload) // mib for payload in group] for group in commit.groups]
    assert sizes == [[0], [20, 12], [1], [40], [1]]


def test_a_commit_that_raises_fails_its_group_and_no_other() -> None:
    def commit(group: Sequence[Submit]) -> Sequence[Appended | Exception]:
        if group[0].payload == b"bad":
            raise Unavailable("the disk is away")
        return [Appended(7, repeated=False, partition="t")] * len(group)

    committer = GroupCommitter(commit, name="test")

    with pytest.raises(Unavailable, match="the disk is away"):
        committer.add(submit(b"bad")).result(timeout=30)
    assert committer.add(submit(b"good")).result(timeout=30).position == 7
    committer.close()


def test_an_answer_that_is_an_error_fails_that_submit_alone() -> None:
    committer = GroupCommitter(lambda group: [QueueFull("full")] * len(group), name="test")

    with pytest.raises(QueueFull):
        committer.add(submit()).result(timeout=30)
    committer.close()


@pytest.mark.parametrize("ending", [SystemExit(), ValueError("missing answers")])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_thread_fails_all_that_wait_and_all_that_come(
    ending: BaseException,
) -> None:
    """No future hangs: not of the group, not of those behind it, not of later calls."""
    began, gate = threading.Event(), threading.Event()

    def commit(_: Sequence[Submit]) -> Sequence[Appended | Exception]:
        began.set()
        assert gate.wait(timeout=30)
        if isinstance(ending, SystemExit):
            raise ending
        return []  # Too few answers: a fault of ours must not leave a caller waiting.

    committer = GroupCommitter(commit, name="test")
    futures = [committer.add(submit())]
    assert began.wait(timeout=30)
    futures += [committer.add(submit()) for _ in range(3)]
    gate.set()

    for future in futures:
        assert type(future.exception(timeout=30)) is type(ending)
    committer.close()
    with pytest.raises(NeedsAttention, match="Restart"):
        committer.add(submit())


def test_a_submit_that_was_cancelled_in_time_is_not_stored() -> None:
    commit = GatedCommit()
    committer = GroupCommitter(commit, name="test")
    committer.add(submit(b"first"))
    assert commit.began.acquire(timeout=30)
    cancelled, kept = committer.add(submit(b"cancelled")), committer.add(submit(b"kept"))

    assert cancelled.cancel()
    commit.gate.release(2)
    kept.result(timeout=30)
    committer.close()

    assert commit.groups == [[b"first"], [b"kept"]]


def test_what_waits_for_the_disk_is_bounded() -> None:
    commit = GatedCommit()
    committer = GroupCommitter(commit, name="test", pending_bytes_max=100)
    futures: list[Future[Appended]] = [committer.add(submit(b"first"))]
    assert commit.began.acquire(timeout=30)

    futures += [committer.add(submit(b"x" * size)) for size in (60, 41, 40)]
    commit.gate.release(2)
    errors = [type(future.exception(timeout=30)) for future in futures]
    committer.close()

    assert errors == [type(None), type(None), QueueFull, type(None)]


def test_close_stores_what_waits_and_refuses_what_comes() -> None:
    commit = GatedCommit()
    committer = GroupCommitter(commit, name="test")
    futures = [committer.add(submit()) for _ in range(10)]
    commit.gate.release(10)

    committer.close()

    assert all(future.done() for future in futures)
    with pytest.raises(UsageError, match="closed"):
        committer.add(submit())
