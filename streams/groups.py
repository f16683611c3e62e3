"""A flow's consumer group from outside: what it has committed, who is in it, and holding it while its state is written.

Whoever rewrites a flow's state is the only member of its group meanwhile, so no process of the flow can write beside
it: a process that joins takes the membership away, and with it the right to commit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.broker import end_offsets, first_offsets, patiently
from streams.config import KafkaConfig
from streams.errors import GroupBusyError, UnavailableError
from streams.io import Addresser, Partition, Positions
from streams.spec import FlowSpec

TIMEOUT_S: Final = 20.0
JOIN_S: Final = 30.0
"""How long joining an empty group may take."""
MAX_POLL_MS: Final = 900_000
"""Between two calls of :meth:`Hold.keep`."""


class FlowGroup:
    """Asks about one flow's group and inputs. It never joins the group."""

    def __init__(self, kafka: KafkaConfig, generation: str, spec: FlowSpec) -> None:
        self.kafka = kafka
        self.spec = spec
        self.name = kafka.id_of(generation, spec.name)
        address = Addresser(kafka, generation)
        self.role_stream = address.name(spec.role) if spec.role else ""
        self.partitions: list[Partition] = [(address.name(s), p) for s in spec.inputs for p in range(s.count(kafka))]
        self.state_stream = address.name(spec.state) if spec.state else ""
        admin: dict[str, Any] = kafka.client()
        self._admin = AdminClient(admin)
        self._client = Consumer(kafka.client(**{"group.id": self.name, "isolation.level": "read_uncommitted"}))

    def committed(self) -> Positions:
        """What the group has committed, input partitions without an offset left out.

        Raises:
            UnavailableError: the broker does not answer.
        """
        wanted = [TopicPartition(*p) for p in self.partitions]
        found = self._ask("for committed offsets", lambda: self._client.committed(wanted, TIMEOUT_S))
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def ends(self) -> dict[Partition, tuple[int, int]]:
        """The first offset and the end of each input partition.

        Raises:
            UnavailableError: the broker does not answer.
        """

        first = self._ask("for first offsets", lambda: first_offsets(self._admin, self.partitions, TIMEOUT_S))
        ends = self._ask("for ends", lambda: end_offsets(self._admin, self.partitions, TIMEOUT_S))
        return {p: (first[p], ends[p]) for p in self.partitions}

    def members(self) -> list[str]:
        """The client ids of the processes that are in the group.

        Raises:
            UnavailableError: the broker does not answer.
        """

        def ask() -> list[str]:
            future = self._admin.describe_consumer_groups([self.name])[self.name]
            return sorted(member.client_id for member in future.result(TIMEOUT_S).members)

        found: list[str] = self._ask("for the members of its group", ask)
        return found

    def state_partitions_of(self, partition: Partition) -> range:
        """The state partitions that cover an input partition: its own, or all where one process keeps the state."""
        if self.spec.state is None:
            return range(0)
        count = self.spec.state.count(self.kafka)
        return range(count) if self.spec.role else range(partition[1], partition[1] + 1)

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return patiently(call, TIMEOUT_S)
        except KafkaException as error:
            raise UnavailableError(f"asking {what} of {self.spec.name}: {error}") from None

    def close(self) -> None:
        """Leaves the broker."""
        self._client.close()


class Hold:
    """A context manager: the only member of a flow's group. A process that was killed is waited for until its session
    has ended.

    Raises:
        GroupBusyError: on entering, processes of the flow run; in :meth:`keep`, one has joined since.
    """

    def __init__(self, group: FlowGroup) -> None:
        self._group = group
        self._held = False
        self._assigned = 0
        self._lost = False
        spec = group.spec
        self._consumer = Consumer(
            group.kafka.client(
                **{
                    "client.id": f"{group.name}.state-tool",
                    "group.id": group.name,
                    "partition.assignment.strategy": "cooperative-sticky" if spec.role else "range",
                    # As a process of the flow: one that is run again after it was killed waits for its own as long.
                    "session.timeout.ms": group.kafka.session_timeout_ms,
                    "heartbeat.interval.ms": max(group.kafka.session_timeout_ms // 10, 100),
                    "max.poll.interval.ms": MAX_POLL_MS,
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                }
            )
        )

    def __enter__(self) -> Hold:
        try:
            self._wait_until_empty()
            self._join()
        except BaseException:
            self._consumer.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(KafkaException):
            self._consumer.unsubscribe()
        self._consumer.close()

    def _wait_until_empty(self) -> None:
        deadline = time.monotonic() + 1.5 * self._group.kafka.session_timeout_ms / 1000
        while members := self._group.members():
            if time.monotonic() > deadline:
                raise GroupBusyError(
                    f"processes of {self._group.spec.name} run ({', '.join(members[:8])}): stop them first, with "
                    "`trends down`, Ctrl-C of `trends run`, or where they were started. Nothing was changed."
                )
            time.sleep(0.2)

    def _join(self) -> None:
        spec, group = self._group.spec, self._group
        streams = [group.role_stream] if spec.role else sorted({name for name, _ in group.partitions})
        wanted = 1 if spec.role else len(group.partitions)
        self._consumer.subscribe(streams, on_assign=self._on_assign, on_revoke=self._on_lost, on_lost=self._on_lost)
        deadline = time.monotonic() + JOIN_S
        while not self._held:
            self.keep()
            if time.monotonic() > deadline:
                raise UnavailableError(f"the group {group.name} has given nothing to its only member in {JOIN_S:.0f} s")
        if self._assigned < wanted:
            raise GroupBusyError(f"a process of {spec.name} joined its group just now: stop it first")

    def keep(self, timeout_s: float = 0.05) -> None:
        """Stays in the group; to be called now and then.

        Raises:
            GroupBusyError: a process of the flow has joined; what was committed before stands, the rest is not written.
        """
        self._consumer.poll(timeout_s)
        if self._lost:
            raise GroupBusyError(
                f"a process of {self._group.spec.name} has joined its group: stop it, and run this command again"
            )

    def member(self) -> Any:
        """What a transaction needs to commit offsets as this member."""
        return self._consumer.consumer_group_metadata()

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        # Nothing is read here: the membership alone is wanted.
        if self._group.spec.role is not None:
            consumer.incremental_assign([])
        else:
            consumer.assign([])
        if partitions or not self._held:
            self._assigned = len(partitions)
            self._held = True

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        if self._group.spec.role is not None:
            consumer.incremental_unassign([])
        else:
            consumer.unassign()
        if self._held:
            self._lost = True
