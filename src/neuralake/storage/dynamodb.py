"""A lock table in DynamoDB, in the layout that Spark's `S3DynamoDBLogStore` and deltalake 1.5 use.

Keys `tablePath` and `fileName`; `tempPath`, `complete` ("true" or "false") and, on completed items,
`expireTime` (Unix seconds, the table's time to live). Reads are consistent. A put whose answer was
lost is settled here: the item names the one commit that holds it.
"""

from __future__ import annotations

import importlib.util
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from neuralake.errors import MissingExtra, NeuralakeError, SettingsError, Unavailable
from neuralake.storage.access import Access, Credentials
from neuralake.storage.locks import LockEntry
from neuralake.storage.protocol import AlreadyThere, OutcomeUnknown
from neuralake.storage.retry import Patience

__all__ = ["LockTable"]

_Answer = TypeVar("_Answer")
# Of these DynamoDB says that nothing was done and that the same request may work later.
_NOTHING_DONE = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "ThrottlingError",
    "LimitExceededException",
    "ExpiredTokenException",
    "TransactionConflictException",
    "ResourceInUseException",
}
_TAKEN = "ConditionalCheckFailedException"
# Items of the first page, enough to see that nothing is unfinished; then as many as a page holds.
_FIRST_PAGE = 20


class LockTable:
    """The DynamoDB table `name`; safe for use by several threads.

    `requests` counts what was asked, by kind: `lock_put`, `lock_get`, `lock_complete`,
    `lock_query`, `lock_remove`.

    Raises:
        MissingExtra: boto3 is not installed.
    """

    def __init__(self, name: str, access: Access, *, patience: Patience | None = None) -> None:
        self._name, self._access, self._patience = name, access, patience or Patience()
        self._counted: Counter[str] = Counter()
        self._lock = threading.Lock()
        # Made when first needed: it takes a third of a second.
        self._client: tuple[Credentials | None, Any] | None = None
        _check_installed()

    def __repr__(self) -> str:
        return f"LockTable({self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def requests(self) -> Counter[str]:
        """A copy of the counts so far."""
        with self._lock:
            return self._counted.copy()

    def put_if_absent(self, entry: LockEntry) -> None:
        boto, fault, doubtful = self._boto(), None, False
        for _ in self._patience.tries():
            try:
                self._count("lock_put")
                boto.put_item(
                    TableName=self._name,
                    Item=_item(entry),
                    ConditionExpression="attribute_not_exists(fileName)",
                )
            except Exception as error:  # noqa: BLE001 botocore raises several kinds; see _fault
                fault = _fault(error)
            else:
                return
            if fault.code == _TAKEN:
                break
            if not fault.passes:
                break
            doubtful = doubtful or not fault.nothing_done
        assert fault is not None  # noqa: S101 there was at least one try
        if fault.code == _TAKEN or doubtful:
            self._settle(entry, fault)
            return
        raise self._error(fault)

    def _settle(self, entry: LockEntry, fault: _Fault) -> None:
        """Return if the item is `entry`'s: an earlier try of ours came through."""
        what = f"{entry.file_name} of {entry.table_path}"
        try:
            found = self.get(entry.table_path, entry.file_name)
        except NeuralakeError as error:
            raise OutcomeUnknown(
                f"The lock table {self._name!r} did not say who took {what}.", name=entry.file_name
            ) from error
        if found is None:
            # It may still arrive, unless it was another's and that one is gone already.
            raise OutcomeUnknown(
                f"The lock table {self._name!r} did not say whether {what} was taken "
                f"({fault.reason}).",
                name=entry.file_name,
            )
        if found.temp_path != entry.temp_path:
            raise AlreadyThere(f"{what} is taken.", name=entry.file_name)

    def get(self, table_path: str, file_name: str) -> LockEntry | None:
        answer = self._ask(
            "lock_get",
            lambda boto: boto.get_item(
                TableName=self._name, Key=_key(table_path, file_name), ConsistentRead=True
            ),
        )
        return _entry(answer["Item"]) if "Item" in answer else None

    def complete(self, entry: LockEntry, *, expire_s: int) -> bool:
        return self._ask_if(
            "lock_complete",
            lambda boto: boto.update_item(
                TableName=self._name,
                Key=_key(entry.table_path, entry.file_name),
                UpdateExpression="SET complete = :yes, expireTime = :expire",
                ConditionExpression="tempPath = :temp",
                ExpressionAttributeValues={
                    ":yes": {"S": "true"},
                    ":expire": {"N": str(expire_s)},
                    ":temp": {"S": entry.temp_path},
                },
            ),
        )

    def newest(self, table_path: str) -> Iterator[LockEntry]:
        page: dict[str, Any] = {"Limit": _FIRST_PAGE}

        def ask(boto: Any) -> dict[str, Any]:
            answer: dict[str, Any] = boto.query(
                TableName=self._name,
                KeyConditionExpression="tablePath = :path",
                ExpressionAttributeValues={":path": {"S": table_path}},
                ScanIndexForward=False,
                ConsistentRead=True,
                **page,
            )
            return answer

        while page:
            answer = self._ask("lock_query", ask)
            last = answer.get("LastEvaluatedKey")
            page = {"ExclusiveStartKey": last} if last else {}
            yield from (_entry(item) for item in answer["Items"])

    def remove(self, entry: LockEntry) -> bool:
        return self._ask_if(
            "lock_remove",
            lambda boto: boto.delete_item(
                TableName=self._name,
                Key=_key(entry.table_path, entry.file_name),
                ConditionExpression="tempPath = :temp",
                ExpressionAttributeValues={":temp": {"S": entry.temp_path}},
            ),
        )

    def create(self) -> bool:
        """Make the table, paid by request, with its time to live; False if it is there already.

        Raises:
            SettingsError: it is there with other keys, or may not be made.
        """
        if found := self._describe():
            keys = {(key["AttributeName"], key["KeyType"]) for key in found["KeySchema"]}
            if keys != {("tablePath", "HASH"), ("fileName", "RANGE")}:
                raise SettingsError(
                    f"The DynamoDB table {self._name!r} exists with other keys than `tablePath` "
                    f"and `fileName`: it is no lock table of Delta Lake. Choose another "
                    f"lock_table.",
                    lock_table=self._name,
                )
            return False
        self._ask("lock_create", self._make)
        for _ in self._patience.tries():
            if (self._describe() or {}).get("TableStatus") == "ACTIVE":
                self._ask("lock_create", self._expire)
                return True
        raise Unavailable(f"The DynamoDB table {self._name!r} was made, but is not active yet.")

    def _make(self, boto: Any) -> None:
        boto.create_table(
            TableName=self._name,
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

    def _expire(self, boto: Any) -> None:
        boto.update_time_to_live(
            TableName=self._name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "expireTime"},
        )

    def _describe(self) -> dict[str, Any] | None:
        try:
            answer = self._ask(
                "lock_create", lambda boto: boto.describe_table(TableName=self._name)
            )
        except SettingsError as error:
            if error.facts.get("code") == "ResourceNotFoundException":
                return None
            raise
        found: dict[str, Any] = answer["Table"]
        return found

    def _ask_if(self, kind: str, request: Callable[[Any], Any]) -> bool:
        """Whether the request's condition held; then it was done."""
        try:
            self._ask(kind, request)
        except AlreadyThere:
            return False
        return True

    def _ask(self, kind: str, request: Callable[[Any], _Answer]) -> _Answer:
        """The answer to a request that may be repeated; AlreadyThere if its condition failed."""
        boto, fault = self._boto(), None
        for _ in self._patience.tries():
            self._count(kind)
            try:
                return request(boto)
            except Exception as error:  # noqa: BLE001 botocore raises several kinds; see _fault
                fault = _fault(error)
            if fault.code == _TAKEN:
                raise AlreadyThere("Another commit has it.") from None
            if not fault.passes:
                break
        assert fault is not None  # noqa: S101 there was at least one try
        raise self._error(fault) from None

    def _error(self, fault: _Fault) -> NeuralakeError:
        facts = {"lock_table": self._name, "reason": fault.reason, "code": fault.code}
        if fault.code == "ResourceNotFoundException":
            return SettingsError(
                f"There is no DynamoDB table {self._name!r} in region "
                f"{self._access.lock_region!r} at {self._access.lock_endpoint or 'AWS'}. Make it "
                f"with `neuralake storage init`, or correct lock_table.",
                **facts,
            )
        if not fault.passes:
            return SettingsError(
                f"DynamoDB refused a request to the lock table {self._name!r} ({fault.reason}). "
                f"The credentials come from {self._access.source}, the region is "
                f"{self._access.lock_region!r}: check both and what they may do with the table.",
                **facts,
            )
        return Unavailable(
            f"The lock table {self._name!r} did not answer for {self._patience.total_s:g} s "
            f"({fault.reason}).",
            **facts,
        )

    def _boto(self) -> Any:
        """The client; a new one when the credentials are others than before."""
        credentials = self._access.credentials()
        with self._lock:
            if self._client is None or self._client[0] != credentials:
                self._client = credentials, _client(self._access, credentials)
            return self._client[1]

    def _count(self, kind: str) -> None:
        with self._lock:
            self._counted[kind] += 1


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str
    code: str = ""
    passes: bool = True
    nothing_done: bool = False


def _fault(error: Exception) -> _Fault:
    """What a failure of the client says about the request. What is not clear may have been done."""
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        nothing_done = code in _NOTHING_DONE
        # The code alone: a message may quote the request.
        return _Fault(f"{status} {code}", code, nothing_done or status >= 500, nothing_done)
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError):
        return _Fault("no connection", nothing_done=True)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return _Fault("no credentials", passes=False)
    if isinstance(error, boto.ParamValidationError):
        return _Fault("a name that DynamoDB does not take", passes=False)
    return _Fault("the connection broke or gave no answer in time")


def _check_installed() -> None:
    if importlib.util.find_spec("boto3") is None:
        raise MissingExtra(
            "Coordination 'dynamodb' needs an extra: pip install 'neuralake[dynamodb]'",
            extra="dynamodb",
        )


def _client(access: Access, credentials: Credentials | None) -> Any:
    import boto3
    from botocore.config import Config

    keys = {}
    if credentials is not None:
        keys = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token or None,
        }
    return boto3.session.Session().client(
        "dynamodb",
        region_name=access.lock_region,
        endpoint_url=access.lock_endpoint or None,
        config=Config(
            # We repeat, because we know what may be repeated.
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=20,
            max_pool_connections=16,
        ),
        **keys,
    )


def _key(table_path: str, file_name: str) -> dict[str, Any]:
    return {"tablePath": {"S": table_path}, "fileName": {"S": file_name}}


def _item(entry: LockEntry) -> dict[str, Any]:
    item = _key(entry.table_path, entry.file_name)
    item |= {
        "tempPath": {"S": entry.temp_path},
        "complete": {"S": "true" if entry.complete else "false"},
    }
    if entry.expire_s is not None:
        item["expireTime"] = {"N": str(entry.expire_s)}
    return item


def _entry(item: dict[str, Any]) -> LockEntry:
    def text(name: str) -> str:
        return str(item.get(name, {}).get("S", ""))

    expire = item.get("expireTime", {}).get("N")
    return LockEntry(
        table_path=text("tablePath"),
        file_name=text("fileName"),
        temp_path=text("tempPath"),
        complete=text("complete") == "true",
        expire_s=None if expire is None else int(float(expire)),
    )
