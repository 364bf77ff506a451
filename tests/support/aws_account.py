"""Where a test's S3 and DynamoDB answer, and how each of our clients is told so.

The secret is made anew for every server, so that a test can look for it where it must not be.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

__all__ = ["REGION", "AwsAccount"]

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """One S3 server and perhaps a DynamoDB, with the key that opens both."""

    s3_endpoint: str
    dynamodb_endpoint: str = ""
    access_key: str = "NEURALAKETEST"
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    def environment(self) -> dict[str, str]:
        """Variables that boto3, delta-rs, Polars and obstore understand, for a process."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.s3_endpoint,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            # delta-rs has its own name for the endpoint of the lock table.
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb_endpoint,
        }

    def storage_options(self) -> dict[str, str]:
        """The same for delta-rs and Polars, without a lock table."""
        options = self.environment()
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB"):
            del options[name]
        return options

    def client(self, service: str) -> Any:
        """A boto3 client of "s3" or "dynamodb"."""
        import boto3

        endpoint = self.s3_endpoint if service == "s3" else self.dynamodb_endpoint
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def make_bucket(self) -> str:
        """A new, empty bucket; its name."""
        name = f"lake-{secrets.token_hex(6)}"
        self.client("s3").create_bucket(Bucket=name)
        return name

    def make_lock_table(self) -> str:
        """A new, empty lock table in the layout of Spark's `S3DynamoDBLogStore`; its name."""
        name = f"locks-{secrets.token_hex(6)}"
        self.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": "tablePath", "KeyType": "HASH"},
                {"AttributeName": "fileName", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "tablePath", "AttributeType": "S"},
                {"AttributeName": "fileName", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        return name
