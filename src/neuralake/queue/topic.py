"""Names that tie a table to its place in a queue and to its mark in the Delta log."""

from __future__ import annotations

__all__ = ["app_id", "labels_of", "topic_of"]


def topic_of(database: str, table: str) -> str:
    """The topic that the rows of `database.table` travel on."""
    return f"{database}.{table}"


def app_id(queue_id: str, partition: str) -> str:
    """The `txn.appId` under which commits from this partition of a queue record their position.

    It holds the queue's identity: positions of a queue that was made anew begin at 1 again, and
    must not be taken for those already in the table.
    """
    return f"neuralake/{queue_id}/{partition}"


def labels_of(partition: str) -> dict[str, str]:
    """What metrics and log lines say of a partition, or a topic: `table`, and which partition.

    The only partition of a topic is called as the topic, and needs no number.
    """
    table, _, rest = partition.partition("#")
    return {"table": table, "partition": rest.partition("@")[0]} if rest else {"table": table}
