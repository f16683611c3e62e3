"""Packed collections behave as the dicts that they stand for."""

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from models.packed import SMALLEST, HashTable, Names, TopicIds, id_bytes, id_text
from streams.ids import stable_id


class Table(RuleBasedStateMachine):
    """A table against a dict, with keys that collide and grow over the end."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = array("Q")
        self.table = HashTable(self.keys, 4)
        self.rows: dict[int, int] = {}

    @rule(start=st.integers(0, 2**40), count=st.integers(1, 900), step=st.sampled_from([0, 1, 1024, 4096, 7_919]))
    def add(self, start: int, count: int, step: int) -> None:
        for i in range(count):
            key = start + i * step
            if key not in self.rows:
                self.rows[key] = len(self.keys)
                self.keys.append(key << 4 | 5)
                self.table.add(self.rows[key])

    @rule(start=st.integers(0, 2**40), count=st.integers(1, 2_000), step=st.sampled_from([1, 1024, 7_919]))
    def add_many(self, start: int, count: int, step: int) -> None:
        new = [key for key in range(start, start + count * step, step) if key not in self.rows]
        begin = len(self.keys)
        self.keys.extend(key << 4 | 5 for key in new)
        self.rows |= {key: begin + i for i, key in enumerate(new)}
        self.table.add_many(np.arange(begin, begin + len(new)))

    @rule(more=st.sampled_from([0, 10, 3_000]))
    def fit(self, more: int) -> None:
        self.table.fit(more)

    @rule(keys=st.lists(st.integers(0, 2**40), max_size=50))
    def find_many(self, keys: list[int]) -> None:
        asked = [*keys, *self.rows]
        found = self.table.find_many(np.array(asked, np.uint64))
        assert found.tolist() == [self.rows.get(key, -1) for key in asked]

    @rule(share=st.integers(2, 5))
    def remove(self, share: int) -> None:
        for key in list(self.rows)[::share]:
            self.table.remove(self.rows.pop(key))

    @rule(key=st.integers(0, 2**40))
    def find(self, key: int) -> None:
        assert self.table.find(key) == self.rows.get(key, -1)

    def teardown(self) -> None:
        assert len(self.table) == len(self.rows)
        assert all(self.table.find(key) == row for key, row in self.rows.items())


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)


def test_keys_at_the_end_of_a_table_go_on_at_its_beginning() -> None:
    keys = array("Q", [SMALLEST * i + SMALLEST - 1 for i in range(600)])
    one_by_one, at_once = HashTable(keys), HashTable(keys)
    for row in range(600):
        one_by_one.add(row)
    at_once.add_many(np.arange(600))
    for table in (one_by_one, at_once):
        assert table.nbytes == 4 * SMALLEST
        assert [table.find(key) for key in keys] == list(range(600))


def test_a_table_takes_no_more_than_its_rows_need() -> None:
    keys = array("Q", np.random.default_rng(1).integers(0, 2**63, 100_000, np.uint64).tobytes())
    table = HashTable(keys)
    table.fit(50_000)
    for begin in range(0, 50_000, 10_000):
        table.add_many(np.arange(begin, begin + 10_000))
    assert table.nbytes < 50_000 * 4 * 1.5
    table.add_many(np.arange(50_000, 100_000))
    table.fit()
    assert table.nbytes < 100_000 * 4 * 1.5
    assert [table.find(key) for key in keys[::997]] == list(range(0, 100_000, 997))


def test_a_row_that_is_not_there_cannot_be_removed() -> None:
    table = HashTable(array("Q", [1, 2]))
    table.add(0)
    with pytest.raises(KeyError):
        table.remove(1)


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=30))
def test_names_are_numbers_until_the_last_use_ends(uses: list[str]) -> None:
    names = Names(3)
    taken = [names.take(name) for name in uses]
    for name, number in zip(uses, taken, strict=True):
        assert number == 0 or names[number] == name
    assert len(names) == len(set(uses)) or (len(set(uses)) == 4 and len(names) == 3)
    for number in taken:
        names.give_back(number)
    assert len(names) == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3), max_size=20), st.integers(0, 20))
def test_names_counted_afterwards_are_as_those_taken_one_by_one(rows: list[list[str]], kept: int) -> None:
    names, taken = Names(100), Names(100)
    packed = [names.packed(row) for row in rows][:kept]
    for row in rows[:kept]:
        for name in row:
            taken.take(name)
    columns = [np.array([row >> shift & 2**21 - 1 for row in packed], np.int64) for shift in (0, 21, 42)]
    names.count(columns)
    assert len(names) == len(taken)
    for row, number in zip(rows[:kept], packed, strict=True):
        assert [names[number >> 21 * i & 2**21 - 1] for i in range(len(row))] == row
        for i in range(len(row)):
            names.give_back(number >> 21 * i & 2**21 - 1)
    assert len(names) == 0


def topic(name: str) -> bytes:
    return id_bytes(stable_id(name))


def test_a_merged_topic_is_resolved_to_the_last_winner_and_forgotten_with_its_last_use() -> None:
    topics = TopicIds()
    a, b = topics.take(topic("a")), topics.take(topic("b"))
    topics.merged(topic("a"), topic("b"))
    topics.merged(topic("b"), topic("c"))
    assert topics.id_of(topics.resolve(a)) == topics.id_of(topics.resolve(b)) == topic("c")
    assert list(topics.give_back(b)) == []
    assert topics.id_of(topics.resolve(a)) == topic("c")
    assert list(topics.give_back(a)) == [topic("a"), topic("b")]
    assert len(topics) == 0
    assert topics.number_of(topic("c")) == 0
    assert topics.id_of(topics.take(topic("d"))) == topic("d")


def test_topics_counted_afterwards_are_those_in_use() -> None:
    topics = TopicIds()
    halves = np.frombuffer(b"".join(topic(str(i % 700)) for i in range(2_000)), ">u8").astype(np.uint64).reshape(-1, 2)
    numbers = topics.numbers_of(halves[:, 0], halves[:, 1])
    assert [topics.id_of(n) for n in numbers.tolist()] == [topic(str(i % 700)) for i in range(2_000)]
    used = np.concatenate([numbers[:300], numbers[:100], np.zeros(9, np.int64)]).astype(np.uint32)
    topics.count([used[:50], used[50:]])
    assert len(topics) == 300
    assert topics.number_of(topic("500")) == 0
    assert topics.number_of(topic("299")) == numbers[299]
    assert list(topics.give_back(int(numbers[0]))) == []
    assert topics.number_of(topic("0"))
    assert list(topics.give_back(int(numbers[0]))) == []
    assert not topics.number_of(topic("0"))
    assert topics.id_of(topics.take(topic("new"))) == topic("new")


@given(st.uuids())
def test_an_id_is_the_same_as_text_and_as_bytes(uuid: object) -> None:
    assert id_bytes(str(uuid)) == uuid.bytes  # type: ignore[attr-defined]
    assert id_text(uuid.bytes) == str(uuid)  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["", "x", "0" * 36, "8F3C1D52-6F0E-5B39-9C1A-2F6F2F7F5D10", "z" * 36])
def test_what_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="item_id_of"):
        id_bytes(text)
