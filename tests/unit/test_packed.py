"""Packed collections behave as the dicts that they stand for."""

from array import array

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
    keys = array("Q", [SMALLEST * 2 * i + SMALLEST * 2 - 1 for i in range(900)])
    table = HashTable(keys)
    for row in range(900):
        table.add(row)
    assert [table.find(key) for key in keys] == list(range(900))


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


@given(st.uuids())
def test_an_id_is_the_same_as_text_and_as_bytes(uuid: object) -> None:
    assert id_bytes(str(uuid)) == uuid.bytes  # type: ignore[attr-defined]
    assert id_text(uuid.bytes) == str(uuid)  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["", "x", "0" * 36, "8F3C1D52-6F0E-5B39-9C1A-2F6F2F7F5D10", "z" * 36])
def test_what_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="item_id_of"):
        id_bytes(text)
