"""Several profiles in one lake, and that the secrets of none of them are ever shown."""

from __future__ import annotations

import logging
import subprocess
import traceback
from pathlib import Path

import httpx
import polars as pl
import pytest
from aws_account import AwsAccount
from lab_project import eventually
from store_lake import SCHEMA, StoreLake, rows_of

import neuralake as nl
from neuralake import delta
from neuralake.catalog import Catalog
from neuralake.errors import NeuralakeError, UnknownName
from neuralake.manifest import describe, to_json
from neuralake.serve.query import query
from neuralake.settings import StorageProfile
from neuralake.site import build_site


def test_tables_of_one_lake_may_be_in_several_stores(lake: StoreLake) -> None:
    """A bucket in each way that writers agree, one with its own credentials, and a local folder."""
    account, other = lake.account, lake.account.make_bucket()
    (lake.folder / "keys.ini").write_text(
        f"[default]\naws_access_key_id = {account.access_key}\n"
        f"aws_secret_access_key = {account.secret_key}\n",
        encoding="utf-8",
    )
    mode = "dynamodb" if lake.coordination == "conditional-put" else "conditional-put"
    lake.write_settings(
        more=f'[storage.other]\nuri = "s3://{other}/deep"\nendpoint = "{account.s3_endpoint}"\n'
        f'credentials = "file:keys.ini"\ncoordination = "{mode}"\n'
        f'lock_table = "{account.make_lock_table()}"\nlock_endpoint = "{account.s3_endpoint}"\n'
    )
    places = {"a": "lab/a", "b": f"s3://{other}/deep/b", "c": str(lake.folder / "c")}
    tables = [nl.DeltaTable(name=name, uri=uri, schema=SCHEMA) for name, uri in places.items()]
    catalog = Catalog({"lab": tables}, lake.settings)
    for number, table in enumerate(tables):
        store = catalog.store_of(table)
        delta.create_table(store, SCHEMA)
        rows = pl.DataFrame(rows_of(number), schema=pl.Schema(SCHEMA)).to_arrow()
        delta.TableLog.open(store).append(rows)

    found = [catalog.db("lab").table(name).collect()["id"].to_list() for name in places]
    everything = query(catalog, "SELECT a.id + b.id + c.id AS n FROM lab.a, lab.b, lab.c")

    assert found == [[0], [1], [2]]
    assert everything["n"].to_pylist() == [3]
    shown = {table.name: table.coordination for table in describe(catalog).tables()}
    assert shown == {"a": lake.coordination, "b": mode, "c": "local"}


def test_no_output_shows_a_secret(
    lake: StoreLake, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Answers, errors with their chains, logs, the site, the arguments of processes, and files."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    catalog = lake.catalog()
    with nl.Platform(catalog) as platform:
        answer = httpx.post(
            f"{platform.url}/v1/lab/events?wait=committed", json=rows_of(1, 2), timeout=60
        )
        seen.append(answer.text)
        statements = (
            "EXPLAIN VERBOSE SELECT * FROM lab.events",
            "SHOW ALL",
            "SELECT nothing FROM lab.events",
        )
        for sql in statements:
            reply = httpx.post(f"{platform.url}/api/sql", json={"sql": sql}, timeout=60)
            seen.append(reply.text)
            assert lake.bucket not in reply.text
            assert lake.account.s3_endpoint not in reply.text
        seen.append(subprocess.check_output(["ps", "axww", "-o", "args"], text=True))
    seen += [catalog.db("lab").table("events").explain(), repr(catalog), repr(catalog.settings)]
    seen += [repr(lake.store()), str(vars(lake.store()))]
    seen.append(to_json(describe(catalog)).decode())
    build_site(catalog, lake.folder / "site")
    for command in (["check"], ["show", "lab.events"], ["storage", "init"], ["storage", "doctor"]):
        ran = lake.run("--debug", *command)
        seen += [ran.stdout, ran.stderr]
    seen += _failures(lake)
    seen += [caplog.text, *capfd.readouterr()]
    for file in lake.folder.rglob("*"):
        if file.is_file():
            seen.append(file.read_bytes().decode("utf-8", "replace"))

    assert len(seen) > 20
    assert not [text[:200] for text in seen if lake.account.secret_key in text]


def _failures(lake: StoreLake) -> list[str]:
    """What is said of a bucket that is not there."""
    texts = []
    profile = StorageProfile(uri="s3://no-such-bucket/", endpoint=lake.account.s3_endpoint)
    settings = nl.Settings(folder=str(lake.folder), storage={"x": profile})
    table = nl.DeltaTable(name="t", uri="s3://no-such-bucket/t", schema=SCHEMA)
    catalog = Catalog({"lab": [table]}, settings)
    for attempt in (
        lambda: catalog.db("lab").table("t").collect(),
        lambda: query(catalog, "SELECT * FROM lab.t"),
        lambda: delta.create_table(catalog.store_of(table), SCHEMA),
    ):
        with pytest.raises(NeuralakeError) as caught:
            attempt()
        # With the whole chain of causes.
        texts += [*traceback.format_exception(caught.value), repr(caught.value.facts)]
    return texts


def test_processes_of_the_platform_have_no_secret_in_their_arguments(lake: StoreLake) -> None:
    with lake.start("up") as up:
        state = lake.folder / ".neuralake" / "up.json"
        assert eventually(state.exists, within_s=60)
        listed = subprocess.check_output(["ps", "axww", "-o", "args"], text=True)
        up.terminate()
        printed, _ = up.communicate(timeout=60)

    assert "neuralake" in listed
    assert lake.account.secret_key not in listed + printed


def test_a_table_that_is_not_there_is_told_by_its_name(
    account: AwsAccount, secrets: None, tmp_path: Path
) -> None:
    lake = StoreLake.make(account, tmp_path, "conditional-put")
    table = nl.DeltaTable(name="quiet", uri="lab/quiet", schema=SCHEMA)
    catalog = Catalog({"lab": [table]}, lake.settings)

    for read in (
        lambda: catalog.db("lab").table("quiet").collect(),
        lambda: query(catalog, "SELECT * FROM lab.quiet"),
    ):
        with pytest.raises(UnknownName, match=r"lab\.quiet.*no Delta table"):
            read()
