"""Partitions of a grown stream as one flow sees them: who may be read, who is due, where a trend's state stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.births import Births
from streams.growth import Growth, Step
from streams.io import Partition
from streams.keys import partition_of

FIRST, SECOND = Step(2, 4, 100), Step(4, 8, 200)
ONCE, TWICE = Growth(4, (FIRST,)), Growth(8, (FIRST, SECOND))
NAMES = [f"term:t{n}" for n in range(200)]


def births(growth: Growth, assigned: list[int], committed: dict[int, int]) -> Births:
    made = Births(growth, ["in"])
    made.plan({("in", p) for p in assigned}, {("in", p): offset for p, offset in committed.items()})
    return made


def due(made: Births, read: dict[int, int], ends: dict[tuple[int, Step], int | None]) -> list[int]:
    def end_of(parent: Partition, step: Step) -> int | None:
        return ends.get((parent[1], step))

    return sorted(b.child[1] for b in made.due({("in", p): offset for p, offset in read.items()}, end_of))


def test_without_a_growth_nothing_is_held_back() -> None:
    made = births(Growth(4), [0, 1, 2, 3], {})
    assert not made.waiting
    assert made.held == set()
    assert all(made.place(name) == partition_of(name, 4) for name in NAMES)


def test_partitions_of_streams_that_do_not_grow_are_never_held_back() -> None:
    made = Births(ONCE, ["in"])
    made.plan({("catalogue", 0), ("catalogue", 3), ("in", 3)}, {})
    assert made.held == {("in", 3)}
    assert made.children_of({("catalogue", 0)}) == set()


def test_a_new_partition_is_held_back_until_it_has_a_committed_offset() -> None:
    assert births(ONCE, [0, 2], {0: 5}).held == {("in", 2)}
    assert births(ONCE, [0, 2], {0: 5, 2: 0}).held == set()


def test_a_partition_that_is_only_prepared_is_not_read() -> None:
    assert births(Growth(2, (), 4), [0, 1, 2, 3], {0: 1}).held == {("in", 2), ("in", 3)}


def test_a_child_is_due_when_its_parent_has_been_read_to_the_end_of_the_old_number() -> None:
    made = births(ONCE, [0, 1], {0: 9, 1: 9})
    ends = {(0, FIRST): 10, (1, FIRST): 9}
    assert due(made, {0: 9, 1: 9}, ends) == [3]
    assert due(made, {0: 10, 1: 9}, ends) == [2, 3]
    assert due(made, {0: 10, 1: 9}, {(0, FIRST): None, (1, FIRST): None}) == []  # its lease is not over


def test_a_child_of_a_child_waits_for_its_own_parent() -> None:
    made = births(TWICE, [0, 2, 6], {0: 50})
    assert made.held == {("in", 2), ("in", 6)}
    ends = {(0, FIRST): 10, (0, SECOND): 40, (2, SECOND): 0}
    assert due(made, {0: 50, 2: 0, 6: 0}, ends) == [2, 4]  # 6 comes after 2
    assert made.born([("in", 2), ("in", 4)]) == {("in", 2)}  # 4 is somebody else's to read
    assert made.held == {("in", 6)}
    made = births(TWICE, [0, 2, 6], {0: 50, 2: 0, 4: 0})
    assert due(made, {0: 50, 2: 0, 6: 0}, ends) == [6]


def test_whoever_has_a_parent_asks_for_all_of_its_children_and_no_others() -> None:
    made = Births(TWICE, ["a", "b"])
    assert made.children_of({("a", 0), ("b", 3)}) == {("a", 2), ("a", 4), ("b", 7)}


def test_state_stands_with_the_parent_until_the_child_is_born() -> None:
    made = births(ONCE, [0, 1], {0: 9, 1: 9, 3: 0})
    for name in NAMES:
        lives = partition_of(name, 4)
        assert made.place(name) == (0 if lives == 2 else lives)
    made.born([("in", 2)])
    assert all(made.place(name) == partition_of(name, 4) for name in NAMES)


@given(
    born=st.sets(st.integers(2, 7)), owned=st.sets(st.integers(0, 7), min_size=1), name=st.text(min_size=1, max_size=9)
)
def test_of_all_processes_exactly_one_place_holds_a_trend(born: set[int], owned: set[int], name: str) -> None:
    """A child is born after its parent; then whoever owns the place, and nobody else, says that it is there."""
    born = {p for p in born if (parent := TWICE.parent(p)) is None or parent < 2 or parent in born}
    committed = dict.fromkeys({0, 1, *born}, 0)
    line = TWICE.line_of(name)
    true_place = line[0]
    for child in line[1:]:
        if child not in born:
            break
        true_place = child
    others = set(range(8)) - owned
    claims = [
        place
        for part in (owned, others)
        if part and (place := births(TWICE, sorted(part), committed).place(name)) in part and place in {0, 1, *born}
    ]
    assert claims == [true_place]


def test_parents_state_is_read_back_before_their_children_s() -> None:
    made = births(TWICE, list(range(8)), dict.fromkeys(range(8), 0))
    assert made.levels(range(8)) == [[0, 1], [2, 3], [4, 5, 6, 7]]
    assert births(Growth(4), [1, 3], {}).levels([3, 1]) == [[1, 3]]
