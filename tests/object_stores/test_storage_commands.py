"""`neuralake storage` as a person uses it: set up, look, mend, and change how writers agree."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from aws_account import AwsAccount
from store_lake import SCHEMA, StoreLake, rows_of

from neuralake import delta
from neuralake.errors import UsageError
from neuralake.storage import CoordinatedStore, LockEntry


def append(lake: StoreLake, *ids: int) -> delta.TableLog:
    """Rows of the table, which is made unless it is there."""
    store = lake.store()
    delta.create_table(store, SCHEMA, partition_by=["site"])
    log = delta.TableLog.open(store)
    log.append(pl.DataFrame(rows_of(*ids), schema=pl.Schema(SCHEMA)).to_arrow())
    return log


def ids(lake: StoreLake) -> list[int]:
    return sorted(lake.catalog().db("lab").table("events").collect()["id"])


def coordinated(lake: StoreLake) -> CoordinatedStore:
    store = lake.store()
    assert isinstance(store, CoordinatedStore)
    return store


@pytest.fixture
def locked(account: AwsAccount, secrets: None, tmp_path: Path) -> StoreLake:
    return StoreLake.make(account, tmp_path, "dynamodb")


@pytest.fixture
def plain(account: AwsAccount, secrets: None, tmp_path: Path) -> StoreLake:
    """With a lock table that is not used yet."""
    return StoreLake.make(
        account, tmp_path, "conditional-put", lock_table=account.make_lock_table()
    )


def test_init_makes_the_lock_table_once_and_checks_the_bucket(
    account: AwsAccount,
    secrets: None,
    tmp_path: Path,
) -> None:
    lake = StoreLake.make(account, tmp_path, "dynamodb", lock_table=f"made-{tmp_path.name[-20:]}")

    first, again = lake.run("storage", "init"), lake.run("storage", "init", "lab")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "refuses the second put of a name" in first.stdout
    assert f"{lake.lock_table} made" in first.stdout
    assert f"{lake.lock_table} is there" in again.stdout
    append(lake, 1)
    assert ids(lake) == [1]


def test_init_says_what_is_not_there(plain: StoreLake) -> None:
    plain.write_settings(
        more='[storage.gone]\nuri = "s3://there-is-no-such-bucket/"\n'
        f'endpoint = "{plain.account.s3_endpoint}"\n'
    )
    missing = plain.run("storage", "init", "gone")
    unknown = plain.run("storage", "init", "lap")

    assert missing.returncode == 78
    assert "there-is-no-such-bucket" in missing.stderr
    assert unknown.returncode == 2
    assert "No storage profile 'lap'" in unknown.stderr


def test_doctor_shows_an_unfinished_commit_and_repairs_it(locked: StoreLake) -> None:
    """The writer died after it had taken version 2, before anybody could read it."""
    append(locked, 1)
    store = coordinated(locked)
    entry = store.read(f"_delta_log/{1:020}.json")
    assert entry is not None
    temporary = f".tmp/{2:020}.json.left"
    store.put({f"_delta_log/{temporary}": entry.replace(b'"txn"', b'"neuralakeTest"')})
    store.locks.put_if_absent(LockEntry(store.table_path, f"{2:020}.json", temporary))

    seen = locked.run("storage", "doctor", "lab.events")
    refused = locked.run("storage", "set-coordination", "lab.events", "conditional-put")
    mended = locked.run("storage", "doctor", "--repair")
    after = locked.run("storage", "doctor")

    assert seen.returncode == 0
    assert "writers agree by dynamodb, as recorded and as set up" in seen.stdout
    assert "version 2, begun" in seen.stdout
    assert refused.returncode == 70
    assert "neuralake storage doctor lab.events --repair" in refused.stderr
    assert "finished" in mended.stdout
    assert "version 2" not in after.stdout
    assert delta.snapshot(locked.store()).version == 2


def test_doctor_calls_a_person_for_a_lost_commit_and_gives_it_up_when_told(
    locked: StoreLake,
) -> None:
    append(locked, 1)
    store = coordinated(locked)
    store.locks.put_if_absent(LockEntry(store.table_path, f"{2:020}.json", ".tmp/gone"))

    seen = locked.run("storage", "doctor")
    everywhere = locked.run("storage", "doctor", "--give-up")
    given_up = locked.run("storage", "doctor", "lab.events", "--give-up")

    assert seen.returncode == 70
    assert "nobody can finish it" in seen.stdout
    assert (everywhere.returncode, given_up.returncode) == (2, 0)
    append(locked, 2)
    assert ids(locked) == [1, 2]


def test_doctor_tells_of_writers_with_another_spelling(locked: StoreLake) -> None:
    append(locked, 1)
    store = coordinated(locked)
    elsewhere = store.table_path.replace("s3://", "s3a://")
    store.locks.put_if_absent(LockEntry(elsewhere, f"{1:020}.json", ".tmp/theirs", complete=True))

    seen = locked.run("storage", "doctor")

    assert seen.returncode == 70
    assert f"commits under {elsewhere}" in seen.stdout


def test_set_coordination_hands_the_table_over_and_old_writers_refuse(plain: StoreLake) -> None:
    """There and back: each time a handle of the old way is refused at its next commit."""
    old = append(plain, 1)
    for mode, before in (("dynamodb", "conditional-put"), ("conditional-put", "dynamodb")):
        changed = plain.run("storage", "set-coordination", "lab.events", mode)

        assert changed.returncode == 0, changed.stderr
        assert f"writers agree by {mode} (was {before})" in changed.stdout
        rows = pl.DataFrame(rows_of(9), schema=pl.Schema(SCHEMA)).to_arrow()
        with pytest.raises(UsageError, match=f"{mode}.*{before}"):
            old.append(rows)
        assert ids(plain)[-1] != 9
        plain.write_settings(mode)
        old = append(plain, 2)
        shown = plain.run("show", "lab.events")
        assert f"coordination  {mode}" in shown.stdout
    again = plain.run("storage", "set-coordination", "lab.events", "conditional-put")
    assert "already" in again.stdout
    assert ids(plain) == [1, 2, 2]


def test_the_catalog_says_how_writers_agree(locked: StoreLake) -> None:
    append(locked, 1)
    built = locked.run("site", "build")

    assert built.returncode == 0, built.stderr
    page = (locked.folder / "site" / "tables" / "lab" / "events.html").read_text(encoding="utf-8")
    assert "Commits by" in page
    assert "dynamodb" in page.split("Commits by")[1][:200]


def test_the_steps_of_the_guide_lead_to_a_lock_table_that_was_not_there(
    account: AwsAccount, secrets: None, tmp_path: Path
) -> None:
    """Profile, `init`, `set-coordination`: in this order, as the lock table is the profile's."""
    lake = StoreLake.make(
        account, tmp_path, "conditional-put", lock_table=f"later-{tmp_path.name[-20:]}"
    )
    append(lake, 1)
    assert lake.run("storage", "doctor", "lab.events", "--repair").returncode == 0
    lake.write_settings("dynamodb")
    early = lake.run("storage", "set-coordination", "lab.events", "dynamodb")
    assert early.returncode == 78
    assert "neuralake storage init" in early.stderr

    made = lake.run("storage", "init")
    changed = lake.run("storage", "set-coordination", "lab.events", "dynamodb")
    assert (made.returncode, changed.returncode) == (0, 0), made.stderr + changed.stderr
    assert "Set coordination" not in changed.stderr, "the profile says so already"
    assert "Start the writers" in changed.stderr
    append(lake, 2)
    assert ids(lake) == [1, 2]


def test_a_table_of_another_engine_is_recorded_first(plain: StoreLake) -> None:
    """deltalake says nothing of how it agrees with others; a person must."""
    import deltalake

    uri = f"s3://{plain.bucket}/lake/lab/events"
    options = plain.account.storage_options()
    rows = pl.DataFrame(rows_of(1, 2), schema=pl.Schema(SCHEMA)).to_arrow()
    deltalake.write_deltalake(uri, rows, partition_by=["site"], storage_options=options)

    check, doctor = plain.run("check"), plain.run("storage", "doctor")
    with pytest.raises(UsageError, match="set-coordination"):
        append(plain, 3)
    recorded = plain.run("storage", "set-coordination", uri, "conditional-put")

    assert check.returncode == doctor.returncode == 70
    assert "set-coordination" in check.stdout
    assert "set-coordination" in doctor.stdout
    assert recorded.returncode == 0, recorded.stderr
    append(plain, 3)
    assert ids(plain) == [1, 2, 3]


def test_a_writer_set_up_otherwise_is_refused_with_both_modes(plain: StoreLake) -> None:
    append(plain, 1)
    plain.write_settings("dynamodb")

    with pytest.raises(UsageError, match=r"'conditional-put'.*'dynamodb'"):
        append(plain, 2)
    check = plain.run("check")
    assert check.returncode == 70
    assert "'conditional-put'" in check.stdout
    assert "'dynamodb'" in check.stdout
    assert ids(plain) == [1], "reading is not refused"


def test_an_environment_that_contradicts_the_profile_is_refused(plain: StoreLake) -> None:
    append(plain, 1)

    answer = plain.run("query", "SELECT 1 FROM lab.events", AWS_S3_LOCKING_PROVIDER="dynamodb")
    check = plain.run("check", AWS_S3_LOCKING_PROVIDER="dynamodb")

    assert answer.returncode != 0
    assert check.returncode == 70
    for text in (answer.stderr, check.stdout):
        assert "AWS_S3_LOCKING_PROVIDER" in text
        assert "conditional-put" in text


def test_local_tables_have_nothing_to_change(tmp_path: Path) -> None:
    from lab_project import make_project, run_cli

    make_project(tmp_path)

    changed = run_cli(tmp_path, "storage", "set-coordination", "lab.events", "dynamodb")
    looked, made = run_cli(tmp_path, "storage", "doctor"), run_cli(tmp_path, "storage", "init")

    assert changed.returncode == 2
    assert "local table" in changed.stderr
    assert looked.returncode == 0
    assert made.returncode == 2
    assert "nothing to set up" in made.stderr
