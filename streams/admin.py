"""Creating the streams of the table and checking them against the broker. It never deletes and never shrinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.config import KafkaConfig
from streams.errors import StreamTableError, UnavailableError
from streams.keys import check_partitions
from streams.table import Stream, physical_names

TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream of the table as the broker has it."""

    stream: Stream
    name: str
    wanted_partitions: int
    partitions: int
    """0: it does not exist."""
    differing: dict[str, tuple[str, str]]
    """Settings that differ from the table: (on the broker, in the table)."""

    @property
    def verdict(self) -> str:
        """``ok``, ``missing``, ``partitions`` or ``settings``."""
        if not self.partitions:
            return "missing"
        if self.partitions != self.wanted_partitions:
            return "partitions"
        return "settings" if self.differing else "ok"


class StreamAdmin:
    """The stream table of one stack and generation, on one broker."""

    def __init__(self, kafka: KafkaConfig, generation: str) -> None:
        check_partitions(kafka.partitions)
        self._kafka = kafka
        self._generation = generation
        config: dict[str, Any] = kafka.client(**{"client.id": kafka.id_of("admin"), "socket.timeout.ms": 20_000})
        self._client = AdminClient(config)

    def describe(self) -> list[StreamState]:
        """Every stream of the table, compared with the broker.

        Raises:
            UnavailableError: the broker does not answer.
        """
        wanted = list(physical_names(self._kafka, self._generation))
        try:
            topics = self._client.list_topics(timeout=TIMEOUT_S).topics
            present = [name for _, name in wanted if name in topics]
            configs = self._configs(present)
        except KafkaException as error:
            raise UnavailableError(f"asking {self._kafka.bootstrap} for its streams: {error}") from None
        states = []
        for stream, name in wanted:
            table = stream.broker_config(self._kafka)
            broker = configs.get(name, {})
            differing = {k: (broker[k], v) for k, v in table.items() if k in broker and broker[k] != v}
            count = len(topics[name].partitions) if name in topics else 0
            states.append(StreamState(stream, name, stream.count(self._kafka), count, differing))
        return states

    def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        futures = self._client.describe_configs([ConfigResource(ResourceType.TOPIC, n) for n in names])
        return {r.name: {k: e.value for k, e in f.result(TIMEOUT_S).items()} for r, f in futures.items()}

    def apply(self) -> list[StreamState]:
        """Creates what is missing and sets what differs; a second call changes nothing.

        Returns:
            What was found before, stream by stream (``verdict`` says what was done about it).

        Raises:
            StreamTableError: a stream has another number of partitions. It is never shrunk (Kafka cannot), and growing
                it moves trends to other partitions, which this command does not do behind anyone's back.
            UnavailableError: the broker does not answer.
        """
        states = self.describe()
        if wrong := [s for s in states if s.verdict == "partitions"]:
            lines = "\n".join(
                f"  {s.name}: {s.partitions} on the broker, {s.wanted_partitions} in the settings" for s in wrong
            )
            raise StreamTableError(
                f"these streams have another number of partitions:\n{lines}\nStreams are never shrunk, and "
                "growing them moves trends between partitions. Set TRENDS_KAFKA_PARTITIONS to what the broker has; "
                "nothing was changed."
            )
        try:
            self._create([s for s in states if s.verdict == "missing"])
            self._alter([s for s in states if s.verdict == "settings"])
        except KafkaException as error:
            raise UnavailableError(f"applying the stream table to {self._kafka.bootstrap}: {error}") from None
        return states

    def _create(self, missing: list[StreamState]) -> None:
        if not missing:
            return
        new = [
            NewTopic(
                s.name,
                num_partitions=s.wanted_partitions,
                replication_factor=self._kafka.replication_factor,
                config=s.stream.broker_config(self._kafka),
            )
            for s in missing
        ]
        for future in self._client.create_topics(new, operation_timeout=TIMEOUT_S).values():
            try:
                future.result(TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker
                    raise

    def _alter(self, differing: list[StreamState]) -> None:
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                s.name,
                incremental_configs=[
                    ConfigEntry(name, wanted, incremental_operation=AlterConfigOpType.SET)
                    for name, (_, wanted) in s.differing.items()
                ],
            )
            for s in differing
        ]
        if resources:
            futures: dict[Any, Any] = self._client.incremental_alter_configs(resources)
            for future in futures.values():
                future.result(TIMEOUT_S)
