"""What our own code failed on in this process, kept while the process begins anew: suspicion, blame, and the limit.

An engine that threw in the middle of a chunk has unknown memory. Where it keeps none it is simply asked again, by
halves. Where it does, the process begins anew from the log, takes the records of that chunk one by one, and begins anew
once more at the record that fails by itself: that one is set aside as a dead letter (``our_failure``), unseen by the
engine. So a bad record costs two readings of the state and holds nobody back for good.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from streams.dead_letters import IN_A_ROW, FailureLimit
from streams.errors import FailureLimitError
from streams.io import Partition

BLAMED: Final = 1_000
"""Records whose blame is remembered; one that is forgotten and read again is found again."""


def place_of(message: Any) -> tuple[str, int, int]:
    """Stream, partition and offset of a message."""
    return message.topic(), message.partition(), message.offset()


class Failures:
    """One process's. Single-threaded, like the session that it belongs to."""

    def __init__(self) -> None:
        self.limit = FailureLimit()
        self._suspects: dict[Partition, tuple[int, int]] = {}
        """First and last offset of the chunk that failed, by partition; they are taken one by one."""
        self._blamed: OrderedDict[tuple[str, int, int], str] = OrderedDict()
        self._since_progress = 0

    def suspect(self, messages: Iterable[Any]) -> None:
        """One of these made the engine fail."""
        for message in messages:
            partition, offset = (message.topic(), message.partition()), message.offset()
            first, last = self._suspects.get(partition, (offset, offset))
            self._suspects[partition] = min(first, offset), max(last, offset)

    def suspicious(self, messages: Iterable[Any]) -> bool:
        """Whether any of these is among the suspects."""
        if not self._suspects:
            return False
        for message in messages:
            first, last = self._suspects.get((message.topic(), message.partition()), (0, -1))
            if first <= message.offset() <= last:
                return True
        return False

    def blame(self, message: Any, error: str) -> None:
        """This one alone made the engine fail.

        Raises:
            FailureLimitError: as many as the limit allows in a row, without any chunk between them done.
        """
        self._since_progress += 1
        if self._since_progress >= IN_A_ROW:
            raise FailureLimitError(
                f"{message.topic()}/{message.partition()}: {self._since_progress} records of one chunk failed in our "
                "own code. None of them was moved. Mend the code, then start the flow again."
            )
        self._blamed[place_of(message)] = error
        if len(self._blamed) > BLAMED:
            self._blamed.popitem(last=False)

    def blamed(self, message: Any) -> str | None:
        """Why a message must not reach the engine; None where it may."""
        return self._blamed.get(place_of(message)) if self._blamed else None

    def done(self, messages: Iterable[Any]) -> None:
        """A chunk has passed: what was suspected in it is cleared."""
        self._since_progress = 0
        if not self._suspects:
            return
        for message in messages:
            partition = (message.topic(), message.partition())
            if message.offset() >= self._suspects.get(partition, (0, message.offset() + 1))[1]:
                del self._suspects[partition]
