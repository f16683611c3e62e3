"""Growing streams as one flow process meets them: by which number of partitions it places keys, and for how long; which
partitions are held back, and when they are born. It asks and decides; :mod:`streams.session` reads and writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import Consumer

from streams.births import Birth, Births
from streams.config import KafkaConfig
from streams.errors import RestartRequired, UnavailableError
from streams.growth import Growth, Step
from streams.io import Partition, Positions, ranges
from streams.partitions import LEASE_S, LOOK_S, VIEW_S, PartitionsView
from streams.questions import Questions

QUESTION_S: Final = 1.0
"""Bound on one question for the number of partitions: asked once a second, it must not hold up a process."""


class GrowthWatch:
    """What a process knows of its streams' growth. Only the streams ``keyed`` grow."""

    def __init__(
        self, kafka: KafkaConfig, consumer: Consumer, ask: Questions, keyed: Iterable[str], moves_state: bool
    ) -> None:
        """``moves_state``: where a partition is born, the state of its trends moves."""
        self._ask = ask
        self._keyed = frozenset(keyed)
        self._moves_state = moves_state
        self._view = PartitionsView(kafka, consumer)
        self._looked_at = 0.0
        self._old: Positions = {}
        """Read before the number of partitions changed, and so perhaps addressed by the old one; to be committed …"""
        self._old_until = 0.0
        """… by this moment (monotonic)."""
        self._seen_born: set[Partition] = set()
        self._ends: dict[tuple[Partition, Step], int] = {}
        self.births = Births(self.growth, self._keyed)

    @property
    def growth(self) -> Growth:
        """How the streams have grown, as far as it is known."""
        return self._view.growth

    def ask_through(self, consumer: Consumer) -> None:
        """Another consumer, the former one is closed."""
        self._view.ask_through(consumer)

    # -- the number of partitions -------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Whether the number of partitions has changed; asked again while no broker answers, within the bound.

        Raises:
            UnavailableError: none did.
        """
        deadline = time.monotonic() + self._ask.bound_s
        while True:
            try:
                return self._view.refresh(QUESTION_S)
            except UnavailableError:
                if self._ask.give_up() or time.monotonic() > deadline:
                    raise

    def look(self, read: Positions) -> bool | None:
        """Now and then: whether the number has changed; None where it is not time, or nobody has answered.

        What was ``read`` until then may have been addressed by the old number: it may still be committed, for as long
        as the old number's lease goes.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return None
        fresh_at = self._view.fresh_at or now
        try:
            changed = self._view.refresh(QUESTION_S)
        except UnavailableError:
            return None  # nothing is committed by a view that is too old
        finally:
            self._looked_at = time.monotonic()
        if changed:
            self._old, self._old_until = dict(read), fresh_at + VIEW_S
        return changed

    def forget_read(self) -> None:
        """What was read and is not committed will be read again, and addressed anew."""
        self._old = {}

    def may_write(self, committed: Positions) -> None:
        """That no key was placed by a number of partitions that may not count any more.

        Raises:
            RestartRequired: the streams have grown, and the lease of the old number is over.
            UnavailableError: nobody says how many partitions there are.
        """
        if self._view.age_s > VIEW_S and self.refresh():
            raise RestartRequired(f"the streams have grown to {self.growth.count} partitions")
        if self._old:
            if all(committed.get(p, -1) >= offset for p, offset in self._old.items()):
                self._old = {}
            elif time.monotonic() > self._old_until:
                raise RestartRequired("the streams have grown, and what was addressed before came too late")

    # -- births -------------------------------------------------------------------------------------------------

    def plan(self, assigned: set[Partition], committed: Positions) -> None:
        """Which of the partitions held here are born, and which children theirs are still to have."""
        self.births = Births(self.growth, self._keyed)
        children = self.births.children_of(assigned)
        self.births.plan(assigned, committed | self._ask.committed(children - assigned))
        self._seen_born = set()
        self._looked_at = 0.0

    def newly_born(self) -> set[Partition]:
        """What was held back here, and has been born elsewhere meanwhile."""
        held = self.births.held
        if not held:
            return set()
        born = self._ask.committed(held).keys()
        if self._moves_state and born != self._seen_born and born != held:
            self._seen_born = set(born)  # its siblings are about to be: one beginning anew for all of them
            return set()
        return self.births.born(born)

    def due(self, committed: Positions) -> list[Birth]:
        """Children whose parents have been read, and committed (or begun with), to the end of the old number."""
        due = self.births.due(committed, self._end_of)
        if not self._moves_state:
            return due
        # State is of all inputs: it moves when all of them are there.
        children = {birth.child for birth in due}
        return [b for b in due if all((name, b.child[1]) in children for name in self._keyed)]

    def give_birth(self, committed: Positions, given: Positions) -> Positions:
        """The first offsets of children that are due and not ``given`` yet, to be committed with the next transaction.

        Raises:
            RestartRequired: their state has to move first, which is done at a start.
        """
        due = self.due(committed)
        if due and self._moves_state:
            raise RestartRequired(f"{ranges(b.child for b in due)} can be born: the state of its trends moves there")
        return {b.child: self._ask.ends(b.child)[0] for b in due if b.child not in given}

    def _end_of(self, parent: Partition, step: Step) -> int | None:
        """Where a parent ended when nobody placed keys by the old number any more: asked once."""
        if (parent, step) not in self._ends:
            if not self._view.over(step):
                return None
            self._ends[parent, step] = self._ask.offset_at(parent, step.at_ms + int(LEASE_S * 1000))
        return self._ends[parent, step]
