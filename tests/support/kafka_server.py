"""A real Apache Kafka: one node (KRaft) on a free port of 127.0.0.1, which can be killed.

Its data outlives the process, in a folder that goes with the context.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic
from kept_port import kept_port
from service_builds import kafka
from service_process import ServiceError, ServiceProcess

__all__ = ["KafkaServer", "kafka_server"]

# The ports are chosen by us, and somebody may be quicker.
TRIES = 3

# Short times, so that a dead member of a group is noticed within a test.
PROPERTIES = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
num.partitions=1
"""


class KafkaServer:
    """One broker; `address` stays the same after `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        broker, controller = kept_port(), kept_port()
        self.address = f"127.0.0.1:{broker}"
        self._folder = folder
        self._process: ServiceProcess | None = None
        self._properties = folder / "server.properties"
        self._properties.write_text(
            PROPERTIES.format(broker=broker, controller=controller, folder=folder), "utf-8"
        )
        identity = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        self._format(identity)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the broker on its data; returns when it answers."""
        command = self._java("kafka.Kafka", str(self._properties))
        self._process = ServiceProcess("kafka", command, self._folder)
        self._process.wait_for(lambda: self.admin().list_topics(timeout=1.0))

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def make_topic(self, partitions: int = 1, *, name: str | None = None, **config: str) -> str:
        """A topic of this call's own, or `name`."""
        name = name or f"t-{uuid.uuid4().hex[:8]}"
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        admin = self.admin()  # Its answers end with it.
        admin.create_topics([topic])[name].result(30.0)
        return name

    def _format(self, identity: str) -> None:
        options = ["format", f"--cluster-id={identity}", "-c", str(self._properties)]
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", *options), capture_output=True, check=False
        )
        if done.returncode:
            raise ServiceError(f"Kafka did not format its folder: {done.stderr.decode()}")

    def _java(self, main: str, *arguments: str) -> list[str]:
        return [
            "java",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            f"-Dkafka.logs.dir={self._folder}",
            "-cp",
            f"{kafka()}/*",
            main,
            *arguments,
        ]


@contextlib.contextmanager
def kafka_server() -> Iterator[KafkaServer]:
    """A broker of this context's own, empty; it and its data are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="neuralake-kafka-") as folder:
        for left in reversed(range(TRIES)):
            home = Path(folder, str(left))
            home.mkdir()
            server = KafkaServer(home)
            try:
                server.start()
                break
            except ServiceError:
                server.kill()
                if not left:
                    raise
        try:
            yield server
        finally:
            server.kill()
