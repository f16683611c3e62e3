"""Records that were deleted before a flow read them: looked for when the broker refuses a committed offset, then told
or skipped. The skipping itself is a transaction of :mod:`streams.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from streams.errors import OffsetsExpiredError, RestartRequired
from streams.io import Partition
from streams.records import Gap
from streams.spec import OnGap


class Hole(NamedTuple):
    """Offsets that are gone unread."""

    gap: Gap
    missing: bool
    """Whether records can be among them."""


class Gaps:
    """The holes among a process's partitions, from when they are found until the next start skips them."""

    def __init__(
        self, generation: str, flow: str, group: str, process: str, derived: frozenset[str], on_gap: OnGap
    ) -> None:
        """``derived``: the inputs that flows write, in transactions."""
        self._generation = generation
        self._flow = flow
        self._group = group
        self._process = process
        self._derived = derived
        self._on_gap = on_gap
        self._found: list[Hole] = []

    def look(
        self,
        assigned: Iterable[Partition],
        committed: Mapping[Partition, int],
        ends: Callable[[Partition], tuple[int, int]],
    ) -> None:
        """Which records are gone, in all partitions held. ``ends``: a partition's first offset and that after its last.

        Raises:
            OffsetsExpiredError: says what is missing, and the way on.
            RestartRequired: it is to be skipped, or nothing can be missing: done at the next start.
        """
        self._found = []
        for partition in sorted(assigned):
            if (first := committed.get(partition)) is None:
                continue
            low, high = ends(partition)
            if first > high:
                stream, number = partition
                raise OffsetsExpiredError(
                    f"flow {self._flow}: {stream}/{number} ends at offset {high:,}, the group {self._group} "
                    f"has committed {first:,}: the stream was made anew or cut. Nothing was written. "
                    f"`trends state check {self._flow}` shows where each partition stands."
                )
            if first < low:
                self._found.append(self._hole(partition, first, low, high))
        missing = [hole.gap for hole in self._found if hole.missing]
        if missing and self._on_gap is OnGap.STOP:
            places = "; ".join(f"{g.stream}/{g.partition} from {g.first:,} to {g.until - 1:,}" for g in missing)
            raise OffsetsExpiredError(
                f"flow {self._flow}: records were deleted before they were read (retention): offsets of {places}, "
                f"{sum(g.until - g.first for g in missing):,} in all, transaction markers among them. Nothing was "
                f"written. To go on without them, and have that recorded: start it once with --on-gap skip. Where "
                "the stores or another cluster still have them, bring them back first."
            )
        if self._found:
            raise RestartRequired("records that are gone are skipped")

    def _hole(self, partition: Partition, first: int, low: int, high: int) -> Hole:
        # An emptied stream of ours whose last offset alone was not read: transactions end with a marker.
        a_marker = partition[0] in self._derived and low == high == first + 1
        gap = Gap(
            generation=self._generation,
            flow=self._flow,
            stream=partition[0],
            partition=partition[1],
            first=first,
            until=low,
            process=self._process,
            accepted_at=datetime.now(UTC),
        )
        return Hole(gap, not a_marker)

    def due(self, committed: Mapping[Partition, int]) -> list[Hole]:
        """The holes that are still to be skipped, once."""
        found, self._found = self._found, []
        return [hole for hole in found if committed.get((hole.gap.stream, hole.gap.partition)) == hole.gap.first]
