"""How the keyed streams have grown: pure arithmetic on the changes that ``pipeline.partitions`` holds.

Partitions are powers of two and a trend's partition is ``bucket % partitions``, so growing from ``before`` to ``after``
splits each partition p into p, p + before, p + 2·before, …: those are its children, born by that change. Growing again
makes children of children. What a child may do, and when, is decided in :mod:`streams.births`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streams.keys import partition_of
from streams.records import ChangePhase, PartitionChange


@dataclass(frozen=True, slots=True)
class Step:
    """One growth that counts."""

    before: int
    after: int
    at_ms: int
    """When it was appended (LogAppendTime), ms since the epoch."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How many partitions keyed streams have, and every growth that led there, oldest first."""

    count: int
    steps: tuple[Step, ...] = ()
    coming: int | None = None
    """A growth to so many was prepared: the broker may have them already, nobody uses those beyond ``count``."""

    def birth(self, partition: int) -> Step | None:
        """The growth that made a partition; None for those of the beginning, and for those that there are not yet."""
        for step in self.steps:
            if step.before <= partition < step.after:
                return step
        return None

    def parent(self, partition: int) -> int | None:
        """The partition that held a partition's trends before it was born; None where it was never born."""
        step = self.birth(partition)
        return None if step is None else partition % step.before

    def children(self, partition: int) -> list[tuple[int, Step]]:
        """Every partition that took trends over from this one, with the growth that made it."""
        return [
            (child, step)
            for step in self.steps
            if partition < step.before
            for child in range(partition + step.before, step.after, step.before)
        ]

    def line(self, partition: int) -> list[int]:
        """A partition's ancestors, the oldest first, and itself."""
        line = [partition]
        while (parent := self.parent(line[0])) is not None:
            line.insert(0, parent)
        return line

    def line_of(self, trend_id: str) -> list[int]:
        """Where a trend has lived, the first place first; the last one is where it lives now."""
        return self.line(partition_of(trend_id, self.count))


def growth_of(configured: int, changes: Iterable[tuple[PartitionChange, int]]) -> Growth:
    """What the changes, in log order with their LogAppendTime in ms, amount to.

    ``configured`` counts only where there has been no change. A change that begins from another number than the one
    that stands was overtaken by another command, and is void: the same for everyone, whatever they saw first. So is one
    between numbers that are no powers of two: no command of ours writes it, and no trend could be placed by it.
    """
    steps: list[Step] = []
    prepared, count = 0, configured
    for change, at_ms in changes:
        if not (_is_power_of_two(change.before) and _is_power_of_two(change.after)):
            continue
        if change.after <= change.before or (steps and change.before != count):
            continue
        if change.phase is ChangePhase.PREPARING:
            prepared = max(prepared, change.after)
            continue
        steps.append(Step(change.before, change.after, at_ms))
        count = change.after
    return Growth(count, tuple(steps), prepared if prepared > count else None)


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
