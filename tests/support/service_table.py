"""One table on a real S3: how our code and its rivals come to it, and what is in it.

`WRITERS` of a table append rows (writer, id, p); a row is known by its writer and id.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl
import pyarrow as pa
from aws_account import REGION, AwsAccount

from neuralake.settings import StorageProfile
from neuralake.storage import LogStore, open_store

__all__ = ["SCHEMA", "Coordination", "ServiceTable", "rows_of"]

Coordination = Literal["conditional-put", "dynamodb"]

SCHEMA = pa.schema([("writer", pa.string()), ("id", pa.int64()), ("p", pa.string())])


@dataclass(frozen=True, slots=True)
class ServiceTable:
    """Where a table is and how its writers agree; `lock_table` is of DynamoDB mode only."""

    account: AwsAccount
    bucket: str
    coordination: Coordination
    lock_table: str = ""
    name: str = "t"

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.name}"

    @property
    def log(self) -> str:
        """The key of its log folder."""
        return f"{self.name}/_delta_log"

    @property
    def profile(self) -> StorageProfile:
        profile = StorageProfile(
            uri=f"s3://{self.bucket}/",
            coordination=self.coordination,
            endpoint=self.account.s3_endpoint,
            region=REGION,
        )
        if self.coordination == "conditional-put":
            return profile
        return StorageProfile(
            **{
                **{name: getattr(profile, name) for name in profile.__struct_fields__},
                "lock_table": self.lock_table,
                "lock_endpoint": self.account.dynamodb_endpoint,
            }
        )

    def store(self) -> LogStore:
        """A store of our own, as a process of ours makes it."""
        return open_store(self.uri, [self.profile], self.account.environment())

    def arguments(self) -> str:
        """All of this as one argument of a child process, without the secret: `of_arguments`."""
        account = {"s3": self.account.s3_endpoint, "dynamodb": self.account.dynamodb_endpoint}
        table = [self.bucket, self.coordination, self.lock_table, self.name]
        return json.dumps({"account": account, "table": table})

    @classmethod
    def of_arguments(cls, text: str, access_key: str, secret_key: str) -> ServiceTable:
        given = json.loads(text)
        endpoints = given["account"]
        account = AwsAccount(endpoints["s3"], endpoints["dynamodb"], access_key, secret_key)
        return cls(account, *given["table"])

    def rival_environment(self) -> dict[str, str]:
        """What a process with delta-rs needs to agree with us."""
        environment = self.account.environment()
        if self.coordination == "dynamodb":
            environment |= {
                "AWS_S3_LOCKING_PROVIDER": "dynamodb",
                "DELTA_DYNAMO_TABLE_NAME": self.lock_table,
            }
        return environment

    def through(self, *, s3: str, dynamodb: str = "") -> ServiceTable:
        """The same table by other endpoints (a gate)."""
        account = replace(self.account, s3_endpoint=s3, dynamodb_endpoint=dynamodb)
        return replace(self, account=account)

    def entry_names(self) -> list[str]:
        """Names in the log folder, as S3 lists them, without it."""
        found = self.account.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=self.log)
        assert not found["IsTruncated"]
        return [item["Key"].removeprefix(f"{self.log}/") for item in found.get("Contents", [])]

    def lock_items(self) -> list[dict[str, str]]:
        """Every item of the lock table, by `fileName`; values as text."""
        pages = self.account.client("dynamodb").get_paginator("scan")
        items = [
            {key: next(iter(value.values())) for key, value in item.items()}
            for page in pages.paginate(TableName=self.lock_table)
            for item in page["Items"]
        ]
        return sorted(items, key=lambda item: item["fileName"])


def rows_of(table: ServiceTable, version: int | None = None) -> Counter[tuple[str, int]]:
    """How often each row is in the table, as the newest delta-rs and Polars read it."""
    options = table.account.storage_options()
    frame = pl.scan_delta(table.uri, version=version, storage_options=options)
    return Counter(frame.select("writer", "id").collect().rows())
