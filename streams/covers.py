"""What must hold of a flow's state that was read back, before anything is written: it covers what is committed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from streams.config import KafkaConfig
from streams.errors import StateMismatchError, StateVersionError
from streams.io import Partition, Positions, ranges, spans
from streams.spec import FlowSpec
from streams.state import StateReader


class StateCheck:
    """The checks of one flow; what they say names the way on."""

    def __init__(self, spec: FlowSpec, state_name: str, group: str) -> None:
        self._spec = spec
        self._flow = spec.name
        self._state_name = state_name
        self._group = group

    def version(self, reader: StateReader) -> None:
        """That this release can read the state, all of it.

        Raises:
            StateVersionError: it is of another format.
            StateMismatchError: a record of it cannot be read.
        """
        if others := reader.versions - {self._spec.state_version}:
            raise StateVersionError(
                f"flow {self._flow}: {self._state_name} is of format {', '.join(map(str, sorted(others)))}, this "
                f"release reads format {self._spec.state_version}. Nothing was written. Where the stream's is the "
                f"older one: `trends state migrate {self._flow}`; else run the release that wrote it."
            )
        if reader.unreadable is not None:
            raise StateMismatchError(
                f"flow {self._flow}: {reader.unreadable}. Nothing was written. "
                f"`trends state check {self._flow}` names it; `trends state rebuild {self._flow}` builds the "
                "state anew from the recorded decisions"
            )

    def uncovered(
        self, reader: StateReader, kafka: KafkaConfig, partitions: Iterable[Partition], committed: Positions
    ) -> Iterator[tuple[Partition, StateMismatchError]]:
        """Input partitions of which a state partition that reflects them does not cover just what is committed, and
        what is to be said of that."""
        for partition in sorted(partitions):
            reached = committed.get(partition)
            for state_partition in self._spec.state_partitions_of(partition, kafka):
                if state_partition not in reader.covers:
                    continue
                covered = reader.covers[state_partition].get(partition)
                if covered != reached:
                    yield (
                        partition,
                        self._mismatch(
                            f"{self._state_name}/{state_partition} covers {partition[0]}/{partition[1]} up to "
                            f"{'nothing' if covered is None else covered}, the group {self._group} has committed "
                            f"{'nothing' if reached is None else reached}. The state stream or the group's offsets were"
                        ),
                    )

    def unborn(self, reader: StateReader, children: Collection[Partition]) -> StateMismatchError | None:
        """What is to be said where the state of partitions that are not born yet covers anything."""
        settled = sorted(number for number in {p for _, p in children} if reader.covers[number])
        if not settled:
            return None
        return self._mismatch(
            f"{self._state_name}/{spans(settled)} covers {ranges(children)}, where the group {self._group} has "
            "committed nothing. The group's offsets were"
        )

    def _mismatch(self, what: str) -> StateMismatchError:
        return StateMismatchError(
            f"flow {self._flow}: {what} changed from outside. Nothing was written. `trends state check {self._flow}` "
            f"shows where; `trends state rebuild {self._flow}` builds the state anew from the recorded decisions."
        )
