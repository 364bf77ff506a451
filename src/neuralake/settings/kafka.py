"""How to reach a Kafka cluster, and what this lake calls its topics and groups there.

As with storage profiles, this says where secrets are, never what they are.
"""

from __future__ import annotations

import msgspec

from neuralake.errors import SettingsError

__all__ = ["KafkaSettings", "check_kafka"]

_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_IDENTITIES = ("id", "name")


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The cluster of `queue.kind = "kafka"`, and of tables whose `Stream` names a `KafkaTopic`."""

    brokers: str = ""
    """`host:port`, several with commas; empty: there is no Kafka."""
    security_protocol: str = "plaintext"
    """`plaintext`, `ssl` (TLS), `sasl_plaintext` or `sasl_ssl`, as Kafka's clients call them."""
    sasl_mechanism: str = ""
    """`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or another that librdkafka has; empty: none."""
    ca_file: str = ""
    """Certificates (PEM) that the brokers' are checked with; empty: the system's."""
    certificate_file: str = ""
    """Our own certificate (PEM), where brokers ask for one."""
    key_file: str = ""
    """Its private key (PEM)."""
    credentials: str = "environment"
    """Where the secrets are: `environment`, or `file:PATH` of `property=value` lines."""
    topic_prefix: str = "neuralake."
    """The topics that ingest stages rows on are called `<prefix><database>.<table>`."""
    partitions: int = 1
    """Partitions of such a topic when it is made."""
    group: str = "neuralake"
    """Writers share a table's partitions by the consumer group `<group>.<database>.<table>`."""
    session_s: float = 10.0
    """A writer that is not heard of for so long loses its partitions to the others."""
    answer_s_max: float = 10.0
    """Longest wait for an answer of the cluster; an append may wait three times as long."""
    topic_identity: str = "id"
    """`id`: a topic that was made anew is another one. `name`: for brokers before 2.8 only."""
    schema_registry: str = ""
    """`https://host:port` of the registry that Avro and Protobuf messages name schemas in."""


def check_kafka(kafka: KafkaSettings) -> None:
    """Refuse values that Kafka's clients would misunderstand."""
    for key, known in (("security_protocol", _PROTOCOLS), ("topic_identity", _IDENTITIES)):
        if (value := getattr(kafka, key)) not in known:
            raise SettingsError(
                f"kafka.{key} is {value!r}; it must be one of {', '.join(known)}.",
                name=f"kafka.{key}",
                value=value,
            )
    kind, _, path = kafka.credentials.partition(":")
    if kafka.credentials != "environment" and not (kind == "file" and path):
        # Not the value itself: a person may have put the secret here.
        raise SettingsError(
            "kafka.credentials must be environment or file:PATH: where the secrets are, never the "
            "secrets themselves.",
            name="kafka.credentials",
        )
    if "@" in kafka.brokers or "://" in kafka.brokers:
        raise SettingsError(
            "kafka.brokers must be host:port, several with commas, with nothing else in it.",
            name="kafka.brokers",
        )
    if "@" in kafka.schema_registry:
        raise SettingsError(
            "kafka.schema_registry must have no user and password in it; they come from the "
            "environment's SCHEMA_REGISTRY_USER_INFO.",
            name="kafka.schema_registry",
        )
