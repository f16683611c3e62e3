"""Where every merged topic leads to in the end, for any number of merges: by doubling steps, a bucket at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from trends.verify.relations import MEMBERS, MERGES
from trends.verify.spill import Ints, Rows, Spill, look_up

DOUBLINGS: Final = 24
"""A chain of 16 million merges is followed to its end; what still moves then goes in a circle."""


def resolve(merges: Spill) -> tuple[Spill, Ints]:
    """The merges (keyed by ``topic``) with ``into`` where each ends; and the topics that never get anywhere.

    ``merges`` is closed. What goes in a circle keeps a winner of the circle in ``into``.
    """
    table = merges
    circling = np.empty(0, np.int64)
    for _ in range(DOUBLINGS):
        if not table.rows:
            break
        moved: list[Ints] = []
        stepped = Spill(MERGES, table.buckets, table.folder)
        probe = by_winner(table)
        for number in range(table.buckets):
            known = _sorted(table.bucket(number))
            rows = probe.bucket(number).copy()
            found = look_up(known["key"], rows["into"])
            hit = found >= 0
            rows["into"][hit] = known["into"][found[hit]]
            moved.append(rows["topic"][hit])
            rows["key"] = rows["topic"]
            stepped.append(rows)
        probe.close()
        table.close()
        table = stepped
        circling = np.concatenate(moved)
        if not len(circling):
            break
    return table, np.sort(circling)


def by_winner(merges: Spill) -> Spill:
    """The same rows, keyed by where they lead to."""
    made = Spill(MERGES, merges.buckets, merges.folder)
    for rows in merges:
        turned = rows.copy()
        turned["key"] = rows["into"]
        made.append(turned)
    return made


def members_of_winners(members: Spill, merges: Spill) -> Spill:
    """Members keyed by the topic that theirs leads to; ``members`` is closed, ``merges`` is what ``resolve`` gave."""
    made = Spill(MEMBERS, members.buckets, members.folder)
    for rows, known in _side_by_side(members, merges):
        moved = rows.copy()
        found = look_up(known["key"], rows["key"])
        moved["key"] = np.where(found >= 0, known["into"][np.maximum(found, 0)], rows["key"]) if len(known) else (
            rows["key"]
        )  # fmt: skip
        made.append(moved)
    members.close()
    return made


def _side_by_side(one: Spill, other: Spill) -> Iterator[tuple[Rows, Rows]]:
    for number in range(one.buckets):
        yield one.bucket(number), _sorted(other.bucket(number))


def _sorted(rows: Rows) -> Rows:
    """By key, each key once."""
    _, first = np.unique(rows["key"], return_index=True)
    once: Rows = rows[first]
    return once
