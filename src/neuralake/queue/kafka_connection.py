"""How clients of a Kafka cluster are set up, and what its errors mean to our callers.

Secrets are read here and go to the client library only: no message of ours has one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from neuralake.errors import (
    NeedsAttention,
    NeuralakeError,
    QueueFull,
    SettingsError,
    TooLarge,
    Unavailable,
    UnknownName,
)
from neuralake.settings import KafkaSettings

__all__ = ["client_config", "explain"]

_RETRY_AFTER_S = 1.0

# Properties whose value is a secret, and the environment variable that gives it.
_FROM_ENVIRONMENT = {
    "sasl.username": "KAFKA_SASL_USERNAME",
    "sasl.password": "KAFKA_SASL_PASSWORD",
    "ssl.key.password": "KAFKA_SSL_KEY_PASSWORD",
}
_PASSING = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError._UNKNOWN_BROKER,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}
_UNKNOWN = {
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
}
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


def client_config(
    settings: KafkaSettings, folder: Path, *, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The client properties that every producer, consumer and admin client of the lake has.

    Args:
        folder: relative paths in `settings` are seen from here.

    Raises:
        SettingsError: there is no broker, or a file with secrets cannot be read.
    """
    if not settings.brokers:
        raise SettingsError(
            "A table is fed by Kafka, but there is no broker: set kafka.brokers to host:port.",
            name="kafka.brokers",
        )
    config: dict[str, Any] = {
        "bootstrap.servers": settings.brokers,
        "security.protocol": settings.security_protocol,
        "client.id": "neuralake",
        "socket.keepalive.enable": True,
        # Brokers come and go; what that means to a caller is told to the caller.
        "log_level": 2,
        "reconnect.backoff.max.ms": 1000,
    }
    files = {
        "ssl.ca.location": settings.ca_file,
        "ssl.certificate.location": settings.certificate_file,
        "ssl.key.location": settings.key_file,
    }
    config |= {key: str(folder / Path(file).expanduser()) for key, file in files.items() if file}
    if settings.sasl_mechanism:
        config["sasl.mechanism"] = settings.sasl_mechanism
    if settings.credentials == "environment":
        given = os.environ if environment is None else environment
        return config | {
            key: given[name] for key, name in _FROM_ENVIRONMENT.items() if given.get(name)
        }
    return config | _properties(folder / Path(settings.credentials[5:]).expanduser())


def _properties(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"kafka.credentials: {file} cannot be read ({type(error).__name__}).",
            name="kafka.credentials",
        ) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, is_pair, value = text.partition("=")
        if not is_pair:
            # Not the line itself, which may be the secret.
            raise SettingsError(
                f"kafka.credentials: line {number} of {file} is not property=value.",
                name="kafka.credentials",
            )
        found[key.strip()] = value.strip()
    return found


def explain(error: KafkaError | KafkaException, what: str) -> NeuralakeError:
    """The error of ours for `error`, which came when we tried `what`."""
    kafka_error: Any = error.args[0] if isinstance(error, KafkaException) else error
    code, text = kafka_error.code(), f"{what}: Kafka says: {kafka_error.str()}"
    if code == KafkaError._QUEUE_FULL:
        return QueueFull(
            f"{text}. Send the same again when the brokers have taken what waits.",
            retry_after_s=_RETRY_AFTER_S,
        )
    if code in _TOO_LARGE:
        return TooLarge(f"{text}. Send fewer rows at once, or raise the topic's max.message.bytes.")
    if code in _UNKNOWN:
        return UnknownName(f"{text}.", kind="topic", name=what)
    if code in _PASSING or kafka_error.retriable():
        return Unavailable(f"{text}.", retry_after_s=_RETRY_AFTER_S)
    return NeedsAttention(f"{text} ({kafka_error.name()}).", code=kafka_error.name())
