"""Logs written by hand: entries and checkpoints of any writer, without its data files."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from neuralake.delta import create_table
from neuralake.delta.log import FOLDER, entry_name
from neuralake.storage import LogStore

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.string())])
NOW_MS = 1_700_000_000_000


def make_table(store: LogStore, **properties: str) -> None:
    create_table(store, SCHEMA, partition_by=["p"], properties=properties)


def add(path: str, **fields: Any) -> dict[str, Any]:
    base = {"path": path, "partitionValues": {"p": "a"}, "size": 10, "modificationTime": NOW_MS}
    return {"add": {**base, "dataChange": True, "stats": '{"numRecords":3}', **fields}}


def remove(path: str, **fields: Any) -> dict[str, Any]:
    return {"remove": {"path": path, "deletionTimestamp": NOW_MS, "dataChange": True, **fields}}


def txn(app_id: str, version: int) -> dict[str, Any]:
    return {"txn": {"appId": app_id, "version": version}}


def info(timestamp_ms: int = NOW_MS, **fields: Any) -> dict[str, Any]:
    return {"commitInfo": {"timestamp": timestamp_ms, "operation": "WRITE", **fields}}


def entry(*actions: dict[str, Any]) -> bytes:
    return "".join(json.dumps(action) + "\n" for action in actions).encode()


def put_entry(store: LogStore, version: int, *actions: dict[str, Any]) -> None:
    store.put_if_absent(entry_name(version), entry(*actions))


def put_pointer(store: LogStore, **fields: Any) -> None:
    store.put({f"{FOLDER}/_last_checkpoint": json.dumps({"size": 1, **fields}).encode()})
