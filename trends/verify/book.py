"""Where the judges write what they found: counts for every check, and a few examples of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trends.verify.report import CHECKS, Check, Example
from trends.verify.spill import Ints, Mask


class Pending(NamedTuple):
    """An example that still has to be looked up: a place in a stream, or a row by its key."""

    place: int
    key: int
    what: str
    table: str
    """Of a row; empty for a place in a stream."""


@dataclass(slots=True)
class Book:
    """All checks of one audit."""

    examples: int
    """How many of each check are kept."""
    checks: dict[str, Check] = field(default_factory=lambda: {name: Check(name, says) for name, says in CHECKS.items()})
    pending: dict[str, list[Pending]] = field(default_factory=dict)

    def examined(self, name: str, count: Any, unexamined: Any = 0) -> None:
        """So many more were looked at, and so many could not be."""
        check = self.checks[name]
        check.examined += int(count)
        check.unexamined += int(unexamined)

    def off(
        self, name: str, mask: Mask, what: str, places: NDArray[Any], keys: NDArray[Any], table: str = "",
        count: Ints | None = None,
    ) -> None:  # fmt: skip
        """What is off: ``mask`` over ``places`` and ``keys``; each counts once, or ``count`` times."""
        found = np.flatnonzero(mask)
        if not len(found):
            return
        self.checks[name].off += int(count[found].sum()) if count is not None else len(found)
        room = self.pending.setdefault(name, [])
        for i in found[: max(0, self.examples - len(room))]:
            room.append(Pending(int(places[i]), int(keys[i]), what, table))

    def off_one(self, name: str, example: Example) -> None:
        """One thing that is off and can be named at once."""
        check = self.checks[name]
        check.off += 1
        if len(check.examples) < self.examples:
            check.examples.append(example)
