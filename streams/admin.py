"""Creating the streams of the table, checking them against the broker, growing them. Nothing is shrunk, and nothing
deleted but a whole generation."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from streams.codec import encode, headers_of
from streams.config import KafkaConfig
from streams.errors import SettingsError, StreamTableError, UnavailableError
from streams.growth import Growth
from streams.keys import check_partitions
from streams.partitions import growth as growth_now
from streams.records import ChangePhase, PartitionChange
from streams.table import PARTITIONS, TABLE, Scope, Stream

TIMEOUT_S: Final = 30.0
SETTLE_S: Final = 0.2
"""Between making streams or partitions and looking whether every broker knows them."""


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
    spare_partitions: int = 0
    """So many more than wanted are fine: made for a growth that has not become active."""

    @property
    def verdict(self) -> str:
        """``ok``, ``missing``, ``partitions`` or ``settings``."""
        if not self.partitions:
            return "missing"
        if not self.wanted_partitions <= self.partitions <= self.wanted_partitions + self.spare_partitions:
            return "partitions"
        return "settings" if self.differing else "ok"


@dataclass(frozen=True, slots=True)
class GrowthReport:
    """What `grow` has done, or would do."""

    before: int
    after: int
    grown: tuple[str, ...]
    """Streams that got partitions."""
    active: bool
    """Whether keys are placed by the new number now."""


class StreamAdmin:
    """The stream table of one stack and generation, on one broker."""

    def __init__(self, kafka: KafkaConfig, generation: str, table: Sequence[Stream] = TABLE) -> None:
        check_partitions(kafka.partitions)
        self._kafka = kafka
        self._generation = generation
        self._table = tuple(table)
        config: dict[str, Any] = kafka.client(**{"client.id": kafka.id_of("admin"), "socket.timeout.ms": 20_000})
        self._client = AdminClient(config)

    def describe(self) -> list[StreamState]:
        """Every stream of the table, compared with the broker.

        Raises:
            UnavailableError: the broker does not answer.
        """
        growth = self.growth()
        wanted = [(stream, stream.physical(self._kafka, self._generation)) for stream in self._table]
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
            target = stream.partitions or growth.count
            spare = 0 if stream.partitions else max((growth.coming or 0) - growth.count, 0)
            states.append(StreamState(stream, name, target, count, differing, spare))
        return states

    def growth(self) -> Growth:
        """How many partitions keyed streams have, and how they got there. What is recorded wins over the setting.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return growth_now(self._kafka)

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
                it moves trends to other partitions: that is what :meth:`grow` is for.
            UnavailableError: the broker does not answer.
        """
        states = self.describe()
        if wrong := [s for s in states if s.verdict == "partitions"]:
            raise self._wrong(wrong)
        try:
            self._create([s for s in states if s.verdict == "missing"])
            self._alter([s for s in states if s.verdict == "settings"])
        except KafkaException as error:
            raise UnavailableError(f"applying the stream table to {self._kafka.bootstrap}: {error}") from None
        return states

    def _wrong(self, wrong: Sequence[StreamState]) -> StreamTableError:
        lines = "\n".join(f"  {s.name}: {s.partitions} on the broker, {s.wanted_partitions} wanted" for s in wrong)
        fewer = all(s.partitions < s.wanted_partitions for s in wrong)
        return StreamTableError(
            f"these streams have another number of partitions:\n{lines}\n{_way_on(self.growth(), fewer)}"
        )

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
        # The controller has made them; a broker that is asked the next moment may not have heard of it yet.
        deadline = time.monotonic() + TIMEOUT_S
        while not {s.name for s in missing} <= self._client.list_topics(timeout=TIMEOUT_S).topics.keys():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{self._kafka.bootstrap} does not list the streams that were just made")
            time.sleep(SETTLE_S)

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

    # -- growing -------------------------------------------------------------------------------------------------

    def grow(self, to: int, on_event: Callable[[str], None] = lambda _: None, dry_run: bool = False) -> GrowthReport:
        """Grows all keyed streams of the pipeline, of all generations, to ``to`` partitions each.

        First the partitions are made, which nobody uses yet; then one record says that keys are placed by the new
        number, which all writers follow. May be called again after it was killed anywhere: it goes on.

        Raises:
            SettingsError: ``to`` is not a number that the streams can grow to.
            StreamTableError: streams are missing, or have partitions that nothing explains; or another `grow` was
                quicker. Nothing that is in use was changed.
            UnavailableError: the broker does not answer. Call it again.
        """
        growth = self._may_grow(to)
        grown = self._short(to)
        if dry_run:
            return GrowthReport(growth.count, to, grown, active=growth.count == to)
        if growth.count == to:  # a stream that was created while the others grew
            self._make_partitions(to, on_event)
            return GrowthReport(growth.count, to, grown, active=True)
        self.prepare_growth(to, on_event)
        self._record(growth.count, to, ChangePhase.ACTIVE)
        if (stands := self.growth()).count != to:
            raise StreamTableError(
                f"another `grow` was quicker: keys are placed in {stands.count} partitions now. Nothing is lost; "
                f"`trends streams grow {to}` goes on from there."
            )
        on_event(f"keys are placed in {to} partitions from now on")
        self._make_partitions(to, on_event)
        return GrowthReport(growth.count, to, grown, active=True)

    def prepare_growth(self, to: int, on_event: Callable[[str], None] = lambda _: None) -> None:
        """The first half of :meth:`grow`: the partitions stand, and nobody uses them."""
        growth = self._may_grow(to)
        self._create([s for s in self.describe() if s.stream.name == PARTITIONS.name and not s.partitions])
        if (growth.coming or 0) < to:
            self._record(growth.count, to, ChangePhase.PREPARING)
        self._make_partitions(to, on_event)

    def _may_grow(self, to: int) -> Growth:
        growth = self.growth()
        try:
            check_partitions(to)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if to < growth.count:
            raise SettingsError(f"keys are placed in {growth.count} partitions already; streams are never shrunk")
        present = self._keyed()
        if not present:
            raise StreamTableError("there are no streams yet: create them with `trends streams apply`")
        most = max(growth.count, growth.coming or 0, to if growth.steps else 0)
        least = 1 if growth.steps and growth.count == to else growth.count
        wrong = {name: count for name, count in present.items() if not least <= count <= most}
        if wrong:
            found = ", ".join(f"{name} {count}" for name, count in wrong.items())
            way = _way_on(growth, max(wrong.values()) < growth.count)
            raise StreamTableError(f"not every stream has {growth.count} partitions: {found}. {way}")
        return growth

    def _keyed(self) -> dict[str, int]:
        """The keyed streams on the broker, of all generations, with their partitions."""
        keyed = [s for s in self._table if s.partitions is None]
        all_ = {s.physical(self._kafka, "") for s in keyed if s.scope is Scope.ALL}
        front = re.escape(f"{self._kafka.stack}.") if self._kafka.stack else ""
        names = "|".join(re.escape(s.name) for s in keyed if s.scope is Scope.GENERATION)
        of_generation = re.compile(rf"{front}[a-z][a-z0-9_]*\.(?:{names})")
        try:
            topics = self._client.list_topics(timeout=TIMEOUT_S).topics
        except KafkaException as error:
            raise UnavailableError(f"asking {self._kafka.bootstrap} for its streams: {error}") from None
        return {
            name: len(topic.partitions)
            for name, topic in sorted(topics.items())
            if name in all_ or of_generation.fullmatch(name)
        }

    def _short(self, to: int) -> tuple[str, ...]:
        return tuple(name for name, count in self._keyed().items() if count < to)

    def _make_partitions(self, to: int, on_event: Callable[[str], None]) -> None:
        """Until every keyed stream has them, those that somebody creates meanwhile too."""
        deadline = time.monotonic() + TIMEOUT_S
        while short := self._short(to):
            if time.monotonic() > deadline:
                raise UnavailableError(f"still without {to} partitions after {TIMEOUT_S:.0f} s: {', '.join(short)}")
            on_event(f"making {to} partitions of {len(short)} streams")
            futures: dict[Any, Any] = self._client.create_partitions([NewPartitions(name, to) for name in short])
            for future in futures.values():
                try:
                    future.result(TIMEOUT_S)
                except KafkaException as error:
                    # Another `grow` was quicker, or the broker's list was not up to date yet: looked at again.
                    if error.args[0].code() != KafkaError.INVALID_PARTITIONS:
                        raise UnavailableError(f"making partitions: {error}") from None
            time.sleep(SETTLE_S)

    def _record(self, before: int, after: int, phase: ChangePhase) -> None:
        """Appends a change, acknowledged by all replicas."""
        change = PartitionChange(before=before, after=after, phase=phase, changed_at=datetime.now(UTC))
        failed: list[str] = []
        producer = Producer(self._kafka.client(**{"enable.idempotence": True, "message.timeout.ms": 10_000}))
        producer.produce(
            PARTITIONS.physical(self._kafka, self._generation), encode(change), change.record_id.encode(), 0,
            on_delivery=lambda error, _: failed.append(error.str()) if error else None,
            headers=headers_of(change),  # type: ignore[arg-type]
        )  # fmt: skip
        if producer.flush(TIMEOUT_S) or failed:
            raise UnavailableError(
                f"the change to {after} partitions was not acknowledged ({', '.join(failed) or 'no answer'}); "
                f"`trends streams grow {after}` goes on"
            )

    # -- deleting ------------------------------------------------------------------------------------------------

    def members(self, groups: Sequence[str]) -> dict[str, int]:
        """The consumer groups among these that have members, with how many.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found: dict[str, int] = {}
        for name, future in self._client.describe_consumer_groups(list(groups), request_timeout=TIMEOUT_S).items():
            try:
                if count := len(future.result(TIMEOUT_S).members):
                    found[name] = count
            except KafkaException as error:
                if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise UnavailableError(f"asking for the group {name}: {error}") from None
        return found

    def delete_groups(self, groups: Sequence[str]) -> int:
        """Deletes consumer groups with their offsets; how many there were.

        Raises:
            UnavailableError: the broker does not answer, or a group has members.
        """
        deleted = 0
        for name, future in self._client.delete_consumer_groups(list(groups), request_timeout=TIMEOUT_S).items():
            try:
                future.result(TIMEOUT_S)
                deleted += 1
            except KafkaException as error:
                if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise UnavailableError(f"deleting the group {name}: {error}") from None
        return deleted

    def delete_generation(self) -> int:
        """Deletes the streams that belong to this generation alone; how many there were.

        Raises:
            UnavailableError: the broker does not answer.
        """
        try:
            topics = self._client.list_topics(timeout=TIMEOUT_S).topics
            mine = [s.physical(self._kafka, self._generation) for s in self._table if s.scope is Scope.GENERATION]
            there = [name for name in mine if name in topics]
            if not there:
                return 0
            for future in self._client.delete_topics(there, operation_timeout=TIMEOUT_S).values():
                future.result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise UnavailableError(f"deleting the streams of {self._generation}: {error}") from None
        return len(there)


def _way_on(growth: Growth, fewer: bool) -> str:
    """What to do about streams with another number of partitions; ``fewer``: none has more than it should."""
    if not growth.steps:
        return (
            "Set TRENDS_KAFKA_PARTITIONS to what the broker has; `trends streams grow` then moves trends with their "
            "state to more partitions. Streams are never shrunk. Nothing was changed."
        )
    if fewer:
        return f"`trends streams grow {growth.count}` adds what is missing. Nothing was changed."
    return (
        f"Keys are placed in {growth.count} partitions, and somebody has added more; nothing writes to those. "
        "`trends streams grow` with the largest number of them takes them into use. Nothing was changed."
    )
