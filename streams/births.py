"""Partitions that a growth made, as one flow sees them: held back until the older records of their trends are done,
then born, once and for good. What is decided here is pure; :mod:`streams.growth_watch` asks the broker,
:mod:`streams.session` writes.

A partition's birth is the first offset that the flow's group commits in it. It is written by whoever owns the parent,
in the transaction that says that the parent has been read to where the old number ended; where state stands beside the
inputs, the state of the child's trends moves in that very transaction. So there is no moment at which two processes, or
none, could count a trend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streams.dead_letters import Received, headers_of_message
from streams.growth import Growth, Step
from streams.io import Addresser, Outgoing, Partition, Positions
from streams.keys import is_place_of, partition_of
from streams.table import Stream


@dataclass(frozen=True, slots=True)
class Birth:
    """A child that a parent, read up to some offset, gives its trends to."""

    child: Partition
    parent: Partition
    step: Step


EndOf = Callable[[Partition, Step], int | None]
"""The offset in a parent behind which nothing of its children's trends comes any more; None: not to be known yet."""


class Births:
    """What a process knows of the births among its partitions and their children. Only the streams ``keyed`` grow."""

    def __init__(self, growth: Growth, keyed: Iterable[str]) -> None:
        self.growth = growth
        self.streams = frozenset(keyed)
        self._births: dict[Partition, Birth] = {}
        self.held: set[Partition] = set()
        """Assigned, and not to be read yet."""
        self._unborn: set[int] = set()

    def children_of(self, assigned: Iterable[Partition]) -> set[Partition]:
        """Partitions whose committed offsets tell whether these have given birth to them."""
        return {
            (stream, child) for stream, p in assigned if stream in self.streams for child, _ in self.growth.children(p)
        }

    def plan(self, assigned: Iterable[Partition], committed: Mapping[Partition, int]) -> None:
        """Begins with these partitions; ``committed`` knows them and their children."""
        assigned = set(assigned)
        self._births = {
            (stream, child): Birth((stream, child), (stream, p), step)
            for stream, p in assigned
            if stream in self.streams
            for child, step in self.growth.children(p)
            if (stream, child) not in committed
        }
        self.held = {
            (stream, p)
            for stream, p in assigned
            if stream in self.streams
            and (p >= self.growth.count or (self.growth.birth(p) is not None and (stream, p) not in committed))
        }
        self._recount()

    def _recount(self) -> None:
        self._unborn = {number for _, number in (*self._births, *self.held)}

    @property
    def waiting(self) -> bool:
        """Whether any birth is still to come."""
        return bool(self._births or self.held)

    def due(self, read: Positions, end_of: EndOf) -> list[Birth]:
        """Children whose parents have been read far enough. ``read``: what is committed (or begun with)."""
        found = []
        for birth in self._births.values():
            if birth.parent in self.held or birth.parent not in read:
                continue
            end = end_of(birth.parent, birth.step)
            if end is not None and read[birth.parent] >= end:
                found.append(birth)
        return found

    def born(self, partitions: Iterable[Partition]) -> set[Partition]:
        """These have a committed offset now; those of them that were held here and may be read from now on."""
        partitions = set(partitions)
        for partition in partitions:
            self._births.pop(partition, None)
        released = self.held & partitions
        self.held -= released
        self._recount()
        return released

    def place(self, trend_id: str) -> int:
        """Where this flow keeps a trend's state: in its partition, or in that of the ancestor that still has it."""
        line = self.growth.line_of(trend_id)
        here = line[0]
        for child in line[1:]:
            if child in self._unborn:
                break
            here = child
        return here

    def levels(self, partitions: Iterable[int]) -> list[list[int]]:
        """State partitions in the order in which they are read back: a parent's record that a key has moved away must
        not come after the child's record of that key."""
        levels: dict[int, list[int]] = {}
        for p in sorted(partitions):
            step = self.growth.birth(p)
            levels.setdefault(step.after if step else 0, []).append(p)
        return [levels[after] for after in sorted(levels)]

    def sort(
        self, received: list[Received[Any]], trend_of: Callable[[Any], str]
    ) -> tuple[list[Received[Any]], list[Outgoing]]:
        """The records that are for this process, and the others, to be sent on unchanged to where their trends live
        now. (Somebody stood still while the streams grew.) A record in a partition where its trend never lived is the
        step's to refuse."""
        count, here, elsewhere = self.growth.count, [], []
        for each in received:
            trend_id, message = trend_of(each.record), each.message
            home, found = partition_of(trend_id, count), message.partition()
            if found == home or found == self.place(trend_id) or not is_place_of(trend_id, found, count):
                here.append(each)
            else:
                headers: Any = headers_of_message(message)
                elsewhere.append(Outgoing(message.topic(), home, message.key(), message.value(), headers or None))
        return here, elsewhere


class Split:
    """The state that moves when a state partition gives birth: read whole first, then written in one transaction."""

    def __init__(self, parent: int, place: Callable[[str], int], trend_of: Callable[[bytes, bytes], str]) -> None:
        """``place``: where a trend's state belongs from now on; ``trend_of``: of a state record."""
        self._parent = parent
        self._place = place
        self._trend_of = trend_of
        self._moving: dict[bytes, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        """How many state records move."""
        return len(self._moving)

    def look(self, key: bytes, value: bytes | None) -> None:
        """Takes one state record, in log order; a value of None: the key is gone."""
        self._moving.pop(key, None)
        if value is not None and (place := self._place(self._trend_of(key, value))) != self._parent:
            self._moving[key] = place, value

    def records(self, address: Addresser, state: Stream) -> Iterator[Outgoing]:
        """What to write: each record in its new place, and its end in the old one."""
        for key, (place, value) in self._moving.items():
            yield address.state(state, place, key, value)
            yield address.state(state, self._parent, key, None)
