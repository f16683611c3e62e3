"""One flow process's membership: its consumer, its transactional producer, its partitions, what it has covered.

The order of a start, and why:

1. ``init_transactions``: fences a process of the same name and ends the transaction that it may have left open;
2. join the group, paused (a message could arrive while the assignment is awaited), and let the group settle
   (a one-process flow has one transactional id for all of its processes: there 1 comes after 2);
3. take the committed offsets;
4. read the state back, up to the true end of its partitions, polling the paused consumer meanwhile;
5. check that the state covers exactly what is committed;
6. resume.

A changed assignment ends that: nothing that is not committed yet is kept, so nothing is lost and nothing doubled, and
:meth:`Session.open` begins anew with the new partitions. The membership itself is kept.

Partitions are spread by the range assignor: the same partition of all inputs comes to the same process, and every
rebalance covers all of them. (With cooperative-sticky a static member that dies between the two rounds of a rebalance,
and comes back under its name, leaves partitions without an owner until the next one.) Their members are static: killed
and started again, a process finds its place as it left it, and the others do not notice.

The role of a one-process flow is a single partition, which never moves while its owner lives; there cooperative-sticky
spares the owner when a stand-by joins. Its members are not static: a stand-by that has read the state along takes over
sooner than the owner, started again, could read it back.

When the streams grow, the new number of partitions is taken up while everything runs (:mod:`streams.partitions`). What
was addressed by the old number is committed within its lease, or dropped and begun anew. New partitions are held back
until they are born (:mod:`streams.births`); where state has to move, at a start, between 3 and 4.

What lives elsewhere: what a flow reads and its bounds (:mod:`streams.spec`), the set-up of the clients
(:mod:`streams.clients`), questions to the broker (:mod:`streams.questions`), the transaction itself
(:mod:`streams.writer`), the checks of 5 (:mod:`streams.covers`), records that are gone (:mod:`streams.gaps`), and what
growing streams ask for (:mod:`streams.growth_watch`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams import metrics
from streams.births import Births, Split
from streams.broker import passes, refuse
from streams.clients import consumer_config, producer_config
from streams.config import KafkaConfig
from streams.covers import StateCheck
from streams.dead_letters import Received
from streams.errors import (
    FencedError,
    OffsetsExpiredError,
    RestartRequired,
    StreamTableError,
    TrendsError,
    UnavailableError,
)
from streams.failures import Failures
from streams.gaps import Gaps
from streams.growth_watch import GrowthWatch
from streams.health import FlowStatus, Phase
from streams.io import Addresser, Chunk, Outgoing, Partition, Positions, ranges
from streams.membership import OwnersWatch
from streams.merge import Merge
from streams.partitions import learn_partitions, miscounted
from streams.questions import Questions
from streams.spec import FlowSpec, Limits, OnGap
from streams.state import Restore, StateReader, cover_record
from streams.table import GAPS, Scope
from streams.throttle import Throttle
from streams.writer import Writer

log = logging.getLogger(__name__)

SETTLE_S: Final = 0.5
"""How long an assignment must have stood before it is taken: processes started together find their places first."""
LAG_EVERY_S: Final = 2.0
WAIT_POLL_S: Final = 0.1
"""How often a step that waits for something outside looks after its place in the group …"""
WAIT_UNTOLD_S: Final = 2.0
"""… once it has waited for so long."""
MAX_RENEWALS: Final = 3
RENEWALS_WITHIN_S: Final = 60.0
"""A process that has to begin anew with new clients more often than that within so long ends: there is another one of
its name, or something that a new client does not mend."""
LEAVE_S: Final = 0.5
"""How long a process that leaves its group for good waits for the goodbye to be sent."""


class Session:
    """A flow process between joining its group and leaving it. Single-threaded: the worker's thread alone uses it."""

    def __init__(
        self,
        kafka: KafkaConfig,
        generation: str,
        spec: FlowSpec,
        process: str,
        limits: Limits | None = None,
        on_gap: OnGap = OnGap.STOP,
    ) -> None:
        self.kafka = kafka
        self.generation = generation
        self.spec = spec
        self.process = process
        self.limits = limits or Limits()
        self.on_gap = on_gap
        self.status = FlowStatus(spec.name, process, generation)
        """What it is at, for whoever asks."""
        self.address = Addresser(kafka, generation)
        self.group = kafka.id_of(generation, spec.name)
        self._instance = kafka.id_of(generation, spec.name, process)
        self.assigned: set[Partition] = set()
        self._has_role = False
        self._renewed_at: list[float] = []
        self._renew = False
        self.stopping = False
        self.leaving = False
        self.failure: BaseException | None = None
        """Why the flow ends. Set by whichever part failed; from then on nothing is read and nothing committed.
        (Bytewax would print a Rust backtrace for an exception, and wrap it.)"""
        self.failures = Failures()
        self.taken_at = 0.0
        """When the last chunk was given to the flow (monotonic)."""
        self.unwritten = False
        """Whether the sink holds records that are not committed."""
        self.due: Callable[[], bool] = lambda: False
        """Whether the step has something to do although nothing was read: it then gets an empty chunk."""
        self.throttle: Throttle | None = None
        """Where this flow yields to others: how fast it may read."""
        self._joined = False
        self._subscribed = False
        self._started = False
        self._changed = ""
        self._assigned_at: float | None = None
        self._assignment = 0
        """Counts the changes of what is assigned."""
        self._committed: Positions = {}
        self._begun: Positions = {}
        """Where reading began, by partition."""
        self._read: Positions = {}
        derived = frozenset(self.address.name(s) for s in spec.inputs if s.scope is Scope.GENERATION)
        self._gaps = Gaps(generation, spec.name, self.group, process, derived, on_gap)
        self._down_since: float | None = None
        self._lag_at = 0.0
        self._input_names = [self.address.name(s) for s in spec.inputs]
        self._state_name = self.address.name(spec.state) if spec.state else ""
        self._state_reader: StateReader | None = None
        self._merge: Merge | None = None
        self._consumer = self._new_consumer()
        self._ask = Questions(kafka, self._consumer, self.limits.broker_gone_s, lambda: self.stopping)
        keyed = [self.address.name(s) for s in spec.inputs if s.partitions is None]
        self._watch = GrowthWatch(kafka, self._consumer, self._ask, keyed, spec.moves_state)
        self._owners = OwnersWatch(kafka, self.group, self._instance)
        self._check = StateCheck(spec, self._state_name, self.group)
        self._writer: Writer | None = None

    @property
    def _births(self) -> Births:
        return self._watch.births

    def _new_consumer(self) -> Consumer:
        return Consumer(consumer_config(self.kafka, self.generation, self.spec, self.process, self.limits))

    def _new_writer(self) -> Writer:
        config = producer_config(self.kafka, self.generation, self.spec, self.process, self.limits)
        return Writer(config, self.limits)

    # -- start --------------------------------------------------------------------------------------------------

    def open(
        self,
        restore: Restore | None = None,
        on_event: Callable[[str], None] = log.info,
        progress: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Joins, waits for partitions (standing by as long as there are none), reads the state back, checks it.

        Called again after a RestartRequired, it begins anew with the partitions that there are now: the membership is
        kept, everything else is not.

        Returns:
            False if :meth:`stop` was called before there was anything to do.

        Raises:
            UnavailableError, FencedError, StateMismatchError, StreamTableError: see :mod:`streams.errors`.
        """
        self.status.enter(Phase.JOINING)
        if self._renew:
            self._renew_clients()
        first = not self._joined
        if self.spec.role is None and self._writer is None:
            self._begin_writing()
        self._learn_growth()
        if first:
            self._check_partitions()
        self._started, self._changed, self.failure = False, "", None
        self._read, self._merge = {}, None
        self._watch.forget_read()
        if self.spec.state is not None and self.spec.role is not None:
            # One process holds all of the state, so a stand-by can keep up with it.
            count = self.spec.state.count(self.kafka)
            self._state_reader = StateReader(self.kafka, self._state_name, range(count), restore or _ignore)
        self._joined = True
        if not self._subscribed:
            self._subscribed = True
            topics = [self.address.name(self.spec.role)] if self.spec.role else self._input_names
            self._consumer.subscribe(
                topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
        else:
            self._back_to_committed()
        self._wait_for_partitions(on_event)
        if self.stopping:
            return False
        self._learn_growth()
        self._check_partitions()
        if self.spec.role is not None:
            self._begin_writing()
            self._take(self._all_inputs())
        self.status.partitions = ranges(self.assigned)
        on_event(f"assigned {self.status.partitions}")
        assignment = self._assignment
        self._plan_births()
        if self.spec.moves_state:
            self._split(assignment, on_event)
        if self._births.held:
            on_event(f"held back until their trends' older records are done: {ranges(self._births.held)}")
        if self.spec.state is not None:
            self._restore_state(restore or _ignore, on_event, progress)
            if self.stopping:
                return False
        self._poll_paused(0)
        self._still(assignment)
        self._skip_gaps(on_event)
        self._started = True
        self.status.enter(Phase.RUNNING)
        readable = self.assigned - self._births.held
        if self.spec.ordered and len(readable) > 1:
            self._merge = Merge(self._consumer, readable)
        self._consumer.resume([TopicPartition(*p) for p in readable])
        return True

    def _still(self, assignment: int) -> None:
        if self._assignment != assignment:
            raise RestartRequired("the partitions changed while the state was read")

    def _begin_writing(self) -> None:
        """Takes over the transactional id: whoever wrote under it is fenced, and what it left open is ended."""
        writer = self._writer = self._new_writer()
        try:
            self._ask.call("init_transactions", lambda: writer.take_over(self._ask.call_s))
        except FencedError as error:
            raise self._fenced(error) from None

    def _fenced(self, error: TrendsError) -> TrendsError:
        """What being fenced means; other errors are what they are.

        It does not prove that there is another process of the name: a static member whose session has timed out, as
        while a broker restarts, can be fenced by its own request to join, and a transaction that timed out is fenced by
        the broker. So it begins anew first; of two that are there, the older one ends.
        """
        return self._once_more(error) if isinstance(error, FencedError) else error

    def _once_more(self, error: TrendsError) -> TrendsError:
        """Begin anew with new clients, where that has not been tried too often within a minute: else the error itself.

        The broker may only have been restarted, and librdkafka's clients do not always find their way back from that.
        One that has lost the role begins anew however often: it stands by then.
        """
        if not isinstance(error, FencedError | UnavailableError):
            return error
        if isinstance(error, FencedError) and self.spec.role is not None:
            self._writer = None
            return RestartRequired(f"another process has taken the role over ({error})")
        now = time.monotonic()
        self._renewed_at = [at for at in self._renewed_at if now - at < RENEWALS_WITHIN_S] + [now]
        if len(self._renewed_at) > MAX_RENEWALS:
            return error
        self._renew = True
        return RestartRequired(f"with new clients, since: {error}")

    def _renew_clients(self) -> None:
        """Clients that were fenced, or that wait for a broker which they have forgotten, are of no more use."""
        self._renew = False
        self._consumer.close()
        self._consumer = self._new_consumer()
        self._ask.ask_through(self._consumer)
        self._watch.ask_through(self._consumer)
        self._writer, self._joined, self._subscribed, self._committed = None, False, False, {}
        self.assigned, self._has_role, self._assigned_at = set(), False, None

    def _check_partitions(self) -> None:
        """Reads and writes only streams that have the number of partitions that keys are computed with."""
        if self._wrong_partitions() is not None:
            self._learn_growth()  # they may have grown since it was asked
        if (wrong := self._wrong_partitions()) is not None:
            raise wrong

    def _wrong_partitions(self) -> StreamTableError | None:
        needed = [*self.spec.inputs, *(s for s in (self.spec.state, self.spec.role) if s)]
        names = {self.address.name(stream): stream for stream in needed}
        return miscounted(names, self._ask.streams(), self.kafka, self._watch.growth)

    def _wait_for_partitions(self, on_event: Callable[[str], None]) -> None:
        said = False
        while not self.stopping:
            self._poll_paused(0.05)
            if self._state_reader is not None:
                self._state_reader.poll(0)
            settled = self._assigned_at is not None and time.monotonic() - self._assigned_at >= SETTLE_S
            if self._has_role or (settled and self.assigned):
                return  # (a role stays where it is)
            if settled and not said:
                said = True
                on_event("standing by: no partition is free")
            self.status.enter(Phase.STANDING_BY if settled else Phase.JOINING)

    def _poll_paused(self, timeout_s: float) -> None:
        """Serves the group's callbacks; everything is paused, so no message may come."""
        message = self._consumer.poll(timeout_s)
        if message is None:
            return
        error = message.error()
        if error is None:
            raise AssertionError(f"a message of {message.topic()}/{message.partition()} although it is paused")
        self._on_error(error)

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        if self.spec.role is not None:
            # The role's partition itself is never read; the inputs are taken when the group has settled.
            self._consumer.incremental_assign([])
            if partitions:
                self._has_role = True
            elif self._has_role:
                return  # a rebalance that leaves the role where it is
            self._assignment += 1
            self._assigned_at = time.monotonic()
        else:
            self._take(partitions)
        if self._started:
            self._changed = f"assigned {ranges(self.assigned)}"

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        if self._started:
            self._changed = f"{ranges(self.assigned)} taken back"
        self._let_go()

    def _take(self, partitions: Iterable[Any]) -> None:
        """Holds these partitions, paused at what is committed."""
        ready = self._at_committed(partitions)
        if self.spec.role is not None:
            self._consumer.incremental_assign(ready)
        else:
            self._consumer.assign(ready)
        if ready:
            self._consumer.pause(ready)
        self.assigned = {(p.topic, p.partition) for p in ready}
        self._assignment += 1
        self._assigned_at = time.monotonic()

    def _let_go(self) -> None:
        if self.spec.role is not None:
            self._consumer.incremental_unassign([TopicPartition(*p) for p in self.assigned])
        else:
            self._consumer.unassign()
        self.assigned, self._has_role = set(), False
        self.status.partitions = ""
        self._assignment += 1
        self._assigned_at = time.monotonic()

    def _back_to_committed(self) -> None:
        """What was read and not committed will be read again."""
        held = [TopicPartition(*p) for p in self.assigned]
        if not held:
            return
        if self.spec.role is None:
            self._take(held)
        else:  # taken again once nobody else can be writing
            self._consumer.incremental_unassign(held)
            self.assigned, self._assigned_at = set(), time.monotonic()

    def _all_inputs(self) -> list[Any]:
        return [
            TopicPartition(name, p)
            for name, stream in zip(self._input_names, self.spec.inputs, strict=True)
            for p in range(stream.count(self.kafka))
        ]

    def _at_committed(self, partitions: Iterable[Any]) -> list[Any]:
        """The partitions with the offsets to start from. Nothing committed means the beginning."""
        wanted = [TopicPartition(p.topic, p.partition) for p in partitions]
        if not wanted:
            return []
        known = self._ask.committed((p.topic, p.partition) for p in wanted)
        ready = []
        for p in wanted:
            if (offset := known.get((p.topic, p.partition))) is not None:
                self._committed[(p.topic, p.partition)] = offset
                ready.append(TopicPartition(p.topic, p.partition, offset))
            else:
                self._committed.pop((p.topic, p.partition), None)
                # Not a number: a stream that retention has emptied does not begin at 0. "error" is for known offsets.
                ready.append(TopicPartition(p.topic, p.partition, self._ask.ends((p.topic, p.partition))[0]))
        self._begun |= {(p.topic, p.partition): p.offset for p in ready}
        return ready

    def _restore_state(
        self, restore: Restore, on_event: Callable[[str], None], progress: Callable[[int, int], None] | None
    ) -> None:
        began = time.monotonic()

        def restored(done: int, total: int) -> None:
            self.status.restoring(done, total)
            if progress is not None:
                progress(done, total)

        records = 0
        for reader in self._state_readers(restore):
            try:
                whole = reader.catch_up(lambda: self._poll_paused(0), restored, lambda: self.stopping)
            finally:
                reader.close()
            if not whole:
                return
            self._check.version(reader)
            self._check_covers(reader, self.assigned)
            records += reader.records
        seconds = time.monotonic() - began
        metrics.STATE_RECORDS.labels(self.spec.name).set(records)
        metrics.STATE_SECONDS.labels(self.spec.name).set(seconds)
        on_event(f"read {records:,} state records back in {seconds:.1f} s")

    def _state_readers(self, restore: Restore) -> Iterator[StateReader]:
        """The one that has read along; else one after the other, in the order that grown streams ask for."""
        if self._state_reader is not None:
            reader, self._state_reader = self._state_reader, None
            yield reader
            return
        # (Partitions that are only prepared have no state, and the state stream may not have them yet.)
        for level in self._births.levels({p for _, p in self.assigned if p < self.kafka.partitions}):
            yield StateReader(self.kafka, self._state_name, level, restore)

    def _check_covers(self, reader: StateReader, partitions: Iterable[Partition]) -> None:
        """Covered = committed, for every input partition and every state partition that reflects it."""
        for partition, wrong in self._check.uncovered(reader, self.kafka, partitions, self._committed):
            if partition in self._births.held and self._ask.committed([partition]):
                raise RestartRequired(f"{ranges([partition])} was born while the state was read")
            raise wrong

    # -- reading ------------------------------------------------------------------------------------------------

    def poll(self, most: int) -> Chunk | None:
        """What has arrived, at most so many records; None where there is nothing new.

        Raises:
            RestartRequired: the assignment changed.
            OffsetsExpiredError: a committed offset is no longer in its stream.
            UnavailableError: the broker has been gone for ``Limits.broker_gone_s``.
        """
        messages: list[Any] = []
        positions: Positions = {}
        arrived: list[Any] = self._consumer.consume(most, 0)
        for message in self._merge.take(arrived, most) if self._merge else arrived:
            error = message.error()
            if error is None:
                positions[(message.topic(), message.partition())] = message.offset() + 1
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                # The end's own offset: it lies behind the transaction markers, which are never delivered.
                positions[(message.topic(), message.partition())] = message.offset()
            else:
                self._on_error(error)
        self._raise_if_changed()
        if messages:
            self._down_since = None
            self.status.working()
            if self.throttle is not None:
                self.throttle.took(len(messages))
        self._watch_broker()
        self._report_lag()
        self._watch_growth()
        if self._births.waiting:
            positions |= self._watch.give_birth(self._begun | self._committed, self._read)
        if not messages and all(self._committed.get(p) == offset for p, offset in positions.items()):
            return None
        self._read |= positions
        return Chunk(messages, positions)

    @property
    def held(self) -> bool:
        """Whether reading has to wait, because this flow yields to others."""
        if self.throttle is None or not self.throttle.wait_s():
            return False
        if self.throttle.yielding:
            self.status.waiting("yields to live traffic")
        else:
            self.status.progressed()
        return True

    @property
    def pending(self) -> bool:
        """Whether something was read, or made, that is not committed yet."""
        return self.unwritten or bool(self._read.items() - self._committed.items())

    def _on_error(self, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            return
        if passes(error):
            if code == KafkaError._ALL_BROKERS_DOWN and self._down_since is None:
                self._down_since = time.monotonic()
            return
        refused = refuse(error, f"flow {self.spec.name}, reading")
        if isinstance(refused, OffsetsExpiredError):
            self._gaps.look(self.assigned, self._committed, self._ask.ends)
        raise self._fenced(refused)

    # -- growing streams -----------------------------------------------------------------------------------------

    def _learn_growth(self) -> None:
        """Before anything is addressed: how many partitions there are."""
        if self._watch.refresh() or self.kafka.partitions != self._watch.growth.count:
            self._take_up()

    def _take_up(self) -> None:
        """From here on keys are placed by the new number."""
        self.kafka = self.address.kafka = replace(self.kafka, partitions=self._watch.growth.count)
        learn_partitions(self._consumer, self._growing(), self.kafka.partitions)
        if self._writer is not None:
            self._writer.learn(self._growing(), self.kafka.partitions)
        # The group shares the new partitions out as soon as its members know them.
        self._ask.streams()

    def _growing(self) -> list[str]:
        """The keyed streams that a session itself knows of."""
        streams = [*self.spec.inputs, *([self.spec.state] if self.spec.state else [])]
        return [self.address.name(s) for s in streams if s.partitions is None]

    def _watch_growth(self) -> None:
        """Now and then: have the streams grown, has a partition that is held back been born, has each an owner?"""
        changed = self._watch.look(self._read)
        if changed is None:
            return
        if changed:
            self._grow_while_running()
        metrics.HELD_PARTITIONS.labels(self.spec.name).set(len(self._births.held))
        self._release(self._watch.newly_born())
        if self._watch.growth.steps and self.spec.role is None:
            self._share_out()

    def _share_out(self) -> None:
        """Has the group share its partitions out anew where some have no owner.

        Raises:
            RestartRequired: this process left the group, to join it anew.
        """
        everything = {(name, p) for name in self._births.streams for p in range(self.kafka.partitions)}
        if missing := self._owners.to_share_out(everything):
            self._leave_group()
            raise RestartRequired(f"{ranges(missing)} had no owner: the group shares its partitions out anew")

    def _grow_while_running(self) -> None:
        self._take_up()
        log.info("flow %s: keys are placed in %d partitions from now on", self.spec.name, self.kafka.partitions)
        if self.spec.role is not None:
            new = [p for p in self._all_inputs() if (p.topic, p.partition) not in self.assigned]
            if ready := self._at_committed(new):
                self._consumer.incremental_assign(ready)
                self._consumer.pause(ready)
                self.assigned |= {(p.topic, p.partition) for p in ready}
                self.status.partitions = ranges(self.assigned)
        self._plan_births()

    def _plan_births(self) -> None:
        self._watch.plan(self.assigned, self._committed)
        self._owners.look_soon()

    def _release(self, partitions: Iterable[Partition]) -> None:
        """Reads what was held back from now on."""
        for partition in sorted(partitions):
            if self.spec.moves_state:
                raise RestartRequired(f"{ranges([partition])} was born: the state of its trends is there")
            if partition not in self._committed:
                self._committed |= self._ask.committed([partition])
            if self._committed[partition] != self._begun[partition]:
                self._consumer.seek(TopicPartition(*partition, self._committed[partition]))
            if self._merge is not None:
                self._merge.add(partition)
            elif self.spec.ordered and len(self.assigned - self._births.held) > 1:
                self._merge = Merge(self._consumer, self.assigned - self._births.held)
            self._consumer.resume([TopicPartition(*partition)])
            log.info("flow %s: reading %s", self.spec.name, ranges([partition]))

    def _split(self, assignment: int, on_event: Callable[[str], None]) -> None:
        """Gives birth to the children that are due: the state of their trends moves, in one transaction a parent."""
        by_parent: dict[int, list[Partition]] = {}
        for birth in self._watch.due(self._begun | self._committed):
            by_parent.setdefault(birth.parent[1], []).append(birth.child)
        for parent, children in sorted(by_parent.items()):
            self._split_one(parent, children, assignment, on_event)

    def _split_one(
        self, parent: int, children: Sequence[Partition], assignment: int, on_event: Callable[[str], None]
    ) -> None:
        state, trend_of = self.spec.state, self.spec.state_trend_of
        assert state is not None
        assert trend_of is not None
        self._births.born(children)  # from here on place() says where the state belongs
        split = Split(parent, self.place, trend_of)
        reader = StateReader(self.kafka, self._state_name, {parent, *(number for _, number in children)}, split.look)
        try:
            whole = reader.catch_up(lambda: self._poll_paused(0), self.status.restoring, lambda: self.stopping)
        finally:
            reader.close()
        if not whole:
            raise RestartRequired("asked to end")  # the next open() sees it
        self._check.version(reader)
        if wrong := self._check.unborn(reader, children):
            if self._ask.committed(children):
                raise RestartRequired(f"{ranges(children)} was born meanwhile")
            raise wrong
        self._check_covers(reader, {p for p in self.assigned if p[1] == parent})
        self._still(assignment)
        self.commit(split.records(self.address, state), {child: self._ask.ends(child)[0] for child in children})
        on_event(f"{ranges(children)} born: {len(split):,} state records moved")

    def place(self, trend_id: str) -> int:
        """The partition in which this flow keeps a trend's state."""
        return self._births.place(trend_id)

    def sort(self, received: list[Received[Any]]) -> tuple[list[Received[Any]], list[Outgoing]]:
        """Where state stands beside the inputs: the records that are for this process, and the others, to be sent on
        unchanged to where their trends live now (:meth:`streams.births.Births.sort`)."""
        if self.spec.trend_of is None:
            return received, []
        here, elsewhere = self._births.sort(received, self.spec.trend_of)
        if elsewhere:
            metrics.FORWARDED.labels(self.spec.name).inc(len(elsewhere))
        return here, elsewhere

    # -- records that are gone ----------------------------------------------------------------------------------

    def _skip_gaps(self, on_event: Callable[[str], None]) -> None:
        """Moves on behind the records that are gone, and records them, in one transaction."""
        holes = self._gaps.due(self._committed)
        if not holes:
            return
        missing = [hole.gap for hole in holes if hole.missing]
        self.commit(
            (self.address.record(GAPS, gap, gap.key) for gap in missing),
            {(gap.stream, gap.partition): gap.until for gap, _ in holes},
        )
        for gap, _ in holes:
            self._consumer.seek(TopicPartition(gap.stream, gap.partition, gap.until))
        for gap in missing:
            metrics.GAP_OFFSETS.labels(self.spec.name, gap.stream).inc(gap.until - gap.first)
            on_event(f"skipped {gap.stream}/{gap.partition} from {gap.first:,} to {gap.until - 1:,}: gone unread")

    def _watch_broker(self) -> None:
        """librdkafka says once that all brokers are down; a call that succeeds says that they are back."""
        since = self._down_since
        if since is None:
            return
        try:
            self._consumer.list_topics(self._input_names[0], timeout=1.0)
            self._down_since = None
            self.status.working()
        except KafkaException as error:
            if time.monotonic() - since > self.limits.broker_gone_s:
                raise UnavailableError(
                    f"no broker at {self.kafka.bootstrap} for {self.limits.broker_gone_s:.0f} s: {error}"
                ) from None
            self.status.waiting(f"no broker answers at {self.kafka.bootstrap}")

    def _raise_if_changed(self) -> None:
        if self._changed:
            raise RestartRequired(self._changed)

    def _report_lag(self) -> None:
        now = time.monotonic()
        if now - self._lag_at < LAG_EVERY_S:
            return
        self._lag_at = now
        lags = self.lag()
        for stream, lag in lags.items():
            metrics.LAG_RECORDS.labels(self.spec.name, stream).set(lag)
        self.status.behind(sum(lags.values()))
        if self._merge is not None:
            metrics.QUEUE_RECORDS.labels(f"{self.spec.name}.merge").set(self._merge.waiting)
            metrics.QUEUE_BOUND.labels(f"{self.spec.name}.merge").set(self._merge.bound)

    def lag(self) -> dict[str, int]:
        """Offsets between what is committed and the end, by input stream, as far as the last fetch knew it."""
        lags = dict.fromkeys(self._input_names, 0)
        for stream, partition in self.assigned:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(stream, partition), cached=True)
            if high >= 0:
                lags[stream] += max(high - self._committed.get((stream, partition), max(low, 0)), 0)
        return lags

    def wait_outside(self, done: Callable[[float], bool], waits_for: Callable[[], str]) -> None:
        """Waits, within a step, for something outside (a store), as long as that takes, as a member in good standing:
        nothing more is read, the group is served, whoever looks is told, and a signal ends it.

        Args:
            done: waits so many seconds at most; True once it is over.
            waits_for: what is waited for, in one line.

        Raises:
            RestartRequired: the partitions have changed meanwhile.
            UnavailableError: the process was asked to end; nothing of this step was committed.
        """
        began, held = time.monotonic(), [TopicPartition(*p) for p in self.assigned]
        paused = False
        while not done(WAIT_POLL_S):
            if self.stopping:
                raise UnavailableError(f"waiting for {waits_for()}")
            if time.monotonic() - began < WAIT_UNTOLD_S:
                continue
            if not paused:
                self._consumer.pause(held)
                paused = True
            self._poll_paused(0)
            self._raise_if_changed()
            self._report_lag()
            self.status.waiting(f"{waits_for()}, for {time.monotonic() - began:.0f} s")
        if paused:
            self.status.working()
            resting = self._merge.resting if self._merge else frozenset()
            self._consumer.resume([TopicPartition(*p) for p in self.assigned - self._births.held - resting])

    # -- writing ------------------------------------------------------------------------------------------------

    def commit(self, records: Iterable[Outgoing], positions: Positions) -> int:
        """One transaction: the records, the covers of the touched state, the offsets. All of it or nothing.

        Returns:
            How many records were written.

        Raises:
            FencedError, RestartRequired, UnavailableError: nothing of it was committed (after an UnavailableError of
                the commit itself it may have been: the start then finds it in the committed offsets).
        """
        self._raise_if_changed()
        self._may_write()
        positions = {p: offset for p, offset in positions.items() if self._committed.get(p) != offset}
        # Records that nothing read has led to are committed with the offsets that stand: so that the group refuses them
        # from a process that has lost its partitions without knowing it.
        positions = positions or {p: offset for p, offset in self._committed.items() if p in self.assigned}
        began = time.monotonic()
        try:
            count = self._write(records, positions)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._TIMED_OUT:
                doing = f"a transaction did not end within {self.limits.transaction_s:g} s"
            else:
                doing = f"flow {self.spec.name}, writing"
            raise self._once_more(refuse(error.args[0], doing)) from None
        self._committed |= positions
        if self._births.waiting:
            self._release(self._births.born(positions))
        self.status.progressed()
        metrics.TRANSACTION_SECONDS.labels(self.spec.name).observe(time.monotonic() - began)
        metrics.TRANSACTION_RECORDS.labels(self.spec.name).observe(count)
        return count

    def _write(self, records: Iterable[Outgoing], positions: Positions) -> int:
        assert self._writer is not None, "nothing is written before open()"
        covers = (
            cover_record(self._state_name, state_partition, partition, offset, self.spec.state_version)
            for partition, offset in positions.items()
            for state_partition in self.spec.state_partitions_of(partition, self.kafka)
        )
        member = self._consumer.consumer_group_metadata
        return self._writer.write(records, covers, positions, member, self._may_write)

    def _may_write(self) -> None:
        self._watch.may_write(self._committed)

    # -- end ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Asks for the end: what was read is finished and committed. Safe to call from a signal handler."""
        self.stopping = True
        self.status.enter(Phase.STOPPING)

    def leave(self) -> None:
        """Asks for the end for good: as ``stop``, and its partitions go to the other processes at once."""
        self.leaving = True
        self.stop()

    def close(self) -> None:
        """Leaves the broker. A static member keeps its place in the group until the session times out, for its
        successor, unless it was told to leave."""
        if self._state_reader is not None:
            self._state_reader.close()
        if self.leaving and self._joined:
            self._leave_group()
        self._consumer.close()

    def _leave_group(self) -> None:
        """librdkafka's static members say goodbye when they unsubscribe, never when they close."""
        self._started = self._subscribed = False
        with contextlib.suppress(KafkaException, TrendsError):
            self._consumer.unsubscribe()
            deadline = time.monotonic() + LEAVE_S
            while time.monotonic() < deadline:
                self._consumer.poll(0.05)  # the group's answers are served here


def _ignore(key: bytes, value: bytes | None) -> None:
    """A flow with a state stream and nothing to restore."""
